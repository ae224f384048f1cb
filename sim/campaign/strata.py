"""Stratified campaigns: as many faults from every stratum, and rates of the population from what became of them.

Strata are sites, bits of a site, or ticks of a bit. Each gets the same number of faults (up to one): a small
one tells as much as a large one. A rate of the whole weighs strata by their shares of the population.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faults.model import Population
from .plan import Stratification

__all__ = ["count_strata", "draw_numbers", "keys_of", "shares"]

Key = tuple[str | int, ...]


def keys_of(strata: Stratification) -> tuple[str, ...]:
    """The columns that strata have in common."""
    columns = ("site", "bit", "tick")
    return columns[: columns.index(strata) + 1]


def shares(population: Population, keys: tuple[str, ...]) -> dict[Key, float]:
    """Share of the population of each stratum; `keys` are the first ones of site, bit, tick."""
    found: dict[Key, float] = {}
    for site in population.sites:
        bits = range(site.bits) if "bit" in keys else [0]
        ticks = range(site.first, site.first + site.ticks * site.stride, site.stride) if "tick" in keys else [0]
        share = site.size * population.samples / population.size / (len(bits) * len(ticks))
        for bit in bits:
            for tick in ticks:
                found[(site.name, bit, tick)[: len(keys)]] = share
    return found


def count_strata(population: Population, strata: Stratification) -> int:
    """Number of strata."""
    keys = keys_of(strata)
    return sum((s.bits if "bit" in keys else 1) * (s.ticks if "tick" in keys else 1) for s in population.sites)


def draw_numbers(
    population: Population, strata: Stratification, first: int, count: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Numbers `[count]` int64 of faults, independent and uniform in their stratum: fault `first + k` of the campaign is
    of stratum `(first + k) % strata`."""
    keys = keys_of(strata)
    units, bits, ticks = (
        np.array(column, np.int64)
        for column in zip(*((s.units, s.bits, s.ticks) for s in population.sites), strict=True)
    )
    starts = np.cumsum(units * bits * ticks) - units * bits * ticks
    per_bit = ticks if "tick" in keys else np.ones_like(ticks)
    per_site = per_bit * (bits if "bit" in keys else 1)
    ends = np.cumsum(per_site)
    stratum = np.arange(first, first + count) % int(ends[-1])
    site = np.searchsorted(ends, stratum, side="right")
    bit, tick = np.divmod(stratum - (ends - per_site)[site], per_bit[site])
    if "bit" not in keys:
        bit = generator.integers(bits[site])
    if "tick" not in keys:
        tick = generator.integers(ticks[site])
    unit, sample = generator.integers(units[site]), generator.integers(population.samples, size=count)
    place = starts[site] + (unit * bits[site] + bit) * ticks[site] + tick
    numbers: NDArray[np.int64] = place * population.samples + sample
    return numbers
