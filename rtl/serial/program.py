"""What the serial engine does for one sample, as a list of phases that its sequencer walks through."""

from __future__ import annotations

from dataclasses import dataclass

from ..memory import Family
from .plan import Block, Plan

__all__ = ["Apply", "Clear", "Decide", "Design", "Phase", "Program", "RunSweep", "Show", "Take", "make_program"]


@dataclass(frozen=True)
class Clear:
    """Zero the sums of map number `index`."""

    index: int


@dataclass(frozen=True)
class Take:
    """Read the codes of one input from the stream; each that is not zero is an event for every map in `maps`."""

    name: str
    units: int
    maps: tuple[int, ...]


@dataclass(frozen=True)
class RunSweep:
    """Run sweep number `index` of the plan."""

    index: int


@dataclass(frozen=True)
class Apply:
    """Apply the list of changes of `source` to map number `index`, and empty the list if this was its `last` map."""

    source: str
    index: int
    last: bool


@dataclass(frozen=True)
class Decide:
    """A tick is made: another one, or on with the program and with all lists empty."""


@dataclass(frozen=True)
class Show:
    """Write the `units` codes of output number `output` to the stream: sweep number `index`, a unit at a time."""

    index: int
    output: int
    units: int


Phase = Clear | Take | RunSweep | Apply | Decide | Show


@dataclass(frozen=True)
class Program:
    """`phases`, of which those from number `tick` up to `Decide` repeat."""

    phases: tuple[Phase, ...]
    tick: int


@dataclass(frozen=True, eq=False)
class Design:
    """A serial engine before it is built; options as in `SerialEngine`."""

    plan: Plan
    program: Program
    family: Family
    harden: tuple[str, ...]
    loadable: bool
    dense: bool


def make_program(plan: Plan) -> Program:
    """The program of a plan."""
    net = plan.net
    number = {id(m): i for i, m in enumerate(plan.maps)}
    start: list[Phase] = _clear(plan, "drive", number)
    for i in net.inputs:
        maps = plan.maps_of("drive", i.name)
        units = plan.vectors[i.name].units if i.name in plan.vectors else maps[0].matrix.shape[1] if maps else 0
        start.append(Take(i.name, units, tuple(number[id(m)] for m in maps)))
    start += [*_sweeps(plan, "drive"), *_clear(plan, "step", number)]
    tick: list[Phase] = [*_applies(plan, "step", number), *_sweeps(plan, "step"), Decide()]
    end: list[Phase] = _clear(plan, "readout", number)
    readout = [(p, plan.sweeps[p.index]) for p in _sweeps(plan, "readout")]
    end += [p for p, sweep in readout if sweep.scans]
    end += _applies(plan, "readout", number)
    end += [p for p, sweep in readout if sweep.sums]
    end += [Show(p.index, output, sweep.units) for p, sweep in readout for output, _ in sweep.shows]
    return Program((*start, *tick, *end), len(start))


def _clear(plan: Plan, block: Block, number: dict[int, int]) -> list[Phase]:
    return [Clear(number[id(m)]) for m in plan.maps_of(block)]


def _sweeps(plan: Plan, block: Block) -> list[RunSweep]:
    return [RunSweep(i) for i, s in enumerate(plan.sweeps) if s.block == block]


def _applies(plan: Plan, block: Block, number: dict[int, int]) -> list[Apply]:
    phases = []
    for source in dict.fromkeys(m.source for m in plan.maps_of(block)):
        maps = plan.maps_of(block, source)
        phases += [Apply(source, number[id(m)], m is maps[-1]) for m in maps]
    return phases
