"""The units of one population, taken in order onto cores: the longest runs that fit, in time linear in the synapses.

A run needs no less than a part of it. So memory and neurons, known from running sums, bound a run at once, and one pass
over its synapses finds the place from which its sources are too many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.arrays import Codes
from eqcompile.toolchain.passes import Taps

from .capacity import WORD_BITS, index_bits
from .chips import Chip
from .partition import Stream

__all__ = ["Core", "Feed", "Packing", "Piece", "by_sites"]


@dataclass(frozen=True)
class Core:
    """Places `[first, last)` of a population on one neurocore and what their units need there.

    A place is a unit, or with `Placement.sites` one of the order site by site.
    """

    population: str
    first: int
    last: int
    memory_bits: int
    in_axons: int
    out_axons: int
    synapses: Mapping[str, int]
    """Stored weights by synapse."""


@dataclass(frozen=True, eq=False)
class Feed:
    """What feeds a population: a synapse, or the identity for a stream that it mirrors."""

    name: str
    source: Stream
    matrix: Taps[np.int64]
    bits: int
    dense: bool


@dataclass(frozen=True, eq=False)
class Piece:
    """A core, and the entries of each stream that reach it, `[in-axons of the stream]` in no order."""

    core: Core
    reached: Mapping[Stream, Codes]


def by_sites(shape: tuple[int, int, int]) -> Codes:
    """Units of an image `[channels, height, width]` in the order of its sites, all channels of a site together:
    int64 `[units]`, the unit at each place."""
    channels, height, width = shape
    return np.arange(channels * height * width).reshape(channels, height * width).T.reshape(-1)


@dataclass(frozen=True, eq=False)
class Packing:
    """A population of `units` in some order. `words`, `tables`: of 32 bits, for the registers of all units and for what
    each core has a copy of; `unit`: int64 `[units]`, the unit at each place, None where every unit is at its own."""

    population: str
    units: int
    feeds: tuple[Feed, ...]
    chip: Chip
    words: int
    tables: int
    unit: Codes | None = None

    @cached_property
    def place(self) -> Codes:
        """Place of each unit, int64 `[units]`."""
        if self.unit is None:
            return np.arange(self.units)
        inverse = np.empty(self.units, np.int64)
        inverse[self.unit] = np.arange(self.units)
        return inverse

    @cached_property
    def rows(self) -> Mapping[str, tuple[Codes, Codes]]:
        """By feed: first row and end of the rows whose sums belong to the unit at each place, int64 `[units]` each; row
        r belongs to unit `r * units // rows`."""
        found = {}
        for feed in self.feeds:
            bound = -(-np.arange(self.units + 1) * feed.matrix.shape[0] // self.units)
            low, high = bound[:-1], bound[1:]
            found[feed.name] = (low, high) if self.unit is None else (low[self.unit], high[self.unit])
        return found

    @cached_property
    def stored(self) -> Mapping[str, Codes]:
        """By feed: weights stored for all places before one, int64 `[units + 1]`."""
        found: dict[str, Codes] = {}
        for feed in self.feeds:
            low, high = self.rows[feed.name]
            start = feed.matrix.row_start
            count: Codes = (high - low) * feed.matrix.shape[1] if feed.dense else start[high] - start[low]
            found[feed.name] = np.concatenate([[0], np.cumsum(count)])
        return found

    @cached_property
    def weight_bits(self) -> Codes:
        """Bits of weights and their indices for all places before one, int64 `[units + 1]`."""
        each = {f.name: f.bits + (0 if f.dense else index_bits(self.chip)) for f in self.feeds}
        return sum((self.stored[name] * bits for name, bits in each.items()), start=np.zeros(self.units + 1, np.int64))

    @cached_property
    def _mark(self) -> Mapping[Stream, Codes]:
        """A word for each entry of a stream, written before it is read."""
        size: dict[Stream, int] = {}
        for feed in self.feeds:
            size[feed.source] = max(size.get(feed.source, 0), feed.matrix.shape[1])
        return {stream: np.zeros(entries, np.int64) for stream, entries in size.items()}

    def memory_bits(self, first: int, last: int) -> int:
        """What the units at these places store on one core."""
        bits = int(self.weight_bits[last] - self.weight_bits[first])
        if self.chip.shared_memory:
            bits += (-(-self.words * (last - first) // self.units) + self.tables) * WORD_BITS
        return bits

    def pieces(self, cap: int) -> Iterator[Piece]:
        """The longest runs of at most `cap` places that fit, one after another. A unit that does not fit any core is a
        run of its own, and the last one that there is."""
        first, width = 0, 1
        while first < self.units:
            piece = self._longest(first, min(self.units, first + min(cap, self.chip.neurons)), width)
            yield piece
            core = piece.core
            limit = self.chip.in_axons
            if core.memory_bits > self.chip.memory_bits or (limit is not None and core.in_axons > limit):
                return
            first, width = core.last, core.last - first

    def _longest(self, first: int, most: int, width: int) -> Piece:
        """The run from `first` that ends at `most` at the latest; `width`: how far to look first."""
        ends = range(first + 1, most + 1)
        most = first + max(1, bisect_right(ends, self.chip.memory_bits, key=lambda end: self.memory_bits(first, end)))
        limit = self.chip.in_axons
        last = most if limit is None else min(most, first + width)
        while True:
            met = {stream: self._met(stream, first, last) for stream in self._mark}
            where = np.concatenate([place - first for _, place in met.values()] or [np.zeros(0, np.int64)])
            axons = np.cumsum(np.bincount(where, minlength=last - first))
            fit = last - first if limit is None else int(np.searchsorted(axons, limit, side="right"))
            if fit < last - first or last == most:
                break
            # What is looked at twice is at most as much again as what is found.
            last = min(most, first + 2 * (last - first))
        last = first + max(1, fit)
        synapses = {f.name: int(self.stored[f.name][last] - self.stored[f.name][first]) for f in self.feeds}
        bits, count = self.memory_bits(first, last), int(axons[last - first - 1])
        core = Core(self.population, first, last, bits, count, 0, synapses)
        return Piece(core, {stream: column[place < last] for stream, (column, place) in met.items()})

    def _met(self, stream: Stream, first: int, last: int) -> tuple[Codes, Codes]:
        """Entries of a stream that reach the units at these places, each once, and the first that each reaches."""
        found = [self._reach(feed, first, last) for feed in self.feeds if feed.source == stream]
        column, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:
            order = np.argsort(place, kind="stable")
            column, place = column[order], place[order]
        # Of an entry that is written several times the last value stays: written backwards, that of its first tap.
        mark, number = self._mark[stream], np.arange(column.size)
        mark[column[::-1]] = number[::-1]
        new = mark[column] == number
        return column[new].astype(np.int64), place[new]

    def _reach(self, feed: Feed, first: int, last: int) -> tuple[NDArray[np.int32], Codes]:
        """Column and place of every tap of these places, by place; of a matrix stored whole, of the first row alone,
        for all columns reach it."""
        low, high = (rows[first:last] for rows in self.rows[feed.name])
        if feed.dense:
            held = np.flatnonzero(high > low)[:1]
            columns = np.arange(feed.matrix.shape[1] if held.size else 0, dtype=np.int32)
            return columns, np.full(columns.size, first + int(held.sum()))
        start, stop = feed.matrix.row_start[low], feed.matrix.row_start[high]
        count = stop - start
        place = np.repeat(np.arange(first, last), count)
        if self.unit is None:
            return feed.matrix.column[int(start[0]) : int(stop[-1])], place
        taps = np.arange(place.size) + np.repeat(start - np.cumsum(count) + count, count)
        return feed.matrix.column[taps], place
