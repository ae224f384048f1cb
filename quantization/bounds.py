"""Real intervals of every value of an EqNet, for all inputs in a range: interval arithmetic, states by induction."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from ..toolchain.arrays import Array, Numbers, row_parts
from ..toolchain.ir import EqNet, ops
from ..toolchain.ir.ops import ActivationKind, Op
from ..toolchain.passes import Analysis

__all__ = ["Bounds", "Range", "whole_numbers", "widest"]

Range = tuple[float, float]

_ROUNDS = 8
"""Rounds after which a state that still grows counts as unbounded; a tanh-bounded one is stable after two."""

_LARGEST_EXPONENT = math.log(sys.float_info.max)
_LOWEST = {"gelu": -0.17, "silu": -0.279}

_AFFORDABLE = 2.0
"""A relu that is proved to stay below so many times its calibrated maximum gets a format that holds the proof."""


def widest(bounds: Range) -> float:
    """The largest magnitude in a range."""
    return max(abs(bounds[0]), abs(bounds[1]))


@dataclass
class Bounds:
    """`of[name]` holds every number of the net: proved, or under the assumption that each state of `taken` stays in
    the range seen in calibration. An activation without an upper end (relu, gelu, silu) saturates at the calibrated
    maximum where its proof is wider; what depends on that is in `open`.

    `inputs`: range of each numeric input. `seen`: ranges from calibration, for states without a proof.
    `missing`: states that have neither; `of` is then incomplete.
    """

    net: EqNet
    inputs: Mapping[str, Range]
    seen: Mapping[str, Range]
    of: dict[str, Range] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    open: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.normalizes = any(isinstance(op, ops.Normalize) for op in self.net.all_ops())
        self._sizes = Analysis.of(self.net).shapes
        self._params = {p.name: p.value for p in self.net.params}
        self.of |= {n: (float(v.min()), float(v.max())) for n, v in self._params.items() if v.size}
        self.of |= self.inputs
        self._block(self.net.drive)
        for s in self.net.states:
            self.of[s.name] = (0.0, 0.0) if s.init is None else self.of[s.init]
        self._induce()
        if not self.missing:
            self._block(self.net.readout)
        self.open = self._resting()

    def signal(self, name: str) -> Range:
        """The range to choose a format for: once a state has no proof, signals saturate at what calibration saw, as the
        state does; their intervals would only be bounds on a bound. So they do in a net that normalises: an entry may
        reach `sqrt(n - 1)`, which formats for every input would have to hold, and trained nets stay far below."""
        return self._seen_part(name) if self.taken or self.normalizes else self.of[name]

    def calibrated(self, name: str) -> bool:
        """Whether calibration rather than a proof bounds the signal."""
        return name in self.taken or name in self.open or self.signal(name) != self.of[name]

    def proves_unit(self, name: str) -> bool:
        """Whether every number of the value is proved to lie in [0, 1], and not all are 0."""
        lo, hi = self.of[name]
        return not self.calibrated(name) and lo >= 0.0 and 0.0 < hi <= 1.0

    def reach(self, op: ops.Activation) -> Range:
        """The operand's range up to which an activation without an upper end follows its function: what calibration
        saw; of a relu, which needs no table, all that is proved, where that costs its result at most one bit."""
        seen = self._seen_part(op.x)
        proved = self.of[op.x]
        return proved if op.kind == "relu" and proved[1] <= _AFFORDABLE * max(seen[1], 0.0) else seen

    def _resting(self) -> frozenset[str]:
        """Values whose range rests on an activation that saturates at what calibration saw."""
        open_ended = [
            op for op in self.net.all_ops() if isinstance(op, ops.Activation) and op.kind not in ("tanh", "sigmoid")
        ]
        names = {op.out for op in open_ended if op.x in self.of and self.reach(op)[1] < self.of[op.x][1]}
        while True:
            before = len(names)
            for op in self.net.all_ops():
                if not isinstance(op, _BOUNDED) and not names.isdisjoint(op.reads):
                    if not (isinstance(op, ops.Activation) and op.kind in ("tanh", "sigmoid")):
                        names.add(op.out)
                if isinstance(op, ops.Repeat) and op.result in names:
                    names |= {op.carry, op.out}
            names |= {s.name for s in self.net.states if s.update in names or s.init in names}
            if len(names) == before:
                return frozenset(names)

    def _seen_part(self, name: str) -> Range:
        lo, hi = self.of[name]
        seen = self.seen.get(name, (lo, hi))
        return max(lo, seen[0]), min(hi, seen[1])

    def _induce(self) -> None:
        """Grow the states' ranges until a step stays inside; what never does gets its calibrated range."""
        for attempt in range(2):
            for _ in range(_ROUNDS):
                self._block(self.net.step)
                grown = [s for s in self.net.states if s.name not in self.taken and self._grow(s.name, s.update)]
                if not grown:
                    return
            unbounded = [s.name for s in grown]
            if attempt or not set(unbounded) <= set(self.seen):
                self.missing = tuple(n for n in unbounded if n not in self.seen) or tuple(unbounded)
                return
            for name in unbounded:
                self.of[name] = self.seen[name]
                self.taken.add(name)

    def _grow(self, state: str, update: str) -> bool:
        old = self.of[state]
        self.of[state] = _hull(old, self.of[update])
        return self.of[state] != old

    def _block(self, block: Iterable[Op]) -> None:
        for op in block:
            if isinstance(op, ops.Repeat):
                self.of[op.carry] = self.of[op.init]
                for _ in range(op.count):
                    self._block(op.body)
                    grown = _hull(self.of[op.carry], self.of[op.result])
                    if grown == self.of[op.carry]:
                        break
                    self.of[op.carry] = grown
                self.of[op.out] = self.of[op.carry]
            elif not isinstance(op, ops.Greater):
                self.of[op.out] = self._op(op)

    def _op(self, op: Op) -> Range:
        of = self.of
        match op:
            case ops.Linear(x=x, weight=w, bias=b):
                return self._weighted(self._params[w], of[x], b)
            case ops.Conv(x=x, weight=w, bias=b):
                return self._weighted(self._params[w], _hull(of[x], (0.0, 0.0)), b)
            case ops.Stencil(x=x, weight=w, index=i, bias=b):
                return self._weighted(np.where(self._params[i] >= 0, self._params[w], 0.0), of[x], b)
            case ops.Embedding(table=t):
                return of[t]
            case ops.MatMul(a=a, b=b):
                lo, hi = _product(of[a], of[b])
                return lo * self._sizes[a][-1], hi * self._sizes[a][-1]
            case ops.Add(a=a, b=b):
                return of[a][0] + of[b][0], of[a][1] + of[b][1]
            case ops.Sub(a=a, b=b):
                return of[a][0] - of[b][1], of[a][1] - of[b][0]
            case ops.Mul(a=a, b=b):
                return _product(of[a], of[b])
            case ops.Scale(x=x, factor=factor):
                return _product(of[x], (factor, factor))
            case ops.Abs(x=x):
                lo, hi = of[x]
                return (0.0 if lo <= 0.0 <= hi else min(abs(lo), abs(hi))), widest(of[x])
            case ops.Select(a=a, b=b) | ops.Damp(old=a, new=b):
                return _hull(of[a], of[b])
            case ops.Reduce(x=x, kind=kind, axes=axes):
                count = 1
                for axis in axes:
                    count *= self._sizes[x][axis]
                return (of[x][0] * count, of[x][1] * count) if kind == "sum" else of[x]
            case ops.Reshape(x=x) | ops.Transpose(x=x):
                return of[x]
            case ops.Clip(x=x, lo=lo, hi=hi):
                return min(max(of[x][0], lo), hi), min(max(of[x][1], lo), hi)
            case ops.Activation(x=x, kind=kind):
                return _activation(self.of[x] if kind in ("tanh", "sigmoid") else self.reach(op), kind)
            case ops.Softmax():
                return 0.0, 1.0
            case ops.Normalize(x=x, axes=axes, groups=groups):
                # n entries of mean 0 and variance at most 1: the largest stands alone against n - 1 equal ones.
                limit = math.sqrt(math.prod(self._sizes[x][axis] for axis in axes) // groups - 1)
                return -limit, limit
            case ops.Mod(period=period):
                return 0.0, period
            case _ if isinstance(op, ops.IntegerOp | ops.Greater | ops.Repeat):
                raise TypeError(f"{type(op).__name__} has no interval rule")
            case _:
                assert_never(op)

    def _weighted(self, weight: Array, x: Range, bias: str | None) -> Range:
        rows = weight.reshape(weight.shape[0], -1)
        positive, negative = np.empty(len(rows)), np.empty(len(rows))
        for part in row_parts(rows):
            np.maximum(rows[part], 0.0).sum(axis=1, out=positive[part])
            np.minimum(rows[part], 0.0).sum(axis=1, out=negative[part])
        offset = 0.0 if bias is None else self._params[bias]
        low, high = positive * x[0] + negative * x[1] + offset, positive * x[1] + negative * x[0] + offset
        return float(low.min()), float(high.max())


_BOUNDED = (ops.Clip, ops.Embedding, ops.Greater, ops.Mod, ops.Normalize, ops.Softmax)
"""Operations whose result has a range whatever that of their operand is."""


def _hull(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])


def _product(a: Range, b: Range) -> Range:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _activation(x: Range, kind: ActivationKind) -> Range:
    match kind:
        case "tanh":
            return -1.0, 1.0
        case "sigmoid":
            return 0.0, 1.0
        case "relu":
            return max(x[0], 0.0), max(x[1], 0.0)
        case "gelu" | "silu":
            return _LOWEST[kind], max(x[1], 0.0)
        case "exp":
            low, high = (math.exp(min(end, _LARGEST_EXPONENT)) for end in x)
            return low, high


def whole_numbers(net: EqNet) -> frozenset[str]:
    """Values that are integers by construction: flags, counters and constants of them.

    A state counts while its update and its start do: the largest such set, found by removing what fails.
    """
    whole = {p.name for p in net.params if p.value.size and _whole(p.value)}
    whole |= {s.name for s in net.states}
    while True:
        found = set(whole)
        for op in net.all_ops():
            if _keeps_whole(op) and all(name in found for name in op.reads):
                found.add(op.out)
        lost = {s.name for s in net.states if s.update not in found or (s.init is not None and s.init not in found)}
        if not lost & whole:
            return frozenset(found)
        whole -= lost


def _whole(numbers: Numbers) -> bool:
    flat = numbers.reshape(-1)
    return all(np.array_equal(flat[part], np.rint(flat[part])) for part in row_parts(flat))


def _keeps_whole(op: Op) -> bool:
    if isinstance(op, ops.Reduce):
        return op.kind != "mean"
    return isinstance(op, (ops.Add, ops.Sub, ops.Mul, ops.Abs, ops.Reshape, ops.Transpose))
