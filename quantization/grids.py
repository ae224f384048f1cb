"""Which values are signals (held by a register or read by a weight), and their formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..toolchain.ir import EqNet, Format, ops
from ..toolchain.ir.ops import Op
from ..toolchain.typed_json import JsonObject
from .bounds import Bounds, whole_numbers, widest

__all__ = ["Grid", "Grids"]

_WIDE_EXTRA_BITS = 2
"""Bits that a signal without the bound 1 gets on top of a state's, for its magnitude."""


@dataclass(frozen=True)
class Grid:
    """Format and fraction bits of a signal: code v means `v / 2**frac`."""

    format: Format
    frac: int

    @property
    def scale(self) -> Fraction:
        return Fraction(2) ** -self.frac


@dataclass(frozen=True)
class Grids:
    """The grid of each signal. `pre`: fraction bits of sums and pre-activations. `read`: what weights read of a signal
    that has guard bits."""

    of: Mapping[str, Grid]
    pre: int
    read: Mapping[str, Grid]

    @classmethod
    def choose(cls, net: EqNet, bounds: Bounds, state_bits: int, guard_bits: int) -> Grids:
        """Grids of all states and signals.

        Whole numbers (flags, counters) keep unit steps. A value within [-1, 1] has `state_bits`, all but the sign
        fraction (more fraction bits if it is smaller by powers of two); a wider one `state_bits + 2` and the
        largest fraction that covers its range. Values of equal magnitude therefore share a grid, so that a register
        that remembers a signal compares with it exactly.

        A state that averages moves by less than a step of its grid towards the end, and rounding holds it there:
        `guard_bits` more fraction bits let it go on. Weights read it rounded to the grid that it has without them.
        """
        whole = whole_numbers(net)
        names = sorted(_signals(net) | {s.name for s in net.states})
        grids = {name: _grid(name, bounds, state_bits, name in whole) for name in names}
        guarded = (_averages(net) - whole) & grids.keys() if guard_bits else frozenset()
        fine = {name: _guarded(grids[name], guard_bits) for name in guarded}
        return cls({**grids, **fine}, state_bits + 1, {name: grids[name] for name in guarded})

    def rows(self, net: EqNet, bounds: Bounds) -> tuple[JsonObject, ...]:
        """Report rows of the states (JSON values)."""
        return tuple(
            {
                "what": "state",
                "name": s.name,
                "format": str(self.of[s.name].format),
                "frac": self.of[s.name].frac,
                "range": list(bounds.signal(s.name)),
                "range_from": "calibrated" if bounds.calibrated(s.name) else "proved",
            }
            for s in net.states
        )


def _grid(name: str, bounds: Bounds, state_bits: int, whole: bool) -> Grid:
    lo, hi = bounds.signal(name)
    if whole:
        return Grid(Format.holding(math.floor(lo), math.ceil(hi)), 0)
    magnitude = widest((lo, hi))
    exponent = math.ceil(math.log2(magnitude)) if magnitude > 0.0 else 0
    if exponent <= 0:
        return Grid(Format(state_bits, True), state_bits - 1 - exponent)
    bits = state_bits + _WIDE_EXTRA_BITS
    return Grid(Format(bits, True), bits - 1 - exponent)


def _guarded(grid: Grid, bits: int) -> Grid:
    return Grid(Format(grid.format.bits + bits, grid.format.signed), grid.frac + bits)


def _averages(net: EqNet) -> frozenset[str]:
    """States and carried values whose next value holds a part of their last one, and what they are set from."""
    makers = {op.out: op for op in net.all_ops()}
    names: set[str] = set()
    for state in net.states:
        if _holds_part(makers.get(state.update), state.name, makers):
            names |= {state.name, state.update} | ({state.init} if state.init is not None else set())
    for op in net.all_ops():
        if isinstance(op, ops.Repeat) and _holds_part(makers.get(op.result), op.carry, makers):
            names |= {op.carry, op.result, op.init, op.out}
    return frozenset(names)


def _holds_part(op: Op | None, name: str, makers: Mapping[str, Op]) -> bool:
    """Whether an operation adds something to a part of the named value."""
    match op:
        case ops.Damp(old=old):
            return old == name
        case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b):
            return any(part == name or _holds_part(makers.get(part), name, makers) for part in (a, b))
        case ops.Scale(x=x):
            return x == name
        case _:
            return False


def _signals(net: EqNet) -> frozenset[str]:
    """Operation values that a weight reads or that a state or repeat holds."""
    held = {s.update for s in net.states} | {s.init for s in net.states if s.init is not None}
    made: set[str] = set()
    for op in net.all_ops():
        made.add(op.out)
        held |= set(_read_by_weights(op))
        if isinstance(op, ops.Repeat):
            made.add(op.carry)
            held |= {op.out, op.carry, op.init, op.result}
    return frozenset(held & made)


def _read_by_weights(op: Op) -> Iterable[str]:
    match op:
        case ops.Linear(x=x) | ops.Stencil(x=x) | ops.Conv(x=x):
            return (x,)
        case ops.MatMul(a=a, b=b):
            return (a, b)
        case _:
            return ()
