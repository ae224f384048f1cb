"""Float evaluation of one operation in PyTorch, differentiable: the equations of `ir.ops` once more.

Tensors carry the batch axis first; a parameter used as a value enters with a batch axis of size 1. Shapes below leave
it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from ...toolchain.ir import ops
from ...toolchain.ir.ops import ActivationKind, Op, ReduceKind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["evaluate"]


def evaluate(op: Op, value: Callable[[str], Tensor], param: Callable[[str], Tensor]) -> Tensor:
    """The value of `op`: `value(name)` reads an operand with its batch axis, `param(name)` a parameter without.

    Raises TypeError for an operation that has no value of its own at the float level (`repeat` and integer ones).
    """
    import torch
    from torch.nn import functional

    match op:
        case ops.Linear(x=x, weight=w, bias=b):
            return functional.linear(value(x), param(w), None if b is None else param(b))
        case ops.Stencil(x=x, weight=w, index=i, bias=b):
            v = value(x)
            padded = torch.cat([v, v.new_zeros(len(v), 1)], dim=1)
            index = param(i).long()
            y = (padded[:, torch.where(index < 0, v.shape[1], index)] * param(w)).sum(dim=-1)
            return y if b is None else y + param(b)
        case ops.Conv(x=x, weight=w, bias=b, stride=stride, padding=padding):
            convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[param(w).ndim - 3]
            return convolve(value(x), param(w), None if b is None else param(b), stride, padding)
        case ops.Embedding(x=x, table=t):
            return functional.embedding(value(x), param(t))
        case ops.MatMul(a=a, b=b):
            return value(a) @ value(b)
        case ops.Add(a=a, b=b):
            first, second = _align(value(a), value(b))
            return first + second
        case ops.Sub(a=a, b=b):
            first, second = _align(value(a), value(b))
            return first - second
        case ops.Mul(a=a, b=b):
            first, second = _align(value(a), value(b))
            return first * second
        case ops.Greater(a=a, b=b):
            first, second = _align(value(a), value(b))
            return first > second
        case ops.Select(condition=c, a=a, b=b):
            condition, first, second = _align(value(c), value(a), value(b))
            return torch.where(condition, first, second)
        case ops.Abs(x=x):
            return value(x).abs()
        case ops.Scale(x=x, factor=factor):
            return factor * value(x)
        case ops.Damp(old=old, new=new, alpha=alpha):
            before, after = _align(value(old), value(new))
            return (1.0 - alpha) * before + alpha * after
        case ops.Mod(x=x, period=period):
            v = value(x)
            return v - period * torch.floor(v / period)
        case ops.Clip(x=x, lo=lo, hi=hi):
            return value(x).clamp(lo, hi)
        case ops.Activation(x=x, kind=kind):
            return _activation(value(x), kind)
        case ops.Reduce(x=x, kind=kind, axes=axes, keep=keep):
            return _reduce(value(x), kind, axes, keep=keep)
        case ops.Reshape(x=x, shape=shape):
            v = value(x)
            return v.reshape(len(v), *shape)
        case ops.Transpose(x=x, axes=axes):
            return value(x).permute(0, *(a + 1 for a in axes))
        case ops.Normalize(x=x):
            v = value(x)
            if op.groups > 1:
                return _standardise(v.reshape(len(v), op.groups, -1), (-1,), op).reshape(v.shape)
            return _standardise(v, op.axes, op)
        case ops.Softmax(x=x, mask=mask):
            return _softmax(value(x), None if mask is None else param(mask))
        case _ if isinstance(op, ops.IntegerOp | ops.Repeat):
            raise TypeError(f"{type(op).__name__} has no float evaluation")
        case _:
            assert_never(op)


def _align(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The same tensors with axes of size 1 put after the batch axis until all have the same rank."""
    rank = max(t.ndim for t in tensors)
    return tuple(t.reshape(t.shape[:1] + (1,) * (rank - t.ndim) + t.shape[1:]) for t in tensors)


def _activation(x: Tensor, kind: ActivationKind) -> Tensor:
    from torch.nn import functional

    match kind:
        case "tanh":
            return x.tanh()
        case "sigmoid":
            return x.sigmoid()
        case "relu":
            return x.relu()
        case "gelu":
            return functional.gelu(x)
        case "silu":
            return functional.silu(x)
        case "exp":
            return x.exp()


def _reduce(x: Tensor, kind: ReduceKind, axes: tuple[int, ...], *, keep: bool) -> Tensor:
    if not axes:
        # No axes are all axes to PyTorch.
        return x
    match kind:
        case "sum":
            return x.sum(dim=axes, keepdim=keep)
        case "mean":
            return x.mean(dim=axes, keepdim=keep)
        case "max":
            return x.amax(dim=axes, keepdim=keep)


def _standardise(x: Tensor, axes: tuple[int, ...], op: ops.Normalize) -> Tensor:
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = (centred * centred).mean(dim=axes, keepdim=True)
    if op.eps_on == "variance":
        return centred / (variance + op.eps).sqrt()
    return centred / (variance.sqrt() + op.eps)


def _softmax(x: Tensor, mask: Tensor | None) -> Tensor:
    import torch

    if mask is None:
        return x.softmax(dim=-1)
    part, scores = _align(mask[None] != 0, x)
    found = torch.where(part, scores, -math.inf).softmax(dim=-1)
    # A row of which nothing takes part is 0/0.
    return torch.where(part, found, 0.0)
