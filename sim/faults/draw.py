"""Many faults of a population, drawn by a counter: what fault k is follows from a seed and k alone, so that an engine
may draw where it injects, and any other draws the same.

How many faults each sample and tick get is drawn first, all at once (multinomial); faults are numbered in that order.
Where in the net fault k is (site, unit and bit) is a number of Philox.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .model import Points, Population
from .philox import below
from .table import FaultTable

__all__ = ["Draw", "same_ticks"]

Codes = NDArray[np.int64]


def same_ticks(population: Population) -> bool:
    """Whether all sites have faults in the same ticks: only then they are drawn so."""
    return len({(s.first, s.ticks, s.stride) for s in population.sites}) == 1


@dataclass(frozen=True)
class Draw:
    """`count` faults with replacement, each of the population as likely as any other. `table` makes faults of points;
    `masks`: of each site the bits `[bits]` that a fault flips in a word, once, None where faults are something else."""

    population: Population
    masks: tuple[Codes | None, ...]
    table: Callable[[Points], FaultTable]
    count: int
    seed: int

    @property
    def ticks(self) -> Codes:
        """The ticks in which faults are, ascending."""
        site = self.population.sites[0]
        return site.first + site.stride * np.arange(site.ticks)

    @cached_property
    def places(self) -> int:
        """Where a fault may be in a sample and a tick: bits of units of sites, the bit fastest."""
        return sum(s.units * s.bits for s in self.population.sites)

    @cached_property
    def groups(self) -> Codes:
        """How many faults each sample and tick has, `[samples * ticks]`, the tick fastest."""
        cells = self.population.samples * len(self.ticks)
        drawn: Codes = np.random.default_rng(self.seed).multinomial(self.count, np.full(cells, 1 / cells))
        return drawn

    def placed(self, numbers: Codes) -> Codes:
        """The place of each of the faults `numbers` `[n]`."""
        return below(self.places, self.seed, numbers)

    def points(self, numbers: Codes) -> Points:
        """Where the faults `numbers` `[n]`, below `count`, are."""
        cell = np.searchsorted(np.cumsum(self.groups), numbers, side="right")
        sample, tick = np.divmod(cell, len(self.ticks))
        sites = self.population.sites
        ends = np.cumsum([s.units * s.bits for s in sites])
        place = self.placed(numbers)
        site = np.searchsorted(ends, place, side="right").astype(np.int64)
        bits = np.array([s.bits for s in sites])[site]
        start = np.array([0, *ends[:-1]])[site]
        unit, bit = np.divmod(place - start, bits)
        return Points(site, unit, bit, self.ticks[tick], sample.astype(np.int64))

    def faults(self, numbers: Codes) -> FaultTable:
        """The faults `numbers` `[n]`, for any engine."""
        return self.table(self.points(numbers))
