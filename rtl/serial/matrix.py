"""The integer matrix of an operation that holds weights."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, infer, ops
from eqcompile.toolchain.ir.ops import Op

__all__ = ["CODE_BITS", "WEIGHTED", "Matrix", "bias_rows", "code_bits", "dense"]

Matrix = NDArray[np.int64]
WEIGHTED = (ops.Linear, ops.Stencil)
CODE_BITS = (2, 4, 8, 16)


def dense(op: Op, net: IntNet) -> Matrix:
    """`out.ravel() = dense @ x.ravel() + bias_rows(...)`, `[rows, columns]`, for an operation of `WEIGHTED`."""
    types = infer(net)
    match op:
        case ops.Linear(x=x, weight=w):
            return np.kron(np.eye(prod(types[x].shape[:-1]), dtype=np.int64), net.param(w))
        case ops.Stencil(x=x, weight=w, index=i):
            weight, index = net.param(w), net.param(i)
            full = np.zeros((len(weight), prod(types[x].shape)), np.int64)
            site = np.broadcast_to(np.arange(len(weight))[:, None], index.shape)
            inside = index >= 0
            np.add.at(full, (site[inside], index[inside]), weight[inside])
            return full
        case _:
            raise TypeError(f"{op.mnemonic} {op.out} has no matrix here")


def bias_rows(op: Op, net: IntNet) -> list[int]:
    """What each row is when the operand is all zero."""
    name = getattr(op, "bias", None)
    shape = infer(net)[op.out].shape
    bias = np.zeros(shape, np.int64) if name is None else np.broadcast_to(net.param(name), shape)
    return [int(v) for v in bias.reshape(-1)]


def code_bits(matrices: list[Matrix]) -> int | None:
    """Bits of one weight: the least of `CODE_BITS` that holds all codes, None if none does. Two bits hold -1, 0, 1."""
    largest = max((int(np.abs(w).max()) for w in matrices if w.size), default=0)
    return next((bits for bits in CODE_BITS if largest < 1 << (bits - 1)), None)
