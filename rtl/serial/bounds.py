"""How many clocks the serial engine can take, whatever its memories hold: what its watchdog goes by."""

from __future__ import annotations

from collections.abc import Iterable

from .plan import Plan
from .program import Apply, Clear, Decide, Phase, Program, RunSweep, Show, Take
from .sweep import clocks_of

__all__ = ["clock_span"]

DRAIN = 6
"""Clocks from the last word of a column until the applier is idle, at most."""


def clock_span(plan: Plan, program: Program) -> int:
    """Clocks, without those in which a stream holds the engine up, between two of these at most: the first beat of a
    sample is taken, a tick is made, the engine is idle.

    The length of a column is a field of `index_bits` bits: no content of the weight memory takes more clocks an event.
    """
    phases = program.phases
    take = next(i for i, p in enumerate(phases) if isinstance(p, Take))
    decide = next(i for i, p in enumerate(phases) if isinstance(p, Decide))
    spans = (phases[take : decide + 1], phases[program.tick : decide + 1], (*phases[decide + 1 :], *phases[:take]))
    return max(_clocks(plan, span) for span in spans)


def _clocks(plan: Plan, phases: Iterable[Phase]) -> int:
    event = (1 << plan.weights.index_bits) + 2
    # What was begun before the span may have to end first.
    total = event + DRAIN
    for phase in phases:
        match phase:
            case Clear():
                total += event
            case Take(units=units, maps=maps):
                total += units * (1 + len(maps) * event)
            case RunSweep(index):
                sweep = plan.sweeps[index]
                total += event + DRAIN + -(-sweep.units // plan.width) + clocks_of(plan, sweep)[1] + 3
            case Apply(source=source):
                groups = -(-plan.vectors[source].units // plan.width)
                # A change is read in two clocks and waits for the one before; a lane ends in one.
                total += groups * plan.width * (event + 3) + 2 * plan.width + 4
            case Decide():
                total += 1
            case Show(index=index, units=units):
                total += event + DRAIN + units * (clocks_of(plan, plan.sweeps[index])[1] + 4)
    return total
