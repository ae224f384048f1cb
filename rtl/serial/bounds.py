"""How many clocks the serial engine can take, whatever its memories hold: what its watchdog goes by."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from .applier import reading_clocks
from .plan import Plan, Sweep
from .program import Apply, Clear, Decide, Phase, Program, RunSweep, Show, Take
from .sweep import clocks_of

__all__ = ["ALARM", "clock_span", "late_result"]

DRAIN = 5
"""Clocks from the last word of a column until the applier is idle, at most, and those of reading it."""

ALARM = 5
"""Clocks from the number of a group to the abort of a run whose codes or sums of this group have wrong remainders."""


def late_result(plan: Plan, sweep: Sweep, harden: Collection[str]) -> int:
    """Clocks that a code of an output waits at the end of its sweep, so that a run in which it was read wrong is given
    up before: not in a clock later."""
    return max(ALARM - 1 - clocks_of(plan, sweep)[1], 0) if "residue" in harden else 0


def clock_span(plan: Plan, program: Program, harden: Collection[str]) -> int:
    """Clocks, without those in which a stream holds the engine up, between two of these at most: the first beat of a
    sample is taken, a tick is made, the engine is idle.

    The length of a column is a field of `index_bits` bits: no content of the weight memory takes more clocks an event.
    """
    phases = program.phases
    take = next(i for i, p in enumerate(phases) if isinstance(p, Take))
    decide = next(i for i, p in enumerate(phases) if isinstance(p, Decide))
    spans = (phases[take : decide + 1], phases[program.tick : decide + 1], (*phases[decide + 1 :], *phases[:take]))
    return max(_clocks(plan, span, harden) for span in spans)


def _clocks(plan: Plan, phases: Iterable[Phase], harden: Collection[str]) -> int:
    reading = reading_clocks(harden)
    event, drain = (1 << plan.weights.index_bits) + 1 + reading, DRAIN + reading
    # What was begun before the span may have to end first.
    total = event + drain
    for phase in phases:
        match phase:
            case Clear():
                total += event
            case Take(units=units, maps=maps):
                total += units * (1 + len(maps) * event)
            case RunSweep(index):
                sweep = plan.sweeps[index]
                total += event + drain + -(-sweep.units // plan.width) + clocks_of(plan, sweep)[1] + 3
            case Apply(source=source):
                groups = -(-plan.vectors[source].units // plan.width)
                # A change is read in two clocks, with votes in three, and waits for the one before; a lane ends in one.
                total += groups * plan.width * (event + 3 + ("tmr" in harden)) + 2 * plan.width + 4
            case Decide():
                total += 1
            case Show(index=index, units=units):
                sweep = plan.sweeps[index]
                total += event + drain + units * (clocks_of(plan, sweep)[1] + 4 + late_result(plan, sweep, harden))
    return total
