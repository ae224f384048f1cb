"""Options of the serial architecture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.requirements import Requirements

from ..architecture import Architecture
from ..harden.mechanisms import MECHANISMS, chosen, faults

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Serial"]

SPRAM_PART: Final = "up5k"


@dataclass(frozen=True, kw_only=True)
class Serial(Architecture):
    """One sample at a time, `lanes` weights in one clock, from a memory that a host can load anew."""

    name: ClassVar[str] = "serial"
    summary: ClassVar[str] = "a few lanes that go through the weights; takes most nets, needs the least logic"
    conformance: ClassVar[tuple[str, ...]] = ("plain", "unsigned", "Looped*")

    lanes: int = option(4, bounds=Bounds(1), help="weights applied in one clock, a power of two")
    device: Literal["generic", "up5k"] | None = option(
        None,
        help="weight memory: block RAM of any family, or the single-port RAM of the UP5K, loaded at run time (default: "
        "up5k if --synth and --board name no other part)",
    )
    harden: str = option("", metavar="NAME[,NAME]", help=f"protection against upsets, any of {', '.join(MECHANISMS)}")

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 1

    def option_faults(self, parts: Collection[str] = ()) -> Sequence[Diagnostic]:
        diagnostics = [*super().option_faults(parts), *faults(chosen(self.harden))]
        others = sorted({*parts} - {SPRAM_PART})
        if self.device == SPRAM_PART and others:
            what = f"a core for the {SPRAM_PART} has its single-port RAM, which {', '.join(others)} has not"
            hint = "compile once for each, or leave --device out"
            diagnostics.append(Diagnostic("rtl-option", what, "device", hint))
        return diagnostics

    def resolved(self, net: IntNet, parts: Collection[str]) -> Serial:
        device: Literal["up5k"] | None = SPRAM_PART if {*parts} == {SPRAM_PART} else None
        return replace(self, device=self.device or device, harden=",".join(chosen(self.harden)))

    @property
    def preloaded(self) -> bool:
        return self.device != SPRAM_PART

    @property
    def any_device(self) -> bool:
        return self.device == "generic"

    @property
    def hardened(self) -> bool:
        return bool(self.harden)

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        from .engine import foresee

        return foresee(needs)

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, lanes=self.lanes, family=self.device or "generic", harden=chosen(self.harden))

    def least_memory_bits(self, needs: Requirements) -> int:
        from .engine import least_memory_bits

        return least_memory_bits(needs, self.lanes)

    def memory_bits(self, net: IntNet) -> int:
        from .engine import memory_bits

        return memory_bits(net, self.lanes, self.device or "generic")

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import SerialEngine

        return SerialEngine(
            net,
            trace=trace,
            inject=inject,
            lanes=self.lanes,
            family=self.device or "generic",
            harden=chosen(self.harden),
        )
