"""Gaussian noise on states, as of an analogue or undervolted array."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..circuit import Circuit
from ..model import Columns, FaultModel, Points, Population, Samples, Site, count_of, ticks_of
from ..table import FaultTable, Place

__all__ = ["NoiseModel"]

_DRAWN = 1 << 20
"""Normal numbers that are drawn at a time, 8 MiB."""


@dataclass(frozen=True, kw_only=True)
class NoiseModel(FaultModel):
    """Every state code gets an independent normal number of standard deviation `sigma`, in state units (code v means
    `v / 2**frac`), rounded to the nearest code; the sum saturates at the format. States without a unit get none."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "Gaussian noise on every state"

    sigma: float = field(default=0.1, metadata={"metavar": "UNITS", "help": "standard deviation in state units"})
    when: Literal["every", "once"] = field(default="every", metadata={"help": "in every tick, or in one of them"})

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise UsageError(Diagnostic("fault-sigma", f"sigma is {self.sigma}, must be above 0", "--sigma"))

    def population(self, net: IntNet, samples: Samples) -> Population:
        ticks = ticks_of(net, samples)
        count = 1 if self.when == "every" else ticks
        site = Site(f"noise:{self.sigma:g}", Place.STATE, net.states[0].name, 1, 1, 0, count)
        return Population((site,), count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        population, ticks = self.population(net, samples), ticks_of(net, samples)
        points = population.points(generator.integers(population.size, size=n))
        points = Points(points.site, np.full(n, -1), np.full(n, -1), points.tick, points.sample)
        circuit, names = Circuit.of(net), [s.name for s in net.states]
        count = ticks if self.when == "every" else 1
        parts = []
        for number, state in enumerate(net.states):
            if state.frac is None:
                continue
            units = circuit.sizes[Place.STATE, state.name]
            each = max(1, _DRAWN // (count * units))
            for start in range(0, n, each):
                # The numbers of a generator do not depend on how many are drawn at a time.
                shape = (min(each, n - start), count, units)
                add = np.rint(generator.normal(0.0, self.sigma * 2.0**state.frac, shape)).astype(np.int64)
                owner, tick, unit = np.nonzero(add)
                row = np.full_like(owner, number)
                parts.append(np.stack([owner + start, row, unit, tick, add[owner, tick, unit]]))
        rows = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), np.int64)
        owner, name, unit, tick, add = rows[:, np.argsort(rows[0], kind="stable")]
        first = points.tick[owner] + tick
        columns = Columns(owner, Place.STATE, name, unit, first=first, last=first, add=add)
        return columns.table(names, [s.name for s in population.sites], points)
