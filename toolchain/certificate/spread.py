"""How a step spreads a change of the states, entry by entry: what norms other than the 2-norm are proved from.

For two settings u, v of the states of a block, under one input and with all other states equal, let d = u - v in codes,
all units of the block one after another. A `Spread` of a value y [entries] proves

    |y(u) - y(v)| <= sum_k scale_k |M_k d| + jump        (entry by entry)

with exact matrices M_k [entries, units]; where an operation after a table mixes entries, `|M_k d|` is `M_k |d|`, for
which every norm below holds as well. While the value is a linear map of the states, rounding apart, there is one term,
of scale 1, whose M has its signs. Scales and jumps are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ..arrays import Codes, Reals, largest, row_parts
from ..ir import IntNet, ops
from ..ir.ops import Op
from ..passes import Analysis, linear_matrix
from .gates import hold
from .norm import NoBoundError
from .tables import entries, growth, is_saturation

__all__ = ["Spread", "Term", "spread_of"]

_EXACT = 2.0**53
_LARGEST_MATRIX = 1 << 22
_GRAIN = 30
"""A matrix that is the larger of two is rounded up to multiples of 2**-30."""


@dataclass(frozen=True)
class Term:
    """`scale * 2**-shift * matrix`; matrix [entries, units] of integers below 2**53 as float64."""

    scale: float
    matrix: Reals
    shift: int

    def value(self) -> Reals:
        """The matrix without its scale, exact."""
        return np.ldexp(self.matrix, -self.shift)


@dataclass(frozen=True)
class Spread:
    """`terms` and `jump` [entries] of the module's text; `linear` as there."""

    terms: tuple[Term, ...]
    jump: Reals
    linear: bool

    def rows(self, index: Codes) -> Spread:
        """The entries at these places."""
        return Spread(tuple(Term(t.scale, t.matrix[index], t.shift) for t in self.terms), self.jump[index], self.linear)

    def scaled(self, factor: Codes, shift: int, jump: float) -> Spread:
        """Times `factor` [entries] of integers and `2**-shift`, with `jump` more."""
        terms = tuple(Term(t.scale, _exact(t.matrix * factor[:, None]), t.shift + shift) for t in self.terms)
        grown = _up(np.ldexp(_up(self.jump * np.abs(factor)), -shift)) if self.jump.any() else self.jump
        return Spread(terms, _up(grown + jump) if jump else grown, self.linear)

    def steeper(self, slope: float, jump: float) -> Spread:
        """Through a function of each entry that grows by at most `slope` times the change and `jump`."""
        if (slope, jump) == (1.0, 0.0):
            return Spread(self.terms, self.jump, False)
        terms = tuple(Term(_product(t.scale, slope), t.matrix, t.shift) for t in self.terms)
        return Spread(terms, _up(_up(self.jump * slope) + jump) if self.jump.any() else self.jump + jump, False)

    def mapped(self, weight: Reals) -> Spread:
        """Through a linear map [results, entries] of integers."""
        moved = bool(self.jump.any())
        if self.linear and not moved:
            (term,) = self.terms
            return Spread((Term(1.0, _times(weight, term.matrix), term.shift),), np.zeros(len(weight)), True)
        size = np.abs(weight)
        grown = _up((size @ self.jump) * (1.0 + 2.0**-40)) if moved else np.zeros(len(weight))
        if self.linear:
            (term,) = self.terms
            return Spread((Term(1.0, _times(weight, term.matrix), term.shift),), grown, True)
        return Spread(tuple(Term(t.scale, _times(size, np.abs(t.matrix)), t.shift) for t in self.terms), grown, False)

    def plus(self, other: Spread, sign: float) -> Spread:
        """Their sum, or difference."""
        jump = _up(self.jump + other.jump) if self.jump.any() and other.jump.any() else self.jump + other.jump
        if not (self.linear and other.linear):
            return Spread(self.terms + other.terms, jump, False)
        (a,), (b,) = self.terms, other.terms
        shift = max(a.shift, b.shift)
        left, right = (_exact(np.ldexp(t.matrix, shift - t.shift)) for t in (a, b))
        return Spread((Term(1.0, _exact(left + sign * right), shift),), jump, True)

    def either(self, other: Spread, apart: Reals) -> Spread:
        """Of two values one of which each run takes, where the values differ by at most `apart` [entries]."""
        matrix = np.maximum(self.total(), other.total())
        whole = Term(1.0, _exact(np.ceil(np.ldexp(matrix, _GRAIN))), _GRAIN)
        return Spread((whole,), _up(np.maximum(self.jump, other.jump) + apart), False)

    def total(self) -> Reals:
        """Sum of the terms' absolute matrices [entries, units], rounded up; [entries, 1] of zeros without terms."""
        total = np.zeros((len(self.jump), 1))
        for t in self.terms:
            size = t.value()
            np.abs(size, out=size)
            size *= t.scale
            np.nextafter(size, np.inf, out=size)
            size += total
            total = np.nextafter(size, np.inf, out=size)
        return total


def spread_of(net: IntNet, states: Sequence[str]) -> Spread:
    """Of the updates of these states, one after another, as a function of them in the same order.

    Raises NoBoundError for an operation without such a bound, and where a matrix would be too large.
    """
    walk = _Walk(net, states)
    updates = [walk.of(s.update) for name in states for s in net.states if s.name == name]
    if len(updates) == 1 and updates[0].terms:
        return Spread(updates[0].terms, updates[0].jump, False)
    depth = max(len(u.terms) for u in updates)
    blank = [Term(0.0, np.zeros((1, walk.units)), 0)]
    terms = []
    for k in range(depth):
        parts = [(u, (*u.terms, *(blank * depth))[k]) for u in updates]
        scale = max(t.scale for _, t in parts)
        # Terms of one scale keep it apart; a smaller one may be taken as the largest.
        rows = [np.broadcast_to(t.value(), (len(u.jump), walk.units)) for u, t in parts]
        terms.append(Term(scale, np.concatenate(rows), 0))
    return Spread(tuple(terms), np.concatenate([u.jump for u in updates]), False)


class _Walk:
    def __init__(self, net: IntNet, states: Sequence[str]) -> None:
        self._net, self._analysis = net, Analysis.of(net)
        sizes = self._analysis.sizes
        self.units = sum(sizes[name] for name in states)
        if self.units**2 > _LARGEST_MATRIX:
            raise NoBoundError(f"{self.units} units: matrices of more than {_LARGEST_MATRIX} entries are not looked at")
        self._makers = {op.out: op for op in net.step}
        self._of: dict[str, Spread | None] = {}
        self._unbounded: dict[str, NoBoundError] = {}
        self._decided: set[str] = set()
        at = 0
        for name in states:
            matrix = np.eye(sizes[name], self.units, k=at)
            self._of[name] = Spread((Term(1.0, matrix, 0),), np.zeros(sizes[name]), True)
            at += sizes[name]
        last = {name: op.out for op in net.step for name in op.reads}
        last |= {s.update: "" for s in net.states}
        for op in net.step:
            try:
                self._of[op.out] = self._spread(op)
            except NoBoundError as error:
                # No harm where a gate alone reads it.
                self._unbounded[op.out] = error
            for name in set(op.reads) & self._of.keys():
                if last[name] == op.out:
                    del self._of[name]

    def of(self, name: str) -> Spread:
        """Of a value; without terms where it does not depend on the states."""
        if name in self._unbounded:
            raise self._unbounded[name]
        spread = self._of.get(name)
        return spread if spread is not None else Spread((), np.zeros(self._analysis.sizes[name]), False)

    def _aligned(self, name: str, out: str) -> Spread:
        """Broadcast to the shape of `out`."""
        shapes = self._analysis.shapes
        place = np.arange(self._analysis.sizes[name]).reshape(shapes[name])
        if shapes[name] == shapes[out]:
            return self.of(name)
        return self.of(name).rows(np.broadcast_to(place, shapes[out]).reshape(-1))

    def _moves(self, name: str) -> bool:
        return self._of.get(name) is not None or name in self._decided or name in self._unbounded

    def _spread(self, op: Op) -> Spread | None:
        if not any(self._moves(name) for name in op.reads):
            return None
        if isinstance(op, ops.Greater):
            self._decided.add(op.out)
            return None
        match op:
            case ops.Linear(x=x) | ops.Conv(x=x) | ops.Stencil(x=x):
                size = (self._analysis.sizes[op.out], self._analysis.sizes[x])
                if math.prod(size) > _LARGEST_MATRIX:
                    raise NoBoundError(f"{op.mnemonic} {op.out}: a matrix of {size} is too large")
                return self.of(x).mapped(linear_matrix(self._net, op))
            case ops.Rescale(x=x, multiplier=m, shift=shift):
                return self._aligned(x, op.out).scaled(self._constant(m, op.out), shift, 1.0 - 2.0**-shift)
            case ops.Mul(a=a, b=b) if not (self._moves(a) and self._moves(b)):
                x, m = (a, b) if self._moves(a) else (b, a)
                if m in self._analysis.codes:
                    return self._aligned(x, op.out).scaled(self._constant(m, op.out), 0, 0.0)
            case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b):
                left, right = self._aligned(a, op.out), self._aligned(b, op.out)
                if not (self._moves(a) and self._moves(b)):
                    return left if self._moves(a) else right
                return left.plus(right, -1.0 if isinstance(op, ops.Sub) else 1.0)
            case ops.Abs(x=x):
                return self.of(x).steeper(1.0, 0.0)
            case ops.Reshape(x=x):
                return self.of(x)
            case ops.Transpose(x=x, axes=axes):
                shape = self._analysis.shapes[x]
                return self.of(x).rows(np.arange(math.prod(shape)).reshape(shape).transpose(axes).reshape(-1))
            case ops.Lookup(x=x) | ops.Interpolate(x=x):
                if is_saturation(op, self._net):
                    return self.of(x).steeper(1.0, 0.0)
                slope, jump = growth(entries(self._net, op))
                return self.of(x).steeper(slope, float(jump))
            case ops.DampFixed(old=a, new=b, multiplier=m, shift=shift):
                one = np.ones(self._analysis.sizes[op.out], np.int64)
                rounding = 1.0 - 2.0**-shift
                old, new = self._aligned(a, op.out), self._aligned(b, op.out)
                if not self._moves(b):
                    return old.scaled(one * ((1 << shift) - m), shift, rounding)
                update = new.scaled(one * m, shift, rounding)
                return old.scaled(one * ((1 << shift) - m), shift, 0.0).plus(update, 1.0) if self._moves(a) else update
            case ops.Select():
                return self._selected(op)
            case (
                ops.Mul() | ops.MatMul() | ops.Reduce() | ops.Mod() | ops.Divide() | ops.Isqrt() | ops.Embedding()
                | ops.Normalize() | ops.Softmax() | ops.Scale() | ops.Activation() | ops.Clip()
                | ops.Damp() | ops.Repeat()
            ):  # fmt: skip
                pass
            case _:
                assert_never(op)
        raise NoBoundError(f"{op.mnemonic} {op.out}: no bound of its entries is known here")

    def _selected(self, op: ops.Select) -> Spread:
        first, second = self._aligned(op.a, op.out), self._aligned(op.b, op.out)
        apart = np.zeros(self._analysis.sizes[op.out])
        if op.condition in self._decided:
            threshold = hold(self._net, op)
            if threshold is not None:
                return Spread(first.terms, _up(first.jump + 2.0 * threshold), False)
            a, b = (self._analysis.ranges[name] for name in (op.a, op.b))
            apart += max(a.hi - b.lo, b.hi - a.lo)
        return first.either(second, apart)

    def _constant(self, name: str, out: str) -> Codes:
        shape = self._analysis.shapes[out]
        return np.broadcast_to(self._analysis.codes[name], shape).reshape(-1)


def _times(a: Reals, b: Reals) -> Reals:
    if _is_identity(b):
        return a
    reach = max((float(np.abs(a[part]).sum(axis=1).max()) for part in row_parts(a)), default=0.0) * largest(b)
    if reach >= _EXACT:
        raise NoBoundError(f"sums of up to {reach:.3g} are not exact in float64")
    return np.asarray(a @ b)


def _is_identity(matrix: Reals) -> bool:
    rows, columns = matrix.shape
    return rows == columns == np.count_nonzero(matrix) and bool((np.diagonal(matrix) == 1.0).all())


def _exact(matrix: Reals) -> Reals:
    if largest(matrix) >= _EXACT:
        raise NoBoundError("a coefficient of more than 53 bits is not exact in float64")
    return matrix


def _product(a: float, b: float) -> float:
    return a * b if 1.0 in (a, b) else math.nextafter(a * b, math.inf)


def _up(values: Reals) -> NDArray[np.float64]:
    return np.nextafter(values, np.inf)
