"""Single-event upsets: one bit of one stored word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ....toolchain.ir import IntNet
from ..model import Codes, EnumeratedModel, Points, Population, Samples, Site, count_of, ticks_of
from ..sites import kinds_of, sites_of
from ..storage import Packing
from ..table import FaultTable, Place
from ..upsets import flips

__all__ = ["SeuModel"]


@dataclass(frozen=True, kw_only=True)
class SeuModel(EnumeratedModel):
    """A particle flips one bit of a register, an accumulator or a memory word.

    A register keeps the wrong bit until it is written. Of an accumulator that is computed anew in every tick one result
    is wrong; one that is only incremented (`event`) stays off by the difference for the rest of the inference. A memory
    word is wrong from before the inference to its end: nothing in it writes there.
    """

    name: ClassVar[str] = "seu"
    summary: ClassVar[str] = "one bit of one stored word flips"

    sites: str = field(
        default="state,accumulator,drive,table,weight",
        metadata={"metavar": "KINDS", "help": "of state, accumulator, drive, table, weight, constant, with commas"},
    )
    accumulators: Literal["dense", "event"] = field(
        default="dense", metadata={"help": "computed anew in every tick, or incremented by what changed"}
    )
    packing: Packing = field(default="plain", metadata={"help": "how ternary weights stand in memory"})

    def __post_init__(self) -> None:
        kinds_of(self.sites)

    def population(self, net: IntNet, samples: Samples) -> Population:
        ticks = ticks_of(net, samples)
        return Population(sites_of(net, kinds_of(self.sites), ticks, packing=self.packing), count_of(samples))

    def masks(self, site: Site) -> Codes | None:
        return np.left_shift(np.int64(1), np.arange(site.bits)) if site.place is Place.STATE else None

    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        masks = np.left_shift(np.int64(1), points.bit)
        held = self.accumulators == "event"
        return flips(net, population, points, masks, ticks=ticks_of(net, samples), held=held, packing=self.packing)
