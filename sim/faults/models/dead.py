"""Dead units: a share of all units gives nothing, as in the ablations of the source research."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..circuit import Circuit
from ..model import Columns, FaultModel, Points, Population, Samples, Site, count_of, ticks_of
from ..table import FaultTable, Place

__all__ = ["DeadModel"]


@dataclass(frozen=True, kw_only=True)
class DeadModel(FaultModel):
    """A random `share` of the units of every state, rounded, is 0 in every tick: as read, and as latched if an
    operation of the step computes it. Drawn anew for each fault; with several shares, one of them."""

    name: ClassVar[str] = "dead"
    summary: ClassVar[str] = "a share of the units gives 0"

    share: str = field(default="0.15,0.3,0.5", metadata={"metavar": "SHARES", "help": "of all units, with commas"})

    def __post_init__(self) -> None:
        self.shares()

    def shares(self) -> tuple[float, ...]:
        """UsageError if one is not in (0, 1]."""
        try:
            found = tuple(float(part) for part in self.share.split(","))
        except ValueError:
            found = ()
        if not found or not all(0 < s <= 1 for s in found):
            what = f"{self.share!r} are no shares of units"
            raise UsageError(Diagnostic("fault-share", what, "--share", "as 0.15,0.3: above 0, at most 1"))
        return found

    def population(self, net: IntNet, samples: Samples) -> Population:
        first = net.states[0].name
        sites = tuple(Site(f"dead:{s:.0%}", Place.STATE, first, 1, 1, 0, 1) for s in self.shares())
        return Population(sites, count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        population = self.population(net, samples)
        points = population.points(generator.integers(population.size, size=n))
        points = Points(points.site, np.full(n, -1), np.full(n, -1), points.tick, points.sample)
        circuit, names = Circuit.of(net), [s.name for s in net.states]
        words = [(Place.STATE, s.name, s.name) for s in net.states]
        words += [(Place.VALUE, s.update, s.name) for s in net.states if s.update in circuit.held]
        names += [name for place, name, _ in words if place is Place.VALUE]
        rows = []
        for number in range(n):
            share = self.shares()[points.site[number]]
            dead = {s.name: self._choose(circuit.sizes[Place.STATE, s.name], share, generator) for s in net.states}
            for place, name, state in words:
                mask = (1 << circuit.words[place, name].format.bits) - 1
                rows += [(number, place, names.index(name), unit, mask) for unit in dead[state]]
        owner, place, name, index, zero = np.array(rows, np.int64).reshape(-1, 5).T
        columns = Columns(owner, place, name, index, first=0, last=ticks_of(net, samples), zero=zero)
        return columns.table(names, [s.name for s in population.sites], points)

    def _choose(self, units: int, share: float, generator: np.random.Generator) -> list[int]:
        return sorted(generator.choice(units, size=round(share * units), replace=False).tolist())
