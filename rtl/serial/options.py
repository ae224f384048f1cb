"""Options of the serial architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet

from ..architecture import Architecture

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Serial"]


@dataclass(frozen=True, kw_only=True)
class Serial(Architecture):
    """`lanes`: weights applied in one clock, a power of two. `family`: block RAM of any device, or the single-port RAM
    of the UP5K. `harden`: names of mechanisms."""

    name: ClassVar[str] = "serial"

    lanes: int = 4
    family: Literal["generic", "up5k"] = "generic"
    harden: tuple[str, ...] = ()

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 1

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, lanes=self.lanes, family=self.family, harden=self.harden)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import SerialEngine

        return SerialEngine(net, trace=trace, inject=inject, lanes=self.lanes, family=self.family, harden=self.harden)
