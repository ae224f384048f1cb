"""How many faults to inject, and what may be said afterwards.

Rates are fractions of faults. Intervals are two-sided. `wilson` is for a number of faults that was fixed beforehand,
`exact` for looks at a campaign that may stop: with `1 - confidence` shared out equally over a schedule of looks that is
fixed beforehand (Bonferroni), all intervals of all looks hold together with at least that confidence, so the one at
which the campaign stopped does too, whatever made it stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
    "IntervalDocument",
    "Ranked",
    "exact",
    "look_schedule",
    "rank",
    "sample_size",
    "stratified",
    "wilson",
    "wilson_bounds",
]

Counts = NDArray[np.int64]


class IntervalDocument(TypedDict):
    """An interval as JSON values."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """An estimated rate and what it may be, all in 0..1."""

    estimate: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    def to_json(self) -> IntervalDocument:
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Ranked:
    """One of several strata: its rate, and the ranks that it may have (1 is the largest rate)."""

    index: int
    hits: int
    faults: int
    rate: Interval
    first: int
    last: int


def quantile(confidence: float) -> float:
    """Two-sided quantile of the normal distribution, 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def sample_size(population: int | None, *, margin: float, confidence: float, p: float = 0.5) -> int:
    """Faults to draw so that a rate near `p` is known to +/- `margin`: `N / (1 + e^2 (N - 1) / (t^2 p (1 - p)))`,
    rounded up; None is an infinite population.

    R. Leveugle, A. Calvez, P. Maistri, P. Vanhauwaert: Statistical fault injection: quantified error and confidence,
    DATE 2009. The formula is for drawing without replacement; p = 0.5 is the worst case.
    """
    infinite = quantile(confidence) ** 2 * p * (1 - p) / margin**2
    if population is None:
        return math.ceil(infinite)
    return min(population, math.ceil(population / (1 + (population - 1) / infinite)))


def wilson_bounds(
    hits: ArrayLike, faults: ArrayLike, *, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends of Wilson's score interval of counts `[...]`, elementwise, both `[...]` float64; 0 to 1
    where there are no faults.

    E. B. Wilson: Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    z2 = quantile(confidence) ** 2
    n = np.asarray(faults, np.float64)
    some = np.where(n > 0, n, 1.0)
    p = np.where(n > 0, np.asarray(hits, np.float64) / some, 0.5)
    middle = (p + z2 / (2 * some)) / (1 + z2 / some)
    half = np.sqrt(z2) / (1 + z2 / some) * np.sqrt(p * (1 - p) / some + z2 / (4 * some**2))
    low = np.where(n > 0, np.clip(middle - half, 0.0, p), 0.0)
    return low, np.where(n > 0, np.clip(middle + half, p, 1.0), 1.0)


def wilson(hits: int, faults: int, *, confidence: float, population: int | None = None) -> Interval:
    """Wilson's score interval. `population` is given where faults were drawn from it without replacement: the variance
    then has the factor `(N - n) / (N - 1)`, and is 0 once all are injected."""
    estimate = hits / faults if faults else 0.5
    if population is not None and faults >= population:
        return Interval(estimate, estimate, estimate)
    effective = faults if population is None else faults * (population - 1) / (population - faults)
    low, high = wilson_bounds(estimate * effective, effective, confidence=confidence)
    return Interval(estimate, float(low), float(high))


def exact(hits: int, faults: int, *, confidence: float, looks: int = 1) -> Interval:
    """The interval of Clopper and Pearson (Biometrika 26, 1934) for one of `looks` looks: it covers the rate with at
    least the confidence for every rate and number of faults, and all looks do so together. Needs SciPy."""
    from scipy.stats import beta  # type: ignore[import-untyped]

    tail = (1 - confidence) / looks / 2
    low = float(beta.ppf(tail, hits, faults - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, faults - hits)) if hits < faults else 1.0
    return Interval(hits / faults if faults else 0.5, low, high)


def look_schedule(most: int, first: int) -> tuple[int, ...]:
    """Looks after `first`, twice, four times as many.. and `most`: fixed before a fault is drawn."""
    looks = []
    at = max(1, first)
    while at < most:
        looks.append(at)
        at *= 2
    return (*looks, most)


def stratified(hits: Counts, faults: Counts, weights: NDArray[np.float64], *, confidence: float) -> Interval:
    """The rate of a population of which stratum h is the share `weights[h]`: `p = sum W_h p_h`, variance
    `sum W_h^2 p_h (1 - p_h) / n_h`; strata without a fault are left out and the weights scaled.

    So that a stratum with no hit does not count as known exactly, the variance takes `(x + 1) / (n + 2)` for its rate.
    The ends are the outer ones of the normal interval and of Wilson's at the number of faults that has this variance:
    the first is too short near 0 and 1, the second is off centre where one stratum has nearly all hits. W. G. Cochran:
    Sampling techniques, 3rd ed. (1977), section 5.
    """
    seen = faults > 0
    x, n, w = (a[seen].astype(np.float64) for a in (hits, faults, weights))
    w = w / w.sum()
    smooth = (x + 1) / (n + 2)
    variance = float((w**2 * smooth * (1 - smooth) / n).sum())
    whole = float((w * smooth).sum())
    effective = whole * (1 - whole) / variance
    estimate = float((w * x / n).sum())
    low, high = wilson_bounds(estimate * effective, effective, confidence=confidence)
    half = quantile(confidence) * math.sqrt(variance)
    return Interval(estimate, max(0.0, min(float(low), estimate - half)), min(1.0, max(float(high), estimate + half)))


def rank(hits: Sequence[int] | Counts, faults: Sequence[int] | Counts, *, confidence: float) -> list[Ranked]:
    """Strata by the falling lower end of their intervals, so that one hit of one fault does not lead; those without a
    fault are left out.

    The ranks that one may have count the strata whose intervals lie wholly above and below its own; the intervals
    hold for all strata together (Bonferroni), so the sets of ranks do too (J. Mohamad, J. Goeman, E. van Zwet:
    Simultaneous confidence intervals for ranks, 2018).
    """
    x, n = np.asarray(hits, np.int64), np.asarray(faults, np.int64)
    seen = np.flatnonzero(n > 0)
    if not len(seen):
        return []
    each = 1 - (1 - confidence) / len(seen)
    low, high = wilson_bounds(x[seen], n[seen], confidence=each)
    rate = x[seen] / n[seen]
    above = len(seen) - np.searchsorted(np.sort(low), high, side="right")
    below = np.searchsorted(np.sort(high), low, side="left")
    order = np.lexsort((seen, -rate, -low))
    return [
        Ranked(
            index=int(seen[i]),
            hits=int(x[seen[i]]),
            faults=int(n[seen[i]]),
            rate=Interval(float(rate[i]), float(low[i]), float(high[i])),
            first=1 + int(above[i]),
            last=len(seen) - int(below[i]),
        )
        for i in order
    ]
