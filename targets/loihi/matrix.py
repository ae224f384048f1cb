"""One integer matrix for each operation that holds weights.

A Loihi synapse connects unit i of one population with unit j of another; a dense layer, a lattice, a convolution and a
token table are the same thing there. Values are flattened in C order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, ValueType, ops
from eqcompile.toolchain.ir.ops import Op

__all__ = ["WEIGHTED", "Array", "Matrix", "bias_of", "connection", "matrix_of"]

Array = NDArray[np.int64]
WEIGHTED = (ops.Linear, ops.Stencil, ops.Conv, ops.Embedding)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Integer matrix `[rows, columns]` by its nonzero entries, sorted by row, then column, no position twice."""

    shape: tuple[int, int]
    row: Array
    column: Array
    weight: Array

    @property
    def count(self) -> int:
        """How many entries are not zero."""
        return self.weight.size

    def dense(self) -> Array:
        full = np.zeros(self.shape, np.int64)
        full[self.row, self.column] = self.weight
        return full


def connection(shape: tuple[int, int], row: Array, column: Array, weight: Array) -> Matrix:
    """The matrix with these entries; entries at one position add up, zeros vanish."""
    position, which = np.unique(row * shape[1] + column, return_inverse=True)
    total = np.zeros(position.size, np.int64)
    np.add.at(total, which.reshape(-1), weight)
    keep = total != 0
    return Matrix(shape, position[keep] // shape[1], position[keep] % shape[1], total[keep])


def matrix_of(op: Op, net: IntNet, types: Mapping[str, ValueType]) -> Matrix:
    """`out.ravel() = matrix @ x.ravel() + bias_of(...)` for an operation of `WEIGHTED`, exactly.

    An index operand counts as one-hot: `[positions * rows]` of the table, position first.
    """
    match op:
        case ops.Linear(x=x, weight=w):
            return _blocks(net.param(w), prod(types[x].shape[:-1]))
        case ops.Embedding(x=x, table=t):
            return _blocks(net.param(t).T, prod(types[x].shape))
        case ops.Stencil(x=x, weight=w, index=i):
            weight, index = net.param(w), net.param(i)
            row = np.broadcast_to(np.arange(weight.shape[0])[:, None], weight.shape)
            inside = index >= 0
            return connection((weight.shape[0], prod(types[x].shape)), row[inside], index[inside], weight[inside])
        case ops.Conv():
            return _conv(op, net.param(op.weight), types[op.x].shape, types[op.out].shape)
        case _:
            raise TypeError(f"{op.mnemonic} holds no weights")


def bias_of(op: Op, net: IntNet, types: Mapping[str, ValueType]) -> Array:
    """What the flattened output of an operation of `WEIGHTED` holds when its operand is all zero."""
    name = getattr(op, "bias", None)
    shape = types[op.out].shape
    if name is None:
        return np.zeros(prod(shape), np.int64)
    bias = net.param(name)
    if isinstance(op, ops.Conv):
        bias = bias.reshape(-1, *(1 for _ in shape[1:]))
    return np.broadcast_to(bias, shape).reshape(-1).astype(np.int64)


def _blocks(weight: Array, count: int) -> Matrix:
    """`weight` [out, in] once for each of `count` leading positions."""
    out, inner = weight.shape
    row, column = np.nonzero(weight)
    step = np.repeat(np.arange(count), row.size)
    return connection(
        (count * out, count * inner),
        step * out + np.tile(row, count),
        step * inner + np.tile(column, count),
        np.tile(weight[row, column], count),
    )


def _conv(op: ops.Conv, weight: Array, inner: tuple[int, ...], outer: tuple[int, ...]) -> Matrix:
    shape = (prod(outer), prod(inner))
    rows, columns, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    site = np.indices(outer[1:]).reshape(len(outer) - 1, -1)
    for offset in itertools.product(*(range(k) for k in weight.shape[2:])):
        source = site * op.stride - op.padding + np.array(offset)[:, None]
        limit = np.array(inner[1:])[:, None]
        inside = ((source >= 0) & (source < limit)).all(axis=0)
        here = np.flatnonzero(inside)
        there = np.ravel_multi_index(tuple(source[:, inside]), inner[1:])
        for o, i in itertools.product(range(outer[0]), range(inner[0])):
            rows.append(o * site.shape[1] + here)
            columns.append(i * prod(inner[1:]) + there)
            weights.append(np.full(here.size, weight[(o, i, *offset)], np.int64))
    return connection(shape, np.concatenate(rows), np.concatenate(columns), np.concatenate(weights))
