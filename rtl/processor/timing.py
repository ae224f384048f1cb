"""Clocks of a core, instruction by instruction, as ISA.md states them: inputs are there when they are read, and results
are taken at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from math import prod

import numpy as np
from numpy.typing import NDArray

from .configuration import Core
from .features import Features
from .isa import PORT, Instruction, Unit, Vector
from .outside import MemoryModel, Reading

__all__ = ["Timing", "root_digits"]

Codes = NDArray[np.int64]

FETCH, JUMP, GATED = 2, 3, 4
"""Clocks from the start of an instruction to that of the next at the earliest; behind one that may jump; behind a
gate."""
SUM = 4
"""Clocks from the last word of a column to the end of the apply instruction."""


class Timing:
    """When each instruction starts. `clocks`: from its start to that of the next one, summed over its runs; all of them
    together are the clocks from the first code of a sample to its last result. `words`: of weights that it reads.
    `memory`: one outside that weights are read from, None where they are in the core."""

    def __init__(self, core: Core, program: Sequence[Instruction], memory: MemoryModel | None = None) -> None:
        self.core, self.memory = core, memory
        features = Features.of(program, core.width)
        self.depth, self.kernels = features.depth, features.kernels
        self.begin()

    def begin(self) -> None:
        """A sample begins."""
        self.clocks: Counter[int] = Counter()
        self.words: Counter[int] = Counter()
        self.start = self.ready = self.pipeline = self.applier = self.clearing = self.last = 0
        self.at: int | None = None
        self.emitted = False

    def _start(self, at: int, clock: int) -> None:
        if self.at is not None:
            self.clocks[self.at] += clock - self.start
        self.at, self.start = at, clock
        self.ready = clock + FETCH

    @property
    def _still(self) -> int:
        return max(self.ready, self.pipeline, self.applier, self.clearing)

    def control(self, at: int, *, gate: bool = False, end: bool = False) -> None:
        """An instruction that waits for all in front of it, the end of a loop for results too, and takes no time of its
        own."""
        still = max(self._still, self.last + 1 if end and self.emitted else 0)
        self._start(at, still if self.at is not None else 0)
        self.emitted = False
        self.ready = self.start + (GATED if gate else JUMP)

    def clear(self, at: int, words: int, *, sums: bool) -> None:
        """`words` of a bank are cleared."""
        self._start(at, self._still)
        self.clearing = self.start + -(-words // (self.core.lanes if sums else self.core.width)) + 1

    def vector(self, at: int, i: Vector, issues: Codes) -> Codes:
        """The clocks in which events are visible in the list, by the number of the issue that each comes from."""
        self._start(at, self._still)
        count = prod(i.counts[:-1]) * (-(-i.counts[-1] // self.core.width) if i.wide else i.counts[-1])
        wait, stage = self._waits(i)
        end = self.start + count * (1 + wait) + self.depth
        self.emitted = i.d.bank == PORT
        self.pipeline, self.last = end + 1 + (not self.emitted), end + 1
        waits: Codes = np.minimum(count, issues + 1 + self.depth - stage) * wait
        return self.start + issues + self.depth + 3 + waits

    def _waits(self, i: Vector) -> tuple[int, int]:
        """Clocks for which each entry holds the pipeline up, and at which stage."""
        if i.indirect:
            return 1, 1
        match i.unit:
            case Unit.DIVIDE:
                return self.core.digits, 3
            case Unit.ROOT:
                return root_digits(self.core.digits) + 1, 3
            case _:
                return 0, 0

    def apply(self, at: int, events: Sequence[tuple[int, Sequence[Sequence[int]]]], *, early: bool) -> None:
        """`events`: the clock in which each is visible, the same for those of one word, and of each kernel offset the
        first weight word and their number."""
        self._start(at, max(self.ready, self.applier, self.clearing, 0 if early else self.pipeline))
        self.words[at] += sum(words for _, runs in events for _, words in runs)
        taken = more = free = 0
        done = self.start + 1
        outside = None if self.memory is None else Reading(self.memory, forwards=self.core.forwards)
        for first, (visible, word) in enumerate(groupby(events, key=lambda event: event[0])):
            step = max(done, visible) + 1
            if self.kernels and first:
                step = max(step, done + 2)
            for number, (_, runs) in enumerate(word):
                step += bool(number and self.kernels)
                for row, words in runs:
                    done = max(step, free)
                    if outside is not None:
                        free = outside.take(done + 1, row, words)
                    else:
                        free = taken = max(done + 1, taken + (more if more != 1 or self.core.forwards else 2))
                    step, more = done + 1, words
        end = (taken + more if outside is None else outside.last) + SUM if events else self.start + 1
        self.applier = max(end, self.pipeline) + 1

    def end(self) -> int:
        """The sample is done: its clocks in all."""
        if self.at is not None:
            self.clocks[self.at] += self.last - self.start
        self.at = None
        return self.last


def root_digits(digits: int) -> int:
    """Of the square root of a number of so many."""
    return -(-(digits - 1) // 2)
