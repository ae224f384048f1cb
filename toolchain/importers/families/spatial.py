"""Pooling, its gradients and transposed convolution, composed of operations that every level and target has.

Values are `[channels, *space]` with 1 to 3 axes of space; kernel, stride and padding are one number for all of them, as
in `ops.Conv`. Without dilation and with sizes rounded down (`ceil_mode=False`), each function computes what PyTorch
computes, in float64 to rounding error and in integers exactly: entries are moved, compared and added, never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...arrays import Codes, Numbers, Reals
from ...ir import ops
from .build import Builder

__all__ = ["avg_pool", "avg_unpool", "conv_transpose", "max_pool", "max_unpool"]


def max_pool(b: Builder, out: str, x: str, kernel: int, *, stride: int | None = None, padding: int = 0) -> str:
    """The largest entry of each window, as `torch.nn.functional.max_pool2d`; `stride` is the kernel's size by default.

    Raises ValueError for a padding of more than half a kernel, or a kernel that does not fit.
    """
    if not b.knows(x):
        return b.unknown(out)
    windows = _Windows.of(b.shape(x), kernel, stride, padding)
    taps = windows.taps(b, out, x, edge=True)
    return b.emit(ops.Reduce(out=out, x=taps, kind="max", axes=windows.within, keep=False))


def max_unpool(
    b: Builder, out: str, x: str, y: str, kernel: int, *, stride: int | None = None, padding: int = 0
) -> str:
    """Gradient of `max_pool` at x: each entry of y goes to where its window of x has its maximum, to the first of equal
    ones in C order as in PyTorch; where windows overlap, entries are added.

    x `[channels, *space]`, y of the shape that the pool has; the result is shaped like x.
    """
    if not b.knows(x, y):
        return b.unknown(out)
    windows = _Windows.of(b.shape(x), kernel, stride, padding)
    windows.check(out, b.shape(y))
    zero = b.param("zero", 0.0, "constant")
    order = b.param(f"{out}_order", windows.order(), "derived: entries of a window, counted down; 0 outside")
    taps = windows.taps(b, out, x, edge=True)
    top = b.emit(ops.Reduce(out=f"{out}_top", x=taps, kind="max", axes=windows.within, keep=True))
    below = b.emit(ops.Greater(out=f"{out}_below", a=top, b=taps))
    place = b.emit(ops.Select(out=f"{out}_place", condition=below, a=zero, b=order))
    first = b.emit(ops.Reduce(out=f"{out}_first", x=place, kind="max", axes=windows.within, keep=True))
    later = b.emit(ops.Greater(out=f"{out}_later", a=first, b=place))
    spread = b.reshape(f"{out}_spread", y, *windows.kept)
    parts = b.emit(ops.Select(out=f"{out}_parts", condition=later, a=zero, b=spread))
    return windows.folded(b, out, parts)


def avg_pool(b: Builder, out: str, x: str, kernel: int, *, stride: int | None = None, padding: int = 0) -> str:
    """The mean of each window, zeros outside counted, as `torch.nn.functional.avg_pool2d`.

    Raises ValueError as `max_pool` does.
    """
    if not b.knows(x):
        return b.unknown(out)
    windows = _Windows.of(b.shape(x), kernel, stride, padding)
    taps = windows.taps(b, out, x, edge=False)
    return b.emit(ops.Reduce(out=out, x=taps, kind="mean", axes=windows.within, keep=False))


def avg_unpool(
    b: Builder, out: str, y: str, space: tuple[int, ...], kernel: int, *, stride: int | None = None, padding: int = 0
) -> str:
    """Gradient of `avg_pool` on an input of `space` (without its channels): each entry of y over its window."""
    if not b.knows(y):
        return b.unknown(out)
    windows = _Windows.of((b.shape(y)[0], *space), kernel, stride, padding)
    windows.check(out, b.shape(y))
    for axis, size in enumerate(space):
        matrix = windows.gather(size, edge=False).reshape(-1, kernel, size).sum(axis=1)
        y = _along(b, f"{out}_axis{axis}", y, 1 + axis, matrix.T)
    return b.scale(out, y, 1.0 / kernel ** len(space))


def conv_transpose(
    b: Builder,
    out: str,
    x: str,
    name: str,
    weight: Numbers,
    source: str,
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
) -> str:
    """Gradient of a convolution by `weight` with respect to its input, as `torch.nn.functional.conv_transpose2d`.

    weight `[channels of x, channels of the result, *kernel]`, which for the convolution itself are outputs and inputs;
    `name` is that of the parameter that is made of it. The kernel is flipped and runs over x with `stride - 1` zeros
    between its entries.

    Raises ValueError where weight and x do not fit.
    """
    if not b.knows(x):
        return b.unknown(out)
    shape, kernel = b.shape(x), weight.shape[2:]
    if len(shape) != 1 + len(kernel) or weight.shape[0] != shape[0]:
        raise ValueError(f"{out}: weight {list(weight.shape)} does not fit an input of shape {list(shape)}")
    flipped = np.flip(weight.swapaxes(0, 1), tuple(range(2, weight.ndim)))
    kernel_param = b.param(name, flipped, f"{source}, inputs and outputs exchanged and flipped")
    border = kernel[0] - 1 - padding
    if stride == 1 and output_padding == 0 and border >= 0 and len(set(kernel)) == 1:
        return b.emit(ops.Conv(out=out, x=x, weight=kernel_param, stride=1, padding=border))
    for axis, (size, k) in enumerate(zip(shape[1:], kernel, strict=True)):
        length = (size - 1) * stride - 2 * padding + k + output_padding
        if length < 1:
            raise ValueError(f"{out}: {size} entries give a result of {length} entries")
        at = np.arange(size) * stride + k - 1 - padding
        inside = (at >= 0) & (at < length + k - 1)
        spread = np.zeros((length + k - 1, size))
        spread[at[inside], np.flatnonzero(inside)] = 1.0
        x = _along(b, f"{out}_axis{axis}", x, 1 + axis, spread)
    return b.emit(ops.Conv(out=out, x=x, weight=kernel_param, stride=1, padding=0))


@dataclass(frozen=True)
class _Windows:
    """The windows of a pool over a value of `shape`: `[channels, (windows, kernel) for each axis]`."""

    shape: tuple[int, ...]
    kernel: int
    stride: int
    padding: int

    @classmethod
    def of(cls, shape: tuple[int, ...], kernel: int, stride: int | None, padding: int) -> _Windows:
        windows = cls(shape, kernel, kernel if stride is None else stride, padding)
        if min(kernel, windows.stride) < 1 or not 0 <= 2 * padding <= kernel:
            what = f"a pool has kernel {kernel}, stride {windows.stride} and padding {padding}: at most half a kernel"
            raise ValueError(what)
        if min(shape[1:], default=0) + 2 * padding < kernel:
            raise ValueError(f"a pool has kernel {kernel} on a space of {list(shape[1:])} with padding {padding}")
        return windows

    @property
    def within(self) -> tuple[int, ...]:
        """Axes of the entries of a window."""
        return tuple(range(1 - 2 * len(self.counts), 0, 2))

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows along each axis of space."""
        return tuple((n + 2 * self.padding - self.kernel) // self.stride + 1 for n in self.shape[1:])

    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of a value with one entry for each window."""
        return (self.shape[0], *(n for count in self.counts for n in (count, 1)))

    def check(self, out: str, shape: tuple[int, ...]) -> None:
        """Raise ValueError if `shape` is not that of the pool."""
        if shape != (self.shape[0], *self.counts):
            raise ValueError(f"{out}: {list(shape)} entries for {[self.shape[0], *self.counts]} windows")

    def gather(self, size: int, *, edge: bool) -> Reals:
        """`[windows * kernel, size]`: which entry each tap reads; one outside reads nothing, or the `edge`, which lies
        in the same window and so changes no maximum."""
        position = self._positions(size).reshape(-1)
        inside = (position >= 0) & (position < size)
        matrix = np.zeros((len(position), size))
        matrix[np.arange(len(position)), np.clip(position, 0, size - 1)] = 1.0 if edge else inside.astype(np.float64)
        return matrix

    def _positions(self, size: int) -> Codes:
        count = (size + 2 * self.padding - self.kernel) // self.stride + 1
        start: Codes = np.arange(count)[:, None] * self.stride - self.padding
        return start + np.arange(self.kernel)

    def _plain(self, size: int) -> bool:
        """Whether the windows of an axis are its entries in order, so that a reshape makes them."""
        return self.stride == self.kernel and self.padding == 0 and size % self.kernel == 0

    def taps(self, b: Builder, out: str, x: str, *, edge: bool) -> str:
        for axis, size in enumerate(self.shape[1:]):
            if not self._plain(size):
                x = _along(b, f"{out}_taps{axis}", x, 1 + axis, self.gather(size, edge=edge))
        pairs = (n for count in self.counts for n in (count, self.kernel))
        return b.reshape(f"{out}_windows", x, self.shape[0], *pairs)

    def order(self) -> Reals:
        """For each tap, how many entries of its window come after it, and one more; 0 for one outside.

        `[windows, kernel]` for each axis; of size 1 for the windows where all are alike.
        """
        d = len(self.counts)
        order: Reals = np.arange(self.kernel**d, 0, -1).reshape((1, self.kernel) * d).astype(np.float64)
        for axis, size in enumerate(self.shape[1:]):
            position = self._positions(size)
            inside = (position >= 0) & (position < size)
            if not inside.all():
                order = order * inside.reshape((1, 1) * axis + inside.shape + (1, 1) * (d - 1 - axis))
        return order

    def folded(self, b: Builder, out: str, parts: str) -> str:
        """The entries of all windows, each added where its tap reads."""
        value = b.reshape(f"{out}_entries", parts, self.shape[0], *(n * self.kernel for n in self.counts))
        rough = [axis for axis, size in enumerate(self.shape[1:]) if not self._plain(size)]
        for axis in rough:
            matrix = self.gather(self.shape[1 + axis], edge=False).T
            value = _along(b, out if axis == rough[-1] else f"{out}_axis{axis}", value, 1 + axis, matrix)
        return value if rough else b.reshape(out, value, *self.shape)


def _along(b: Builder, out: str, x: str, axis: int, matrix: Reals) -> str:
    """A matrix of zeros and ones `[new, old]` applied along one axis."""
    rows = "x".join(map(str, matrix.shape))
    name = b.param(f"{out}_{rows}", matrix, "derived: entries moved and added")
    rank = len(b.shape(x))
    if axis == rank - 1:
        return b.emit(ops.Linear(out=out, x=x, weight=name))
    exchanged = list(range(rank))
    exchanged[axis], exchanged[-1] = exchanged[-1], exchanged[axis]
    turned = b.emit(ops.Transpose(out=f"{out}_turned", x=x, axes=tuple(exchanged)))
    moved = b.emit(ops.Linear(out=f"{out}_moved", x=turned, weight=name))
    return b.emit(ops.Transpose(out=out, x=moved, axes=tuple(exchanged)))
