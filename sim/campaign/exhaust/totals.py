"""Counts over blocks of outcomes: by unit, bit, tick and sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...faults.engine import Outcome
from ...faults.model import Population, Site
from .blocks import Block

__all__ = ["SiteTotals", "Totals"]

Counts = NDArray[np.int64]
BAD = (Outcome.SDC, Outcome.HANG)
"""Outcomes that count as silent corruption: a wrong label, or none, that nothing reports."""


@dataclass(eq=False)
class SiteTotals:
    """Counts of one site. `outcomes` by `Outcome`; `silent`: of faults in `BAD`, by unit and bit `[units, bits]`, and
    by sample and tick `[samples, ticks]`; `distance` `[samples, ticks]`: by how many codes a state is off at most after
    the last tick; `injected` `[samples]`: how many faults of each are counted. `transient`: each of them ends in the
    tick of the states in which it begins."""

    site: Site
    outcomes: Counts
    silent: Counts
    silent_at: Counts
    distance: Counts
    injected: Counts
    transient: bool = True


@dataclass(eq=False)
class Totals:
    """Counts of every site of a population, in its order."""

    population: Population
    sites: Sequence[SiteTotals] = field(default=())

    def __post_init__(self) -> None:
        samples = self.population.samples
        self.sites = [
            SiteTotals(
                site,
                outcomes=np.zeros(len(Outcome), np.int64),
                silent=np.zeros((site.units, site.bits), np.int64),
                silent_at=np.zeros((samples, site.ticks), np.int64),
                distance=np.zeros((samples, site.ticks), np.int64),
                injected=np.zeros(samples, np.int64),
            )
            for site in self.population.sites
        ]

    @property
    def faults(self) -> int:
        """Faults that are counted."""
        return int(self.outcomes.sum())

    @property
    def outcomes(self) -> Counts:
        """Faults by outcome, of all sites."""
        return np.asarray(sum((s.outcomes for s in self.sites), np.zeros(len(Outcome), np.int64)))

    def add(self, block: Block, outcome: NDArray[np.uint8], distance: Counts, *, transient: bool) -> None:
        """Count a block: `outcome` `[units, bits, ticks, samples]`, `distance` `[samples, ticks]`."""
        found, units, samples = self.sites[block.site], slice(*block.units), slice(*block.samples)
        found.outcomes += np.bincount(outcome.reshape(-1), minlength=len(Outcome))
        bad = np.isin(outcome, BAD)
        found.silent[units] += bad.sum(axis=(2, 3))
        found.silent_at[samples] += bad.sum(axis=(0, 1)).T
        found.distance[samples] = np.maximum(found.distance[samples], distance)
        found.injected[samples] += outcome[..., 0].size
        found.transient &= transient
