"""How long a program may take from one sign of life to the next, whatever its inputs are: what the watchdog allows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .compiler import Program
from .configuration import Core
from .description import Description
from .features import Features
from .isa import PORT, Apply, Clear, End, Instruction, Loop, Repeats, Unit, Vector
from .timing import root_digits

__all__ = ["bound_of", "clock_bound", "first_read"]

OVERHEAD = 8
"""Clocks around an instruction, fetched from a memory with a code: no less than those of `timing`."""
EVENT = 4
"""Clocks of an event beside those of the words of its column."""


def clock_bound(program: Sequence[Instruction], core: Core, run_words: int) -> int:
    """Clocks, without those in which a stream holds the core up, between two of these at most: the first code of a
    sample is taken, a tick is made, the core is idle. Between two of them each instruction runs once, in a counted
    loop as often as that says. `run_words`: of one column of weights, at most.

    An apply instruction adds every event that its list has room for, each with the longest column.
    """
    features, total, times = Features.of(program, core.width), 0, [1]
    for i in program:
        if isinstance(i, Loop):
            times.append(times[-1] * (i.count if i.repeats is Repeats.COUNT else 1))
        total += times[-1] * bound_of(i, core, run_words, features.depth)
        if isinstance(i, End):
            times.pop()
    return total


def first_read(program: Program, description: Description) -> int:
    """The same between the start of a sample and the first code that is taken."""
    reads = (at for at, i in enumerate(program.instructions) if isinstance(i, Vector) and i.a.bank == PORT)
    until = program.instructions[: next(reads) + 1]
    return clock_bound(until, description.core, description.run_words)


def bound_of(i: Instruction, core: Core, run_words: int, depth: int) -> int:
    """Clocks of an instruction at most, until the next one starts; `depth`: of the pipeline."""
    return _clocks(i, core, run_words) + depth + OVERHEAD


def _clocks(i: Instruction, core: Core, run_words: int) -> int:
    match i:
        case Vector():
            issues = prod(i.counts[:-1]) * (-(-i.counts[-1] // core.width) if i.wide else i.counts[-1])
            waits = {Unit.DIVIDE: core.digits, Unit.ROOT: root_digits(core.digits) + 1}.get(i.unit, 0) + i.indirect
            return issues * (1 + waits)
        case Apply():
            events = core.lists[i.list] * core.width * prod(i.kernel)
            return events * (run_words + EVENT)
        case Clear():
            return i.words
        case _:
            return 0
