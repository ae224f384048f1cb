"""`eqcompile doctor`: what is installed, and what to do next."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TypedDict

from packaging.requirements import Requirement

from eqcompile.toolchain import registry

from . import packages
from .console import Parser, Reply
from .documents import TargetState
from .show import table
from .targets import describe

__all__ = ["command"]

_NEWEST_PYTHON = (3, 13)
_PURPOSE = {
    "torch": "train the examples; fault injection on a GPU",
    "loihi": "target loihi: simulate its artifacts",
    "rtl": "target rtl: emit cores, simulate them",
    "onnx": "target onnx: run its artifacts",
    "nir": "target nir",
    "synth": "cells and frequency of a core on an FPGA",
    "hls4ml": "target hls4ml",
    "qat": "eqcompile tune",
    "cluster": "fault campaigns on several machines",
    "faults": "fault campaigns: engine fast, store of outcomes, statistics",
}
_PROGRAMS = {
    "gcc": "c: run artifacts",
    "make": "c and rtl: build simulators",
    "g++": "rtl and hls4ml: build simulators",
    "perl": "rtl: Verilator",
    "iverilog": "rtl: the simulator cocotb-icarus",
    "ccache": "rtl: simulators are built once",
    "arm-none-eabi-gcc": "c: the simulator c-cortex-m",
    "qemu-system-arm": "c: the simulator c-cortex-m",
}
_APT = {"arm-none-eabi-gcc": "gcc-arm-none-eabi"}
"""Debian's packages whose name is not that of the program."""
_FIRST_STEPS = (
    "eqcompile inspect MODEL                    what a checkpoint holds",
    "eqcompile MODEL --target numpy -o out      compile it for the target that needs nothing else",
)


class Interpreter(TypedDict):
    """The Python that runs; `tested`: whether eqcompile is tested on it."""

    version: str
    executable: str
    platform: str
    virtual_environment: bool
    processors: int | None
    tested: bool


class Extra(TypedDict):
    """An extra of the package; `available`: whether this Python can have it."""

    name: str
    purpose: str
    available: bool
    installed: bool
    missing: list[str]
    install: str


class Program(TypedDict):
    """A program; `path`: None where it is absent."""

    name: str
    purpose: str
    path: str | None
    install: str


class Installation(TypedDict):
    """What is installed, and the commands that install the rest (`next`)."""

    eqcompile: str
    python: Interpreter
    extras: list[Extra]
    programs: list[Program]
    targets: list[TargetState]
    next: list[str]


def command(argv: Sequence[str]) -> Reply:
    """Report the installation; what is missing is a row with its install command, never an error."""
    parser = Parser(
        prog="eqcompile doctor",
        description="Say what is installed (Python, extras, programs, plug-ins) and what to do next.",
        examples="  eqcompile doctor\n  eqcompile doctor --json",
    )
    parser.parse_all(argv)
    document: Installation = {
        "eqcompile": metadata.version(packages.DISTRIBUTION),
        "python": _python(),
        "extras": [_extra(name, requirements) for name, requirements in packages.extras().items()],
        "programs": [_program(name, purpose) for name, purpose in _PROGRAMS.items()],
        "targets": [describe(name) for name in registry.names("targets")],
        "next": [],
    }
    document["next"] = _next(document)
    return Reply(document, _text(document))


def _python() -> Interpreter:
    tested = sys.version_info[:2] <= _NEWEST_PYTHON
    return {
        "version": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "virtual_environment": sys.prefix != sys.base_prefix,
        "processors": os.cpu_count(),
        "tested": tested,
    }


def _extra(name: str, requirements: Sequence[Requirement]) -> Extra:
    absent = [fault for r in requirements if (fault := packages.missing(r))]
    command, available = f"pip install '{packages.DISTRIBUTION}[{name}]'", bool(requirements)
    if name == "loihi":
        command = packages.install_command("lava")
        absent += [fault for fault in [packages.missing(Requirement("lava-nc"))] if fault]
    return {
        "name": name,
        "purpose": _PURPOSE.get(name, ""),
        "available": available,
        "installed": available and not absent,
        "missing": absent,
        "install": "" if available and not absent else command,
    }


def _program(name: str, purpose: str) -> Program:
    path = shutil.which(name)
    install = "" if path else f"sudo apt-get install {_APT.get(name, name)}"
    return {"name": name, "purpose": purpose, "path": path, "install": install}


def _next(d: Installation) -> list[str]:
    steps = []
    if not d["python"]["tested"]:
        newest = ".".join(str(n) for n in _NEWEST_PYTHON)
        steps.append(f"Python {d['python']['version']} is newer than what eqcompile is tested on: use {newest}")
    steps += [f"{e['install']}    # {e['purpose']}" for e in d["extras"] if e["available"] and e["install"]]
    steps += [f"{e['name']}: {e['install']}" for e in d["extras"] if not e["available"]]
    absent = [_APT.get(p["name"], p["name"]) for p in d["programs"] if not p["path"]]
    steps += [f"sudo apt-get install {' '.join(absent)}    # programs"] if absent else []
    steps += [
        f"target {t['name']} cannot be loaded: {'; '.join(t['missing'])}" for t in d["targets"] if not t["summary"]
    ]
    return steps


def _text(d: Installation) -> str:
    python = d["python"]
    where = "in a virtual environment" if python["virtual_environment"] else "outside of a virtual environment"
    head = f"eqcompile {d['eqcompile']} on Python {python['version']} ({python['executable']}, {where})"
    extras = [[e["name"], _state(e), e["purpose"]] for e in d["extras"]]
    programs = [[p["name"], p["path"] or "missing", p["purpose"]] for p in d["programs"]]
    targets = [
        [t["name"], "ready" if t["installed"] else f"missing: {', '.join(t['missing'])}", ", ".join(t["simulators"])]
        for t in d["targets"]
    ]
    steps = d["next"] or ["nothing is missing"]
    return "\n\n".join(
        [
            f"{head}\n{python['platform']}, {python['processors']} processors",
            table(["extra", "state", "for"], extras),
            table(["program", "path", "for"], programs),
            table(["target", "state", "simulators"], targets),
            "\n  ".join(["to install what is missing, as far as you need it:", *steps]),
            "\n  ".join(["to start:", *_FIRST_STEPS]),
        ]
    )


def _state(extra: Extra) -> str:
    if not extra["available"]:
        return "not on this Python"
    return "installed" if extra["installed"] else f"missing: {', '.join(extra['missing'])}"
