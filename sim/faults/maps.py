"""The sums of a net, tap by tap: which operand entry is weighed by which weight into which result."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import IntNet, ops

__all__ = ["Taps", "Weighted", "taps"]

Index = NDArray[np.int64]
Weighted = ops.Linear | ops.Stencil | ops.Conv


@dataclass(frozen=True)
class Taps:
    """`result[out] += weight[entry] * operand[x]` for each row; all are indices into flattened arrays."""

    out: Index
    x: Index
    entry: Index


def taps(op: Weighted, net: IntNet, shape: tuple[int, ...]) -> Taps:
    """Taps of an operation whose operand has `shape`, those of weight 0 among them; none that meet padding."""
    weight = net.param(op.weight)
    match op:
        case ops.Linear():
            outputs, inputs = weight.shape
            row, out, x = np.meshgrid(*(np.arange(n) for n in (prod(shape[:-1]), outputs, inputs)), indexing="ij")
            return Taps((row * outputs + out).ravel(), (row * inputs + x).ravel(), (out * inputs + x).ravel())
        case ops.Stencil(index=name):
            index = net.param(name)
            site, tap = np.nonzero(index >= 0)
            return Taps(site, index[site, tap], site * weight.shape[1] + tap)
        case ops.Conv(stride=stride, padding=padding):
            return _conv(weight.shape, shape, stride, padding)


def _conv(weight: tuple[int, ...], shape: tuple[int, ...], stride: int, padding: int) -> Taps:
    kernel = weight[2:]
    space = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(shape[1:], kernel, strict=True))
    axes = np.meshgrid(*(np.arange(n) for n in (*weight[:2], *space, *kernel)), indexing="ij")
    out, channel, where, offset = axes[0], axes[1], axes[2 : 2 + len(space)], axes[2 + len(space) :]
    reads = [p * stride + k - padding for p, k in zip(where, offset, strict=True)]
    inside = np.logical_and.reduce([(r >= 0) & (r < n) for r, n in zip(reads, shape[1:], strict=True)])

    def flat(axes: list[Index], sizes: tuple[int, ...]) -> Index:
        return np.asarray(np.ravel_multi_index(tuple(axis[inside] for axis in axes), sizes))

    return Taps(
        flat([out, *where], (weight[0], *space)),
        flat([channel, *reads], shape),
        flat([out, channel, *offset], weight),
    )
