"""Linear operations as sparse rows: dense layers, convolutions, lattices and token tables are the same thing there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Codes, Numbers, Reals, largest, row_parts
from ..diagnostics import Diagnostic, UnsupportedError
from ..ir import EqNet, IntNet, Net, ops
from ..ir.ops import Op
from .analysis import Analysis

__all__ = ["LINEAR", "LinearOp", "Taps", "bias_entries", "linear_matrix", "linear_taps", "tap_count", "tap_places"]

LinearOp = ops.Linear | ops.Stencil | ops.Conv | ops.Embedding
LINEAR = (ops.Linear, ops.Stencil, ops.Conv, ops.Embedding)
"""Operations that are linear in their operand, with a parameter for weight (`LinearOp` for `isinstance`)."""

N = TypeVar("N", np.int64, np.float64)


@dataclass(frozen=True, eq=False)
class Taps(Generic[N]):
    """Compressed sparse rows of `y.ravel() = matrix @ x.ravel() + bias_entries(...)`.

    Row r has the taps `row_start[r]` to `row_start[r + 1]`, columns ascending, none twice and no weight 0.
    """

    columns: int
    row_start: Codes
    column: NDArray[np.int32]
    weight: NDArray[np.int16] | NDArray[N]

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)`: entries of the result and of the operand."""
        return len(self.row_start) - 1, self.columns

    @property
    def count(self) -> int:
        """Taps: coefficients that are not zero."""
        return len(self.column)

    @cached_property
    def row(self) -> Codes:
        """Row of every tap, `[nnz]`."""
        return np.repeat(np.arange(len(self.row_start) - 1), np.diff(self.row_start))

    @classmethod
    def identity(cls, size: int) -> Taps[N]:
        """Taps of weight 1 that hand every entry on."""
        return cls(size, np.arange(size + 1), np.arange(size, dtype=np.int32), np.ones(size, np.int16))

    def dense(self) -> NDArray[N]:
        """The matrix `[rows, columns]`: int64 of an IntNet, float64 of an EqNet."""
        matrix: NDArray[N] = np.zeros(self.shape, np.float64 if self.weight.dtype.kind == "f" else np.int64)
        self._fill(matrix)
        return matrix

    def reals(self) -> Reals:
        """The matrix `[rows, columns]` in float64; codes must be below 2**53."""
        matrix = np.zeros(self.shape)
        self._fill(matrix)
        return matrix

    def _fill(self, matrix: Numbers) -> None:
        for part in row_parts(matrix):
            first, last = (int(self.row_start[min(row, len(matrix))]) for row in (part.start, part.stop))
            row = np.repeat(np.arange(len(matrix[part])), np.diff(self.row_start[part.start : part.stop + 1]))
            matrix[part][row, self.column[first:last]] = self.weight[first:last]


@overload
def linear_taps(net: IntNet, op: Op) -> Taps[np.int64]: ...
@overload
def linear_taps(net: EqNet, op: Op) -> Taps[np.float64]: ...
@overload
def linear_taps(net: Net, op: Op) -> Taps[np.int64] | Taps[np.float64]: ...


def linear_taps(net: Net, op: Op) -> Taps[np.int64] | Taps[np.float64]:
    """Nonzero coefficients of a linear operation, one row per entry of its result.

    Args:
        net: verified net that holds `op`.
        op: a matmul, convolution, stencil or token table whose weight is a parameter. The operand of a token table
            counts as one-hot, `[positions, tokens]`.

    Returns:
        Taps in row order: `row_start` [outputs + 1] int64, `column` [nnz] int32 into the flattened operand,
        `weight` [nnz] int16 codes (int64 where a code is wider, float64 of an EqNet). Rows without taps are empty,
        never missing; taps of a stencil that meet one entry of the operand are added up.

    Raises:
        UnsupportedError: `op` multiplies two values of the net, or is no linear map at all (code `not-linear`).

    Time O(nnz), memory one flag a tap beside. Convolutions follow PyTorch's cross-correlation (SPEC, section 3).
    """
    analysis = Analysis.of(net)
    if isinstance(op, ops.Linear):
        return _matmul_taps(analysis.params[op.weight], prod(analysis.shapes[op.x][:-1]))
    row, column, entry = tap_places(net, op, zeros=False)
    assert isinstance(op, LINEAR)
    rows, columns = analysis.sizes[op.out], analysis.sizes[op.x]
    if isinstance(op, ops.Embedding):
        columns *= len(analysis.params[op.table])
    weight: Array = analysis.params[op.table if isinstance(op, ops.Embedding) else op.weight].reshape(-1)[entry]
    place, which = np.unique(row * columns + column, return_inverse=True)
    if len(place) < len(which):
        total = np.zeros(len(place), weight.dtype)
        np.add.at(total, which.reshape(-1), weight)
        kept = total.astype(bool)
        place, weight = place[kept], total[kept]
    else:
        sorted_weight = np.empty_like(weight)
        sorted_weight[which.reshape(-1)] = weight
        weight = sorted_weight
    row, column = place // columns, place % columns
    starts = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=starts[1:])
    return Taps(columns, starts, column.astype(np.int32), cast("Codes", _narrow(weight)))


def linear_matrix(net: IntNet, op: Op) -> Reals:
    """The coefficients of a linear operation as `[entries of the result, entries of the operand]`, a new float64 array;
    `op` and errors as in `linear_taps`. Codes must be below 2**53."""
    analysis = Analysis.of(net)
    if isinstance(op, ops.Linear) and len(analysis.shapes[op.x]) == 1:
        # Beside the matrix this takes no memory.
        return analysis.params[op.weight].astype(np.float64)
    return linear_taps(net, op).reals()


def _narrow(weight: Array) -> Array:
    """Codes as int16 where they fit; other numbers as they are."""
    small = weight.dtype.kind != "f" and largest(cast("Numbers", weight)) <= np.iinfo(np.int16).max
    return weight.astype(np.int16) if small else weight


def _matmul_taps(weight: Numbers, positions: int) -> Taps[np.int64] | Taps[np.float64]:
    """Taps of `weight` [out, in] once for each leading position: they are in order as they stand."""
    outputs, inputs = weight.shape
    inner: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    held: list[Array] = [_narrow(weight[:0].reshape(-1))]
    count = np.zeros(outputs, np.int64)
    for part in row_parts(weight):
        row, column = np.nonzero(weight[part])
        count[part] = np.bincount(row, minlength=len(weight[part]))
        inner.append(column.astype(np.int32))
        held.append(_narrow(weight[part][row, column]))
    columns, weights = np.concatenate(inner), np.concatenate(held)
    if positions > 1:
        columns = (columns + np.arange(positions, dtype=np.int32)[:, None] * inputs).reshape(-1)
        weights = np.tile(weights, positions)
    starts = np.concatenate([[0], np.cumsum(np.tile(count, positions))])
    return Taps(inputs * positions, starts, columns, cast("Codes", weights))


def tap_count(net: Net, op: LinearOp) -> int:
    """`linear_taps(net, op).count`, without writing the taps down where they are many more than the weights."""
    analysis = Analysis.of(net)
    match op:
        case ops.Linear(x=x, weight=name):
            return int(np.count_nonzero(analysis.params[name])) * prod(analysis.shapes[x][:-1])
        case ops.Embedding(x=x, table=name):
            return int(np.count_nonzero(analysis.params[name])) * analysis.sizes[x]
        case ops.Stencil():
            return linear_taps(net, op).count
        case ops.Conv(x=x, weight=name):
            weight = analysis.params[name]
            used = np.count_nonzero(weight, axis=(0, 1)).reshape(-1)
            return int(used @ _inside(op, weight.shape[2:], analysis.shapes[x], analysis.shapes[op.out]).sum(axis=0))


@overload
def bias_entries(net: IntNet, op: Op) -> Codes: ...
@overload
def bias_entries(net: EqNet, op: Op) -> Reals: ...


def bias_entries(net: Net, op: Op) -> Numbers:
    """Flattened result of a linear operation whose operand is all zero: `[entries]`, int64 or float64."""
    analysis = Analysis.of(net)
    shape, name = analysis.shapes[op.out], getattr(op, "bias", None)
    if name is None:
        return np.zeros(prod(shape), np.int64)
    bias = analysis.params[name]
    if isinstance(op, ops.Conv):
        bias = bias.reshape(-1, *(1 for _ in shape[1:]))
    return cast("Numbers", np.broadcast_to(bias, shape).flatten())


def tap_places(net: Net, op: Op, *, zeros: bool) -> tuple[Codes, Codes, Codes]:
    """Row, column and weight entry of every tap, int64 `[taps]` each: `y[row] += weight.flat[entry] * x[column]`.

    Nothing is added up, so that a fault of one stored weight finds all its uses; with `zeros` taps of weight 0 are
    among them. Taps that meet padding or lie outside the lattice are not. Raises UnsupportedError as `linear_taps`.
    """
    analysis = Analysis.of(net)
    match op:
        case ops.Linear(x=x, weight=name):
            weight = analysis.params[name]
            return _blocks(weight, prod(analysis.shapes[x][:-1]), zeros)
        case ops.Embedding(x=x, table=name):
            table = analysis.params[name]
            row, column, entry = _blocks(table.T, analysis.sizes[x], zeros)
            width, token = divmod(entry, len(table))
            return row, column, token * table.shape[1] + width
        case ops.Stencil(weight=name, index=places):
            weight, index = analysis.params[name], np.asarray(analysis.params[places], np.int64)
            site, tap = np.nonzero((index >= 0) & (zeros | (weight != 0)))
            return site, index[site, tap], site * weight.shape[1] + tap
        case ops.Conv(x=x, weight=name):
            return _conv(op, analysis.params[name], analysis.shapes[x], analysis.shapes[op.out], zeros)
        case _:
            what = f"{op.mnemonic} {op.out} is no linear map with constant weights"
            raise UnsupportedError(Diagnostic("not-linear", what, op.out, "pass a linear, conv, stencil or embedding"))


def _blocks(weight: Numbers, count: int, zeros: bool) -> tuple[Codes, Codes, Codes]:
    """`weight` [out, in] once for each of `count` leading positions."""
    outputs, inputs = weight.shape
    out, inner = np.nonzero(np.ones(weight.shape, bool) if zeros else weight)
    position = np.repeat(np.arange(count), len(out))
    out, inner = np.tile(out, count), np.tile(inner, count)
    return position * outputs + out, position * inputs + inner, out * inputs + inner


def _sources(op: ops.Conv, kernel: tuple[int, ...], outer: tuple[int, ...]) -> Codes:
    """Coordinates `[axes, sites, offsets]` of what each site reads at each offset of the kernel, padding included."""
    site = np.indices(outer[1:]).reshape(len(outer) - 1, -1, 1)
    offset = np.indices(kernel).reshape(len(outer) - 1, 1, -1)
    return np.asarray(site * op.stride - op.padding + offset)


def _inside(op: ops.Conv, kernel: tuple[int, ...], inner: tuple[int, ...], outer: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether it lies in the operand, `[sites, offsets]`."""
    source = _sources(op, kernel, outer)
    return np.asarray(((source >= 0) & (source < np.reshape(inner[1:], (-1, 1, 1)))).all(axis=0))


def _conv(
    op: ops.Conv, weight: Numbers, inner: tuple[int, ...], outer: tuple[int, ...], zeros: bool
) -> tuple[Codes, Codes, Codes]:
    sites, offsets = prod(outer[1:]), prod(weight.shape[2:])
    source = _sources(op, weight.shape[2:], outer)
    where, tap = np.nonzero(_inside(op, weight.shape[2:], inner, outer))
    met = np.ravel_multi_index(tuple(source[:, where, tap]), inner[1:])
    flat = weight.reshape(*weight.shape[:2], offsets)[..., tap]
    out, channel, pair = np.nonzero(np.ones(flat.shape, bool) if zeros else flat)
    entry = (out * inner[0] + channel) * offsets + tap[pair]
    return out * sites + where[pair], channel * prod(inner[1:]) + met[pair], entry
