"""Which values are signals (held by a register or read by a weight), and their formats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from eqcompile.toolchain.options import QuantizeOptions

from ..toolchain.ir import EqNet, Format, ops
from ..toolchain.ir.ops import Op
from ..toolchain.typed_json import JsonObject
from .bounds import Bounds, whole_numbers, widest
from .exact import moves
from .precision import Precision

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
    """The grid of each signal. `precision`: bits of every value, those of sums among them. `read`: what weights read of
    a signal that has guard bits."""

    of: Mapping[str, Grid]
    precision: Precision
    read: Mapping[str, Grid]

    @classmethod
    def choose(cls, net: EqNet, bounds: Bounds, options: QuantizeOptions) -> Grids:
        """Grids of all states and signals.

        Whole numbers (flags, counters) keep unit steps. A value within [-1, 1] has its bits (`Precision`), all but the
        sign fraction (more fraction bits if it is smaller by powers of two); a wider one two bits more and the
        largest fraction that covers its range. Values of equal magnitude and bits therefore share a grid, so that a
        register that remembers a signal compares with it exactly. A state that is proved to stay in [0, 1] has no sign:
        all of its bits are fraction.

        A state that averages moves by less than a step of its grid towards the end, and rounding holds it there: guard
        bits, more fraction bits, let it go on. Weights read it rounded to the grid that it has without them.
        """
        whole = whole_numbers(net)
        unsigned = frozenset(s.name for s in net.states if s.name not in whole and bounds.proves_unit(s.name))
        precision = Precision.choose(net, options, unsigned)
        names = sorted(_signals(net) | {s.name for s in net.states})
        grids = {name: _whole(bounds, name) if name in whole else _grid(bounds, name, precision) for name in names}
        guarded = (precision.guards.keys() - whole) & grids.keys()
        fine = {name: _guarded(grids[name], precision.guards[name]) for name in guarded}
        return cls({**grids, **fine}, precision, {name: grids[name] for name in guarded})

    def pre(self, name: str) -> int:
        """Fraction bits of the sums and pre-activations that a value is made of."""
        return self.precision.pre(name)

    def rows(self, net: EqNet, bounds: Bounds, options: QuantizeOptions) -> tuple[JsonObject, ...]:
        """Report rows of the states, and of the values whose width `options` name (JSON values)."""
        states = {s.name for s in net.states}
        named = [name for name in options.states if name not in states]
        return tuple(self._state_row(s.name, bounds) for s in net.states) + tuple(
            {"what": "value", "name": name, "bits": self.precision[name], "sums_frac": self.pre(name)} for name in named
        )

    def _state_row(self, name: str, bounds: Bounds) -> JsonObject:
        grid, read = self.of[name], self.read.get(name)
        guard = {} if read is None else {"guard_bits": grid.frac - read.frac}
        return {
            "what": "state",
            "name": name,
            "format": str(grid.format),
            "frac": grid.frac,
            **guard,
            "range": list(bounds.signal(name)),
            "range_from": "calibrated" if bounds.calibrated(name) else "proved",
        }


def _whole(bounds: Bounds, name: str) -> Grid:
    lo, hi = bounds.signal(name)
    return Grid(Format.holding(math.floor(lo), math.ceil(hi)), 0)


def _grid(bounds: Bounds, name: str, precision: Precision) -> Grid:
    magnitude, bits = widest(bounds.signal(name)), precision[name]
    exponent = math.ceil(math.log2(magnitude)) if magnitude > 0.0 else 0
    if exponent <= 0:
        sign = name not in precision.unsigned
        return Grid(Format(bits if sign else bits - 1, sign), bits - 1 - exponent)
    bits += _WIDE_EXTRA_BITS
    return Grid(Format(bits, True), bits - 1 - exponent)


def _guarded(grid: Grid, bits: int) -> Grid:
    return Grid(Format(grid.format.bits + bits, grid.format.signed), grid.frac + bits)


def _signals(net: EqNet) -> frozenset[str]:
    """Operation values that a weight reads or that a state or repeat holds; what is only moved and added is none."""
    held = {s.update for s in net.states} | {s.init for s in net.states if s.init is not None}
    made: set[str] = set()
    for op in net.all_ops():
        made.add(op.out)
        if not moves(net, op):
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
