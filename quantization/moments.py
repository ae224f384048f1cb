"""What reaches the weights: first and second moments of their operands, measured on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.reference import run_reference

from ..toolchain.arrays import Array, Codes, Reals, row_parts
from ..toolchain.ir import Encoding, EqNet, ops
from ..toolchain.ir.ops import Op
from ..toolchain.passes import Analysis
from .exact import moves
from .grids import Grids

__all__ = ["Moments", "measure", "seen_ranges"]

_MAX_SAMPLES = 1024
"""Samples of the calibration data, evenly spaced, that moments are measured on."""

_LIVE = 1 << 23
"""Numbers that the float model holds at once, and the fewest samples that it runs together."""
_FEWEST = 32


@dataclass(frozen=True)
class Moments:
    """Of the operand x of a map, in float, and of y, the same on the grid on which integers read it.

    A linear map: `mean_x`, `mean_y` [n]; `second = E[y y^T]` [n, n]. A stencil has these for each of its rows:
    [rows, n] and [rows, n, n]. Averages run over samples, ticks, and all axes of x but the last. `centred`: `second` is
    the covariance, what is left of the second moment once a bias takes the means.
    """

    count: int
    mean_x: Reals
    mean_y: Reals
    second: Reals
    centred: bool = False

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count, self.mean_x.copy(), self.mean_y.copy(), self.second.copy()).joined(other)

    def joined(self, other: Moments) -> Moments:
        """Those of both together, in the memory of these, which nobody may read any more."""
        total = self.count + other.count
        share = self.count / total

        def mixed(a: Reals, b: Reals) -> Reals:
            a *= share
            # Part by part: the sum of two large matrices takes the memory of one.
            for part in row_parts(b):
                a[part] += (1.0 - share) * b[part]
            return a

        mean_x, mean_y = mixed(self.mean_x, other.mean_x), mixed(self.mean_y, other.mean_y)
        return Moments(total, mean_x, mean_y, mixed(self.second, other.second))

    def rows(self, chosen: NDArray[np.bool_] | Codes) -> Moments:
        """Those of some rows of a stencil; of a linear map, whose rows read the same, all."""
        if self.second.ndim == 2:
            return self
        return Moments(self.count, self.mean_x[chosen], self.mean_y[chosen], self.second[chosen], self.centred)

    def without_means(self) -> Moments:
        """With the covariance, in the memory of the second moment, which nobody may read any more."""
        if self.centred:
            return self
        for part in row_parts(self.second):
            # Of a linear map a part of the matrix, of a stencil the matrices of a part of the rows.
            left = self.mean_y[part]
            self.second[part] -= left[..., None] * (self.mean_y if self.second.ndim == 2 else left[:, None, :])
        return replace(self, centred=True)

    def metric(self, *, centred: bool) -> Reals:
        """The covariance or the second moment: the matrix of the error of a row's sums. The caller may not keep changes
        of it."""
        if centred and not self.centred:
            return replace(self, second=self.second.copy()).without_means().second
        assert centred or not self.centred
        return self.second


def measure(
    net: EqNet, calibration: Mapping[str, Array], encodings: Mapping[str, Encoding], grids: Grids
) -> dict[str, Moments]:
    """Moments of every linear and stencil map of the net, by its `out`; the float model runs on the data.

    `calibration`: float64 `[samples, *shape]` by input.
    """
    found: dict[str, Moments] = {}
    moving = {op.out for op in net.all_ops() if moves(net, op)}

    def watch(op: Op, operand: Callable[[str], Reals]) -> None:
        if not isinstance(op, (ops.Linear, ops.Stencil)) or op.out in moving:
            return
        x = operand(op.x)
        y = _on_grid(op.x, x, encodings, grids)
        made = _flat(x, y) if isinstance(op, ops.Linear) else _gathered(x, y, np.asarray(net.param(op.index), np.int64))
        found[op.out] = found[op.out].joined(made) if op.out in found else made

    for part in sample_parts(net, _some(calibration)):
        run_reference(net, part, watch=watch)
    return found


def seen_ranges(net: EqNet, calibration: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """The smallest and largest entry of every numeric value on the calibration data; `calibration` as in `measure`."""
    seen: dict[str, tuple[float, float]] = {}
    for part in sample_parts(net, calibration):
        for name, (lo, hi) in run_reference(net, part, ranges=True).ranges.items():
            before = seen.get(name, (lo, hi))
            seen[name] = (min(lo, before[0]), max(hi, before[1]))
    return seen


def sample_parts(net: EqNet, data: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The samples, so many at a time that the values of a step take about 64 MB."""
    entries = sum(Analysis.of(net).sizes[op.out] for op in net.all_ops())
    count = max(_FEWEST, _LIVE // max(entries, 1))
    total = len(next(iter(data.values())))
    for first in range(0, total, count):
        yield {name: array[first : first + count] for name, array in data.items()}


def _some(calibration: Mapping[str, Array]) -> dict[str, Array]:
    count = len(next(iter(calibration.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MAX_SAMPLES)).round().astype(np.int64))
    return {name: np.asarray(data)[chosen] for name, data in calibration.items()}


def _on_grid(name: str, x: Reals, encodings: Mapping[str, Encoding], grids: Grids) -> Reals:
    """x as the integer net would read it; values that have no grid of their own as they are."""
    if name in encodings:
        fmt, scale, low = encodings[name].format, encodings[name].scale, encodings[name].format.lo
    elif name in grids.of:
        grid = grids.read.get(name, grids.of[name])
        fmt, scale = grid.format, float(grid.scale)
        # Tables are symmetric: they leave the lowest code out.
        low = -fmt.hi if fmt.signed else 0
    else:
        return x
    return np.asarray(np.clip(np.rint(x / scale), low, fmt.hi) * scale)


def _flat(x: Reals, y: Reals) -> Moments:
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    second = y.T @ y
    second /= len(x)
    return Moments(len(x), x.mean(axis=0), y.mean(axis=0), second)


def _gathered(x: Reals, y: Reals, index: Codes) -> Moments:
    """The operands of each row of a stencil; a tap outside the lattice reads 0."""
    rows, taps = index.shape
    mean_x, mean_y, second = np.empty((rows, taps)), np.empty((rows, taps)), np.empty((rows, taps, taps))
    padded = [np.concatenate([v, np.zeros((len(v), 1))], axis=1) for v in (x, y)]
    count = max(1, _LIVE // (8 * len(x) * taps))
    for first in range(0, rows, count):
        part = slice(first, first + count)
        near_x, near_y = (v[:, index[part]].transpose(1, 0, 2) for v in padded)
        mean_x[part], mean_y[part] = near_x.mean(axis=1), near_y.mean(axis=1)
        second[part] = near_y.transpose(0, 2, 1) @ near_y / len(x)
    return Moments(len(x), mean_x, mean_y, second)
