"""Exact integer intervals of every value of an IntNet.

Each state is assumed anywhere in its stated format; the verifier then shows that every update stays inside it, so the
intervals hold at every step by induction. Bounds are computed with Python integers from the actual codes: a weight
row contributes `sum(w * hi for w > 0) + sum(w * lo for w < 0)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ..arrays import row_parts
from . import ops
from .net import IntNet
from .ops import Op
from .types import infer

__all__ = ["Interval", "RangeError", "op_range", "table_reach", "value_ranges"]

Array = NDArray[np.int64]


class RangeError(ValueError):
    """An interval cannot be bounded or an operation's precondition fails; the message says with which numbers."""


@dataclass(frozen=True)
class Interval:
    """All integers from `lo` to `hi`."""

    lo: int
    hi: int

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(abs(self.lo), abs(self.hi))

    def __or__(self, other: Interval) -> Interval:
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def within(self, other: Interval) -> bool:
        return other.lo <= self.lo and self.hi <= other.hi

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi}]"


def value_ranges(net: IntNet) -> dict[str, Interval]:
    """Interval of every input, parameter, state and operation value (booleans excepted).

    Raises RangeError where a divisor may be zero, a damping multiplier leaves (0, 1 << shift], or a format is missing.
    """
    types = infer(net)
    scope: dict[str, Interval] = {}
    for p in net.params:
        scope[p.name] = Interval(int(p.value.min()), int(p.value.max())) if p.value.size else Interval(0, 0)
    for i in net.inputs:
        if i.encoding is not None:
            scope[i.name] = Interval(i.encoding.format.lo, i.encoding.format.hi)
    for s in net.states:
        if s.name not in net.formats:
            raise RangeError(f"state {s.name} has no format")
        scope[s.name] = Interval(net.formats[s.name].lo, net.formats[s.name].hi)
    sizes = {name: t.shape for name, t in types.items()}
    for _, block in net.blocks:
        _block(net, block, scope, sizes)
    return scope


def _block(net: IntNet, block: Iterable[Op], scope: dict[str, Interval], sizes: dict[str, tuple[int, ...]]) -> None:
    for op in block:
        if isinstance(op, ops.Repeat):
            if op.carry not in net.formats:
                raise RangeError(f"the value {op.carry} carried by repeat {op.out} has no format")
            carried = Interval(net.formats[op.carry].lo, net.formats[op.carry].hi)
            scope[op.carry] = carried
            _block(net, op.body, scope, sizes)
            for name in (op.init, op.result):
                if not scope[name].within(carried):
                    raise RangeError(f"repeat {op.out}: {name} is in {scope[name]}, carried format holds {carried}")
            scope[op.out] = carried
        elif not isinstance(op, ops.Greater):
            scope[op.out] = op_range(op, scope, sizes, net.param)


def _rows(weight: Array, x: Interval) -> tuple[list[int], list[int]]:
    """Lowest and highest exact sum of each row of `weight` [rows, taps] over operands in `x`."""
    largest = max(abs(int(weight.min())), abs(int(weight.max())))
    exact = np.int64 if largest * weight.shape[1] < 1 << 63 else object
    parts = [weight[part] for part in row_parts(weight)]
    positive = [int(v) for part in parts for v in np.maximum(part, 0).sum(axis=1, dtype=exact)]
    negative = [int(v) for part in parts for v in np.minimum(part, 0).sum(axis=1, dtype=exact)]
    low = [p * x.lo + n * x.hi for p, n in zip(positive, negative, strict=True)]
    high = [p * x.hi + n * x.lo for p, n in zip(positive, negative, strict=True)]
    return low, high


def _weighted(weight: Array, x: Interval, bias: Array | None, outside: bool) -> Interval:
    """Interval of a linear map; `outside` says that some taps may read a zero instead of the operand."""
    if weight.size == 0:
        return Interval(0, 0)
    if outside:
        x = x | Interval(0, 0)
    low, high = _rows(weight.reshape(weight.shape[0], -1), x)
    offset = [0] * len(low) if bias is None else [int(v) for v in bias]
    return Interval(
        min(a + b for a, b in zip(low, offset, strict=True)), max(a + b for a, b in zip(high, offset, strict=True))
    )


def _product(a: Interval, b: Interval) -> Interval:
    corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Interval(min(corners), max(corners))


def _absolute(x: Interval) -> Interval:
    return Interval(0 if x.lo <= 0 <= x.hi else min(abs(x.lo), abs(x.hi)), x.magnitude)


def _square(x: Interval) -> Interval:
    a = _absolute(x)
    return Interval(a.lo * a.lo, a.hi * a.hi)


def _word(x: Interval, op: Op) -> Interval:
    """`x`, once it is shown that this inner value of `op`, rounding constant included, fits a 64-bit word."""
    if not x.within(Interval(-(1 << 62), (1 << 62) - 1)):
        raise RangeError(f"{op.mnemonic} {op.out}: an inner product can be {x}, must fit 63 bits")
    return x


def _domain(op: Op, first: int, size: int) -> None:
    """Show that the domain of a table, which saturates its operand, lies inside a 64-bit word."""
    if not -(1 << 62) <= first <= first + size <= 1 << 62:
        raise RangeError(f"{op.mnemonic} {op.out}: its domain is {first} to {first + size - 1}, must fit 63 bits")


def _half_up(x: Interval, shift: int) -> Interval:
    half = (1 << shift) >> 1
    return Interval((x.lo + half) >> shift, (x.hi + half) >> shift)


def op_range(
    op: Op, scope: Mapping[str, Interval], sizes: Mapping[str, tuple[int, ...]], param: Callable[[str], Array]
) -> Interval:
    """Interval of one operation's value (`greater` and `repeat` excepted), its operands' in `scope`, shapes in `sizes`.

    Raises RangeError as `value_ranges` does.
    """
    match op:
        case ops.Linear(x=x, weight=w, bias=b):
            return _weighted(param(w), scope[x], None if b is None else param(b), False)
        case ops.Conv(x=x, weight=w, bias=b):
            return _weighted(param(w), scope[x], None if b is None else param(b), True)
        case ops.Stencil(x=x, weight=w, index=i, bias=b):
            taps = np.where(param(i) >= 0, param(w), 0)
            return _weighted(taps, scope[x], None if b is None else param(b), False)
        case ops.Embedding(table=t):
            return scope[t]
        case ops.MatMul(a=a, b=b):
            p, n = _product(scope[a], scope[b]), sizes[a][-1]
            return Interval(p.lo * n, p.hi * n)
        case ops.Add(a=a, b=b):
            return Interval(scope[a].lo + scope[b].lo, scope[a].hi + scope[b].hi)
        case ops.Sub(a=a, b=b):
            return Interval(scope[a].lo - scope[b].hi, scope[a].hi - scope[b].lo)
        case ops.Mul(a=a, b=b):
            return _square(scope[a]) if a == b else _product(scope[a], scope[b])
        case ops.Abs(x=x):
            return _absolute(scope[x])
        case ops.Select(a=a, b=b):
            return scope[a] | scope[b]
        case ops.Reduce(x=x, kind=kind, axes=axes):
            count = 1
            for axis in axes:
                count *= sizes[x][axis]
            return scope[x] if kind == "max" else Interval(scope[x].lo * count, scope[x].hi * count)
        case ops.Reshape(x=x) | ops.Transpose(x=x):
            return scope[x]
        case ops.Rescale(x=x, multiplier=m, shift=k):
            return _half_up(_word(_product(scope[x], scope[m]), op), k)
        case ops.Lookup(table=t, first=first):
            _domain(op, first, len(param(t)))
            return scope[t]
        case ops.Interpolate(base=b, slope=s, first=first, shift=k):
            base, slope = param(b), param(s)
            _domain(op, first, len(base) << k)
            _word(_product(scope[s], Interval(0, (1 << k) - 1)), op)
            top = [
                int(v) + ((int(g) * ((1 << k) - 1) + ((1 << k) >> 1)) >> k) for v, g in zip(base, slope, strict=True)
            ]
            return Interval(min([int(base.min()), *top]), max([int(base.max()), *top]))
        case ops.DampFixed(old=old, new=new, multiplier=m, shift=k):
            if not 0 < m <= 1 << k:
                raise RangeError(f"damp_fixed {op.out} has multiplier {m}, must be in 1..{1 << k}")
            span = Interval(scope[new].lo - scope[old].hi, scope[new].hi - scope[old].lo)
            _word(_product(span, Interval(m, m)), op)
            return scope[old] | scope[new]
        case ops.Divide(a=a, b=b, shift=k):
            if scope[b].lo < 1:
                raise RangeError(f"divide {op.out}: divisor {b} may be {scope[b].lo}, must be at least 1")
            _word(Interval(min(scope[a].lo << k, 0), max(scope[a].hi << k, 0) + scope[b].hi), op)
            quotients = [
                ((n << k) + d // 2) // d for n in (scope[a].lo, scope[a].hi) for d in (scope[b].lo, scope[b].hi)
            ]
            return Interval(min(quotients), max(quotients))
        case ops.Isqrt(x=x):
            v = _word(scope[x], op)
            return Interval(math.isqrt(max(v.lo, 0)), math.isqrt(max(v.hi, 0)))
        case _ if isinstance(op, ops.FloatOp | ops.Greater | ops.Repeat):
            raise RangeError(f"{op.mnemonic} is not an integer operation")
        case _:
            assert_never(op)


def table_reach(net: IntNet) -> Iterator[tuple[Op, int]]:
    """For each operation that reads a table, the largest number that computing its index or its product meets; the
    verifier bounds results alone."""
    ranges = value_ranges(net)
    for op in net.all_ops():
        match op:
            case ops.Interpolate(base=base, slope=slope, first=first, shift=shift):
                yield op, max(ranges[slope].magnitude << shift, abs(first) + (len(net.param(base)) << shift))
            case ops.Lookup(x=x, first=first):
                yield op, abs(first) + ranges[x].magnitude
            case _:
                continue
