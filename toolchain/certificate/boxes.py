"""Which codes every value can take, entry by entry, from boxes of the states: interval arithmetic in exact integers.

A box `[lo, hi]` of a value holds every code that it has for some setting of the states in their boxes, under the input
of its sample. Where the operand of a linear map is also within a 2-norm distance of a known point, its result is the
smaller of both boxes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from ..arrays import Codes, Reals
from ..ir import IntNet, ops
from ..ir.ops import Op
from ..passes import Analysis, bias_entries, linear_taps
from .gates import hold
from .norm import NoBoundError
from .tables import Windows, entries, is_saturation

__all__ = ["Ball", "Box", "Boxes", "Scope"]

_LARGEST_MATRIX = 1 << 24
_EXACT = 1 << 52


@dataclass(frozen=True)
class Box:
    """Codes [batch, *shape], int64, both ends part of it."""

    lo: Codes
    hi: Codes

    @classmethod
    def point(cls, codes: Codes) -> Box:
        """The box that holds these codes alone."""
        return cls(codes, codes)

    def ends(self) -> tuple[Codes, Codes]:
        return self.lo, self.hi


@dataclass(frozen=True)
class Ball:
    """A value is at most `distance` [batch] from `centre` [batch, *shape], in codes, 2-norm over all entries."""

    centre: Codes
    distance: Reals


Scope = dict[str, Box]


class Boxes:
    """Boxes of the values of a verified net."""

    def __init__(self, net: IntNet) -> None:
        self._net = net
        self._params = Analysis.of(net).codes
        self._types = Analysis.of(net).shapes
        self._maps: dict[str, tuple[Reals, Codes, Reals]] = {}
        self._tables: dict[str, Windows] = {}

    def evaluate(self, block: Iterable[Op], scope: Scope, balls: Mapping[str, Ball]) -> None:
        """Add the box of each operation's value to `scope`. `balls`: what else is known of states.

        Raises NoBoundError for an operation that has no such arithmetic.
        """
        for op in block:
            if isinstance(op, ops.Repeat):
                inner = {**scope, op.carry: self._get(op.init, scope)}
                for _ in range(op.count):
                    self.evaluate(op.body, inner, balls)
                    inner[op.carry] = inner[op.result]
                scope[op.out] = inner[op.carry]
            else:
                scope[op.out] = self._box(op, scope, balls)

    def matrix(self, op: Op) -> Reals:
        """The linear map [result entries, operand entries] of an operation."""
        return self._map(op)[0]

    def _map(self, op: Op) -> tuple[Reals, Codes, Reals]:
        """Matrix, bias, and an upper bound of the 2-norm of each row."""
        if op.out not in self._maps:
            taps = linear_taps(self._net, op)
            if math.prod(taps.shape) > _LARGEST_MATRIX:
                raise NoBoundError(f"{op.mnemonic} {op.out}: a matrix of {taps.shape} is too large for boxes")
            matrix = taps.dense()
            # Powers of two and sums below 2**52: exact in float64.
            squares = (matrix * matrix).sum(axis=1).astype(np.float64)
            norm = np.nextafter(np.sqrt(squares), np.inf)
            self._maps[op.out] = matrix.astype(np.float64), bias_entries(self._net, op), norm
        return self._maps[op.out]

    def _get(self, name: str, scope: Scope) -> Box:
        if name in scope:
            return scope[name]
        return Box.point(self._params[name][None])

    def _aligned(self, scope: Scope, *names: str) -> list[Box]:
        boxes = [self._get(name, scope) for name in names]
        rank = max(b.lo.ndim for b in boxes)
        return [_each(b, lambda v: v.reshape(len(v), *(1 for _ in range(rank - v.ndim)), *v.shape[1:])) for b in boxes]

    def _box(self, op: Op, scope: Scope, balls: Mapping[str, Ball]) -> Box:
        match op:
            case ops.Linear(x=x) | ops.Conv(x=x) | ops.Stencil(x=x):
                return self._mapped(op, self._get(x, scope), balls.get(x))
            case ops.Embedding(x=x, table=t):
                tokens = self._get(x, scope)
                if (tokens.lo != tokens.hi).any():
                    raise NoBoundError(f"embedding {op.out}: a token depends on a state")
                return Box.point(self._params[t][tokens.lo])
            case ops.Add(a=a, b=b):
                left, right = self._aligned(scope, a, b)
                return Box(left.lo + right.lo, left.hi + right.hi)
            case ops.Sub(a=a, b=b):
                left, right = self._aligned(scope, a, b)
                return Box(left.lo - right.hi, left.hi - right.lo)
            case ops.Mul(a=a, b=b):
                return _product(*self._aligned(scope, a, b))
            case ops.Abs(x=x):
                box = self._get(x, scope)
                return Box(np.maximum(np.maximum(box.lo, -box.hi), 0), np.maximum(np.abs(box.lo), np.abs(box.hi)))
            case ops.Greater(a=a, b=b):
                left, right = self._aligned(scope, a, b)
                return Box((left.lo > right.hi).astype(np.int64), (left.hi > right.lo).astype(np.int64))
            case ops.Select(condition=condition, a=a, b=b):
                which, yes, no = self._aligned(scope, condition, a, b)
                lo = np.where(which.lo > 0, yes.lo, np.where(which.hi > 0, np.minimum(yes.lo, no.lo), no.lo))
                hi = np.where(which.lo > 0, yes.hi, np.where(which.hi > 0, np.maximum(yes.hi, no.hi), no.hi))
                threshold = hold(self._net, op)
                if threshold is not None:
                    far = threshold.astype(np.int64).reshape(self._types[op.out])
                    lo, hi = np.maximum(lo, yes.lo - far), np.minimum(hi, yes.hi + far)
                return Box(lo, hi)
            case ops.Reduce(x=x, kind="sum", axes=axes, keep=keep):
                return _each(self._get(x, scope), lambda v: np.asarray(v.sum(axis=axes, keepdims=keep)))
            case ops.Reduce(x=x, kind="max", axes=axes, keep=keep):
                return _each(self._get(x, scope), lambda v: np.asarray(v.max(axis=axes, keepdims=keep)))
            case ops.Reshape(x=x, shape=shape):
                return _each(self._get(x, scope), lambda v: v.reshape(len(v), *shape))
            case ops.Transpose(x=x, axes=axes):
                return _each(self._get(x, scope), lambda v: v.transpose(0, *(1 + axis for axis in axes)))
            case ops.Rescale(x=x, multiplier=m, shift=shift):
                return _each(_product(*self._aligned(scope, x, m)), lambda v: _half_up(v, shift))
            case ops.Lookup(x=x) | ops.Interpolate(x=x):
                return self._looked_up(op, self._get(x, scope))
            case ops.DampFixed(old=a, new=b, multiplier=m, shift=shift):
                # It grows with both operands.
                old, new = self._aligned(scope, a, b)
                return Box(*(o + _half_up((n - o) * m, shift) for o, n in zip(old.ends(), new.ends(), strict=True)))
            case ops.Isqrt(x=x):
                return _each(self._get(x, scope), lambda v: np.asarray(_isqrt(np.maximum(v, 0)), np.int64))
            case ops.Divide(a=a, b=b, shift=shift):
                dividend, divisor = self._aligned(scope, a, b)
                ends = [((p << shift) + q // 2) // q for p in dividend.ends() for q in divisor.ends()]
                return Box(np.minimum.reduce(ends), np.maximum.reduce(ends))
            case _ if isinstance(op, ops.FloatOp | ops.Repeat | ops.Reduce | ops.MatMul):
                raise NoBoundError(f"{op.mnemonic} {op.out}: no boxes of its result are known here")
            case _:
                assert_never(op)

    def _mapped(self, op: Op, x: Box, ball: Ball | None) -> Box:
        matrix, bias, norm = self._map(op)
        count = len(x.lo)
        middle, spread = ((v.reshape(count, -1)).astype(np.float64) for v in (x.lo + x.hi, x.hi - x.lo))
        reach = (
            float(np.abs(matrix).sum(axis=1).max(initial=0.0))
            * 2.0
            * max(float(np.abs(v).max(initial=0)) for v in x.ends())
        )
        if reach >= _EXACT:
            raise NoBoundError(f"{op.mnemonic} {op.out}: sums of up to {reach:.3g} are not exact in float64")
        sums = (middle @ matrix.T).astype(np.int64)
        width = (spread @ np.abs(matrix).T).astype(np.int64)
        # Of the same parity: both are sums of w * (lo + hi) and |w| * (hi - lo).
        lo, hi = (sums - width) // 2 + bias, (sums + width) // 2 + bias
        if ball is not None:
            at = (ball.centre.reshape(count, -1).astype(np.float64) @ matrix.T).astype(np.int64) + bias
            far = np.floor(np.nextafter(norm * ball.distance[:, None], np.inf)).astype(np.int64)
            lo, hi = np.maximum(lo, at - far), np.minimum(hi, at + far)
        shape = (count, *self._types[op.out])
        return Box(lo.reshape(shape), hi.reshape(shape))

    def windows(self, op: ops.Lookup | ops.Interpolate) -> Windows:
        """The table of an operation, by index from its first entry."""
        if op.out not in self._tables:
            self._tables[op.out] = Windows(entries(self._net, op))
        return self._tables[op.out]

    def _looked_up(self, op: ops.Lookup | ops.Interpolate, x: Box) -> Box:
        if is_saturation(op, self._net):
            offset = int(self._params[op.base][0]) - op.first
            last = op.first + (1 << op.shift) - 1
            return _each(x, lambda v: np.clip(v, op.first, last) + offset)
        table = self.windows(op)
        lo, hi = (np.clip(v, op.first, op.first + table.size - 1) - op.first for v in x.ends())
        return Box(table.least(lo, hi), table.largest(lo, hi))


_isqrt = np.frompyfunc(math.isqrt, 1, 1)


def _each(box: Box, change: Callable[[Codes], Codes]) -> Box:
    """Both ends through a map that grows with its operand."""
    return Box(change(box.lo), change(box.hi))


def _product(a: Box, b: Box) -> Box:
    corners = [p * q for p in a.ends() for q in b.ends()]
    return Box(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _half_up(x: Codes, shift: int) -> Codes:
    return (x + ((1 << shift) >> 1)) >> shift
