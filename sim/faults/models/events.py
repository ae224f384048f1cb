"""Lost, doubled and late events of an event-driven machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ....toolchain.diagnostics import Diagnostic, UnsupportedError, UsageError
from ....toolchain.ir import IntNet, ops
from ....toolchain.passes import Analysis, Taps, linear_taps
from ..model import Columns, FaultModel, Points, Population, Samples, Site, count_of, ticks_of
from ..table import FaultTable, Place

__all__ = ["EventsModel"]

Codes = NDArray[np.int64]
_Map = ops.Linear | ops.Stencil | ops.Conv


@dataclass(frozen=True, kw_only=True)
class EventsModel(FaultModel):
    """The event that tells one linear map that one unit changed is lost, comes twice, or comes `delay` ticks late.

    An event-driven accumulator is only ever incremented, by `w * (new - old)`. So after a lost event every accumulator
    that it feeds is off by `-w * (new - old)` for good, after a doubled one by `+w * (new - old)`, and until a late one
    arrives by as much as if it were lost: `held` upsets, exactly. Drawn from the events of the fault-free runs. Only
    events of states count, into maps of the step: what the drive and the readout receive is left out, as are events
    that an upset makes (a fault of a fault).
    """

    name: ClassVar[str] = "events"
    summary: ClassVar[str] = "an event is lost, doubled or late"

    kind: Literal["dropped", "duplicated", "delayed"] = field(
        default="dropped", metadata={"help": "what becomes of it"}
    )
    delay: int = field(default=1, metadata={"metavar": "TICKS", "help": "how late a delayed event is"})

    def __post_init__(self) -> None:
        if self.delay < 1:
            raise UsageError(Diagnostic("fault-delay", f"an event cannot be {self.delay} ticks late", "--delay"))

    def check(self, net: IntNet) -> list[Diagnostic]:
        if any(_maps(net)):
            return []
        what = "no linear map of the step reads a state: there are no events"
        return [Diagnostic("fault-events", what, net.name, "another model")]

    def population(self, net: IntNet, samples: Samples) -> Population:
        """Places: a unit, a map and a tick. Those without an event are no faults, and are never drawn."""
        ticks, sizes = ticks_of(net, samples), Analysis.of(net).sizes
        sites = (Site(f"{self.kind}:{op.out}", Place.VALUE, op.out, sizes[op.x], 1, 0, ticks) for op in _maps(net))
        return Population(tuple(sites), count_of(samples))

    def draw(self, net: IntNet, n: int, generator: np.random.Generator, samples: Samples) -> FaultTable:
        if refusals := self.check(net):
            raise UnsupportedError(refusals)
        population, ticks = self.population(net, samples), ticks_of(net, samples)
        changes = list(_changes(net, samples))
        ends = np.cumsum([len(c[0]) for c in changes])
        if not ends[-1]:
            what = "no unit changes in these samples: there are 0 events"
            raise UsageError(Diagnostic("no-faults", what, net.name, "give samples that move the states"))
        drawn = generator.integers(ends[-1], size=n)
        site = np.searchsorted(ends, drawn, side="right")
        columns, number = [], np.arange(n)
        tick, sample, unit = (np.zeros(n, np.int64) for _ in range(3))
        for place, op in enumerate(_maps(net)):
            here = number[site == place]
            event = drawn[here] - (ends[place] - len(changes[place][0]))
            tick[here], sample[here], unit[here], delta = (column[event] for column in changes[place])
            fed, out, weight = _fan(linear_taps(net, op), unit[here])
            columns.append(np.stack([here[fed], np.full_like(fed, place), out, weight * delta[fed]]))
        owner, name, index, add = np.concatenate(columns, axis=1)
        order = np.argsort(owner, kind="stable")
        owner, name, index, add = owner[order], name[order], index[order], add[order]
        last = np.full(n, ticks - 1) if self.kind != "delayed" else np.minimum(tick + self.delay, ticks) - 1
        upsets = Columns(
            owner,
            Place.VALUE,
            name,
            index,
            first=tick[owner],
            last=last[owner],
            add=add if self.kind == "duplicated" else -add,
            held=True,
        )
        points = Points(site, unit, np.full(n, -1), tick, sample)
        return upsets.table([s.target for s in population.sites], [s.name for s in population.sites], points)


def _maps(net: IntNet) -> Iterator[_Map]:
    states = {s.name for s in net.states}
    for op in net.step:
        if isinstance(op, _Map) and op.x in states:
            yield op


def _changes(net: IntNet, samples: Samples) -> Iterator[tuple[Codes, Codes, Codes, Codes]]:
    """For each map, tick, sample, unit and change of every event: what a tick reads, less what the one before it read
    (before the first: 0)."""
    exact = replace(net, schedule=replace(net.schedule, tolerance=0))
    states = golden.run(exact, samples).states
    first = golden.first_states(exact, samples)
    for op in _maps(net):
        rows = np.concatenate([first[op.x][None], states[op.x][:-1]])
        change = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1])).reshape(*rows.shape[:2], -1)
        tick, sample, unit = np.nonzero(change)
        yield tick, sample, unit, change[tick, sample, unit]


def _fan(taps: Taps[np.int64], units: Codes) -> tuple[Codes, Codes, Codes]:
    """For each of `units`, what it feeds: its place in `units`, the result and the weight, results ascending."""
    order = np.argsort(taps.column, kind="stable")
    column = taps.column[order]
    first, last = (np.searchsorted(column, units, side=side) for side in ("left", "right"))
    owner = np.repeat(np.arange(len(units)), last - first)
    tap = order[np.arange(len(owner)) - np.repeat(np.cumsum(last - first) - last, last - first)]
    return owner, taps.row[tap], taps.weight[tap].astype(np.int64)
