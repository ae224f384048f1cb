"""Simulator `verilator-native`: the core of the target `rtl` as compiled C++, driven through its AXI ports.

For bulk equality: the same Verilog, ports and trace as under cocotb, without Python in the clock loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .rtl_runner import VERILATOR, missing_tools, run_bench

__all__ = ["NativeSimulator"]


class NativeSimulator(Simulator):
    """`python -I bench/native.py`, which compiles the core with Verilator and g++ and runs it; with `clocks` a second
    time, sample by sample, to time each."""

    name: ClassVar[str] = "verilator-native"
    target: ClassVar[str] = "rtl"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"

    def __init__(self, *, clocks: bool = False) -> None:
        self.clocks = clocks

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """`details`: see `run_bench`; the streams do not stall."""
        missing_tools(self.name, {}, VERILATOR, verilator=True)
        arguments = ["bench/native.py", *(["--clocks"] if self.clocks else [])]
        return run_bench(artifact.folder, arguments, inputs, trace=trace, timeout_s=timeout_s)
