"""The operations that hold weights as one integer matrix each, over values flattened in C order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, ValueType, ops
from eqcompile.toolchain.passes import bias_entries, linear_taps

__all__ = ["Array", "LinearMap", "bias_of", "matrix_of"]

Array = NDArray[np.int64]
LinearMap = ops.Linear | ops.Stencil | ops.Conv


def matrix_of(op: LinearMap, net: IntNet, types: Mapping[str, ValueType]) -> Array:
    """`[out entries, in entries]` int64: `out.ravel() = matrix @ x.ravel() + bias_of(...)`, exactly."""
    return linear_taps(net, op).dense()


def bias_of(op: LinearMap, net: IntNet, types: Mapping[str, ValueType]) -> Array:
    """What the flattened output holds when the operand is all zero: `[out entries]` int64."""
    return bias_entries(net, op)
