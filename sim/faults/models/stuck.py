"""Stuck-at faults: one bit of a word reads 0, or 1, whatever was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..model import Columns, EnumeratedModel, Points, Population, Samples, Site, count_of, ticks_of
from ..sites import kinds_of, sites_of
from ..table import FaultTable

__all__ = ["StuckModel"]


@dataclass(frozen=True, kw_only=True)
class StuckModel(EnumeratedModel):
    """One bit is stuck, from before the inference to its end, or for `duration` ticks from any tick on
    (intermittent)."""

    name: ClassVar[str] = "stuck"
    summary: ClassVar[str] = "one bit of a word reads 0 or 1 whatever was written"

    at: Literal[0, 1] = field(default=0, metadata={"help": "what the bit reads"})
    sites: str = field(
        default="state,accumulator,drive,table,weight",
        metadata={"metavar": "KINDS", "help": "of state, accumulator, drive, table, weight, constant, with commas"},
    )
    duration: int = field(default=0, metadata={"metavar": "TICKS", "help": "0: the whole inference"})

    def __post_init__(self) -> None:
        kinds_of(self.sites)
        if self.duration < 0:
            what = f"a fault cannot last {self.duration} ticks"
            raise UsageError(Diagnostic("fault-duration", what, "--duration", "0 is the whole inference"))

    def population(self, net: IntNet, samples: Samples) -> Population:
        ticks = ticks_of(net, samples)
        found = sites_of(net, kinds_of(self.sites), ticks)
        if self.duration == 0:
            found = tuple(Site(s.name, s.place, s.target, s.units, s.bits, 0, 1) for s in found)
        return Population(found, count_of(samples))

    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        ticks, mask = ticks_of(net, samples), np.left_shift(np.int64(1), points.bit)
        none = np.zeros_like(mask)
        columns = Columns(
            owner=np.arange(len(mask)),
            place=np.array([s.place for s in population.sites], np.int64)[points.site],
            name=points.site,
            index=points.unit,
            first=points.tick,
            last=np.minimum(points.tick + self.duration - 1, ticks) if self.duration else np.full_like(mask, ticks),
            one=mask if self.at else none,
            zero=none if self.at else mask,
        )
        return columns.table([s.target for s in population.sites], [s.name for s in population.sites], points)
