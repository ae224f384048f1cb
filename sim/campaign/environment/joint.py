"""Failures per hour with both uncertainties: of the rate of upsets, and of the share of them that fail.

The share comes from injected faults: with x failing of n it is drawn from Beta(x + 1/2, n - x + 1/2) (Jeffreys). The
rate is log-normal: it lies within its factor of the estimate with 95 %. Sites of one kind of cell share the draw of
that kind's cross-section, all of them that of the flux: a sum does not average out what is wrong for all alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..statistics import quantile

__all__ = ["Part", "draw_failures", "interval"]

DRAWS = 20_000


@dataclass(frozen=True)
class Part:
    """Bits of one site. `upsets_per_hour`: of all of them; `kind`: whose cross-section they share, known within
    `factor`; `spectral`: whether the flux's factor applies; `hits` of `faults` injected ones failed; `share`: the known
    share that fails, where every fault was injected or the share is stated."""

    upsets_per_hour: float
    kind: str
    factor: float
    spectral: bool
    hits: int = 0
    faults: int = 0
    share: float | None = None


def draw_failures(
    parts: Sequence[Part], *, factor: float, generator: np.random.Generator, draws: int = DRAWS
) -> NDArray[np.float64]:
    """Failures per hour `[draws, parts]` float64; `factor`: within which the fluxes lie with 95 %."""
    normal = quantile(0.95)
    flux = math.log(factor) / normal * generator.standard_normal(draws)
    sections = {kind: generator.standard_normal(draws) for kind in dict.fromkeys(part.kind for part in parts)}
    found = np.empty((draws, len(parts)))
    for k, part in enumerate(parts):
        logarithm = math.log(part.factor) / normal * sections[part.kind] + part.spectral * flux
        if part.share is None:
            share = generator.beta(part.hits + 0.5, part.faults - part.hits + 0.5, draws)
        else:
            share = np.full(draws, part.share)
        found[:, k] = part.upsets_per_hour * share * np.exp(logarithm)
    return found


def interval(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Central interval of draws `[n]`."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
    return low, high
