"""Single-event upsets of the hardware itself: a flip-flop or a memory word of the RTL core, in any clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ....toolchain.typed_json import decode_as
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
    after the first input; where an inference ends earlier, the upset comes too late. A campaign takes the clocks of the
    longest inference of its inputs unless they are stated.
    """

    name: ClassVar[str] = "core"
    summary: ClassVar[str] = "one bit of a register or memory of the RTL core flips (engine rtl)"
    instrument: ClassVar[str] = "rtl"

    words: str = field(
        default="*", metadata={"metavar": "NAMES", "help": "registers and memories by name, as engine.phase,*valid*"}
    )
    clocks: int | None = field(
        default=None,
        metadata={"metavar": "N", "help": "clocks in which upsets fall (default: of the inputs' longest inference)"},
    )

    def __post_init__(self) -> None:
        if self.clocks is not None and self.clocks < 1:
            raise UsageError(Diagnostic("fault-clocks", f"{self.clocks} clocks, must be at least 1", "--clocks"))

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        if self.artifact is not None:
            return []
        what = "there is no RTL core with saboteurs in this campaign"
        return [Diagnostic("fault-core", what, net.name, "eqfault run builds one of an artifact of target rtl")]

    def population(self, net: IntNet, samples: Samples) -> Population:
        if self.artifact is None or self.clocks is None:
            what = "upsets of a core need its folder, and the clocks in which they fall"
            raise UsageError(Diagnostic("fault-core", what, "--clocks"))
        found = [s for s in _cells(self.artifact) if s.kind in KINDS]
        patterns = [part.strip() for part in self.words.split(",")]
        if wrong := [p for p in patterns if not any(fnmatchcase(s.name, p) for s in found)]:
            what = f"no register or memory of the core is called {', '.join(map(repr, wrong))}"
            known = ", ".join(s.name for s in found)
            raise UsageError(Diagnostic("fault-core", what, "--words", f"there are: {known}"))
        chosen = [s for s in found if any(fnmatchcase(s.name, p) for p in patterns)]
        sites = [Site(f"{s.kind}:{s.name}", Place.CORE, s.name, s.rows, s.bits, 0, self.clocks) for s in chosen]
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


@dataclass(frozen=True)
class _Cell:
    """A register or memory of a core with saboteurs, as its `core.json` lists them."""

    name: str
    kind: str
    bits: int
    rows: int


@lru_cache(maxsize=4)
def _cells(folder: Path) -> tuple[_Cell, ...]:
    described = json.loads((folder / "core.json").read_text(encoding="utf-8"))
    return tuple(decode_as(_Cell, site, "inject.sites") for site in described["inject"]["sites"])
