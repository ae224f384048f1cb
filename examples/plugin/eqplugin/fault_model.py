"""Fault model `lowest-bit`: the smallest change that a register can suffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from eqcompile.sim.faults.model import (
    Columns,
    EnumeratedModel,
    Points,
    Population,
    Samples,
    Site,
    count_of,
    ticks_of,
)
from eqcompile.sim.faults.table import FaultTable, Place
from eqcompile.toolchain.ir import IntNet

__all__ = ["LowestBitModel"]


@dataclass(frozen=True, kw_only=True)
class LowestBitModel(EnumeratedModel):
    """Bit 0 of one unit of one state flips before one tick: every such fault once, or a sample of them. Fields of this
    dataclass would be options of the command line."""

    name: ClassVar[str] = "lowest-bit"
    summary: ClassVar[str] = "the lowest bit of a state flips (example of a plug-in)"

    def population(self, net: IntNet, samples: Samples) -> Population:
        ticks = ticks_of(net, samples)
        sites = (
            Site(f"state:{s.name}", Place.STATE, s.name, int(np.prod(s.shape)), bits=1, first=0, ticks=ticks)
            for s in net.states
        )
        return Population(tuple(sites), count_of(samples))

    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        owner = np.arange(len(points.site))
        upsets = Columns(owner, Place.STATE, points.site, points.unit, points.tick, points.tick, flip=1)
        return upsets.table([s.target for s in population.sites], [s.name for s in population.sites], points)
