"""How far two runs can be apart after an operation, if they are a given distance apart in the states before it.

For each value y a `Flow` proves `||y(u) - y(v)|| <= sum_s gain_s ||u_s - v_s|| + slack` (2-norms over all units) for
any two settings u, v of the states under one input. The slack is what rounding adds; it is 0 in a float net, whose
operations are taken as exact. Every sum and product is rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np

from ..arrays import Numbers, Reals, largest
from ..ir import IntNet, Net, ops
from ..ir.ops import ActivationKind, Op
from ..passes import Analysis, linear_taps
from .gates import hold
from .norm import LARGEST_SIDE, NoBoundError, Sparse, spectral_bound, up
from .tables import entries, growth, is_saturation

__all__ = ["Flow", "Flows"]

_SLOPES: Mapping[ActivationKind, float] = {"tanh": 1.0, "sigmoid": 0.25, "relu": 1.0, "gelu": 1.13, "silu": 1.1}
"""Largest slope of each activation: that of gelu is 1.1289.. at sqrt(2), that of silu 1.0998.. at 2.3994..; that of
exp has no bound."""

_UNBOUNDED = (
    *(ops.Embedding, ops.MatMul, ops.Mul, ops.Greater, ops.Mod),
    *(ops.Normalize, ops.Softmax, ops.Divide, ops.Isqrt, ops.Repeat),
)
_EXACT = 2.0**53


@dataclass(frozen=True)
class Flow:
    """`matrices`: what is still an exact linear function of states, `gains` all the rest, by state."""

    gains: Mapping[str, float] = field(default_factory=dict)
    matrices: Mapping[str, Numbers | Sparse] = field(default_factory=dict)
    slack: float = 0.0

    @property
    def moving(self) -> bool:
        """Whether it depends on a state at all."""
        return bool(self.gains or self.matrices or self.slack)

    def total(self) -> dict[str, float]:
        """The gain of every state, the norms of matrices included."""
        found = dict(self.gains)
        for name, matrix in self.matrices.items():
            bound = matrix.bound() if isinstance(matrix, Sparse) else spectral_bound(matrix)
            found[name] = up(found.get(name, 0.0) + bound)
        return found

    def through(self, slope: float, slack: float = 0.0) -> Flow:
        """After a map of this Lipschitz constant that adds `slack` of its own."""
        gains = {name: _times(slope, gain) for name, gain in self.total().items()}
        return Flow(gains, {}, _plus(_times(slope, self.slack), slack))


def _times(a: float, b: float) -> float:
    """The product rounded up; exact where a factor is 1 or 0."""
    return a * b if a in (0.0, 1.0) or b in (0.0, 1.0) else up(a * b)


def _plus(a: float, b: float) -> float:
    return a + b if 0.0 in (a, b) else up(a + b)


@dataclass
class Flows:
    """The flow of every value of a step. `gates`: selections that a state decides, and that may hold an upset of any
    size (`gates`); with each of them the flow is that of the operand taken while the condition holds, which bounds
    nothing where the two runs decide differently."""

    net: Net
    gates: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._types = Analysis.of(self.net).types
        self._params = Analysis.of(self.net).params
        self._of: dict[str, Flow] = {}
        self._identity = {s.name for s in self.net.states}
        self._decided: set[str] = set()
        for op in self.net.step:
            self._of[op.out] = self._flow(op)

    def of(self, name: str) -> Flow:
        """The flow of a value; a state flows into itself, inputs, parameters and drive values not at all."""
        if name in self._identity:
            return Flow({name: 1.0})
        return self._of.get(name, Flow())

    def _root(self, name: str) -> float:
        """The square root of a value's number of units, rounded up: so much can a rounding of 1 in each be."""
        return up(math.sqrt(math.prod(self._types[name].shape)))

    def _spread(self, name: str, out: str) -> Flow:
        """An operand as it is broadcast to the shape of `out`."""
        size, full = (math.prod(self._types[n].shape) for n in (name, out))
        flow = self.of(name)
        return flow if size == full or not flow.moving else flow.through(up(math.sqrt(full / size)))

    def _flow(self, op: Op) -> Flow:
        if isinstance(op, ops.Select) and self._decides(op.condition):
            threshold = hold(self.net, op)
            if threshold is None:
                self.gates.append(op.out)
                return self._spread(op.a, op.out)
            squares = float((threshold * threshold).sum()) * (1.0 + 2.0**-40)
            return self._spread(op.a, op.out).through(1.0, up(2.0 * up(math.sqrt(up(squares)))))
        if isinstance(op, ops.Greater):
            if self.of(op.a).moving or self.of(op.b).moving:
                self._decided.add(op.out)
            return Flow()
        if isinstance(op, ops.Repeat):
            if any(self.of(name).moving for inner in op.body for name in inner.reads) or self.of(op.init).moving:
                raise NoBoundError(f"repeat {op.out}: a nested relaxation reads a state")
            return Flow()
        if not any(self.of(name).moving for name in op.reads):
            return Flow()
        return self._moving(op)

    def _decides(self, condition: str) -> bool:
        return condition in self._decided or self.of(condition).moving

    def _moving(self, op: Op) -> Flow:
        match op:
            case ops.Linear(x=x, weight=w):
                return self._mapped(x, self._params[w])
            case ops.Stencil(x=x):
                taps = linear_taps(self.net, op)
                if min(taps.shape) <= LARGEST_SIDE:
                    return self._mapped(x, taps.dense())
                sparse = Sparse(taps.shape, taps.row, taps.column.astype(np.int64), taps.weight.astype(np.float64))
                if float(np.abs(sparse.value).max(initial=0.0)) >= _EXACT:
                    raise NoBoundError(f"{op.mnemonic} {op.out}: a weight has more than 53 bits")
                return Flow({}, {x: sparse}) if x in self._identity else self.of(x).through(sparse.bound())
            case ops.Conv(x=x, weight=w):
                return self.of(x).through(_conv_bound(self._params[w]))
            case ops.Rescale(x=x, multiplier=m, shift=shift):
                return self._rescaled(op.out, self._multiple(x, 1.0) or self.of(x), self._params[m], shift)
            case ops.Scale(x=x, factor=factor):
                return self._multiple(x, factor) or self.of(x).through(abs(factor))
            case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b):
                return _sum(self._spread(a, op.out), self._spread(b, op.out), -1.0 if isinstance(op, ops.Sub) else 1.0)
            case ops.Select(a=a, b=b):
                first, second = self._spread(a, op.out), self._spread(b, op.out)
                return _sum(first.through(1.0), second.through(1.0), 1.0)
            case ops.Abs(x=x):
                return self.of(x).through(1.0)
            case ops.Reshape(x=x) | ops.Transpose(x=x):
                return self.of(x).through(1.0)
            case ops.Reduce(x=x, kind="mean" | "max"):
                return self.of(x).through(1.0)
            case ops.Reduce(x=x, axes=axes):
                count = math.prod(self._types[x].shape[axis] for axis in axes)
                return self.of(x).through(up(math.sqrt(count)))
            case ops.Clip(x=x):
                return self.of(x).through(1.0)
            case ops.Activation(x=x, kind=kind) if kind in _SLOPES:
                return self.of(x).through(_SLOPES[kind])
            case ops.Lookup(x=x, table=t):
                slope, jump = growth(self._params[t].astype(np.int64, copy=False))
                return self.of(x).through(slope, jump * self._root(op.out))
            case ops.Interpolate():
                return self._interpolated(op)
            case ops.Damp(old=old, new=new, alpha=alpha):
                return self._damped(op.out, old, new, alpha, 0.0)
            case ops.DampFixed(old=old, new=new, multiplier=m, shift=shift):
                return self._damped(op.out, old, new, m / (1 << shift), _times(_rounding(shift), self._root(op.out)))
            case ops.Mul(a=a, b=b) if a in self._params or b in self._params:
                value, constant = (b, a) if a in self._params else (a, b)
                return self._spread(value, op.out).through(float(np.abs(self._params[constant]).max(initial=0)))
            case _ if isinstance(
                op,
                ops.Embedding
                | ops.MatMul
                | ops.Mul
                | ops.Greater
                | ops.Mod
                | ops.Normalize
                | ops.Softmax
                | ops.Divide
                | ops.Isqrt
                | ops.Repeat
                | ops.Activation,
            ):
                raise NoBoundError(f"{op.mnemonic} {op.out}: no bound of how it spreads a distance is known here")
            case _:
                assert_never(op)

    def _multiple(self, x: str, factor: float) -> Flow | None:
        """A multiple of a state as a matrix, so that a map of the same state can be added to it; None of what is no
        state, and of one with so many units that matrices of it have no better bound than sums."""
        shape = self._types[x].shape
        if x not in self._identity or len(shape) != 1 or shape[0] > LARGEST_SIDE:
            return None
        return Flow({}, {x: factor * np.eye(shape[0])})

    def _mapped(self, x: str, weight: Numbers) -> Flow:
        flow = self.of(x)
        if x in self._identity and _fits(weight):
            return Flow({}, {x: weight})
        return flow.through(spectral_bound(weight))

    def _rescaled(self, out: str, flow: Flow, multiplier: Numbers, shift: int) -> Flow:
        slack = _times(_rounding(shift), self._root(out))
        if multiplier.ndim <= 1 and not flow.gains:
            scaled = {name: _scaled(m, multiplier, shift) for name, m in flow.matrices.items()}
            matrices = {name: m for name, m in scaled.items() if m is not None}
            if len(matrices) == len(scaled):
                most = math.ldexp(float(np.abs(multiplier).max()), -shift)
                return Flow({}, matrices, _plus(_times(most, flow.slack), slack))
        return flow.through(math.ldexp(float(np.abs(multiplier).max(initial=0)), -shift), slack)

    def _interpolated(self, op: ops.Interpolate) -> Flow:
        assert isinstance(self.net, IntNet)
        if is_saturation(op, self.net):
            # A saturation: it moves nothing further apart.
            return self.of(op.x).through(1.0)
        steepness, jump = growth(entries(self.net, op))
        return self.of(op.x).through(steepness, jump * self._root(op.out))

    def _damped(self, out: str, old: str, new: str, alpha: float, slack: float) -> Flow:
        kept = self._spread(old, out).through(up(1.0 - alpha) if alpha < 1.0 else 0.0)
        summed = _sum(kept, self._spread(new, out).through(alpha), 1.0)
        return Flow(summed.gains, {}, _plus(summed.slack, slack))


def _signed(matrix: Numbers | Sparse, sign: float) -> Numbers | Sparse:
    if sign == 1.0:
        return matrix
    return replace(matrix, value=sign * matrix.value) if isinstance(matrix, Sparse) else sign * matrix


def _fits(matrix: Numbers) -> bool:
    """Whether the entries are exact as float64: those of a float net are, integers below 2**53."""
    return matrix.dtype.kind == "f" or largest(matrix) < _EXACT


def _scaled(matrix: Numbers | Sparse, multiplier: Numbers, shift: int) -> Reals | Sparse | None:
    """Each row times its multiplier, over two to the shift; None where the product is not exact."""
    factor = np.asarray(multiplier, np.float64)
    if isinstance(matrix, Sparse):
        value = matrix.value * (factor[matrix.row] if factor.size > 1 else factor)
        exact = bool(np.abs(value).max(initial=0.0) < _EXACT)
        return replace(matrix, value=np.ldexp(value, -shift)) if exact else None
    scaled: Reals = matrix * (factor.reshape(-1, 1) if factor.ndim else factor)
    return np.ldexp(scaled, -shift, out=scaled) if largest(scaled) < _EXACT else None


def _rounding(shift: int) -> float:
    """By how much two half-up roundings of numbers with `shift` fraction bits can differ more than the numbers."""
    return 1.0 - 2.0**-shift


def _sum(a: Flow, b: Flow, sign: float) -> Flow:
    both = set(a.matrices) & set(b.matrices)
    if any(isinstance(flow.matrices[name], Sparse) for flow in (a, b) for name in both):
        a, b, both = a.through(1.0), b.through(1.0), set()
    matrices = {**a.matrices, **{name: _signed(matrix, sign) for name, matrix in b.matrices.items()}}
    gains = dict(a.gains)
    for name in both:
        left, right = a.matrices[name], b.matrices[name]
        assert not isinstance(left, Sparse)
        assert not isinstance(right, Sparse)
        summed = matrices[name] = left + sign * right
        # Each entry is rounded by at most 2^-53 of itself.
        gains[name] = _plus(gains.get(name, 0.0), up(2.0**-52 * float(np.linalg.norm(summed))))
    for name, gain in b.gains.items():
        gains[name] = _plus(gains.get(name, 0.0), gain)
    return Flow(gains, matrices, _plus(a.slack, b.slack))


def _conv_bound(weight: Numbers) -> float:
    """`sqrt(||K||_1 ||K||_inf)`: an output sums its channel's taps, an input reaches the taps of its channel."""
    size = np.abs(weight.astype(np.float64))
    slop = 1.0 + (size.size + 2) * 2.0**-52
    rows = float(size.reshape(len(size), -1).sum(axis=1).max(initial=0.0)) * slop
    columns = float(size.sum(axis=(0, *range(2, size.ndim))).max(initial=0.0)) * slop
    return up(math.sqrt(up(rows * columns)))
