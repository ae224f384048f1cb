"""Shape and kind of every value, inferred from the operations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np

from ..arrays import Array
from . import ops
from .ops import Op
from .parts import Circuit

__all__ = ["OpError", "ValueType", "infer", "infer_op", "infer_ops"]

ValueKind = Literal["number", "index", "boolean"]


class OpError(ValueError):
    """An operation does not fit its operands; the message has both sides."""


@dataclass(frozen=True)
class ValueType:
    """`shape` without the batch axis; `number` is float64 in an EqNet and an integer in an IntNet."""

    shape: tuple[int, ...]
    kind: ValueKind = "number"


def infer(net: Circuit) -> dict[str, ValueType]:
    """Type of every input, parameter, state and operation value of a net (bodies of repeats included).

    Raises OpError on the first operation that does not fit.
    """
    scope: dict[str, ValueType] = {p.name: ValueType(p.value.shape) for p in net.params}
    scope |= {i.name: ValueType(i.shape, i.kind) for i in net.inputs}
    scope |= {s.name: ValueType(s.shape) for s in net.states}
    arrays = {p.name: p.value for p in net.params}
    for _, block in net.blocks:
        infer_ops(block, scope, arrays)
    return scope


def infer_ops(block: Iterable[Op], scope: dict[str, ValueType], arrays: Mapping[str, Array]) -> None:
    """Add the type of each operation's value to `scope`, in order; `arrays` holds
    parameters [*shape], int64 or float64.

    Raises OpError on the first operation that does not fit its operands.
    """
    for op in block:
        if isinstance(op, ops.Repeat):
            scope[op.carry] = _get(scope, op, op.init)
            infer_ops(op.body, scope, arrays)
            result = _get(scope, op, op.result)
            if result != scope[op.carry]:
                raise OpError(f"repeat carries {scope[op.carry]} but its body returns {result}")
        scope[op.out] = infer_op(op, scope, arrays)


def _get(scope: Mapping[str, ValueType], op: Op, name: str) -> ValueType:
    if name not in scope:
        raise OpError(f"{op.mnemonic} reads {name!r}, which is not defined before it")
    return scope[name]


def _broadcast(op: Op, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise OpError(f"{op.mnemonic} cannot broadcast shapes {' and '.join(map(str, shapes))}") from None


def _axis(op: Op, axis: int, rank: int) -> int:
    if not -rank <= axis < 0:
        raise OpError(f"{op.mnemonic} has axis {axis}, its operand has axes -{rank} to -1")
    return rank + axis


def _linear(weight: tuple[int, ...], x: tuple[int, ...], bias: tuple[int, ...] | None) -> tuple[int, ...]:
    if len(weight) != 2 or not x or weight[1] != x[-1]:
        raise OpError(f"linear has weight {list(weight)} on an input of shape {list(x)}: weight must be [out, in]")
    if bias is not None and bias != (weight[0],):
        raise OpError(f"linear has bias {list(bias)} for {weight[0]} outputs")
    return (*x[:-1], weight[0])


def _stencil(
    weight: tuple[int, ...], index: Array, x: tuple[int, ...], bias: tuple[int, ...] | None
) -> tuple[int, ...]:
    if len(weight) != 2 or index.shape != weight or len(x) != 1:
        raise OpError(f"stencil has weight {list(weight)}, index {list(index.shape)} on shape {list(x)}")
    if index.size and (int(index.min()) < -1 or int(index.max()) >= x[0]):
        raise OpError(f"stencil has indices {int(index.min())} to {int(index.max())}, its operand has 0 to {x[0] - 1}")
    if bias is not None and bias != (weight[0],):
        raise OpError(f"stencil has bias {list(bias)} for {weight[0]} sites")
    return (weight[0],)


def _conv(op: ops.Conv, weight: tuple[int, ...], x: tuple[int, ...], bias: tuple[int, ...] | None) -> tuple[int, ...]:
    if len(x) < 2 or len(weight) != len(x) + 1 or weight[1] != x[0]:
        raise OpError(f"conv has weight {list(weight)} on an input of shape {list(x)}: need [out, in, *kernel]")
    if op.stride < 1 or op.padding < 0:
        raise OpError(f"conv has stride {op.stride} and padding {op.padding}")
    if bias is not None and bias != (weight[0],):
        raise OpError(f"conv has bias {list(bias)} for {weight[0]} channels")
    space = tuple((n + 2 * op.padding - k) // op.stride + 1 for n, k in zip(x[1:], weight[2:], strict=True))
    if min(space) < 1:
        raise OpError(f"conv has kernel {list(weight[2:])} on a space of {list(x[1:])} with padding {op.padding}")
    return (weight[0], *space)


def infer_op(op: Op, scope: Mapping[str, ValueType], arrays: Mapping[str, Array]) -> ValueType:
    """Type of the value of one operation whose operands are in `scope` (for a repeat: with its body's values); `arrays`
    holds parameters [*shape], int64 or float64, of which indices of lattices are looked at.

    Raises OpError where the operation does not fit its operands.
    """
    types = {name: _get(scope, op, name) for name in op.reads}
    shape = {name: t.shape for name, t in types.items()}
    if isinstance(op, ops.Embedding):
        if types[op.x].kind != "index" or len(shape[op.table]) != 2:
            raise OpError(f"embedding has table {list(shape[op.table])} and a {types[op.x].kind} operand")
        return ValueType((*shape[op.x], shape[op.table][1]))
    if any(t.kind == "index" for t in types.values()):
        raise OpError(f"{op.mnemonic} reads an index; only embedding does")
    if isinstance(op, ops.Select):
        if types[op.condition].kind != "boolean" or "boolean" in (types[op.a].kind, types[op.b].kind):
            raise OpError("select needs a boolean condition and two numbers")
        return ValueType(_broadcast(op, shape[op.condition], shape[op.a], shape[op.b]))
    if any(t.kind == "boolean" for t in types.values()):
        raise OpError(f"{op.mnemonic} reads a boolean; only select does")
    return _infer_number(op, shape, arrays)


def _infer_number(op: Op, shape: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Array]) -> ValueType:
    match op:
        case ops.Linear(x=x, weight=w, bias=b):
            return ValueType(_linear(shape[w], shape[x], None if b is None else shape[b]))
        case ops.Stencil(x=x, weight=w, index=i, bias=b):
            return ValueType(_stencil(shape[w], arrays[i], shape[x], None if b is None else shape[b]))
        case ops.Conv(x=x, weight=w, bias=b):
            return ValueType(_conv(op, shape[w], shape[x], None if b is None else shape[b]))
        case ops.MatMul(a=a, b=b):
            sa, sb = shape[a], shape[b]
            if len(sa) < 2 or len(sa) != len(sb) or sa[:-2] != sb[:-2] or sa[-1] != sb[-2]:
                raise OpError(f"matmul cannot multiply {list(sa)} and {list(sb)}")
            return ValueType((*sa[:-1], sb[-1]))
        case ops.Greater(a=a, b=b):
            return ValueType(_broadcast(op, shape[a], shape[b]), "boolean")
        case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b) | ops.Mul(a=a, b=b) | ops.Divide(a=a, b=b):
            return ValueType(_broadcast(op, shape[a], shape[b]))
        case ops.Damp(old=a, new=b) | ops.DampFixed(old=a, new=b):
            return ValueType(_broadcast(op, shape[a], shape[b]))
        case ops.Isqrt(x=x):
            return ValueType(shape[x])
        case ops.Rescale(x=x, multiplier=m):
            if _broadcast(op, shape[x], shape[m]) != shape[x]:
                raise OpError(f"rescale has multiplier {list(shape[m])} on {list(shape[x])}")
            return ValueType(shape[x])
        case ops.Reduce(x=x, axes=axes, keep=keep):
            drop = {_axis(op, a, len(shape[x])) for a in axes}
            if len(drop) != len(axes):
                raise OpError(f"reduce has axes {list(axes)}, one of them twice")
            kept = (1 if i in drop else n for i, n in enumerate(shape[x]) if keep or i not in drop)
            return ValueType(tuple(kept))
        case ops.Reshape(x=x, shape=new):
            if math.prod(new) != math.prod(shape[x]) or min(new, default=1) < 1:
                raise OpError(f"reshape of {list(shape[x])} ({math.prod(shape[x])}) to {list(new)} ({math.prod(new)})")
            return ValueType(new)
        case ops.Transpose(x=x, axes=axes):
            if sorted(axes) != list(range(len(shape[x]))):
                raise OpError(f"transpose has axes {list(axes)} on shape {list(shape[x])}")
            return ValueType(tuple(shape[x][a] for a in axes))
        case ops.Normalize(x=x, axes=axes, groups=groups):
            for axis in axes:
                _axis(op, axis, len(shape[x]))
            if groups > 1 and (len(axes) != len(shape[x]) or shape[x][0] % groups):
                raise OpError(f"normalize splits shape {list(shape[x])} into {groups} groups over axes {list(axes)}")
            return ValueType(shape[x])
        case ops.Softmax(x=x, mask=mask):
            if mask is not None and _broadcast(op, shape[x], shape[mask]) != shape[x]:
                raise OpError(f"softmax has mask {list(shape[mask])} on {list(shape[x])}")
            return ValueType(shape[x])
        case ops.Lookup(x=x, table=t):
            if len(shape[t]) != 1:
                raise OpError(f"lookup has a table of shape {list(shape[t])}, must be [entries]")
            return ValueType(shape[x])
        case ops.Interpolate(x=x, base=b, slope=s):
            if len(shape[b]) != 1 or shape[s] != shape[b]:
                raise OpError(f"interpolate has base {list(shape[b])}, slope {list(shape[s])}: both must be [segments]")
            return ValueType(shape[x])
        case ops.Clip(x=x, lo=lo, hi=hi):
            if not -math.inf < lo < hi < math.inf:
                raise OpError(f"clip has lo {lo} and hi {hi}: both must be finite, lo the smaller one")
            return ValueType(shape[x])
        case ops.Abs(x=x) | ops.Scale(x=x) | ops.Activation(x=x) | ops.Mod(x=x):
            return ValueType(shape[x])
        case ops.Repeat(init=init):
            return ValueType(shape[init])
        case _ if isinstance(op, ops.Embedding | ops.Select):
            raise OpError(f"unknown operation {type(op).__name__}")
        case _:
            assert_never(op)
