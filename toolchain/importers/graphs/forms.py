"""What operations of graphs are made of: compositions of the IR's, one vocabulary for ONNX and for PyTorch.

A graph is read for one sample: the axis of samples is 1 wherever it is in a value's shape. A value of the IR has no
such axis; its shape is the graph's without the first axis, where that is 1. Shapes below are the graph's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...ir import OpError, ops
from ...ir.ops import ActivationKind, Op, ReduceKind
from ...ir.types import ValueType, infer_op

__all__ = ["Forms", "Operand", "Refused", "Scope", "Shape", "plain"]

Shape: TypeAlias = tuple[int, ...]
Operand: TypeAlias = str | NDArray[np.float64]
"""A value by its name in the net, or a constant of the graph in the graph's shape."""
T = TypeVar("T", bound=Op)
_FLOAT32 = 2.0**-23


class Refused(Exception):  # noqa: N818 - the reader makes the error of it, which says where
    """An operation that has no form in the IR: the message says why."""


def plain(shape: Sequence[int]) -> Shape:
    """The shape that a value of the IR has: without a first axis of size 1."""
    return tuple(shape[1:] if shape and shape[0] == 1 else shape)


@dataclass
class Scope:
    """What is known of the values of a net in the making, by name. `joined`: the parts of a value along its last axis;
    `scaled`: what it is a multiple of; `inverse`: the boolean that it is the opposite of; `masked`: the value of which
    some entries are left out of a softmax, and the mask; `errors`: x and the offset of `erf(x / sqrt 2) + offset`."""

    types: dict[str, ValueType] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    linears: dict[str, ops.Linear] = field(default_factory=dict)
    joined: dict[str, tuple[Operand, ...]] = field(default_factory=dict)
    scaled: dict[str, tuple[str, float]] = field(default_factory=dict)
    inverse: dict[str, str] = field(default_factory=dict)
    masked: dict[str, tuple[str, NDArray[np.int64]]] = field(default_factory=dict)
    errors: dict[str, tuple[str, float]] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)


class Forms:
    """The operations of one node of a graph, added to a block of the net as they are asked for.

    `name(hint)` gives a name of the net that is not taken, `constant(array)` the name of a parameter that holds it.
    Each form returns the name of its value, and raises `Refused` where the IR has nothing of the kind.
    """

    def __init__(
        self, scope: Scope, block: list[Op], name: Callable[[str], str], constant: Callable[[NDArray[np.generic]], str]
    ) -> None:
        self.scope = scope
        self.block = block
        self.name = name
        self.constant = constant

    # Values

    def shape(self, x: Operand) -> Shape:
        """The graph's shape of an operand."""
        return self.scope.shapes[x] if isinstance(x, str) else x.shape

    def value(self, x: Operand, rank: int = 0) -> str:
        """An operand as a value of the net; a constant without the first axis that a value of `rank` lacks too."""
        if isinstance(x, str):
            for known, what in (
                (self.scope.inverse, "a condition, as only a selection can"),
                (self.scope.masked, "a value with entries left out, as only a softmax can"),
                (self.scope.errors, "an error function, as only a gelu can"),
            ):
                if x in known:
                    raise Refused(f"it reads {what}")
            return x
        if np.ndim(x) and np.ndim(x) >= rank and x.shape[0] == 1:
            x = x[0]
        array = np.asarray(x, np.float64)
        name = self.constant(array)
        self.scope.shapes[name] = array.shape
        return name

    def number(self, x: Operand, what: str) -> float:
        """A constant of one entry."""
        if isinstance(x, str) or x.size != 1:
            raise Refused(f"its {what} is not a constant of one entry")
        return float(x.reshape(()))

    def emit(self, op: Op, shape: Shape) -> str:
        """Add an operation whose value has this shape in the graph."""
        try:
            kind = infer_op(op, self.scope.types, self.scope.arrays)
        except OpError as error:
            raise Refused(str(error)) from error
        self.block.append(op)
        self.scope.types[op.out], self.scope.shapes[op.out] = kind, shape
        if kind.shape != plain(shape):
            return self.held(op.out, plain(shape), shape)
        return op.out

    def held(self, x: str, held: Shape, shape: Shape) -> str:
        """The same elements in another shape: `held` in the net, `shape` in the graph."""
        if self.scope.types[x].shape == held and self.scope.shapes[x] == shape:
            return x
        op = ops.Reshape(out=self.name("shaped"), x=x, shape=held)
        self.block.append(op)
        self.scope.types[op.out], self.scope.shapes[op.out] = ValueType(held, self.scope.types[x].kind), shape
        return op.out

    def reshape(self, x: Operand, shape: Shape) -> str:
        """The same elements in C order; an entry of -1 is what is left."""
        size = math.prod(self.shape(x))
        if -1 in shape:
            rest = -math.prod(shape)
            shape = tuple(size // max(rest, 1) if n == -1 else n for n in shape)
        if math.prod(shape) != size:
            raise Refused(f"{list(self.shape(x))} ({size}) cannot have the shape {list(shape)} ({math.prod(shape)})")
        return self.held(self.value(x), plain(shape), shape)

    def transpose(self, x: Operand, order: Sequence[int]) -> str:
        """Axis i of the result is axis `order[i]` of x."""
        before, name = self.shape(x), self.value(x)
        order = [axis % len(before) for axis in order]
        after = tuple(before[axis] for axis in order)
        moved = [axis for axis in order if before[axis] != 1]
        if moved == sorted(moved):
            return self.held(name, plain(after), after)
        full = self.held(name, before, before)
        if before[0] == 1 and order[0] == 0:
            axes = tuple(axis - 1 for axis in order[1:])
            return self.emit(ops.Transpose(out=self.name(""), x=name, axes=axes), after)
        return self.emit(ops.Transpose(out=self.name(""), x=full, axes=tuple(order)), after)

    def swapped(self, x: Operand, first: int, second: int) -> str:
        """x with two axes exchanged."""
        order = list(range(len(self.shape(x))))
        order[first], order[second] = order[second], order[first]
        return self.transpose(x, order)

    def axis(self, x: Operand, axis: int) -> int:
        """An axis counted from the last; Refused for that of the samples."""
        rank = len(self.shape(x))
        axis = axis % rank - rank
        if axis == -rank and self.shape(x)[axis] == 1:
            raise Refused("it runs over the axis of samples: each sample is relaxed alone")
        return axis

    # Element by element

    def pointwise(self, kind: type[ops.Add | ops.Sub | ops.Mul | ops.Greater], a: Operand, b: Operand) -> str:
        """A pointwise operation of two operands, broadcast as NumPy does."""
        try:
            shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        except ValueError as error:
            raise Refused(f"shapes {list(self.shape(a))} and {list(self.shape(b))} cannot be broadcast") from error
        rank = len(shape)
        return self.emit(kind(out=self.name(""), a=self.value(a, rank), b=self.value(b, rank)), shape)

    def add(self, a: Operand, b: Operand) -> str:
        """`a + b`; a mean of a state and another value becomes the damped update that it is."""
        for old, new in ((a, b), (b, a)):
            damped = self._mean(old, new)
            if damped is not None:
                return damped
            if isinstance(old, str) and old in self.scope.errors and not isinstance(new, str) and new.size == 1:
                x, offset = self.scope.errors[old]
                return self._error(x, offset + float(new.reshape(())))
        return self.pointwise(ops.Add, a, b)

    def _mean(self, old: Operand, new: Operand) -> str | None:
        """`(1 - alpha) state + alpha new`, if that is what the two are; shares written in float32 may miss 1 by its
        rounding."""
        if not isinstance(old, str) or not isinstance(new, str):
            return None
        (state, rest), (value, share) = (self.scope.scaled.get(x, ("", 0.0)) for x in (old, new))
        singles = all(float(np.float32(n)) == n for n in (rest, share))
        if state not in self.scope.states or value in self.scope.states or not 0.0 < share < 1.0:
            return None
        if abs(1.0 - share - rest) > (_FLOAT32 if singles else 0.0) or self.shape(state) != self.shape(value):
            return None
        return self.damp(state, value, share)

    def damp(self, old: Operand, new: Operand, share: float) -> str:
        """`(1 - share) old + share new`."""
        if not 0.0 < share <= 1.0:
            return self.add(old, self.multiply(self.subtract(new, old), np.asarray(share)))
        shape = np.broadcast_shapes(self.shape(old), self.shape(new))
        old, new = self.value(old, len(shape)), self.value(new, len(shape))
        return self.emit(ops.Damp(out=self.name(""), old=old, new=new, alpha=share), shape)

    def subtract(self, a: Operand, b: Operand) -> str:
        return self.pointwise(ops.Sub, a, b)

    def multiply(self, a: Operand, b: Operand) -> str:
        """`a b`; a constant of one entry scales, and `x (1 + erf(x / sqrt 2))` is twice a gelu."""
        for x, factor in ((a, b), (b, a)):
            if isinstance(x, str) and isinstance(factor, str) and factor in self.scope.errors:
                whole = self.scope.errors[factor] == (x, 1.0)
                source, share = (x, 1.0) if whole else self.scope.scaled.get(x, ("", 1.0))
                if self.scope.errors[factor] == (source, 1.0):
                    return self.scale(self.activation(source, "gelu"), 2.0 * share)
            if isinstance(x, str) and not isinstance(factor, str) and factor.size == 1:
                if factor.ndim <= len(self.shape(x)):
                    return self.scale(x, float(factor.reshape(())))
        return self.pointwise(ops.Mul, a, b)

    def scale(self, x: Operand, factor: float) -> str:
        """`factor x`."""
        if factor == 1.0 and isinstance(x, str):
            return x
        name = self.value(x)
        out = self.emit(ops.Scale(out=self.name(""), x=name, factor=factor), self.shape(x))
        self.scope.scaled[out] = (name, factor)
        return out

    def divide(self, a: Operand, b: Operand) -> str:
        """`a / b` for a constant b."""
        if isinstance(b, str):
            raise Refused("its divisor is not a constant")
        if not np.all(b):
            raise Refused(f"{int((b == 0).sum())} of {b.size} entries of its divisor are 0")
        return self.multiply(a, 1.0 / np.asarray(b, np.float64))

    def power(self, x: Operand, exponent: float) -> str:
        """`x` to a whole power from 1 to 4."""
        if exponent not in (1.0, 2.0, 3.0, 4.0):
            raise Refused(f"its exponent is {exponent:g}, read are 1 to 4")
        result = self.value(x)
        for _ in range(int(exponent) - 1):
            result = self.pointwise(ops.Mul, result, x)
        return result

    def abs(self, x: Operand) -> str:
        return self.emit(ops.Abs(out=self.name(""), x=self.value(x)), self.shape(x))

    def mod(self, x: Operand, period: Operand) -> str:
        """`x - period floor(x / period)` for a positive constant period."""
        number = self.number(period, "period")
        if number <= 0.0:
            raise Refused(f"its period is {number:g}, must be positive")
        return self.emit(ops.Mod(out=self.name(""), x=self.value(x), period=number), self.shape(x))

    def floor(self, x: Operand) -> str:
        """The largest whole number that is at most x: `x - (x mod 1)`."""
        return self.subtract(x, self.mod(x, np.ones(())))

    # Conditions

    def greater(self, a: Operand, b: Operand) -> str:
        """The condition `a > b`."""
        return self.pointwise(ops.Greater, a, b)

    def opposite(self, condition: Operand) -> str:
        """The condition that holds where another does not; no operation."""
        if not isinstance(condition, str) or self.scope.types[condition].kind != "boolean":
            raise Refused("it negates what is no condition")
        if condition in self.scope.inverse:
            return self.scope.inverse[condition]
        out = self.name("not")
        self.scope.inverse[out] = condition
        self.scope.types[out], self.scope.shapes[out] = self.scope.types[condition], self.scope.shapes[condition]
        return out

    def select(self, condition: Operand, a: Operand, b: Operand) -> str:
        """`a` where the condition holds, else `b`."""
        if not isinstance(condition, str):
            chosen = np.asarray(condition != 0, np.float64)
            return self.add(self.multiply(a, chosen), self.multiply(b, 1.0 - chosen))
        if condition in self.scope.inverse:
            return self.select(self.scope.inverse[condition], b, a)
        if self.scope.types[condition].kind != "boolean":
            raise Refused("its condition is a number")
        shape = np.broadcast_shapes(self.shape(condition), self.shape(a), self.shape(b))
        a, b = self.value(a, len(shape)), self.value(b, len(shape))
        return self.emit(ops.Select(out=self.name(""), condition=condition, a=a, b=b), shape)

    def as_number(self, x: Operand) -> str:
        """A condition as 1 or 0, a number as it is."""
        if isinstance(x, str) and self.scope.types[x].kind == "boolean":
            return self.select(x, np.ones(()), np.zeros(()))
        return self.value(x)

    def maximum(self, a: Operand, b: Operand) -> str:
        return self.select(self.greater(a, b), a, b)

    def minimum(self, a: Operand, b: Operand) -> str:
        return self.select(self.greater(a, b), b, a)

    def clip(self, x: Operand, low: Operand | None, high: Operand | None) -> str:
        """x held between two limits, either of which may be absent."""
        held = self.value(x)
        if isinstance(low, np.ndarray) and isinstance(high, np.ndarray) and low.size == high.size == 1:
            lo, hi = float(low.reshape(())), float(high.reshape(()))
            if -math.inf < lo < hi < math.inf:
                return self.emit(ops.Clip(out=self.name(""), x=held, lo=lo, hi=hi), self.shape(x))
        if low is not None and (isinstance(low, str) or np.isfinite(low).any()):
            held = self.maximum(held, low)
        if high is not None and (isinstance(high, str) or np.isfinite(high).any()):
            held = self.minimum(held, high)
        return held

    def sign(self, x: Operand) -> str:
        """1, 0 or -1."""
        zero, one = np.zeros(()), np.ones(())
        below = self.select(self.greater(zero, x), -one, zero)
        return self.select(self.greater(x, zero), one, below)

    # Activations

    def activation(self, x: Operand, kind: ActivationKind) -> str:
        return self.emit(ops.Activation(out=self.name(""), x=self.value(x), kind=kind), self.shape(x))

    def gelu(self, x: Operand, approximate: str) -> str:
        """The exact one, or that by tanh: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`."""
        if approximate == "none":
            return self.activation(x, "gelu")
        cube = self.scale(self.power(x, 3.0), 0.044715)
        inner = self.scale(self.add(x, cube), math.sqrt(2.0 / math.pi))
        return self.multiply(self.scale(x, 0.5), self.add(self.activation(inner, "tanh"), np.ones(())))

    def erf(self, x: Operand) -> str:
        """The error function of `x / sqrt 2`, which only a gelu may read."""
        source, factor = self.scope.scaled.get(x, ("", 0.0)) if isinstance(x, str) else ("", 0.0)
        if abs(factor * math.sqrt(2.0) - 1.0) > _FLOAT32:
            raise Refused("it is not that of x / sqrt 2 in a gelu")
        return self._error(source, 0.0)

    def _error(self, x: str, offset: float) -> str:
        out = self.name("error")
        self.scope.errors[out] = (x, offset)
        self.scope.types[out], self.scope.shapes[out] = self.scope.types[x], self.scope.shapes[x]
        return out

    def leaky_relu(self, x: Operand, slope: Operand) -> str:
        """x where it is positive, `slope x` elsewhere: `(1 - slope) relu(x) + slope x` for a constant slope."""
        if isinstance(slope, str):
            return self.select(self.greater(x, np.zeros(())), x, self.multiply(x, slope))
        return self.add(self.multiply(self.activation(x, "relu"), 1.0 - slope), self.multiply(x, slope))

    def hard_sigmoid(self, x: Operand, slope: float, offset: float) -> str:
        """`slope x + offset` held between 0 and 1."""
        return self.clip(self.add(self.scale(x, slope), np.asarray(offset)), np.zeros(()), np.ones(()))

    def softmax(self, x: Operand, axis: int) -> str:
        """Over one axis; entries that are left out come out 0."""
        mask = None
        if isinstance(x, str) and x in self.scope.masked:
            x, array = self.scope.masked[x]
            mask = self.constant(np.broadcast_to(array, self.shape(x)).reshape(plain(self.shape(x))))
        at = self.axis(x, axis)
        if at == -1:
            return self.emit(ops.Softmax(out=self.name(""), x=self.value(x), mask=mask), self.shape(x))
        if mask is not None:
            raise Refused("it leaves entries out and runs over another axis than the last")
        return self.swapped(self.softmax(self.swapped(x, at, -1), -1), at, -1)

    def leave_out(self, x: Operand, kept: NDArray[np.bool_]) -> str:
        """x without the entries that are not `kept`, for a softmax."""
        name, out = self.value(x), self.name("part")
        self.scope.masked[out] = (name, np.asarray(kept, np.int64))
        self.scope.types[out], self.scope.shapes[out] = self.scope.types[name], self.shape(x)
        return out

    # Reductions

    def reduce(self, x: Operand, kind: ReduceKind, axes: Sequence[int], *, keep: bool) -> str:
        """Sum, mean or maximum over axes, which stay with size 1 if `keep`."""
        before, rank = self.shape(x), len(self.shape(x))
        over = sorted({self.axis(x, axis) for axis in axes})
        kept = [1 if axis - rank in over else n for axis, n in enumerate(before) if keep or axis - rank not in over]
        return self.emit(
            ops.Reduce(out=self.name(""), x=self.value(x), kind=kind, axes=tuple(over), keep=keep), tuple(kept)
        )
