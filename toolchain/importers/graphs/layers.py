"""Forms that hold weights, cut and join values, or attend, beside those of `forms`; shapes are the graph's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...ir import ops
from .forms import Forms, Operand, Refused, Shape, plain

__all__ = ["Layers"]

Constant = NDArray[np.float64]
_MAX_ENTRIES = 1 << 26


class Layers(Forms):
    """Every form that a graph's node can take."""

    # Matrices

    def linear(self, x: Operand, weight: Operand, bias: Operand | None = None) -> str:
        """`x W^T + b` over the last axis; weight `[out, in]`. A joined x takes a product of each of its parts."""
        if isinstance(weight, str):
            return self._shifted(self.matmul(x, self.swapped(weight, -2, -1)), bias)
        if weight.ndim != 2 or self.shape(x)[-1:] != weight.shape[1:]:
            raise Refused(f"a weight {list(weight.shape)} on a value {list(self.shape(x))}")
        parts = self.scope.joined.get(x) if isinstance(x, str) else None
        row = None if isinstance(bias, str) or bias is None or bias.size != len(weight) else bias.reshape(-1)
        if parts is None:
            total = self._linear(x, weight, row)
        else:
            edges = np.cumsum([0, *(self.shape(p)[-1] for p in parts)])
            columns = [weight[:, a:b] for a, b in zip(edges, edges[1:], strict=False)]
            total = self._linear(parts[0], columns[0], row)
            for part, column in zip(parts[1:], columns[1:], strict=True):
                total = self.add(total, self._linear(part, column, None))
        return total if row is not None else self._shifted(total, bias)

    def _linear(self, x: Operand, weight: Constant, bias: Constant | None) -> str:
        shift = None if bias is None else self.constant(bias)
        op = ops.Linear(out=self.name(""), x=self.value(x), weight=self.constant(weight), bias=shift)
        out = self.emit(op, (*self.shape(x)[:-1], len(weight)))
        self.scope.linears[out] = op
        return out

    def _shifted(self, x: str, bias: Operand | None) -> str:
        return x if bias is None else self.add(x, bias)

    def matmul(self, a: Operand, b: Operand) -> str:
        """The matrix product over the last two axes, as NumPy's."""
        a, b = (x if isinstance(x, str) or math.prod(x.shape[:-2]) != 1 else x.reshape(x.shape[-2:]) for x in (a, b))
        if not isinstance(b, str) and b.ndim == 2 and isinstance(a, str):
            return self.linear(a, b.T)
        if not isinstance(a, str) and a.ndim == 2 and isinstance(b, str) and len(self.shape(b)) > 1:
            return self.swapped(self.linear(self.swapped(b, -2, -1), a), -2, -1)
        first, second = self.shape(a), self.shape(b)
        if len(first) < 2 or len(second) < 2:
            raise Refused(f"the product of a value {list(first)} and a value {list(second)}")
        lead = np.broadcast_shapes(first[:-2], second[:-2])
        if math.prod(first[:-2]) != math.prod(lead) or math.prod(second[:-2]) != math.prod(lead):
            raise Refused(f"the product of {list(first)} and {list(second)} repeats one of them")
        left = self.held(self.value(a), (*plain(lead), *first[-2:]), first)
        right = self.held(self.value(b), (*plain(lead), *second[-2:]), second)
        return self.emit(ops.MatMul(out=self.name(""), a=left, b=right), (*lead, first[-2], second[-1]))

    def attention(self, q: Operand, k: Operand, v: Operand, kept: NDArray[np.bool_] | None, scale: float | None) -> str:
        """`softmax(q k^T scale) v`; `kept`: which positions each may see; scale `1 / sqrt(width)` by default."""
        factor = 1.0 / math.sqrt(self.shape(q)[-1]) if scale is None else scale
        scores = self.scale(self.matmul(q, self.swapped(k, -2, -1)), factor)
        return self.matmul(self.softmax(scores if kept is None else self.leave_out(scores, kept), -1), v)

    # Convolutions

    def conv(
        self,
        x: Operand,
        weight: Operand,
        bias: Operand | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> str:
        """Cross-correlation; weight `[out, in / groups, *kernel]`. Gaps of a dilated kernel and the channels of other
        groups are zeros."""
        shape = self.shape(x)
        if isinstance(weight, str) or isinstance(bias, str):
            raise Refused("its weight or its bias is not a constant")
        if len(shape) != weight.ndim or shape[0] != 1:
            raise Refused(f"a kernel {list(weight.shape)} on a value {list(shape)}")
        if len({*stride}) > 1 or len({*padding}) > 1:
            raise Refused(f"its stride {list(stride)} or its padding {list(padding)} differs between axes")
        wide = _apart(_dense(weight, groups), dilation)
        step, around = stride[0], padding[0]
        shift = None if bias is None else self.constant(bias.reshape(-1))
        kernel, name = self.constant(wide), self.value(x)
        op = ops.Conv(out=self.name(""), x=name, weight=kernel, bias=shift, stride=step, padding=around)
        space = ((n + 2 * around - k) // step + 1 for n, k in zip(shape[2:], wide.shape[2:], strict=True))
        return self.emit(op, (1, len(wide), *space))

    def pool(
        self, x: Operand, kind: ops.ReduceKind, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> str:
        """Maximum or mean of windows, sizes rounded down. Windows that overlap, or that do not cover the space, take
        copies of its entries; a maximum sees no padding, a mean counts it as zeros."""
        lead = len(self.shape(x)) - len(kernel)
        counts = []
        for axis, (k, step, around) in enumerate(zip(kernel, stride, padding, strict=True), lead):
            size = self.shape(x)[axis]
            if 2 * around > k or size + 2 * around < k:
                raise Refused(f"a window of {k} with padding {around} on an axis of {size}")
            counts.append((size + 2 * around - k) // step + 1)
            at = (np.arange(counts[-1])[:, None] * step - around + np.arange(k)).reshape(-1)
            if kind == "mean" and around:
                x = self._gather(x, axis, at)
            elif not np.array_equal(at, np.arange(size)):
                # Where a window passes the edge, the edge is in it as well, so that a copy changes no maximum.
                x = self.pick(x, axis, np.clip(at, 0, size - 1).tolist())
        split = [part for pair in zip(counts, kernel, strict=True) for part in pair]
        axes = [lead + 1 + 2 * i for i in range(len(kernel))]
        return self.reduce(self.reshape(x, (*self.shape(x)[:lead], *split)), kind, axes, keep=False)

    def _gather(self, x: Operand, axis: int, index: NDArray[np.int64]) -> str:
        """Entries of one axis, zeros where an index lies outside."""
        size = self.shape(x)[axis]
        _demand_size(len(index) * size)
        matrix = (index[:, None] == np.arange(size)).astype(np.float64)
        at = self.axis(x, axis)
        moved = self.linear(self.swapped(x, at, -1) if at != -1 else x, matrix)
        return self.swapped(moved, at, -1) if at != -1 else moved

    # Normalisation

    def normalize(
        self, x: Operand, axes: int, scale: Operand | None, shift: Operand | None, *, eps: float, groups: int = 1
    ) -> str:
        """Over the last `axes` axes, or over groups of channels and all the space; an affine part has an entry for each
        index of the first of them."""
        shape = self.shape(x)
        over = tuple(range(-axes, 0))
        if any(self.axis(x, axis) != axis for axis in over):
            raise Refused("it runs over the axis of samples: each sample is relaxed alone")
        op = ops.Normalize(out=self.name(""), x=self.value(x), axes=over, groups=groups, eps=eps, eps_on="variance")
        return self.affine(self.emit(op, shape), axes, scale, shift)

    def affine(self, x: str, axes: int, scale: Operand | None, shift: Operand | None) -> str:
        """`scale x + shift`, constants that hold for the last `axes` axes, or an entry for each index of the first."""
        if scale is not None and not (not isinstance(scale, str) and (scale == 1.0).all()):
            x = self.multiply(x, self._along(x, axes, scale))
        if shift is not None and not (not isinstance(shift, str) and (shift == 0.0).all()):
            x = self.add(x, self._along(x, axes, shift))
        return x

    def _along(self, x: str, axes: int, constant: Operand) -> Constant:
        shape = self.shape(x)[-axes:]
        if isinstance(constant, str) or constant.size not in (shape[0], math.prod(shape)):
            raise Refused("its affine part is not a constant for each unit or channel")
        return constant.reshape(shape if constant.size == math.prod(shape) else (shape[0],) + (1,) * (axes - 1))

    def batch_norm(
        self, x: Operand, scale: Operand | None, shift: Operand | None, mean: Operand, variance: Operand, eps: float
    ) -> str:
        """`scale (x - mean) / sqrt(variance + eps) + shift` with the statistics that are stored, for each channel."""
        rank = len(self.shape(x)) - 1
        if isinstance(mean, str) or isinstance(variance, str) or isinstance(scale, str) or isinstance(shift, str):
            raise Refused("its statistics are those of the batch: store them, in eval mode")
        factor = (1.0 if scale is None else scale) / np.sqrt(variance + eps)
        return self.affine(self.value(x), rank, factor, (0.0 if shift is None else shift) - mean * factor)

    # Cut and join

    def cut(self, x: Operand, axis: int, start: int, stop: int, step: int = 1) -> str:
        """Entries `start:stop:step` of one axis."""
        return self.pick(x, axis, range(self.shape(x)[axis])[start:stop:step])

    def pick(self, x: Operand, axis: int, index: Sequence[int]) -> str:
        """Entries of one axis, in any order. Rows of a linear map are taken from its weight; of another value they are
        chosen by a matrix of zeros and ones."""
        shape, index = self.shape(x), list(index)
        name = self.value(x)
        if index == list(range(shape[axis])):
            return name
        at = self.axis(x, axis)
        if at != -1:
            return self.swapped(self.pick(self.swapped(x, at, -1), -1, index), at, -1)
        source = self.scope.linears.get(name)
        if source is not None:
            rows = slice(index[0], index[-1] + 1) if index == list(range(index[0], index[-1] + 1)) else index
            weight, bias = (None if n is None else self.scope.arrays[n][rows] for n in (source.weight, source.bias))
            shift = None if bias is None else np.asarray(bias, np.float64)
            return self._linear(source.x, np.asarray(weight, np.float64), shift)
        _demand_size(shape[axis] ** 2)
        return self.linear(x, np.eye(shape[axis])[index])

    def split(self, x: Operand, axis: int, sizes: Sequence[int], item: int) -> str:
        """One part of an axis that is cut into parts of these sizes."""
        start = sum(sizes[:item])
        return self.cut(x, axis, start, start + sizes[item])

    def join(self, parts: Sequence[Operand], axis: int) -> str:
        """Values side by side along one axis."""
        parts = [p for p in parts if math.prod(self.shape(p))]
        shapes = [self.shape(p) for p in parts]
        at = self.axis(parts[0], axis)
        if len({(s[:at], s[at:][1:]) for s in shapes}) > 1:
            raise Refused(f"it joins {' and '.join(str(list(s)) for s in shapes)}")
        if at != -1:
            return self.swapped(self.join([self.swapped(p, at, -1) for p in parts], -1), at, -1)
        widths = [s[-1] for s in shapes]
        _demand_size(sum(widths) ** 2)
        eye, start, total = np.eye(sum(widths)), 0, ""
        for part, width in zip(parts, widths, strict=True):
            spread = self.linear(part, eye[:, start : start + width])
            total = self.pointwise(ops.Add, total, spread) if total else spread
            start += width
        self.scope.joined[total] = tuple(parts)
        return total

    def spread(self, x: Operand, shape: Shape) -> str:
        """x broadcast to a shape."""
        before = self.shape(x)
        full = tuple(
            b if n == -1 else n for n, b in zip(shape, (1,) * (len(shape) - len(before)) + before, strict=True)
        )
        if math.prod(full) == math.prod(before):
            return self.reshape(x, full)
        _demand_size(math.prod(full))
        return self.pointwise(ops.Add, x, np.zeros(full))


def _demand_size(entries: int) -> None:
    """Refuse a constant that is far larger than what the graph holds: no size that a file states is believed."""
    if entries > _MAX_ENTRIES:
        raise Refused(f"it takes a constant of {entries} entries, at most {_MAX_ENTRIES} are made")


def _dense(weight: Constant, groups: int) -> Constant:
    """The kernel of a convolution in groups as one of all channels."""
    if groups == 1:
        return weight
    _demand_size(weight.size * groups)
    rows, width = len(weight) // groups, weight.shape[1]
    dense = np.zeros((len(weight), width * groups, *weight.shape[2:]))
    for g in range(groups):
        dense[g * rows : (g + 1) * rows, g * width : (g + 1) * width] = weight[g * rows : (g + 1) * rows]
    return dense


def _apart(weight: Constant, dilation: Sequence[int]) -> Constant:
    """The kernel with `dilation - 1` zeros between its entries."""
    if set(dilation) <= {1}:
        return weight
    space = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    _demand_size(math.prod(weight.shape[:2]) * math.prod(space))
    apart = np.zeros((*weight.shape[:2], *space))
    apart[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = weight
    return apart
