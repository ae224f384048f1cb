"""Single-event transients: a result of the logic is wrong for one tick."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ....toolchain.ir import IntNet
from ..circuit import Circuit
from ..model import FaultModel, Points, Population, Samples, Site, count_of, ticks_of
from ..sites import kinds_of
from ..table import FaultTable, Place
from ..upsets import flips

__all__ = ["SetModel"]

BLOCKS = ("drive", "step", "readout")


@dataclass(frozen=True, kw_only=True)
class SetModel(FaultModel):
    """A particle in the logic makes one result of one operation wrong in the tick that computes it.

    Every operation of the blocks is a site, for the drive in the ticks that clamp a frame. `bit` flips one bit of the
    result, `word` any nonzero set of them, uniformly.
    """

    name: ClassVar[str] = "set"
    summary: ClassVar[str] = "a result of the logic is wrong in one tick"

    blocks: str = field(default="step,readout", metadata={"metavar": "BLOCKS", "help": "of drive, step, readout"})
    wrong: Literal["bit", "word"] = field(default="bit", metadata={"help": "one bit, or any of the word"})

    def __post_init__(self) -> None:
        kinds_of(self.blocks, BLOCKS)

    def population(self, net: IntNet, samples: Samples) -> Population:
        ticks, circuit = ticks_of(net, samples), Circuit.of(net)
        steps = net.schedule.steps
        when = {"drive": (0, ticks // steps, steps), "step": (0, ticks, 1), "readout": (ticks, 1, 1)}
        chosen, sites = kinds_of(self.blocks, BLOCKS), []
        for block, block_ops in net.blocks:
            first, count, stride = when[block]
            for op in block_ops if block in chosen else ():
                word, units = circuit.words[Place.VALUE, op.out], circuit.sizes[Place.VALUE, op.out]
                bits = word.format.bits if self.wrong == "bit" else 1
                sites.append(Site(f"{block}:{op.out}", Place.VALUE, op.out, units, bits, first, count, stride))
        return Population(tuple(sites), count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        population = self.population(net, samples)
        points = population.points(generator.integers(population.size, size=n))
        if self.wrong == "bit":
            return self._table(net, samples, population, points, np.left_shift(np.int64(1), points.bit))
        circuit = Circuit.of(net)
        bits = np.array([circuit.words[s.place, s.target].format.bits for s in population.sites])[points.site]
        masks = generator.integers(1, np.left_shift(np.int64(1), bits - 1) * 2 - 1, endpoint=True, dtype=np.int64)
        return self._table(net, samples, population, points, np.asarray(masks, np.int64))

    def exhaustive(self, net: IntNet, samples: Samples) -> FaultTable:
        if self.wrong == "word":
            return super().exhaustive(net, samples)
        population = self.population(net, samples)
        points = population.points(np.arange(population.size))
        return self._table(net, samples, population, points, np.left_shift(np.int64(1), points.bit))

    def _table(
        self, net: IntNet, samples: Samples, population: Population, points: Points, masks: NDArray[np.int64]
    ) -> FaultTable:
        if self.wrong == "word":
            points = Points(points.site, points.unit, np.full_like(points.bit, -1), points.tick, points.sample)
        return flips(net, population, points, masks, ticks=ticks_of(net, samples), held=False, packing="plain")
