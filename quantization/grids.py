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
    """The grid of each signal. `pre`: fraction bits of sums and pre-activations."""

    of: Mapping[str, Grid]
    pre: int

    @classmethod
    def choose(cls, net: EqNet, bounds: Bounds, state_bits: int) -> Grids:
        """Grids of all states and signals.

        Whole numbers (flags, counters) keep unit steps. A value within [-1, 1] has `state_bits`, all but the sign
        fraction (more fraction bits if it is smaller by powers of two); a wider one `state_bits + 2` and the
        largest fraction that covers its range. Values of equal magnitude therefore share a grid, so that a register
        that remembers a signal compares with it exactly.
        """
        whole = whole_numbers(net)
        names = _signals(net) | {s.name for s in net.states}
        found = {name: _grid(name, bounds, state_bits, name in whole) for name in sorted(names)}
        return cls(found, state_bits + 1)

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
