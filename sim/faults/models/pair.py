"""Two bits of one word, or of two neighbouring words: every pair there is, for runs over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ....toolchain.ir import IntNet
from ..model import Columns, EnumeratedModel, Points, Population, Samples, Site, count_of, ticks_of
from ..sites import kinds_of, sites_of
from ..table import FaultTable, Place
from ..upsets import flips, windows

__all__ = ["PairModel"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PairModel(EnumeratedModel):
    """A particle flips two bits at once: any two of one word, or any of a word with any of the next.

    The `bit` of a fault counts its pairs: in a word (0,1), (0,2), ..., (6,7); of neighbours `k * bits + l` is bit k of
    the lower word and bit l of the next one.
    """

    name: ClassVar[str] = "pair"
    summary: ClassVar[str] = "any two bits of a word, or of neighbouring words, flip"

    sites: str = field(
        default="state",
        metadata={"metavar": "KINDS", "help": "of state, accumulator, drive, table, weight, constant, with commas"},
    )
    across: Literal["word", "neighbours"] = field(
        default="word", metadata={"help": "two bits of one word, or one each of a word and the next"}
    )

    def __post_init__(self) -> None:
        kinds_of(self.sites)

    def population(self, net: IntNet, samples: Samples) -> Population:
        sites = sites_of(net, kinds_of(self.sites), ticks_of(net, samples))
        pairs = [self._pairs(site) for site in sites]
        return Population(tuple(p for p in pairs if p.size), count_of(samples))

    def _pairs(self, site: Site) -> Site:
        """A site whose bits are pairs, and whose units are words, or words that have a next one."""
        if self.across == "word":
            return replace(site, bits=site.bits * (site.bits - 1) // 2)
        return replace(site, units=site.units - 1, bits=site.bits**2)

    def masks(self, site: Site) -> Codes | None:
        if self.across != "word" or site.place is not Place.STATE:
            return None
        return _masks(np.full(site.bits, site.bits), np.arange(site.bits))

    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        ticks = ticks_of(net, samples)
        counts = np.array([s.bits for s in population.sites])[points.site]
        if self.across == "word":
            masks = _masks(counts, points.bit)
            return flips(net, population, points, masks, ticks=ticks, held=False, packing="plain")
        low, high = np.divmod(points.bit, np.round(np.sqrt(counts)).astype(np.int64))
        owner = np.repeat(np.arange(len(low)), 2)
        place, first, last = windows(population, points, ticks)
        columns = Columns(
            owner=owner,
            place=place[owner],
            name=points.site[owner],
            index=points.unit[owner] + np.tile([0, 1], len(low)),
            first=first[owner],
            last=last[owner],
            flip=np.left_shift(np.int64(1), np.stack([low, high], axis=1).reshape(-1)),
        )
        return columns.table([s.target for s in population.sites], [s.name for s in population.sites], points)


def _masks(counts: Codes, numbers: Codes) -> Codes:
    """Both bits of pair `numbers` of words that have `counts` pairs."""
    masks = np.zeros_like(numbers)
    for count in np.unique(counts):
        bits = int(round((1 + (1 + 8 * count) ** 0.5) / 2))
        table = np.array([1 << low | 1 << high for low in range(bits) for high in range(low + 1, bits)], np.int64)
        here = counts == count
        masks[here] = table[numbers[here]]
    return masks
