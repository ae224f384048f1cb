"""What reaches the weights: first and second moments of their operands, measured on calibration data."""

from __future__ import annotations

import math
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
from .metric import Dense, Factor

__all__ = ["Moments", "measure", "seen_ranges"]

_MAX_SAMPLES = 1024
"""Samples of the calibration data, evenly spaced, that moments are measured on."""

_LARGEST_SIDE = 512
"""Of a second moment that is made where fewer vectors than that say the same."""

_LIVE = 1 << 23
"""Numbers that the float model holds at once, and the fewest samples that it runs together."""
_FEWEST = 32

_GATHERED = 1 << 18
"""Operands of rows of a stencil that are looked at together."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Vectors y [count, n], fewer than n: they take less memory than `E[y y^T]`, which they are kept instead of."""

    vectors: Reals

    def second(self) -> Reals:
        """`E[y y^T]` [n, n], anew with each call."""
        second: Reals = self.vectors.T @ self.vectors
        second /= len(self.vectors)
        return second


@dataclass(frozen=True)
class Moments:
    """Of the operand x of a map, in float, and of y, the same on the grid on which integers read it.

    A linear map: `mean_x`, `mean_y` [n]; `products`: `E[y y^T]` [n, n], or the vectors that it is made of. A stencil
    has these for each of its rows: [rows, n] and [rows, n, n]. Averages run over samples, ticks, and all axes of x but
    the last. `centred`: what is meant is the covariance, what is left of the second moment once a bias takes the means.
    """

    count: int
    mean_x: Reals
    mean_y: Reals
    products: Reals | Samples
    centred: bool = False

    @property
    def second(self) -> Reals:
        """The second moment, or the covariance if `centred`."""
        if not isinstance(self.products, Samples):
            return self.products
        second = self.products.second()
        return self._centre(second) if self.centred else second

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

    def rows(self, chosen: slice | NDArray[np.bool_] | Codes) -> Moments:
        """Those of some rows of a stencil; of a linear map, whose rows read the same, all."""
        if isinstance(self.products, Samples) or self.products.ndim == 2:
            return self
        return Moments(self.count, self.mean_x[chosen], self.mean_y[chosen], self.products[chosen], self.centred)

    def without_means(self) -> Moments:
        """With the covariance, in the memory of the second moment, which nobody may read any more."""
        if not (self.centred or isinstance(self.products, Samples)):
            self._centre(self.products)
        return replace(self, centred=True)

    def _centre(self, second: Reals) -> Reals:
        """The covariance, in the memory of the second moment."""
        for part in row_parts(second):
            # Of a linear map a part of the matrix, of a stencil the matrices of a part of the rows.
            left = self.mean_y[part]
            second[part] -= left[..., None] * (self.mean_y if second.ndim == 2 else left[:, None, :])
        return second

    def metric(self, *, centred: bool) -> Dense | Factor:
        """The covariance or the second moment: the matrix of the error of a row's sums. The caller may not keep changes
        of it."""
        assert centred or not self.centred
        if isinstance(self.products, Samples):
            if self.products.vectors.shape[1] > _LARGEST_SIDE:
                vectors = self.products.vectors - self.mean_y if centred else self.products.vectors
                return Factor(vectors / math.sqrt(len(vectors)))
            return Dense(self._centre(self.products.second()) if centred else self.products.second())
        if centred and not self.centred:
            return Dense(self._centre(self.products.copy()))
        return Dense(self.products)


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
        y, before = _on_grid(op.x, x, encodings, grids), found.get(op.out)
        if isinstance(op, ops.Stencil):
            found[op.out] = _gathered(x, y, np.asarray(net.param(op.index), np.int64), before)
        else:
            found[op.out] = _flat(x, y) if before is None else before.joined(_flat(x, y))

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
    samples = Samples(y.copy())
    return Moments(len(x), x.mean(axis=0), y.mean(axis=0), samples if len(y) < y.shape[1] else samples.second())


def _gathered(x: Reals, y: Reals, index: Codes, before: Moments | None) -> Moments:
    """The operands of each row of a stencil, joined with `before`; a tap outside the lattice reads 0."""
    rows, taps = index.shape
    padded = [np.concatenate([v, np.zeros((len(v), 1))], axis=1) for v in (x, y)]
    # A part of the rows at a time: all of a tick's would take the memory of the moments once more.
    found = before or Moments(0, np.zeros((rows, taps)), np.zeros((rows, taps)), np.zeros((rows, taps, taps)))
    count = max(1, _GATHERED // (len(x) * taps))
    for first in range(0, rows, count):
        part = slice(first, first + count)
        near_x, near_y = (v[:, index[part]].transpose(1, 0, 2) for v in padded)
        second: Reals = near_y.transpose(0, 2, 1) @ near_y
        second /= len(x)
        found.rows(part).joined(Moments(len(x), near_x.mean(axis=1), near_y.mean(axis=1), second))
    return replace(found, count=found.count + len(x))
