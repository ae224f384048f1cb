"""Placement of populations on neurocores under the published limits, first fit in the order of the partition.

A synapse lies where its sums are used: each core holds the rows of its own units. What a core needs:

- neurons: its units;
- memory: weights as stored (ternary 2 bits, else the narrowest signed format), for sparse storage an index besides each
  weight that tells the core's neurons apart; on a chip with shared memory also registers of 32 bits and tables;
- in-axons: the distinct source units that reach it; out-axons: for each of its units, the cores that it reaches.

Units are taken as they are numbered, channel after channel of an image, or site by site where that needs less (decision
0049).

Host, routing tables, microcode and the padding of real memory formats are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from eqcompile.toolchain.arrays import Codes
from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.passes import Taps
from eqcompile.toolchain.typed_json import JSON, encode

from .capacity import WORD_BITS, Connectivity, stored_as, weight_bits
from .chips import Chip
from .packing import Core, Feed, Packing, Piece, by_sites
from .partition import Partition, Population, Stream

__all__ = ["NEUROCORES", "Core", "Placement", "Route", "Shortage", "place"]

NEUROCORES = "neurocores"
CORES_PER_TILE = 4
TILES_PER_ROW = 8
"""Loihi's 32 tiles of four cores as 8 columns by 4 rows, filled row by row: this model's choice of a layout."""


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
    """The cores of a net, or why it does not fit. `storage`: "dense" or "sparse" for each synapse. `sites`: populations
    whose places are taken site by site, with their `[channels, height, width]`: place p is the unit of channel
    `p % channels` at site `p // channels`, row by row."""

    chip: Chip
    chips: int
    depth: int
    steps: int
    cores: tuple[Core, ...]
    routes: tuple[Route, ...]
    storage: Mapping[str, str]
    sites: Mapping[str, tuple[int, int, int]]
    shortages: tuple[Shortage, ...]
    notes: tuple[str, ...]
    axons: int
    """In-axons and out-axons of all cores, of those that the chips have not as well."""

    def to_json(self) -> dict[str, JSON]:
        """The placement as a JSON object."""
        return encode(self)


def place(net: Partition, chip: Chip, *, connectivity: Connectivity = "auto", chips: int = 1) -> Placement:
    """Put every population on cores of `chips` chips; shortages are listed, not raised."""
    flat = _Placer(net, chip, connectivity, chips, {})
    images = {p.name: shape for p in net.populations if (shape := _image(net, p)) is not None}
    if not images:
        return flat.result()
    by_site = _Placer(net, chip, connectivity, chips, images).result()
    if _cost(by_site) < (0, -(-flat.least() // chip.cores)):
        return by_site
    return min(flat.result(), by_site, key=_cost)


def _image(net: Partition, p: Population) -> tuple[int, int, int] | None:
    """The shape of a population that is an image of several channels, `[channels, height, width]`."""
    values = [s.name for s in p.states] + [i.name for i in p.clamped] + list(p.receives) + [s.value for s in p.mirrors]
    for shape in (net.types[value].shape for value in values):
        if len(shape) == 3 and prod(shape) == p.units and 1 < shape[0] < p.units:
            return shape
    return None


def _cost(placement: Placement) -> tuple[int, ...]:
    """What is better is less: units that fit no core, chips, axons, cores."""
    cores = next((s.needed for s in placement.shortages if s.resource == NEUROCORES), len(placement.cores))
    unfit = sum(s.resource != NEUROCORES for s in placement.shortages)
    return unfit, -(-cores // placement.chip.cores), placement.axons, cores


class _Placer:
    def __init__(
        self,
        net: Partition,
        chip: Chip,
        connectivity: Connectivity,
        chips: int,
        sites: Mapping[str, tuple[int, int, int]],
    ) -> None:
        self.net, self.chip, self.chips, self.sites = net, chip, chips, sites
        self.storage = {s.name: stored_as(s.matrix, chip, connectivity) for s in net.synapses}
        self.registers = {p.name: self.registers_of(p) for p in net.populations}
        self.packings = {p.name: self.packing(p) for p in net.populations}
        self.pieces: dict[str, list[Piece]] = {}

    def packing(self, p: Population) -> Packing:
        unit = by_sites(self.sites[p.name]) if p.name in self.sites else None
        return Packing(p.name, p.units, tuple(self.feeds_of(p)), self.chip, *self.registers[p.name], unit)

    def feeds_of(self, p: Population) -> Iterator[Feed]:
        for s in self.net.synapses:
            if p.name in s.targets:
                yield Feed(s.name, s.source, s.matrix, weight_bits(s.matrix), self.storage[s.name] == "dense")
        for stream in p.mirrors:
            yield Feed(f"mirror_{stream}", stream, Taps.identity(self.net.elements(stream.value)), 2, False)

    def registers_of(self, p: Population) -> tuple[int, int]:
        """32-bit words of state of all units, and words of tables that each core of the population holds."""
        values = [s.name for s in p.states] + list(p.receives) + [s.value for s in (*p.mirrors, *p.streams)]
        words = sum(self.net.elements(v) for v in values) + sum(self.net.elements(i.name) for i in p.clamped)
        computed = [a.op for script in p.scripts.values() for a in script if a.op is not None]
        drive = [a.value for a in p.scripts["drive"] if a.op is not None]
        words += sum(prod(self.net.types[v].shape) * self.net.words(v) for v in drive)
        params = {n for op in computed for n in op.reads if n in self.net.net.param_names}
        return words, sum(self.net.net.param(n).size * self.net.words(n) for n in params)

    def bytes_of(self, p: Population) -> int:
        """State of one unit, rounded up."""
        return -(-self.registers[p.name][0] * WORD_BITS // (8 * p.units))

    def pack(self, cap: Mapping[str, int]) -> None:
        """Runs of units; those of a population that are all within a smaller cap stay as they are."""
        for name, packing in self.packings.items():
            if name not in self.pieces or max(_units(piece.core) for piece in self.pieces[name]) > cap[name]:
                self.pieces[name] = list(packing.pieces(cap[name]))

    def least(self) -> int:
        """The fewest cores in this order: out-axons only ask for more."""
        self.pack({name: self.chip.neurons for name in self.packings})
        return sum(len(found) for found in self.pieces.values())

    def result(self) -> Placement:
        cap = {p.name: self.chip.neurons for p in self.net.populations}
        placed: list[Piece] = []
        cores: list[Core] = []
        while True:
            self.pack(cap)
            shortages = [s for p in self.net.populations for s in self.lacks(p, self.pieces[p.name])]
            if shortages:
                break
            placed = [piece for found in self.pieces.values() for piece in found]
            cores, over = self.with_out_axons(placed)
            if not over:
                break
            # Smaller pieces send from more cores, each with fewer edges, but reach no fewer cores with a unit. A piece
            # at least halves, as more is needed than there is.
            shortages = [s for s in over if cap[s.where] == 1]
            if shortages:
                break
            for s in over:
                cap[s.where] = max(1, cap[s.where] * s.available // (s.needed + s.available))
        available = self.chip.cores * self.chips
        if not shortages and len(cores) > available:
            shortages = [Shortage(NEUROCORES, f"{self.chips} chip(s)", len(cores), available)]
        return Placement(
            chip=self.chip,
            chips=self.chips,
            depth=self.net.depth,
            steps=self.net.net.schedule.steps,
            cores=() if shortages else tuple(cores),
            routes=() if shortages else tuple(self.routes(placed)),
            storage=self.storage,
            sites=dict(self.sites),
            shortages=tuple(shortages),
            notes=tuple(self.notes(() if shortages else cores)),
            axons=sum(core.in_axons + core.out_axons for core in cores),
        )

    def lacks(self, p: Population, pieces: Sequence[Piece]) -> Iterator[Shortage]:
        """Why a unit does not fit any core."""
        if self.chip.shared_memory and self.bytes_of(p) > self.chip.state_bytes:
            yield Shortage("state bytes of a neuron", p.name, self.bytes_of(p), self.chip.state_bytes)
            return
        core = pieces[-1].core
        for resource, needed, available in (
            ("memory bits", core.memory_bits, self.chip.memory_bits),
            ("in-axons", core.in_axons, self.chip.in_axons),
        ):
            if available is not None and needed > available:
                yield Shortage(resource, p.name, needed, available)
                return

    # Messages between cores

    def reaches(self, pieces: Sequence[Piece]) -> Iterator[tuple[Stream, int, int, int]]:
        """`(stream, source core, target core, how many units of the source reach it)`."""
        holder: dict[str, list[Codes]] = {}
        for number, piece in enumerate(pieces):
            holder.setdefault(piece.core.population, []).append(np.full(_units(piece.core), number))
        core_at = {name: np.concatenate(parts) for name, parts in holder.items()}
        for target, piece in enumerate(pieces):
            for stream, entries in piece.reached.items():
                sender = self.packings[self.net.sender[stream]]
                unit = entries * sender.units // self.net.elements(stream.value)
                sources = core_at[sender.population][sender.place[unit]]
                first = int(sources.min(initial=len(pieces)))
                count = np.bincount(sources - first)
                yield from ((stream, first + int(at), target, int(count[at])) for at in np.flatnonzero(count))

    def with_out_axons(self, pieces: Sequence[Piece]) -> tuple[list[Core], list[Shortage]]:
        count = [0] * len(pieces)
        for _, source, _, units in self.reaches(pieces):
            count[source] += units
        filled = [replace(piece.core, out_axons=n) for piece, n in zip(pieces, count, strict=True)]
        limit = self.chip.out_axons
        if limit is None:
            return filled, []
        worst: dict[str, int] = {}
        for core in filled:
            if core.out_axons > limit:
                worst[core.population] = max(worst.get(core.population, 0), core.out_axons)
        return filled, [Shortage("out-axons", name, n, limit) for name, n in worst.items()]

    def routes(self, pieces: Sequence[Piece]) -> Iterator[Route]:
        total: dict[Stream, Codes] = {}
        for stream, source, target, units in self.reaches(pieces):
            a, b = (n % self.chip.cores // CORES_PER_TILE for n in (source, target))
            across = abs(a % TILES_PER_ROW - b % TILES_PER_ROW)
            along = abs(a // TILES_PER_ROW - b // TILES_PER_ROW)
            total[stream] = total.get(stream, np.zeros(3, np.int64)) + units * np.array((1, across, along))
        for stream, sums in sorted(total.items()):
            mean = [float(v) / self.net.elements(stream.value) for v in sums]
            yield Route(str(stream), self.net.sender[stream], mean[0], mean[1], mean[2])

    def notes(self, cores: Sequence[Core]) -> Iterator[str]:
        chip = self.chip
        for name, (channels, height, width) in self.sites.items():
            yield (
                f"{name}: cores hold its units site by site, all {channels} channels of a site together. Place p is "
                f"channel p % {channels} of site p // {channels}, row by row of {height} x {width}."
            )
        split = {core.population for core in cores if core.first}
        reduced = [p.name for p in self.net.populations if p.name in split and _reduces(p)]
        if reduced:
            yield (
                f"Sums or maxima over units of several cores ({', '.join(reduced)}): the messages between these cores "
                "are not counted."
            )
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
        if self.net.wide:
            yield f"Of two words of 32 bits each, within a population: {', '.join(sorted(self.net.wide))}."
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


def _units(core: Core) -> int:
    return core.last - core.first


def _reduces(p: Population) -> bool:
    return any(isinstance(action.op, ops.Reduce) for script in p.scripts.values() for action in script)
