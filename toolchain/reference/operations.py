"""Float64 evaluation of one operation: the semantics of `ir.ops` at the float level.

Arrays carry the batch axis first; a parameter enters with a batch axis of size 1. Shapes below leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

import numpy as np

from ..arrays import Reals, row_parts
from ..ir import ops
from ..ir.ops import ActivationKind, Op, ReduceKind

__all__ = ["align", "evaluate"]

_erf = np.frompyfunc(math.erf, 1, 1)


def align(*arrays: Reals) -> tuple[Reals, ...]:
    """The same arrays with axes of size 1 put after the batch axis until all have the same rank.

    Float64 `[batch, *shape]` each.
    """
    rank = max(a.ndim for a in arrays)
    return tuple(a.reshape(a.shape[:1] + (1,) * (rank - a.ndim) + a.shape[1:]) for a in arrays)


def evaluate(op: Op, value: Callable[[str], Reals], param: Callable[[str], Reals]) -> Reals:
    """The value of `op`: `value(name)` reads an operand with its batch axis, `param(name)` a parameter without.

    Raises TypeError for an operation that has no value of its own at the float level (`repeat` and integer ones).

    Operands and result are float64 `[batch, *shape]`, parameters `[*shape]`.
    """

    def pair(a: str, b: str) -> tuple[Reals, Reals]:
        first, second = align(value(a), value(b))
        return first, second

    match op:
        case ops.Linear(x=x, weight=w, bias=b):
            y = value(x) @ param(w).T
            return np.asarray(y if b is None else y + param(b))
        case ops.Stencil(x=x, weight=w, index=i, bias=b):
            v = value(x)
            padded = np.concatenate([v, np.zeros((len(v), 1))], axis=1)
            y, near = np.empty((len(v), len(param(i)))), param(i)
            for part in row_parts(np.broadcast_to(near[None], (len(v), *near.shape))):
                y[part] = np.einsum("bnk,nk->bn", padded[part][:, near], param(w))
            return np.asarray(y if b is None else y + param(b))
        case ops.Conv(x=x, weight=w, bias=b, stride=stride, padding=padding):
            return _conv(value(x), param(w), None if b is None else param(b), stride, padding)
        case ops.Embedding(x=x, table=table):
            return np.asarray(param(table)[value(x)])
        case ops.MatMul(a=a, b=b):
            return np.asarray(value(a) @ value(b))
        case ops.Add(a=a, b=b):
            first, second = pair(a, b)
            return np.asarray(first + second)
        case ops.Sub(a=a, b=b):
            first, second = pair(a, b)
            return np.asarray(first - second)
        case ops.Mul(a=a, b=b):
            first, second = pair(a, b)
            return np.asarray(first * second)
        case ops.Greater(a=a, b=b):
            first, second = pair(a, b)
            return np.asarray(first > second)
        case ops.Select(condition=c, a=a, b=b):
            condition, first, second = align(value(c), value(a), value(b))
            return np.where(condition, first, second)
        case ops.Abs(x=x):
            return np.abs(value(x))
        case ops.Scale(x=x, factor=factor):
            return np.asarray(factor * value(x))
        case ops.Damp(old=old, new=new, alpha=alpha):
            before, after = pair(old, new)
            return np.asarray((1.0 - alpha) * before + alpha * after)
        case ops.Mod(x=x, period=period):
            v = value(x)
            return np.asarray(v - period * np.floor(v / period))
        case ops.Clip(x=x, lo=lo, hi=hi):
            return np.clip(value(x), lo, hi)
        case ops.Activation(x=x, kind=kind):
            return _activation(value(x), kind)
        case ops.Reduce(x=x, kind=kind, axes=axes, keep=keep):
            return _reduce(value(x), kind, axes, keep=keep)
        case ops.Reshape(x=x, shape=shape):
            v = value(x)
            return v.reshape(len(v), *shape)
        case ops.Transpose(x=x, axes=axes):
            return value(x).transpose(0, *(a + 1 for a in axes))
        case ops.Normalize():
            return _normalize(value(op.x), op)
        case ops.Softmax(x=x, mask=mask):
            return _softmax(value(x), None if mask is None else param(mask))
        case _ if isinstance(op, ops.IntegerOp | ops.Repeat):
            raise TypeError(f"{type(op).__name__} has no float evaluation")
        case _:
            assert_never(op)


def _reduce(x: Reals, kind: ReduceKind, axes: tuple[int, ...], *, keep: bool) -> Reals:
    match kind:
        case "sum":
            return np.asarray(x.sum(axis=axes, keepdims=keep))
        case "mean":
            return np.asarray(x.mean(axis=axes, keepdims=keep))
        case "max":
            return np.asarray(x.max(axis=axes, keepdims=keep))


def _conv(x: Reals, weight: Reals, bias: Reals | None, stride: int, padding: int) -> Reals:
    space = weight.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0)] + [(padding, padding)] * space)
    axes = tuple(range(2, 2 + space))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=axes)  # type: ignore[call-overload] # its stub knows a single axis
    strided = windows[(slice(None), slice(None)) + (slice(None, None, stride),) * space]
    contracted = (1, *range(2 + space, 2 + 2 * space))
    y = np.moveaxis(np.tensordot(strided, weight, axes=(contracted, tuple(range(1, 2 + space)))), -1, 1)
    return y if bias is None else y + bias.reshape(-1, *(1,) * space)


def _sigmoid(x: Reals) -> Reals:
    # exp of a negative argument only: no overflow on either side.
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0.0, 1.0, e) / (1.0 + e))


def _activation(x: Reals, kind: ActivationKind) -> Reals:
    match kind:
        case "tanh":
            return np.tanh(x)
        case "sigmoid":
            return _sigmoid(x)
        case "relu":
            return np.maximum(x, 0.0)
        case "gelu":
            return np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)).astype(np.float64)))
        case "silu":
            return np.asarray(x * _sigmoid(x))
        case "exp":
            return np.exp(x)


def _normalize(x: Reals, op: ops.Normalize) -> Reals:
    if op.groups > 1:
        grouped = x.reshape(len(x), op.groups, -1)
        return _standardise(grouped, (-1,), op).reshape(x.shape)
    return _standardise(x, op.axes, op)


def _standardise(x: Reals, axes: tuple[int, ...], op: ops.Normalize) -> Reals:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.mean(centred * centred, axis=axes, keepdims=True)
    if op.eps_on == "variance":
        return np.asarray(centred / np.sqrt(variance + op.eps))
    return np.asarray(centred / (np.sqrt(variance) + op.eps))


def _softmax(x: Reals, mask: Reals | None) -> Reals:
    if mask is None:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))
    part, _ = np.broadcast_arrays(*align(mask[None] != 0, x))
    top = np.max(x, axis=-1, keepdims=True, where=part, initial=-np.inf)
    e = np.where(part, np.exp(np.where(part, x - top, 0.0)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0.0)
