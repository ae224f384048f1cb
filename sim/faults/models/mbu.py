"""Multiple-bit upsets: one particle flips a cluster of neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..model import Columns, FaultModel, Points, Population, Samples, count_of, ticks_of
from ..sites import kinds_of, sites_of
from ..table import FaultTable
from ..upsets import flips, windows

__all__ = ["MbuModel"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MbuModel(FaultModel):
    """A cluster of k neighbours flips: adjacent bits of one word, or the same bit of adjacent words.

    `cluster` gives the chance of each k; a cluster that would leave its word or site is moved inside, one that is
    larger takes all of it.
    """

    name: ClassVar[str] = "mbu"
    summary: ClassVar[str] = "a cluster of adjacent bits, or of adjacent words, flips"

    sites: str = field(
        default="state,drive,table,weight",
        metadata={"metavar": "KINDS", "help": "of state, accumulator, drive, table, weight, constant, with commas"},
    )
    across: Literal["bits", "words"] = field(
        default="bits", metadata={"help": "in a word, or the same bit of neighbours"}
    )
    cluster: str = field(
        default="2:0.7,3:0.2,4:0.1", metadata={"metavar": "K:SHARE,...", "help": "sizes of clusters and their shares"}
    )

    def __post_init__(self) -> None:
        kinds_of(self.sites)
        self.shares()

    def shares(self) -> tuple[Codes, NDArray[np.float64]]:
        """Sizes and their probabilities; UsageError if `cluster` is no distribution."""
        try:
            pairs = [part.split(":") for part in self.cluster.split(",")]
            sizes = np.array([int(k) for k, _ in pairs])
            shares = np.array([float(v) for _, v in pairs])
        except ValueError:
            sizes, shares = np.zeros(1, np.int64), np.zeros(1)
        if sizes.min() < 1 or shares.min() < 0 or not 0 < shares.sum() < np.inf:
            what = f"{self.cluster!r} is no distribution of cluster sizes"
            raise UsageError(Diagnostic("fault-cluster", what, "--cluster", "as 2:0.7,3:0.3, from size 1 and share 0"))
        return sizes, shares / shares.sum()

    def population(self, net: IntNet, samples: Samples) -> Population:
        return Population(sites_of(net, kinds_of(self.sites), ticks_of(net, samples)), count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        population = self.population(net, samples)
        points = population.points(generator.integers(population.size, size=n))
        sizes, shares = self.shares()
        size = generator.choice(sizes, size=n, p=shares)
        limit = np.array([s.bits if self.across == "bits" else s.units for s in population.sites])[points.site]
        size = np.minimum(size, limit)
        if self.across == "bits":
            low = np.minimum(points.bit, limit - size)
            moved = Points(points.site, points.unit, low, points.tick, points.sample)
            masks = np.left_shift(np.left_shift(np.int64(1), size) - 1, low)
            ticks = ticks_of(net, samples)
            return flips(net, population, moved, masks, ticks=ticks, held=False, packing="plain")
        return self._words(population, points, size, np.minimum(points.unit, limit - size), ticks_of(net, samples))

    def _words(self, population: Population, points: Points, size: Codes, lowest: Codes, ticks: int) -> FaultTable:
        owner = np.repeat(np.arange(len(size)), size)
        place, first, last = windows(population, points, ticks)
        columns = Columns(
            owner=owner,
            place=place[owner],
            name=points.site[owner],
            index=lowest[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(size) - size, size),
            first=first[owner],
            last=last[owner],
            flip=np.left_shift(np.int64(1), points.bit)[owner],
        )
        moved = Points(points.site, lowest, points.bit, points.tick, points.sample)
        return columns.table([s.target for s in population.sites], [s.name for s in population.sites], moved)
