"""Options of the processor as an architecture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.requirements import Requirements

from ..architecture import Architecture

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Processor"]


@dataclass(frozen=True, kw_only=True)
class Processor(Architecture):
    """A program of vector instructions, of which any net is one; `lanes` weights in one clock."""

    name: ClassVar[str] = "processor"
    summary: ClassVar[str] = "runs any net as a program; larger and slower than the serial core where that takes a net"
    conformance: ClassVar[tuple[str, ...]] = ("plain", "unsigned", "Looped*")

    lanes: int = option(4, bounds=Bounds(1), help="weights applied in one clock, a power of two")
    width: int = option(1, bounds=Bounds(1), help="entries of a vector in one clock, a power of two up to the lanes")

    @property
    def saboteurs(self) -> bool:
        return False

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 9

    def option_faults(self, parts: Collection[str] = ()) -> Sequence[Diagnostic]:
        faults = [*super().option_faults(parts)]
        if self.lanes > 0 and self.lanes & (self.lanes - 1):
            faults.append(Diagnostic("rtl-lanes", f"lanes is {self.lanes}, must be a power of two", "lanes"))
        if self.width > 0 and (self.width & (self.width - 1) or self.width > max(self.lanes, 1)):
            what = f"width is {self.width}, must be a power of two, and no more than the {self.lanes} lanes"
            faults.append(Diagnostic("rtl-lanes", what, "width"))
        return faults

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        from .hardware.engine import foresee

        return foresee(needs)

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .hardware.engine import check

        return list(check(net))

    def memory_bits(self, net: IntNet) -> int:
        from .compiler import compile_net

        core = compile_net(net, lanes=self.lanes, width=self.width).image.core
        return core.weight_words * (core.lanes * core.code_bits + core.group_bits)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .hardware import ProcessorEngine

        return ProcessorEngine(net, trace=trace, lanes=self.lanes, width=self.width)
