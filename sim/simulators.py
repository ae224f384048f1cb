"""Simulators that run a Python script of the artifact: what each needs, and how its script is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .builds import VERILATOR, built_core
from .script_runner import ScriptSimulator, Watch

__all__ = [
    "LAVA",
    "Hls4mlSimulator",
    "IcarusSimulator",
    "Loihi1Simulator",
    "Loihi2Simulator",
    "NativeSimulator",
    "NirSimulator",
    "NumpySimulator",
    "OnnxSimulator",
    "VerilatorSimulator",
]

LAVA = "pip install 'eqcompile[loihi]' && pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
COMPILED = "no limit of its own: it is compiled first, within the time limit, which grows with the hardware for weights"
COCOTB = {"cocotb": "pip install cocotb", "cocotbext": "pip install cocotbext-axi"}


class NumpySimulator(ScriptSimulator):
    """The emitted kernel."""

    name: ClassVar[str] = "numpy"
    target: ClassVar[str] = "numpy"


class NirSimulator(ScriptSimulator):
    """`net.nir`, read with the package `nir` and evaluated by the definition of its nodes."""

    name: ClassVar[str] = "nir"
    target: ClassVar[str] = "nir"
    packages: ClassVar[Mapping[str, str]] = {"nir": "pip install 'eqcompile[nir]'"}


class OnnxSimulator(ScriptSimulator):
    """ONNX Runtime: outputs and steps of `model.onnx`, states of `trace.onnx`, which has to give the same outputs."""

    name: ClassVar[str] = "onnxruntime"
    target: ClassVar[str] = "onnx"
    packages: ClassVar[Mapping[str, str]] = {"onnxruntime": "pip install 'eqcompile[onnx]'"}


class Hls4mlSimulator(ScriptSimulator):
    """The C simulation, compiled by `compile()` of hls4ml with g++; no vendor tool takes part."""

    name: ClassVar[str] = "hls4ml-csim"
    target: ClassVar[str] = "hls4ml"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    capacity: ClassVar[str] = COMPILED
    compiler: ClassVar[str] = "g++"
    packages: ClassVar[Mapping[str, str]] = {"hls4ml": "pip install 'eqcompile[hls4ml]'"}
    programs: ClassVar[Mapping[str, str]] = {"g++": "apt-get install g++"}


class _LavaSimulator(ScriptSimulator):
    """Lava starts an operating-system process for each process of the network, and may hang when one of them fails: the
    script ends itself at the limit, which frees Lava's shared memory, and is killed a little later.

    `details`: `events` (simulated counts) and `estimate` (energy and time), both means over the samples, and `sim_cfg`,
    the run configuration of Lava.
    """

    target: ClassVar[str] = "loihi"
    packages: ClassVar[Mapping[str, str]] = {"lava": LAVA}
    configuration: ClassVar[str]
    grace_s: ClassVar[float] = 5.0

    def arguments(
        self, artifact: Artifact, work: Path, *, trace: bool, timeout_s: float, watch: Watch
    ) -> Sequence[str]:
        return ("run.py", "--sim-cfg", self.configuration, "--timeout", str(timeout_s))


class Loihi1Simulator(_LavaSimulator):
    """Lava's Loihi1SimCfg, models tagged `fixed_pt`."""

    name: ClassVar[str] = "lava-loihi1"
    configuration: ClassVar[str] = "loihi1"


class Loihi2Simulator(_LavaSimulator):
    """Lava's Loihi2SimCfg, models tagged `fixed_pt`."""

    name: ClassVar[str] = "lava-loihi2"
    configuration: ClassVar[str] = "loihi2"


class _BenchSimulator(ScriptSimulator):
    """A program of the bench of the target `rtl`.

    `details`: `cycles` from the first code in to the last code out (simulated), `seconds` that they took and
    `cycles_per_second` (both measured, building left out).
    """

    target: ClassVar[str] = "rtl"

    def shortages(self, artifact: Artifact) -> Sequence[Diagnostic]:
        if (artifact.folder / "bench").is_dir():
            return ()
        what, hint = "an image for a core that exists has no bench to run", "load it to its core"
        return (
            Diagnostic("simulator-no-bench", what, self.name, f"{hint}; its program was run before it was written"),
        )

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        run = super().run(artifact, inputs, trace=trace, timeout_s=timeout_s, progress=progress)
        cycles, seconds = run.details["cycles"], run.details["seconds"]
        assert isinstance(cycles, int)
        assert isinstance(seconds, float)
        rate = cycles / max(seconds, 1e-9)
        line = f"{cycles} clock cycles (simulated), at {rate:,.0f} a second (measured)"
        return replace(run, details={**run.details, "cycles_per_second": rate, "summary": [line]})


class VerilatorSimulator(_BenchSimulator):
    """cocotb on Verilator, as the Python package or a program. Both streams stall at random in a tenth of the clocks;
    that may cost clocks and changes nothing else.

    `clocks_per_second`, by which verification decides how many samples fit in its limit: as `benchmarks/rtl_speed.py`
    measured of the serial core of digits_ternary (`benchmarks/results/rtl_speed.json`), rounded down to one digit. A
    large core, or a busy machine, has fewer.
    """

    name: ClassVar[str] = "cocotb-verilator"
    capacity: ClassVar[str] = COMPILED
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    packages: ClassVar[Mapping[str, str]] = COCOTB
    few: ClassVar[int | None] = 2
    programs: ClassVar[Mapping[str, str]] = VERILATOR
    sim: ClassVar[str] = "verilator"
    compiler: ClassVar[str] = "verilator"
    clocks_per_second: ClassVar[int] = 40_000

    def sample_s(self, run: Run) -> float | None:
        cycles = run.details.get("cycles")
        return cycles / len(run.steps) / self.clocks_per_second if isinstance(cycles, int) else None

    def arguments(
        self, artifact: Artifact, work: Path, *, trace: bool, timeout_s: float, watch: Watch
    ) -> Sequence[str]:
        return ("bench/run.py", "--sim", self.sim, "--quiet", "--build", str(work / "build"))


class IcarusSimulator(VerilatorSimulator):
    """cocotb on Icarus Verilog: starts at once, runs slowly."""

    name: ClassVar[str] = "cocotb-icarus"
    capacity: ClassVar[str] = Simulator.capacity
    suite: ClassVar[Literal["all", "small", "few"]] = "small"
    programs: ClassVar[Mapping[str, str]] = {"iverilog": "apt-get install iverilog"}
    sim: ClassVar[str] = "icarus"
    compiler: ClassVar[str] = ""
    clocks_per_second: ClassVar[int] = 10_000


class NativeSimulator(_BenchSimulator):
    """The core as C++ compiled by Verilator, driven through its ports without Python in the clock loop; the streams do
    not stall. With `clocks` it runs a second time, sample by sample: `details` then has, for each sample alone, the
    clocks of `latency` from its first code in to its last code out, and of `relaxing` from its last code in to its
    first code out (simulated)."""

    name: ClassVar[str] = "verilator-native"
    capacity: ClassVar[str] = COMPILED
    compiler: ClassVar[str] = "verilator"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    programs: ClassVar[Mapping[str, str]] = VERILATOR

    def __init__(self, *, clocks: bool = False) -> None:
        self.clocks = clocks
        self.passes = 2 if clocks else 1

    def arguments(
        self, artifact: Artifact, work: Path, *, trace: bool, timeout_s: float, watch: Watch
    ) -> Sequence[str]:
        variant: Literal["trace", "delivered"] = "trace" if trace else "delivered"
        build = built_core(artifact.folder, variant=variant, timeout_s=timeout_s, watch=watch)
        return ("bench/native.py", "--built", "--build", str(build), *(["--clocks"] if self.clocks else []))
