"""The integer matrix of an operation that holds weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import bias_entries, linear_taps

__all__ = ["CODE_BITS", "WEIGHTED", "Matrix", "bias_rows", "code_bits", "dense"]

Matrix = NDArray[np.int64]
WEIGHTED = (ops.Linear, ops.Stencil)
CODE_BITS = (2, 4, 8, 16)


def dense(op: Op, net: IntNet) -> Matrix:
    """`out.ravel() = dense @ x.ravel() + bias_rows(...)`, `[rows, columns]` int64, for an operation of `WEIGHTED`."""
    return linear_taps(net, op).dense()


def bias_rows(op: Op, net: IntNet) -> list[int]:
    """What each row is when the operand is all zero."""
    return [int(v) for v in bias_entries(net, op)]


def code_bits(matrices: list[Matrix]) -> int | None:
    """Bits of one weight: the least of `CODE_BITS` that holds all codes, None if none does. Two bits hold -1, 0, 1."""
    largest = max((int(np.abs(w).max()) for w in matrices if w.size), default=0)
    return next((bits for bits in CODE_BITS if largest < 1 << (bits - 1)), None)
