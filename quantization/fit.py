"""Codes and a scale of least squared error: the best scale by a sweep, then codes that make up for one another.

The error of a row is `(w - s q)^T M (w - s q)`: with M the second moment of what the weights read, that is the mean
squared error of the row's sum; with M = 1 it is the squared error of the weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .metric import Factor, Metric
from .moments import Moments

__all__ = ["best_scale", "descend", "fit", "nearest"]

Reals = NDArray[np.float64]

_MAX_POINTS = 1 << 14
"""Roundings of one group up to which all are visited."""

_TRIED = 0.985 ** np.arange(300)
"""Of the scale at which nothing saturates: the scales that are tried for a group with more."""

_TRIED_AT_ONCE = 1 << 14
"""Entries times scales that are looked at together: they stay in the processor's cache."""

_SLACK = 1e-9
"""Of the sum of squares, far above what rounding does to a bound."""

_SWEEPS = 6

_BLOCK = 64
"""Columns of which a sweep collects the changes before it takes them to all others."""

_GROUP = 1 << 18
_ROWS = 256
"""Entries of the rows that are descended together, and the fewest rows; of a smaller weight a quarter of the rows, so
that what is in the making stays below the codes."""
_PARTS, _FEWEST_ROWS = 4, 64

_RIDGE = 0.02
"""Times the mean of the moment's diagonal, added to it: calibration data are few, and weights that they do not excite
keep their nearest codes. From 0.005 to 1 no difference was measured that is more than noise."""


def fit(
    weights: Reals, moments: Moments | None, top: int, *, scales: int, centred: bool = False
) -> tuple[NDArray[np.int64], Reals]:
    """Codes [rows, n] and scales [scales] (one a row, or a single one) of least error for weights [rows, n], at least
    one row. With moments the error is that of the sums on the operands as integers read them, `centred`: up to their
    means."""
    if moments is None:
        return _fitted(weights, None, np.ones(1), top, scales)
    metric = moments.metric(centred=centred)
    ridge = max(_RIDGE * float(metric.diagonal.mean()), float(np.finfo(np.float64).tiny))
    if isinstance(metric, Factor):
        metric = replace(metric, ridge=ridge)
        return _fitted(weights, metric, metric.diagonal, top, scales)
    entries = np.einsum("...ii->...i", metric.matrix)
    before = entries.copy()
    # For as long as this takes: a copy of the matrix would be the largest array of a quantization.
    entries += ridge
    try:
        return _fitted(weights, metric, entries.copy(), top, scales)
    finally:
        entries[...] = before


def _fitted(
    weights: Reals, metric: Metric | None, importance: Reals, top: int, scales: int
) -> tuple[NDArray[np.int64], Reals]:
    each = np.broadcast_to(importance, weights.shape)
    codes = np.empty(weights.shape, np.int64)
    if scales == 1:
        scale = np.array([best_scale(weights.reshape(-1), each.reshape(-1), top)])
        codes[...], scale = _group(weights, scale, metric, top)
        return codes, scale
    scale = np.array([best_scale(w, d, top) for w, d in zip(weights, each, strict=True)])
    # So many rows at once that what is in the making is small beside the codes.
    count = max(_ROWS, _GROUP // (weights.shape[1] * (weights.shape[1] if importance.ndim == 2 else 1)))
    count = min(count, max(_FEWEST_ROWS, -(-len(weights) // _PARTS)))
    for first in range(0, len(weights), count):
        part = slice(first, first + count)
        own = None if metric is None else metric.of(part)
        codes[part], scale[part] = _group(weights[part], scale[part], own, top)
    return codes, scale


def _group(weights: Reals, scale: Reals, metric: Metric | None, top: int) -> tuple[Reals, Reals]:
    codes = np.empty(weights.shape)
    for k, s in enumerate(np.broadcast_to(scale, (len(weights),))):
        codes[k] = nearest(weights[k], float(s), top)
    return (codes, scale) if metric is None else _Descent(weights, codes, scale, metric, top).run()


def nearest(weights: Reals, scale: float, top: int) -> Reals:
    """Codes within +-top nearest to `weights / scale`; 0 for a scale of 0.

    Weights and codes have the same shape, any; codes are whole float64 numbers.
    """
    if scale == 0.0:
        return np.zeros_like(weights)
    return np.asarray(np.clip(np.rint(weights / scale), -top, top))


def best_scale(weights: Reals, importance: Reals, top: int) -> float:
    """The scale s of least `sum importance * (w - s q)^2` over s and codes |q| <= top.

    weights and importance [n], importance >= 0. As s falls, one code after the other grows by one, at
    `s = |w| / (c + 1/2)`; between two such points the codes stay, the best s is `A / B` with `A = sum d |w| q` and
    `B = sum d q^2`, and it lowers the error by `A^2 / B`. All points are visited in falling order, which for top = 1 is
    the sorting of the magnitudes. Exact up to 16384 points; of groups with more, 300 scales are tried.
    """
    size = np.abs(weights)
    live = (size > 0.0) & (importance > 0.0)
    size, importance = size[live], importance[live]
    if size.size == 0:
        # Nothing that matters: any scale that holds the weights does.
        return float(np.abs(weights).max(initial=0.0)) / top
    if size.size * top <= _MAX_POINTS:
        halves = np.arange(top) + 0.5
        order = np.argsort(-(size[:, None] / halves).reshape(-1), kind="stable")
        a = np.cumsum(np.repeat(importance * size, top)[order])
        b = np.cumsum((importance[:, None] * (2.0 * halves)).reshape(-1)[order])
    else:
        scales = _promising(size, importance, size.max() / top * _TRIED, top)
        a, b = _sums(size, importance, scales, top)
    best = int(np.argmax(a * (a / b)))
    return float(a[best] / b[best])


def _promising(size: Reals, importance: Reals, scales: Reals, top: int) -> Reals:
    """The scales, in order, that may have the least error: all entries that get the code `top` get one value, so that
    their spread about a mean is a lower bound of the error; it must not be above the error of the first scale."""
    order = np.argsort(size)
    ordered, weighed = size[order], importance[order]
    zeroth, first, second = (
        np.append(np.cumsum(terms[::-1])[::-1], 0.0) for terms in (weighed, weighed * ordered, weighed * ordered**2)
    )
    # A little higher than where the code begins: which way a division rounds does not matter.
    at = np.searchsorted(ordered, scales * ((top - 0.5) * (1.0 + 1e-12)))
    mean = np.divide(first[at], zeroth[at], out=np.zeros(len(at)), where=zeroth[at] > 0.0)
    (a,), (b,) = _sums(size, importance, scales[:1], top)
    return np.asarray(scales[second[at] - first[at] * mean <= second[0] * (1.0 + _SLACK) - a * (a / b)])


def _sums(size: Reals, importance: Reals, scales: Reals, top: int) -> tuple[Reals, Reals]:
    """`sum importance * size * q` and `sum importance * q^2` with the nearest codes q at each of the scales."""
    weighed = importance * size
    a, b = np.empty(len(scales)), np.empty(len(scales))
    each = max(1, _TRIED_AT_ONCE // size.size)
    q, product = np.empty((each, size.size)), np.empty((each, size.size))
    for first in range(0, len(scales), each):
        tried = scales[first : first + each]
        codes, terms = q[: len(tried)], product[: len(tried)]
        np.divide(size, tried[:, None], out=codes)
        np.minimum(np.rint(codes, out=codes), top, out=codes)
        np.multiply(weighed, codes, out=terms).sum(axis=1, out=a[first : first + each])
        np.multiply(importance, codes, out=terms)
        np.multiply(terms, codes, out=terms).sum(axis=1, out=b[first : first + each])
    return a, b


def descend(weights: Reals, codes: Reals, scale: Reals, metric: Metric, top: int) -> tuple[Reals, Reals]:
    """Lower the error by cyclic coordinate descent over codes, refitting the scales in between.

    weights and codes [rows, n]; scale [rows], or [1] for one scale of all rows. Each
    code in turn becomes the one of least error given all others (Behdin et al. 2023, arXiv:2309.01885), so no step
    raises the error. Rows of scale 0 stay.
    """
    return _Descent(weights, codes.copy(), scale, metric, top).run()


class _Descent:
    """Rows in the making, in the memory of `codes`. `target = W M` and `reached = Q M` give the gradient `W M - s Q M`
    whatever the scale is; a sweep keeps `reached` up to date, so that a row costs products only for the codes that
    change."""

    def __init__(self, weights: Reals, codes: Reals, scale: Reals, metric: Metric, top: int) -> None:
        self.weights, self.codes, self.scale, self.metric, self.top = weights, codes, scale, metric, top
        self.together = scale.size < len(weights)
        self.target, self.reached = metric.times(weights), metric.times(codes)

    def run(self) -> tuple[Reals, Reals]:
        """Codes and scales after at most `_SWEEPS` sweeps. A row whose codes and scale stayed would stay for ever."""
        codes, scale = self.codes, self.scale.copy()
        place = np.arange(len(codes))
        for _ in range(_SWEEPS):
            before = self.scale
            changed = self.sweep()
            self.scale = self.refitted()
            if self.codes is not codes:
                codes[place] = self.codes
            scale[slice(None) if self.together else place] = self.scale
            if not changed.any():
                break
            moving = changed | (self.scale != before) | self.together
            # Rows that stay cost less than a copy of most of the others.
            if 2 * np.count_nonzero(moving) <= len(moving):
                place = place[moving]
                self.keep(moving)
        return codes, scale

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Go on with some of the rows."""
        self.weights, self.codes, self.scale = self.weights[rows], self.codes[rows], self.scale[rows]
        self.target, self.reached = self.target[rows], self.reached[rows]
        self.metric = self.metric.of(rows)

    def sweep(self) -> NDArray[np.bool_]:
        """Visit every code once; which rows changed."""
        changed = np.zeros(len(self.codes), bool)
        for first in range(0, self.codes.shape[1], _BLOCK):
            block = slice(first, first + _BLOCK)
            changes = self.visit(block)
            rows = np.flatnonzero(changes.any(axis=1))
            changed[rows] = True
            if rows.size == len(changes):
                self.reached += self.metric.moved(changes, block, rows)
            elif rows.size:
                self.reached[rows] += self.metric.moved(changes[rows], block, rows)
        return changed

    def visit(self, block: slice) -> Reals:
        """The codes of a block of columns in turn; how far each moved, `[rows, columns]`."""
        spread = np.broadcast_to(self.scale, (len(self.codes),))
        # Columns first: a column of all rows lies together.
        gradient = np.ascontiguousarray((self.target[:, block] - spread[:, None] * self.reached[:, block]).T)
        codes = np.ascontiguousarray(self.codes[:, block].T)
        inner = self.metric.inner(block)
        before = codes.copy()
        diagonal = self.metric.diagonal[..., block]
        curvature = spread * diagonal.T if inner.ndim == 3 else diagonal[:, None] * spread
        # A column that nothing excites, or a row without a scale, moves no code.
        still = None if (curvature > 0.0).all() else ~(curvature > 0.0)
        if still is not None:
            curvature[still] = 1.0
        new, step = np.empty(len(spread)), np.empty(len(spread))
        for k in range(len(codes)):
            np.divide(gradient[k], curvature[k], out=new)
            if still is not None:
                new[still[k]] = 0.0
            new += codes[k]
            np.rint(new, out=new)
            np.maximum(new, -self.top, out=new)
            np.minimum(new, self.top, out=new)
            np.subtract(new, codes[k], out=step)
            if step.any():
                beside = inner[k + 1 :, k]
                step *= spread
                gradient[k + 1 :] -= (beside if beside.ndim == 2 else beside[:, None]) * step
                codes[k] = new
        self.codes[:, block] = codes.T
        return np.ascontiguousarray((codes - before).T)

    def refitted(self) -> Reals:
        """The scales of least error for these codes; one that would not be positive stays."""
        # The scale of a whole tensor is kept to its last bit, which must not depend on the order of the changes.
        reached = self.metric.times(self.codes) if self.together else self.reached
        above, below = (reached * self.weights).sum(axis=1), (reached * self.codes).sum(axis=1)
        if self.together:
            above, below = above.sum(keepdims=True), below.sum(keepdims=True)
        good = (above > 0.0) & (below > 0.0)
        return np.asarray(np.where(good, np.divide(above, below, out=np.zeros_like(above), where=good), self.scale))
