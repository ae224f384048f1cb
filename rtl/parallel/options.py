"""Options of the parallel architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet

from ..architecture import Architecture

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Parallel"]


@dataclass(frozen=True, kw_only=True)
class Parallel(Architecture):
    """`levels`: additions between two registers of drive and readout at most, None for no register; `step_levels`: the
    same within a step. `beat`, `result_beat`: codes that a beat of each stream carries (None: as many as `beat`).
    `harden`: names of mechanisms; `protect`: units of each state whose registers are voted."""

    name: ClassVar[str] = "parallel"

    levels: int | None = 4
    step_levels: int | None = None
    beat: int = 1
    result_beat: int | None = None
    harden: tuple[str, ...] = ()
    protect: Mapping[str, Collection[int]] = field(default_factory=dict)

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 2

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, harden=self.harden, protect=self.protect)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import ParallelEngine

        return ParallelEngine(
            net,
            trace=trace,
            inject=inject,
            levels=self.levels,
            step_levels=self.step_levels,
            beat=self.beat,
            result_beat=self.result_beat,
            harden=self.harden,
            protect=self.protect,
        )
