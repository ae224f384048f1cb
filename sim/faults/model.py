"""The contract of a fault model: which faults there are, and how to draw some of them."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet
from .table import FAULT, UPSET, FaultTable, Place

__all__ = [
    "Codes",
    "Columns",
    "EnumeratedModel",
    "FaultModel",
    "Points",
    "Population",
    "Samples",
    "Site",
    "count_of",
    "ticks_of",
]

Codes = NDArray[np.int64]
Column = Codes | int
"""A field of every upset, or one value for all."""
Samples = Mapping[str, NDArray[np.int64]]
"""Input codes `[samples, (frame,) *shape]` by input, as golden takes them."""


def ticks_of(net: IntNet, samples: Samples) -> int:
    """Ticks of one inference: `frames * steps`."""
    first = next(iter(samples.values()))
    return net.schedule.steps * (first.shape[1] if net.schedule.frames else 1)


def count_of(samples: Samples) -> int:
    """Number of samples."""
    return len(next(iter(samples.values())))


@dataclass(frozen=True)
class Site:
    """Words that are hit alike: `units` words of `bits` bits, in each of `ticks` ticks, `stride` apart, from `first`
    on.

    `name` is the stratum's, as "state:h"; `place` and `target` say which words of the net they are.
    """

    name: str
    place: Place
    target: str
    units: int
    bits: int
    first: int
    ticks: int
    stride: int = 1

    @property
    def size(self) -> int:
        """Faults for one sample."""
        return self.units * self.bits * self.ticks


@dataclass(frozen=True)
class Points:
    """Where faults are, by column: the number of the site, the unit, bit and tick there, and the sample."""

    site: Codes
    unit: Codes
    bit: Codes
    tick: Codes
    sample: Codes

    def take(self, which: NDArray[np.intp]) -> Points:
        """The points of `which`, in its order."""
        return Points(*(column[which] for column in (self.site, self.unit, self.bit, self.tick, self.sample)))


@dataclass(frozen=True)
class Population:
    """Every fault, numbered: site by site, then by unit, bit, tick and sample, the sample fastest."""

    sites: tuple[Site, ...]
    samples: int

    @property
    def size(self) -> int:
        return self.samples * sum(s.size for s in self.sites)

    def points(self, numbers: Codes) -> Points:
        """The points of `numbers`, each in `0..size-1`, in their order."""
        place, sample = np.divmod(np.asarray(numbers, np.int64), self.samples)
        ends = np.cumsum([s.size for s in self.sites])
        site = np.searchsorted(ends, place, side="right").astype(np.int64)
        bits, ticks, first, stride, start = (
            np.array(column, np.int64)[site]
            for column in (
                [s.bits for s in self.sites],
                [s.ticks for s in self.sites],
                [s.first for s in self.sites],
                [s.stride for s in self.sites],
                [end - s.size for end, s in zip(ends, self.sites, strict=True)],
            )
        )
        rest, tick = np.divmod(place - start, ticks)
        unit, bit = np.divmod(rest, bits)
        return Points(site, unit, bit, first + stride * tick, sample)


@dataclass(frozen=True)
class Columns:
    """Upsets by column: `owner` counts in the faults, ascending; the rest as in `UPSET`, each an array or one value."""

    owner: Codes
    place: Column
    name: Column
    index: Column
    first: Column
    last: Column
    flip: Column = 0
    one: Column = 0
    zero: Column = 0
    add: Column = 0
    held: NDArray[np.bool_] | bool = False

    def table(self, names: Sequence[str], sites: Sequence[str], points: Points) -> FaultTable:
        """The faults at `points` with these upsets."""
        upsets = np.zeros(len(self.owner), UPSET)
        for field in UPSET.names or ():
            upsets[field] = getattr(self, field)
        count = np.bincount(self.owner, minlength=len(points.site))
        faults = np.zeros(len(points.site), FAULT)
        for field in ("sample", "site", "unit", "bit", "tick"):
            faults[field] = getattr(points, field)
        faults["count"], faults["start"] = count, np.cumsum(count) - count
        return FaultTable(tuple(names), tuple(sites), faults, upsets)


@dataclass(frozen=True, kw_only=True)
class FaultModel(ABC):
    """Abstract: a frozen dataclass whose fields are its command-line options (`field(metadata={"help": ...})`).

    `instrument`: the target whose instrumented artifact says where faults of this model are, empty for a model of the
    net alone; `artifact`: the folder of that artifact.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    instrument: ClassVar[str] = ""
    artifact: ClassVar[Path | None] = None

    def on(self, artifact: Path | None) -> Self:
        """This model, of faults in that artifact."""
        other = copy.copy(self)
        object.__setattr__(other, "artifact", artifact)
        return other

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        """Every reason why this model has no faults in this net."""
        return []

    @abstractmethod
    def population(self, net: IntNet, samples: Samples) -> Population:
        """Where faults may be. Its size is the number of faults; for a model whose faults have random parts besides
        (`exhaustive` refuses these) the number of places."""

    @abstractmethod
    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        """`n` faults, uniform over the population and independent."""

    def exhaustive(self, net: IntNet, samples: Samples) -> FaultTable:
        """Every fault of the population, in the order of its numbers. UsageError if there is no such list."""
        what = f"faults of model {self.name} have random parts: there is no list of all"
        raise UsageError(Diagnostic("fault-exhaustive", what, hint="draw a number of them"))


class EnumeratedModel(FaultModel):
    """Abstract: a model whose faults are the points of its population, and nothing else."""

    @abstractmethod
    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        """The fault at each point."""

    def masks(self, site: Site) -> Codes | None:
        """Of a site of registers the bits `[site.bits]` that a fault flips in a word, once, by what `Points.bit` says;
        None where faults are something else."""
        return None

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        population = _some(self, self.population(net, samples))
        numbers = generator.integers(population.size, size=n)
        return self.faults(net, samples, population, population.points(numbers))

    def exhaustive(self, net: IntNet, samples: Samples) -> FaultTable:
        population = _some(self, self.population(net, samples))
        return self.faults(net, samples, population, population.points(np.arange(population.size)))


def _some(model: FaultModel, population: Population) -> Population:
    if population.size == 0:
        what = f"model {model.name} has 0 faults in this net"
        raise UsageError(Diagnostic("no-faults", what, "--model", "choose another model, or other sites"))
    return population
