"""Choices of the largest entries, by their ranks."""

from __future__ import annotations

import numpy as np

from ...ir import ops
from .build import Builder

__all__ = ["top_k"]


def top_k(b: Builder, out: str, x: str, count: int, *, key: str | None = None, exactly: bool = False) -> str:
    """`x [units]` where its `key` (x itself by default) is among the `count` largest, else 0.

    The rank of a unit is the number of units with a larger key: `rank_i = sum_j [key_j > key_i]`, kept if below
    `count`. That is `key >= topk(key, count).values[-1]` in PyTorch: units as large as the last one stay too. With
    `exactly` they rank in the order of their indices, and `count` of them stay. Which of equal ones `torch.topk` itself
    returns is not defined, nor does it keep an order.

    Raises ValueError for a count that is not positive or larger than the number of units.
    """
    if not b.knows(x):
        return b.unknown(out)
    (units,) = b.shape(x)
    if not 0 < count <= units:
        raise ValueError(f"{out}: {count} of {units} units are to be kept")
    zero, one = (b.param(name, value, "constant") for name, value in (("zero", 0.0), ("one", 1.0)))
    key = x if key is None else key
    mine, theirs = b.reshape(f"{out}_mine", key, units, 1), b.reshape(f"{out}_theirs", key, 1, units)
    larger = b.emit(ops.Greater(out=f"{out}_larger", a=theirs, b=mine))
    other = zero
    if exactly:
        earlier = b.param(f"{out}_earlier", np.tri(units, k=-1), "derived: pairs of a unit and one before it")
        smaller = b.emit(ops.Greater(out=f"{out}_smaller", a=mine, b=theirs))
        other = b.emit(ops.Select(out=f"{out}_equal", condition=smaller, a=zero, b=earlier))
    marks = b.emit(ops.Select(out=f"{out}_marks", condition=larger, a=one, b=other))
    rank = b.emit(ops.Reduce(out=f"{out}_rank", x=marks, kind="sum", axes=(-1,), keep=False))
    limit = b.param(f"{out}_count", float(count), "derived: units that stay")
    among = b.emit(ops.Greater(out=f"{out}_among", a=limit, b=rank))
    return b.emit(ops.Select(out=out, condition=among, a=x, b=zero))
