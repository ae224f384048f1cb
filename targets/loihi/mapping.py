"""Placement of populations on neurocores under the published limits, first fit in the order of the partition.

A synapse lies where its sums are used: each core holds the rows of its own units. What a core needs:

- neurons: its units;
- memory: weights as stored (ternary 2 bits, else the narrowest signed format), for sparse storage an index besides each
  weight that tells the core's neurons apart; on a chip with shared memory also registers of 32 bits and tables;
- in-axons: the distinct source units that reach it; out-axons: for each of its units, the cores that it reaches.

Host, routing tables, microcode and the padding of real memory formats are not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.arrays import Codes
from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.passes import LINEAR, Analysis, Taps, tap_count
from eqcompile.toolchain.requirements import MapNeeds
from eqcompile.toolchain.typed_json import JSON, encode

from .chips import Chip
from .partition import Partition, Population, Stream

__all__ = [
    "Connectivity",
    "Core",
    "Placement",
    "Route",
    "Shortage",
    "foreseen_cores",
    "least_cores",
    "place",
    "stored_as",
    "weight_bits",
]

Connectivity = Literal["auto", "dense", "sparse"]
WORD_BITS = 32
CORES_PER_TILE = 4
TILES_PER_ROW = 8
"""Loihi's 32 tiles of four cores as 8 columns by 4 rows, filled row by row: this model's choice of a layout."""


@dataclass(frozen=True)
class Core:
    """Units `[first, last)` of a population on one neurocore and what they need there."""

    population: str
    first: int
    last: int
    memory_bits: int
    in_axons: int
    out_axons: int
    synapses: Mapping[str, int]
    """Stored weights by synapse."""


@dataclass(frozen=True)
class Route:
    """Where a stream goes: mean messages for one event, and mean tile hops for one event over all of them."""

    stream: str
    population: str
    copies: float
    hops_east_west: float
    hops_north_south: float


@dataclass(frozen=True)
class Shortage:
    """An exhausted resource: `needed` against `available`, for a population on one core or for the whole chip."""

    resource: str
    where: str
    needed: int
    available: int


@dataclass(frozen=True)
class Placement:
    """The cores of a net, or why it does not fit. `storage`: "dense" or "sparse" for each synapse."""

    chip: Chip
    chips: int
    depth: int
    steps: int
    cores: tuple[Core, ...]
    routes: tuple[Route, ...]
    storage: Mapping[str, str]
    shortages: tuple[Shortage, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """The placement as a JSON object."""
        return encode(self)


@dataclass(frozen=True)
class _Feed:
    """What feeds a population: a synapse, or the identity for a stream that it mirrors."""

    name: str
    source: Stream
    matrix: Taps[np.int64]
    bits: int
    dense: bool


def weight_bits(matrix: Taps[np.int64]) -> int:
    """Bits of one stored weight: 2 if ternary, else the narrowest signed format."""
    return _code_bits(matrix.weight) if matrix.count else 1


def _code_bits(codes: NDArray[np.int16] | Codes) -> int:
    return max(Format.holding(min(int(codes.min()), -1), int(codes.max())).bits, 2)


def least_cores(net: IntNet, chip: Chip, connectivity: Connectivity) -> tuple[int, int]:
    """A lower bound of the neurocores of a net without `repeat`, and the bits of all its synapses: counted from shapes
    and weights, before anything is placed."""
    analysis, total = Analysis.of(net), 0
    for op in net.all_ops():
        if isinstance(op, LINEAR) and op.out in analysis.live:
            count, embeds = tap_count(net, op), isinstance(op, ops.Embedding)
            codes = analysis.codes[op.table if isinstance(op, ops.Embedding) else op.weight]
            bits = _code_bits(codes) if count else 1
            entries = analysis.sizes[op.out] * analysis.sizes[op.x] * (len(codes) if embeds else 1)
            total += _stored_bits(entries, count, bits, chip, connectivity)
    return -(-total // chip.memory_bits), total


def foreseen_cores(maps: Sequence[MapNeeds], chip: Chip, connectivity: Connectivity) -> tuple[int, int, int]:
    """As `least_cores`, of maps whose weights have no codes yet; and the most bits of vectors that the cores of one
    population have a copy of each, where neurons and synapses share the memory.

    A core holds one population, which is no smaller than a group of maps, and all of its vectors: with `room` bits left
    beside those of a group, its synapses take at least a part `bits / room` of a core.
    """
    total, parts, most = 0, Fraction(0), 0
    copies: dict[str, int] = {}
    for m in maps:
        copies[m.group] = copies.get(m.group, 0) + (m.vectors * WORD_BITS if chip.shared_memory else 0)
    for m in maps:
        bits = max(Format.holding(min(m.low, -1), m.high).bits, 2) if m.taps else 1
        stored = _stored_bits(m.entries, m.taps, bits, chip, connectivity)
        total, most = total + stored, max(most, copies[m.group])
        # Vectors that leave no room are told of by the placement, population by population.
        parts += Fraction(stored, max(chip.memory_bits - copies[m.group], 1))
    return math.ceil(parts), total, most


def _stored_bits(entries: int, taps: int, bits: int, chip: Chip, connectivity: Connectivity) -> int:
    dense, sparse = entries * bits, taps * (bits + _index_bits(chip))
    return {"dense": dense, "sparse": sparse, "auto": min(dense, sparse)}[connectivity]


def stored_as(matrix: Taps[np.int64], chip: Chip, connectivity: Connectivity) -> Literal["dense", "sparse"]:
    """`auto` takes what needs fewer bits."""
    if connectivity != "auto":
        return connectivity
    bits = weight_bits(matrix)
    return "dense" if prod(matrix.shape) * bits <= matrix.count * (bits + _index_bits(chip)) else "sparse"


def place(net: Partition, chip: Chip, *, connectivity: Connectivity = "auto", chips: int = 1) -> Placement:
    """Put every population on cores of `chips` chips; shortages are listed, not raised."""
    return _Placer(net, chip, connectivity, chips).result()


def _index_bits(chip: Chip) -> int:
    return (chip.neurons - 1).bit_length()


class _Placer:
    def __init__(self, net: Partition, chip: Chip, connectivity: Connectivity, chips: int) -> None:
        self.net, self.chip, self.chips = net, chip, chips
        self.storage = {s.name: stored_as(s.matrix, chip, connectivity) for s in net.synapses}
        self.feeds = {p.name: tuple(self.feeds_of(p)) for p in net.populations}
        self.registers = {p.name: self.registers_of(p) for p in net.populations}
        self.cap = {p.name: chip.neurons for p in net.populations}

    def feeds_of(self, p: Population) -> Iterator[_Feed]:
        for s in self.net.synapses:
            if p.name in s.targets:
                yield _Feed(s.name, s.source, s.matrix, weight_bits(s.matrix), self.storage[s.name] == "dense")
        for stream in p.mirrors:
            yield _Feed(f"mirror_{stream}", stream, Taps.identity(self.net.elements(stream.value)), 2, False)

    def registers_of(self, p: Population) -> tuple[int, int]:
        """32-bit words of state of all units, and words of tables that each core of the population holds."""
        values = [s.name for s in p.states] + list(p.receives) + [s.value for s in (*p.mirrors, *p.streams)]
        words = sum(self.net.elements(v) for v in values) + sum(self.net.elements(i.name) for i in p.clamped)
        computed = [a.op for script in p.scripts.values() for a in script if a.op is not None]
        words += sum(prod(self.net.types[a.value].shape) for a in p.scripts["drive"] if a.op is not None)
        params = {n for op in computed for n in op.reads if n in self.net.net.param_names}
        return words, sum(self.net.net.param(n).size for n in params)

    def bytes_of(self, p: Population) -> int:
        """State of one unit, rounded up."""
        return -(-self.registers[p.name][0] * WORD_BITS // (8 * p.units))

    def result(self) -> Placement:
        shortages: list[Shortage] = []
        cores: list[Core] = []
        while True:
            parts = [self.split(p) for p in self.net.populations]
            shortages = [shortage for _, shortage in parts if shortage is not None]
            if shortages:
                break
            cores = [core for placed, _ in parts for core in placed]
            cores, over = self.with_out_axons(cores)
            if not over:
                break
            # Smaller pieces send from more cores, each with fewer edges, but reach no fewer cores with a unit. A piece
            # at least halves, as more is needed than there is.
            shortages = [s for s in over if self.cap[s.where] == 1]
            if shortages:
                break
            for s in over:
                self.cap[s.where] = max(1, self.cap[s.where] * s.available // (s.needed + s.available))
        available = self.chip.cores * self.chips
        if not shortages and len(cores) > available:
            shortages = [Shortage("neurocores", f"{self.chips} chip(s)", len(cores), available)]
        return Placement(
            chip=self.chip,
            chips=self.chips,
            depth=self.net.depth,
            steps=self.net.net.schedule.steps,
            cores=() if shortages else tuple(cores),
            routes=() if shortages else tuple(self.routes(cores)),
            storage=self.storage,
            shortages=tuple(shortages),
            notes=tuple(self.notes()),
        )

    # Needs of units [first, last) of a population

    def rows(self, p: Population, matrix: Taps[np.int64], first: int, last: int) -> tuple[int, int]:
        """Rows of a matrix whose sums belong to these units; row r belongs to unit `r * units // rows`."""
        count = matrix.shape[0]
        return -(-first * count // p.units), -(-last * count // p.units)

    def columns(self, p: Population, feed: _Feed, first: int, last: int) -> tuple[int, Codes]:
        """Stored weights, and the source units that reach these units."""
        low, high = self.rows(p, feed.matrix, first, last)
        start, stop = (int(feed.matrix.row_start[row]) for row in (low, high))
        if feed.dense:
            return (high - low) * feed.matrix.shape[1], np.arange(feed.matrix.shape[1] if high > low else 0)
        reached = np.zeros(feed.matrix.shape[1], bool)
        reached[feed.matrix.column[start:stop]] = True
        return stop - start, np.flatnonzero(reached)

    def needs(self, p: Population, first: int, last: int) -> Core:
        bits, axons = 0, 0
        stored: dict[str, int] = {}
        sources: dict[Stream, list[Codes]] = {}
        for feed in self.feeds[p.name]:
            count, reached = self.columns(p, feed, first, last)
            stored[feed.name] = count
            bits += count * (feed.bits + (0 if feed.dense else _index_bits(self.chip)))
            sources.setdefault(feed.source, []).append(reached)
        axons = sum(np.unique(np.concatenate(parts)).size for parts in sources.values())
        if self.chip.shared_memory:
            words, tables = self.registers[p.name]
            bits += (-(-words * (last - first) // p.units) + tables) * WORD_BITS
        return Core(p.name, first, last, bits, axons, 0, stored)

    def over(self, p: Population, core: Core) -> Shortage | None:
        units = core.last - core.first
        for resource, needed, available in (
            ("neurons", units, self.chip.neurons),
            ("memory bits", core.memory_bits, self.chip.memory_bits),
            ("in-axons", core.in_axons, self.chip.in_axons),
        ):
            if available is not None and needed > available:
                return Shortage(resource, p.name, needed, available)
        return None

    def split(self, p: Population) -> tuple[list[Core], Shortage | None]:
        """The longest runs of units that fit, one after another, or why a unit does not fit any core."""
        if self.chip.shared_memory and self.bytes_of(p) > self.chip.state_bytes:
            return [], Shortage("state bytes of a neuron", p.name, self.bytes_of(p), self.chip.state_bytes)
        cores: list[Core] = []
        first = 0
        while first < p.units:
            low, high = first + 1, min(p.units, first + self.cap[p.name])
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self.over(p, self.needs(p, first, middle)) is None else (low, middle - 1)
            cores.append(self.needs(p, first, low))
            shortage = self.over(p, cores[-1])
            if shortage is not None:
                return [], shortage
            first = low
        return cores, None

    # Messages between cores

    def reaches(self, cores: Sequence[Core]) -> Iterator[tuple[Stream, int, int, int]]:
        """`(stream, source core, target core, how many units of the source reach it)`."""
        by_name = {p.name: p for p in self.net.populations}
        at: dict[str, list[int]] = {}
        for number, core in enumerate(cores):
            at.setdefault(core.population, []).append(number)
        for target, core in enumerate(cores):
            merged: dict[Stream, list[Codes]] = {}
            for feed in self.feeds[core.population]:
                _, reached = self.columns(by_name[core.population], feed, core.first, core.last)
                merged.setdefault(feed.source, []).append(reached)
            for stream, parts in merged.items():
                sender = by_name[self.net.sender[stream]]
                elements = self.net.elements(stream.value)
                unit = np.unique(np.concatenate(parts)) * sender.units // elements
                for source in at[sender.name]:
                    inside = (unit >= cores[source].first) & (unit < cores[source].last)
                    if inside.any():
                        yield stream, source, target, int(inside.sum())

    def with_out_axons(self, cores: Sequence[Core]) -> tuple[list[Core], list[Shortage]]:
        count = [0] * len(cores)
        for _, source, _, units in self.reaches(cores):
            count[source] += units
        filled = [Core(**{**vars(core), "out_axons": n}) for core, n in zip(cores, count, strict=True)]
        limit = self.chip.out_axons
        if limit is None:
            return filled, []
        worst: dict[str, int] = {}
        for core in filled:
            if core.out_axons > limit:
                worst[core.population] = max(worst.get(core.population, 0), core.out_axons)
        return filled, [Shortage("out-axons", name, n, limit) for name, n in worst.items()]

    def routes(self, cores: Sequence[Core]) -> Iterator[Route]:
        total: dict[Stream, Codes] = {}
        for stream, source, target, units in self.reaches(cores):
            a, b = (n % self.chip.cores // CORES_PER_TILE for n in (source, target))
            across = abs(a % TILES_PER_ROW - b % TILES_PER_ROW)
            along = abs(a // TILES_PER_ROW - b // TILES_PER_ROW)
            total[stream] = total.get(stream, np.zeros(3, np.int64)) + units * np.array((1, across, along))
        for stream, sums in sorted(total.items()):
            mean = [float(v) / self.net.elements(stream.value) for v in sums]
            yield Route(str(stream), self.net.sender[stream], mean[0], mean[1], mean[2])

    def notes(self) -> Iterator[str]:
        chip = self.chip
        if chip.payload_bits == 0:
            yield (
                "Loihi 1 silicon sends binary spikes; this network sends graded ones. The simulation runs under Lava's "
                "Loihi1SimCfg, the chip would not run it."
            )
        wide = [s.name for s in self.net.synapses if chip.weight_bits and weight_bits(s.matrix) > chip.weight_bits]
        if wide:
            yield f"Weights wider than the {chip.weight_bits} bits of a synapse: {', '.join(wide)}."
        large = [p.name for p in self.net.populations if self.bytes_of(p) > chip.state_bytes]
        if large:
            yield f"Registers beyond the {chip.state_bytes} bytes of a neuron's state: {', '.join(large)}."
        if self.net.depth > 1:
            yield (
                f"One tick passes {self.net.depth} synapses in sequence. Lava's simulation does that within one time "
                f"step; on a chip, where a spike arrives in the next step, a tick takes {self.net.depth} time steps."
            )
        unknown = [name for name in ("in_axons", "out_axons") if getattr(chip, name) is None]
        if unknown:
            yield f"Not checked, because no limit is published: {', '.join(unknown)}."
        if self.chips > 1:
            yield "Messages between chips are counted as if all cores were on one."
