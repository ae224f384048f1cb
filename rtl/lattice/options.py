"""Options of the lattice architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet, ops, walk
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.requirements import Requirements

from ..architecture import Architecture

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Lattice"]


@dataclass(frozen=True, kw_only=True)
class Lattice(Architecture):
    """A cell for each site of a lattice, or for several in turn."""

    name: ClassVar[str] = "lattice"
    summary: ClassVar[str] = "a cell for each site, or for several; takes nets whose step has stencils alone"
    conformance: ClassVar[tuple[str, ...]] = ("NeuralCube*",)

    passes: int = option(1, bounds=Bounds(1), help="sites that each cell serves in turn")
    units: int | None = option(
        None,
        bounds=Bounds(1),
        help="pipelines that apply what follows the maps (default: as many as keep pace with the cells)",
    )

    @classmethod
    def rank(cls, net: IntNet) -> int:
        """The first for a net whose step has stencils alone, else the last."""
        linear = [op for op in walk(net.step) if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
        return 0 if linear and all(isinstance(op, ops.Stencil) for op in linear) else 3

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        from .engine import foresee

        return foresee(needs)

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, passes=self.passes, units=self.units)

    def resources(self, net: IntNet) -> Mapping[str, int]:
        from .resources import resources

        return resources(net, passes=self.passes, units=self.units)

    def smaller(self, net: IntNet) -> Iterator[Lattice]:
        """More passes, of blocks of equal size."""
        sites = prod(net.states[0].shape)
        return (replace(self, passes=p) for p in range(self.passes + 1, sites + 1) if sites % p == 0)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import LatticeEngine

        return LatticeEngine(net, trace=trace, inject=inject, passes=self.passes, units=self.units)
