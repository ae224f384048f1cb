"""When words of weights come from a memory outside: the clocks of `hardware/reader.py` and of the applier behind it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["BUFFER", "BURST", "RUNS", "MemoryModel", "Reading"]

BUFFER = 128
"""Words that have been asked for and not been applied, at most: room for them is kept, so no beat ever waits."""
BURST = 32
"""Beats of the longest burst. A power of two, as the bytes of a beat are, and 32 of the widest ones, 128 bytes, are a
page of 4 KB: a burst that ends where a multiple of it does never crosses one."""
RUNS = 32
"""Columns whose words are asked for, and that wait for them."""


@dataclass(frozen=True)
class MemoryModel:
    """A memory that takes every address at once, and gives the first beat of a burst `latency` clocks later, then a
    beat a clock, the bursts one after the other. A real one is slower where it refreshes, or serves others."""

    latency: int = 40


class Reading:
    """The runs of words of one apply instruction. `last`: the clock in which the last word is applied so far."""

    def __init__(self, memory: MemoryModel, *, forwards: bool) -> None:
        self.memory, self.forwards = memory, forwards
        self.last = self._free = self._next_ask = self._arrived = 0
        self._asked = self._begun = self._ended = 0
        self._gone: deque[tuple[int, int, int]] = deque()
        """Words before a burst, its words, and the clock in which the first of them is applied."""
        self._heads: deque[int] = deque()

    def take(self, clock: int, first: int, words: int) -> int:
        """A run of `words` from word `first` on, which is there from `clock` on: the clock in which it is taken."""
        taken = max(clock, self._free)
        if len(self._heads) == RUNS:
            taken = max(taken, self._heads.popleft() + 1)
        moved = max(taken + 1, self._begun)
        self._begun = max(moved + 1, self._ended)
        self._heads.append(moved)
        ask, left, active = taken + 1, words, self._begun + 1
        while left:
            beats = min(left, BURST - first % BURST)
            ask = max(ask, self._next_ask, self._room())
            comes = max(ask + 1 + self.memory.latency, self._arrived + 1)
            goes = max(self.last + 1, comes + 1, active)
            self._gone.append((self._asked, beats, goes))
            self._asked += beats
            self._arrived, self.last, self._next_ask = comes + beats - 1, goes + beats - 1, ask + 2
            self._free = ask
            left, first = left - beats, first + beats
        self._ended = self.last + (words == 1 and not self.forwards)
        return taken

    def _room(self) -> int:
        """The first clock in which the buffer has room for a whole burst."""
        needed = self._asked - (BUFFER - BURST)
        if needed <= 0:
            return 0
        while self._gone[0][0] + self._gone[0][1] < needed:
            self._gone.popleft()
        before, _, goes = self._gone[0]
        return goes + needed - before
