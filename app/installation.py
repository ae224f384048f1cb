"""What is installed: the interpreter, extras, programs, targets, families, fault models and engines; as JSON values."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, TypedDict

from packaging.requirements import Requirement

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import MissingToolError, PluginError
from eqcompile.toolchain.options import QuantizeOptions

from . import packages
from .documents import FamiliesDocument, InjectionDocument, RefusalDocument, TargetState, UnavailableDocument

if TYPE_CHECKING:
    from eqcompile.toolchain.ir import EqNet
    from eqcompile.toolchain.registry import Unavailable

__all__ = [
    "Extra",
    "Installation",
    "Interpreter",
    "Program",
    "families",
    "injection",
    "installation",
    "refusals",
    "targets",
]

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


def installation() -> Installation:
    """What is installed; what is missing is a row with its install command, never an error."""
    document: Installation = {
        "eqcompile": metadata.version(packages.DISTRIBUTION),
        "python": _python(),
        "extras": [_extra(name, requirements) for name, requirements in packages.extras().items()],
        "programs": [_program(name, purpose) for name, purpose in _PROGRAMS.items()],
        "targets": targets(),
        "next": [],
    }
    document["next"] = _next(document)
    return document


def targets() -> list[TargetState]:
    """Every registered target; one that cannot be loaded has no summary, and its reasons under `missing`."""
    return [_target(name) for name in registry.names("targets")]


def refusals(net: EqNet, options: QuantizeOptions) -> dict[str, list[RefusalDocument]]:
    """Why each target that can be loaded, with its default options, refuses a float net for certain, by name; nothing
    is quantized."""
    from eqcompile.quantization.requirements import requirements_of

    needs = requirements_of(net, options, calibrated=False)
    rows: dict[str, list[RefusalDocument]] = {}
    for name in registry.names("targets"):
        with suppress(MissingToolError, PluginError):
            faults = registry.target_class(name).of().preflight(needs)
            rows[name] = [{"code": d.code, "what": d.what, "where": d.where, "hint": d.hint} for d in faults]
    return rows


def _target(name: str) -> TargetState:
    """A target as JSON values; one that cannot be loaded has no summary, and its reasons under `missing`."""
    try:
        target = registry.target_class(name)
    except (MissingToolError, PluginError) as error:
        return {
            "name": name,
            "summary": "",
            "installed": False,
            "missing": [d.what for d in error.diagnostics],
            "install": "",
            "simulators": [],
        }
    # Absence is a property of the class; its options have defaults, so that it can be made without a command line.
    missing = list(target().missing())
    return {
        "name": name,
        "summary": target.summary,
        "installed": not missing,
        "missing": missing,
        "install": target.install,
        "simulators": list(registry.simulators_of(name)),
    }


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


def families() -> FamiliesDocument:
    """Every registered family with the settings that a file may not hold, and those that cannot be loaded."""
    from eqcompile.toolchain.importers.family import Family

    from .inspection import describe_family

    loaded = registry.load_all("families", Family)
    rows = [describe_family(f) for primary in loaded.entries.values() for f in (primary, *primary.twins)]
    return {"families": rows, "unavailable": _unavailable(loaded.unavailable)}


def injection() -> InjectionDocument:
    """Fault models with their summaries, engines with what they lack, and plug-ins that cannot be loaded."""
    from eqcompile.sim.faults.engine import Engine
    from eqcompile.sim.faults.model import FaultModel

    loaded, injectors = registry.load_classes("faults", FaultModel), registry.load_classes("engines", Engine)
    document: InjectionDocument = {
        "models": {name: model.summary for name, model in loaded.entries.items()},
        "engines": {},
        "unavailable": _unavailable((*loaded.unavailable, *injectors.unavailable)),
    }
    for name, injector in injectors.entries.items():
        engine = injector()
        absent = list(engine.missing())
        document["engines"][name] = {"missing": absent, "install": engine.install if absent else ""}
    return document


def _unavailable(entries: Sequence[Unavailable]) -> list[UnavailableDocument]:
    return [{"name": u.name, "entry_point": u.entry_point, "reason": u.reason} for u in entries]
