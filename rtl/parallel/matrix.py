"""The operations that hold weights as one integer matrix each, over values flattened in C order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, ValueType, ops

__all__ = ["Array", "LinearMap", "bias_of", "matrix_of"]

Array = NDArray[np.int64]
LinearMap = ops.Linear | ops.Stencil | ops.Conv


def matrix_of(op: LinearMap, net: IntNet, types: Mapping[str, ValueType]) -> Array:
    """`[out entries, in entries]`: `out.ravel() = matrix @ x.ravel() + bias_of(...)`, exactly."""
    weight = net.param(op.weight)
    shape = types[op.x].shape
    match op:
        case ops.Linear():
            return np.kron(np.eye(prod(shape[:-1]), dtype=np.int64), weight)
        case ops.Stencil():
            index = net.param(op.index)
            matrix = np.zeros((len(weight), prod(shape)), np.int64)
            site, tap = np.nonzero(index >= 0)
            np.add.at(matrix, (site, index[site, tap]), weight[site, tap])
            return matrix
        case ops.Conv():
            return _conv(op, weight, shape, types[op.out].shape)


def bias_of(op: LinearMap, net: IntNet, types: Mapping[str, ValueType]) -> Array:
    """What the flattened output holds when the operand is all zero."""
    shape = types[op.out].shape
    if op.bias is None:
        return np.zeros(prod(shape), np.int64)
    bias = net.param(op.bias)
    if isinstance(op, ops.Conv):
        bias = bias.reshape(-1, *(1 for _ in shape[1:]))
    return np.array(np.broadcast_to(bias, shape)).reshape(-1)


def _conv(op: ops.Conv, weight: Array, inner: tuple[int, ...], outer: tuple[int, ...]) -> Array:
    matrix = np.zeros((outer[0], prod(outer[1:]), inner[0], prod(inner[1:])), np.int64)
    for site in itertools.product(*(range(n) for n in outer[1:])):
        for number, tap in enumerate(itertools.product(*(range(k) for k in weight.shape[2:]))):
            source = tuple(s * op.stride - op.padding + t for s, t in zip(site, tap, strict=True))
            if all(0 <= s < n for s, n in zip(source, inner[1:], strict=True)):
                out, into = np.ravel_multi_index(site, outer[1:]), np.ravel_multi_index(source, inner[1:])
                matrix[:, out, :, into] += weight.reshape(outer[0], inner[0], -1)[..., number]
    return matrix.reshape(prod(outer), prod(inner))
