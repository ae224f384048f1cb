"""The population of a campaign in blocks that are injected and stored as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...faults.model import Points, Population, Site

__all__ = ["Block", "blocks_of", "points_of"]

SAMPLES = 64
"""Samples whose fault-free runs are held at a time."""
FAULTS = 1 << 22
"""Faults of a block, at most, if a unit has no more."""


@dataclass(frozen=True)
class Block:
    """Every bit and tick of units `units[0]` to `units[1] - 1` of a site (a number) in samples `samples[0]` to
    `samples[1] - 1`."""

    number: int
    site: int
    units: tuple[int, int]
    samples: tuple[int, int]

    def shape(self, site: Site) -> tuple[int, int, int, int]:
        """Units, bits, ticks and samples."""
        return self.units[1] - self.units[0], site.bits, site.ticks, self.samples[1] - self.samples[0]


def blocks_of(population: Population) -> tuple[Block, ...]:
    """The blocks of a population, those of the same samples one behind the other."""
    return tuple(_blocks(population))


def _blocks(population: Population) -> Iterator[Block]:
    number = 0
    for start in range(0, population.samples, SAMPLES):
        samples = start, min(start + SAMPLES, population.samples)
        for position, site in enumerate(population.sites):
            units = max(1, FAULTS // (site.bits * site.ticks * SAMPLES))
            for first in range(0, site.units, units):
                yield Block(number, position, (first, min(first + units, site.units)), samples)
                number += 1


def points_of(block: Block, site: Site) -> Points:
    """The faults of a block, the sample fastest and counted from the first of the block, then tick, bit and unit."""
    shape = block.shape(site)
    unit, bit, tick, sample = (axis.reshape(-1).astype(np.int64) for axis in np.indices(shape, sparse=False))
    return Points(
        site=np.full(len(unit), block.site, np.int64),
        unit=unit + block.units[0],
        bit=bit,
        tick=site.first + site.stride * tick,
        sample=sample,
    )
