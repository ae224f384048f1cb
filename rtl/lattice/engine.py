"""The lattice engine: the parallel engine whose step has cells in the place of an adder graph."""

from __future__ import annotations

from math import prod
from typing import Any

from amaranth import Module, Signal

from eqcompile.rtl.parallel import engine as parallel
from eqcompile.rtl.parallel.build import Scope, filled
from eqcompile.rtl.parallel.intake import InputUnit
from eqcompile.rtl.parallel.matrix import LinearMap, bias_of, matrix_of
from eqcompile.rtl.parallel.solve import Solver
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import Interval, IntNet, infer, ops

from .cells import build_cells
from .walk import walk_of

__all__ = ["LatticeEngine", "check", "describe"]

WEIGHTED = (ops.Linear, ops.Stencil, ops.Conv)


def check(net: IntNet) -> list[Diagnostic]:
    """Every reason why the engine cannot take `net`, by node."""
    found = parallel.check(net)
    maps = [op for op in net.step if isinstance(op, WEIGHTED)]
    if len(maps) != 1:
        found.append(
            Diagnostic(
                "rtl-lattice-maps",
                f"the step has {len(maps)} operations with weights, a lattice has 1",
                ", ".join(op.out for op in maps) or net.name,
                "use the parallel or the serial engine",
            )
        )
        return found
    types = infer(net)
    (local,) = maps
    if local.x not in {s.name for s in net.states}:
        found.append(Diagnostic("rtl-lattice-operand", f"{local.x} is no state; cells pass on states", local.out))
    units = prod(types[local.x].shape), prod(types[local.out].shape)
    if units[0] != units[1]:
        what = f"{local.mnemonic} takes {units[0]} codes and gives {units[1]}; a cell has one of each"
        found.append(Diagnostic("rtl-lattice-shape", what, local.out))
    return found


class LatticeEngine(parallel.ParallelEngine):
    """One cell a unit for the only map of the step; all else as in `ParallelEngine`, whose options it takes.

    `passes`: each multiplier serves that many sites in turn, a walk takes that many times the clocks; as many passes
    as a cube has planes leave one plane of multipliers.
    """

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool,
        passes: int = 1,
        levels: int | None = 4,
        solver: Solver = "pairs",
        input: InputUnit = "serial",  # noqa: A002
    ) -> None:
        self.passes = passes
        super().__init__(net, trace=trace, levels=levels, solver=solver, input=input)

    def _refusals(self, net: IntNet) -> list[Diagnostic]:
        found, sites = check(net), max(prod(s.shape) for s in net.states)
        if not 1 <= self.passes <= sites:
            found.append(Diagnostic("rtl-passes", f"passes is {self.passes}, must be in 1..{sites}", net.name))
        return found

    def _step_maps(self, m: Module, states: Scope, fresh: Signal) -> tuple[Scope, int]:
        local = _local(self.net)
        self.walk = walk_of(matrix_of(local, self.net, infer(self.net)))
        fmt = self.net.formats[local.x]
        operands = [w.value for w in states[local.x].reshape(-1)]
        cells = build_cells(
            m,
            self.walk,
            bias_of(local, self.net, infer(self.net)),
            operands,
            Interval(fmt.lo, fmt.hi),
            fresh,
            self.passes,
        )
        return {local.out: filled(infer(self.net)[local.out].shape, cells.sums)}, cells.clocks


def _local(net: IntNet) -> LinearMap:
    return next(op for op in net.step if isinstance(op, WEIGHTED))


def describe(engine: LatticeEngine) -> dict[str, Any]:
    """Figures of an engine as JSON values."""
    walk = engine.walk
    return {
        **parallel.describe(engine),
        "arch": "lattice",
        "cells": walk.weights.shape[1],
        "side": walk.side,
        "axes": walk.axes,
        "taps": len({tuple(w) for w in walk.weights.tolist() if any(w)}),
        "walk": len(walk.weights),
        "passes": engine.passes,
        "multipliers": -(-walk.weights.shape[1] // engine.passes),
        "neighbour_wires": len(walk.directions),
    }
