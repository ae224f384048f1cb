"""Contraction of an integer block in several norms, and the best of them.

With `|F(u) - F(v)| <= sum_k |N_k d| + jump` entry by entry (`spread`, N_k = scale_k M_k), whole weights w, S = diag(w):

- `2`: `||S d||_2`, w the real size of a code of each state: L = sum_k ||S N_k S^-1||;
- `weighted 2`: the same with other weights, which even out the units' shares; it is below the 2-norm where the map is
  not normal, as where units pass on in one direction what they get (Osborne 1960, balancing, from higher powers);
- `maximum`: `max_i |d_i| / w_i`, w a Perron vector of N = sum_k |N_k|: L = max_i (N w)_i / w_i, close to the spectral
  radius of N (Collatz 1942, Wielandt 1950), the least that any weights give.

Weights come from iterations that are not trusted: whatever they are, L is proved for them. All is rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arrays import Codes, Reals, largest
from ..ir import IntNet
from ..typed_json import JSON
from .norm import Square, up
from .spread import Spread, Term, spread_of

__all__ = ["MARGIN", "NORM_NAMES", "Contraction", "NormKind", "contractions"]

NormKind = Literal["2", "weighted 2", "maximum"]
NORM_NAMES: Mapping[NormKind, str] = {
    "2": "2-norm",
    "weighted 2": "weighted 2-norm",
    "maximum": "weighted maximum norm",
}
_LARGEST_WEIGHT = 1 << 20
_SWEEPS = ((256, 40), (512, 15), (1 << 30, 5))
"""Sweeps of the balancing by units: one costs four products of a matrix and its transpose."""
_GAIN = 2.0**-10
"""A sweep that lowers the trace by less than this part of it is the last one."""
_ITERATIONS = 60
_SETTLED = 2.0**-40
"""Where no entry of a Perron vector, at most 1, moves by more than this, it is near enough."""
_TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
MARGIN = 1.0 + 2.0**-30
"""What is stated exceeds what is proved by so much, so that another proof of it need not round as this one does."""


@dataclass(frozen=True)
class Contraction:
    """`||F(u) - F(v)|| <= bound ||u - v|| + slack` in one norm of the states' codes.

    `weights` [units] int64, all units of the block in the order of its states. `diameter`: the largest distance of two
    settings. `codes`: by ticks, how many codes any unit can be off so many ticks after an upset of any size in any
    number of states of the block, all others being as without it.
    """

    kind: NormKind
    weights: Codes
    bound: float
    slack: float
    diameter: float
    codes: dict[int, int]

    @property
    def ball(self) -> float:
        """The distance that two runs may keep for ever; infinite if none is proved."""
        return up(self.slack / math.nextafter(1.0 - self.bound, 0.0)) if self.bound < 1.0 else math.inf

    @property
    def certified(self) -> bool:
        """Whether two runs are proved to approach each other, up to less than half of all that the states can hold."""
        return 2.0 * self.ball < self.diameter

    def to_json(self) -> dict[str, JSON]:
        """JSON values; weights are separated by blanks, or `1` where all are."""
        weights = "1" if (self.weights == 1).all() else " ".join(str(w) for w in self.weights.tolist())
        return {
            "norm": self.kind,
            "weights": weights,
            "bound": self.bound,
            "slack": self.slack,
            "diameter": self.diameter,
            "codes_after": {str(t): n for t, n in self.codes.items()},
        }


def contractions(
    net: IntNet, states: Sequence[str], chained: tuple[float, float] | None = None
) -> tuple[Contraction, ...]:
    """The bounds of a block in each norm, the smallest first. Raises NoBoundError as `spread_of`.

    `chained`: L and slack in codes of a block of one state in the 2-norm as `flow` proves them, from products of norms:
    they are below those of `spread` where a linear map follows a table, whose absolute values it then takes.
    """
    spread = spread_of(net, states)
    held = {s.name: s for s in net.states}
    sizes = [math.prod(held[n].shape) for n in states]
    # Codes of the coarser states count for more, by powers of two.
    finest = max(held[n].frac or 0 for n in states)
    plain = np.repeat([1 << (finest - (held[n].frac or 0)) for n in states], sizes)
    spans = np.repeat([net.formats[n].hi - net.formats[n].lo for n in states], sizes).astype(np.float64)
    ticks = [t for t in _TICKS if t <= net.schedule.steps]
    found = [_euclidean("2", plain, spread, spans, ticks, chained), _maximum(spread, spans, ticks)]
    terms = [t for t in spread.terms if t.scale]
    if len(plain) > 1 and len(terms) == 1:
        weights = _balanced(terms[0], found[-1].weights)
        found.append(_euclidean("weighted 2", weights, spread, spans, ticks))
    return tuple(sorted(found, key=lambda c: c.bound))


def _euclidean(
    kind: NormKind,
    weights: Codes,
    spread: Spread,
    spans: Reals,
    ticks: Sequence[int],
    chained: tuple[float, float] | None = None,
) -> Contraction:
    w = weights.astype(np.float64)
    bound = 0.0
    for t in spread.terms:
        # A quotient and a product, each rounded by at most 2**-53 of itself.
        matrix = t.value()
        matrix *= w[:, None]
        matrix /= w
        rounding = up(2.0**-51 * up(float(np.linalg.norm(matrix)) * (1.0 + 2.0**-20)))
        square = Square.of(matrix, overwrite=True)
        # A decomposition takes the memory of two more.
        del matrix
        bound = up(bound + up(t.scale * up(square.bound() + rounding)))
    slack, diameter = (_root_of_squares(w * v) for v in (spread.jump, spans))
    if chained is not None and chained[0] < bound:
        bound, slack = chained
    # A distance of d is at most d / w_i codes of unit i.
    return _stated(kind, weights, (bound, slack, diameter), up(1.0 / float(w.min())), float(spans.max()), ticks)


def _maximum(spread: Spread, spans: Reals, ticks: Sequence[int]) -> Contraction:
    total = spread.total()
    weights = _perron(total)
    w = weights.astype(np.float64)
    summed = (total @ w) * (1.0 + 2.0**-40)
    bound, slack, diameter = (float(np.nextafter(v / w, np.inf).max()) for v in (summed, spread.jump, spans))
    return _stated("maximum", weights, (bound, slack, diameter), float(w.max()), float(spans.max()), ticks)


def _stated(
    kind: NormKind,
    weights: Codes,
    proved: tuple[float, float, float],
    codes: float,
    most: float,
    ticks: Sequence[int],
) -> Contraction:
    """`codes`: how many codes of a unit a distance of 1 can be; `most`: how many there are."""
    bound, slack, diameter = (up(v * MARGIN) if v else 0.0 for v in proved)
    after, distance = {}, diameter
    for t in range(1, max(ticks, default=0) + 1):
        distance = min(diameter, up(up(bound * distance) + slack))
        if t in ticks:
            after[t] = math.floor(min(most, up(distance * codes)))
    return Contraction(kind, weights, bound, slack, diameter, after)


def _root_of_squares(values: Reals) -> float:
    return up(math.sqrt(up(float((values * values).sum()) * (1.0 + 2.0**-40))))


def _perron(total: Reals) -> Codes:
    """Whole weights near an eigenvector of the largest eigenvalue of a matrix without negative entries."""
    v = np.ones(len(total))
    # A little of everything, so that what nothing reaches has a weight.
    least = float(total.max(initial=0.0)) / _LARGEST_WEIGHT
    for _ in range(_ITERATIONS):
        before = v
        v = total @ v + least * v.sum() + 2.0**-900
        v /= v.max()
        if float(np.abs(v - before).max()) <= _SETTLED:
            break
    return _whole(v)


def _balanced(term: Term, perron: Codes) -> Codes:
    """Whole weights w for which the rows and the columns of `w_i m_ij / w_j` have even shares in the largest singular
    values: the best of a descent of `trace((B^T B)^4)`. It starts at what is best for the absolute values, the root of
    the quotient of both Perron vectors (`perron`: the right one), or at 1, whichever is less."""
    size = np.abs(_unit(term))
    x = 0.5 * (np.log(_perron(size.T)) - np.log(perron))
    del size
    flat = np.zeros(len(perron))
    least, column = _powers(_unit(term), x)
    other = _powers(_unit(term), flat)
    if other[0] <= least:
        x, (least, column) = flat, other
    best, sweeps = x, next(n for units, n in _SWEEPS if len(perron) <= units)
    trace = least
    for _ in range(sweeps):
        _, row = _powers(_unit(term).T, -x)
        row, share = (v / max(float(v.sum()), 2.0**-900) + 2.0**-40 for v in (row, column))
        x = x - 0.125 * np.log(row / share)
        x = np.clip(x - x.max(), -math.log(_LARGEST_WEIGHT), 0.0)
        before, (trace, column) = trace, _powers(_unit(term), x)
        if trace < least:
            best, least = x, trace
        if trace > before * (1.0 - _GAIN):
            break
    return _whole(np.exp(best - best.max()))


def _unit(term: Term) -> Reals:
    """The matrix of a term by its largest entry, anew with each call."""
    matrix = term.value()
    matrix /= largest(matrix) or 1.0
    return matrix


def _powers(matrix: Reals, x: Reals) -> tuple[float, Reals]:
    """Of `b_ij = exp(x_i) m_ij exp(-x_j)`, in the memory of m: `trace((B^T B)^4)^(1/8)`, never below its largest
    singular value, and the diagonal of `(B^T B)^4` up to a factor. Two products, each of a matrix and its transpose."""
    matrix *= np.exp(x)[:, None]
    matrix *= np.exp(-x)
    h = matrix.T @ matrix
    del matrix
    size = largest(h) + 2.0**-900
    h /= size
    square = h.T @ h
    diagonal = np.einsum("ij,ij->j", square, square)
    return float(math.sqrt(size) * float(diagonal.sum()) ** 0.125), diagonal


def _whole(weights: Reals) -> Codes:
    whole: Codes = np.maximum(1, np.rint(weights * (_LARGEST_WEIGHT / weights.max()))).astype(np.int64)
    return whole
