"""Options of the lattice architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet, ops, walk

from ..architecture import Architecture

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Lattice"]


@dataclass(frozen=True, kw_only=True)
class Lattice(Architecture):
    """`passes`: sites that each cell serves in turn. `units`: pipelines that apply what follows the maps; None for as
    many as keep pace with the cells."""

    name: ClassVar[str] = "lattice"

    passes: int = 1
    units: int | None = None

    @classmethod
    def rank(cls, net: IntNet) -> int:
        """The first for a net whose step has stencils alone, else the last."""
        linear = [op for op in walk(net.step) if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
        return 0 if linear and all(isinstance(op, ops.Stencil) for op in linear) else 3

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, passes=self.passes, units=self.units)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import LatticeEngine

        return LatticeEngine(net, trace=trace, inject=inject, passes=self.passes, units=self.units)
