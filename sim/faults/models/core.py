"""Single-event upsets of the hardware itself: a flip-flop or a memory word of the RTL core, in any clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..core import core_target
from ..model import Columns, EnumeratedModel, Points, Population, Samples, Site, count_of
from ..table import FaultTable, Place

__all__ = ["CoreModel"]

KINDS = ("register", "memory", "loaded")


@dataclass(frozen=True, kw_only=True)
class CoreModel(EnumeratedModel):
    """A particle flips one bit of a register or a memory.

    Among them are the state of the sequencer, the registers of the bus, counters, pipelines, accumulators, lists of
    changes and stored words of weights, and what hardening adds: check bits, remainders, copies, its own registers.
    What no model of the net alone knows; constants in logic are left out. The clock is any of `clocks` from the one
    after the first input; where an inference ends earlier, the upset comes too late.
    """

    name: ClassVar[str] = "core"
    summary: ClassVar[str] = "one bit of a register or memory of the RTL core flips (engine rtl)"

    words: str = field(
        default="*", metadata={"metavar": "NAMES", "help": "registers and memories by name, as engine.phase,*valid*"}
    )
    clocks: int = field(default=2000, metadata={"metavar": "N", "help": "clocks in which upsets fall"})

    def __post_init__(self) -> None:
        if self.clocks < 1:
            raise UsageError(Diagnostic("fault-clocks", f"{self.clocks} clocks, must be at least 1", "--clocks"))

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return core_target(self.core).check(net)  # type: ignore[no-any-return]

    def population(self, net: IntNet, samples: Samples) -> Population:
        found = [s for s in _cells(net, tuple(sorted(self.core.items()))) if s["kind"] in KINDS]
        patterns = [part.strip() for part in self.words.split(",")]
        if wrong := [p for p in patterns if not any(fnmatchcase(s["name"], p) for s in found)]:
            what = f"no register or memory of the core is called {', '.join(map(repr, wrong))}"
            known = ", ".join(s["name"] for s in found)
            raise UsageError(Diagnostic("fault-core", what, "--words", f"there are: {known}"))
        chosen = [s for s in found if any(fnmatchcase(s["name"], p) for p in patterns)]
        sites = [
            Site(f"{s['kind']}:{s['name']}", Place.CORE, s["name"], s["rows"], s["bits"], 0, self.clocks)
            for s in chosen
        ]
        return Population(tuple(sites), count_of(samples))

    def faults(self, net: IntNet, samples: Samples, population: Population, points: Points) -> FaultTable:
        columns = Columns(
            owner=np.arange(len(points.site)),
            place=Place.CORE,
            name=points.site,
            index=points.unit,
            first=points.tick,
            last=points.tick,
            flip=np.left_shift(np.int64(1), points.bit),
        )
        return columns.table([s.target for s in population.sites], [s.name for s in population.sites], points)


@lru_cache(maxsize=4)
def _cells(net: IntNet, core: tuple[tuple[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple(core_target(dict(core)).saboteur_sites(net))
