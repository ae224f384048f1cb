"""Facts about the weights of a net: density, ternary or not, spectral norm of the operator."""

from __future__ import annotations

import numpy as np

from eqcompile.toolchain.arrays import Numbers
from eqcompile.toolchain.ir import Net, ops
from eqcompile.toolchain.passes import linear_taps

from .documents import WeightDocument
from .report.data import number
from .report.schema import Number

__all__ = ["weights_of"]

_LARGEST = 4096
"""Rows or columns above which the norm is left out: its decomposition would take minutes."""


def weights_of(net: Net) -> list[WeightDocument]:
    """One row for each weight of a linear map, in order of use: name, shape, provenance, density, ternary, norm.

    `norm` is the largest singular value of the matrix that is applied; of a convolution, of its kernel as
    `[out, in * taps]`, which bounds no operator. It is None above 4096 rows and columns.
    """
    sources = {p.name: p.source for p in net.params}
    rows: dict[str, WeightDocument] = {}
    for op in net.all_ops():
        if not isinstance(op, (ops.Linear, ops.Conv, ops.Stencil)) or op.weight in rows:
            continue
        value = net.param(op.weight)
        taps = np.where(net.param(op.index) >= 0, value, 0) if isinstance(op, ops.Stencil) else value
        rows[op.weight] = {
            "name": op.weight,
            "op": op.mnemonic,
            "shape": list(value.shape),
            "source": sources[op.weight],
            "density": number(float(np.count_nonzero(taps) / max(taps.size, 1)), "measured", "fraction", "nonzero"),
            "ternary": _ternary(value),
            "norm": _norm(op, net, taps),
        }
    return list(rows.values())


def _ternary(value: Numbers) -> bool:
    """Whether every row (first axis) holds only -s, 0 and s for one s of its own."""
    size = np.abs(value.reshape(len(value), -1))
    scale = size.max(axis=1, initial=0.0, keepdims=True)
    return bool(((size == 0) | (size == scale)).all())


def _norm(op: ops.Linear | ops.Conv | ops.Stencil, net: Net, taps: Numbers) -> Number | None:
    how = "SVD of the deployed matrix"
    if isinstance(op, ops.Conv):
        matrix, how = taps.reshape(len(taps), -1), "SVD of the kernel as [out, in * taps]"
    elif isinstance(op, ops.Stencil):
        lattice = linear_taps(net, op)
        if max(lattice.shape) > _LARGEST:
            return None
        matrix = lattice.dense()
        how = "SVD of the lattice as a matrix"
    else:
        matrix = taps
    if max(matrix.shape) > _LARGEST or matrix.size == 0:
        return None
    return number(float(np.linalg.norm(matrix, 2)), "measured", "1", how)
