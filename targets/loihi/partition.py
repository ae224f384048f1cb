"""A net cut into populations and synapses: the processes of the Lava network.

The operations that hold weights become synapses. What lies between them, elementwise operations and reductions with
the states they update, falls into connected regions: the populations. Two kinds of messages cross the cuts:

- a *stream* carries the changes of one value (graded spikes, `new - old`, nothing where a code did not move) from the
  population that owns it to synapses and to populations that read it directly;
- a synapse hands its exact sums, `bias + matrix @ value`, to the populations that read them.

All actions of a block follow the order of the net's operations, streams of values that are known before the block
first. Each process keeps that one order, sends do not block, so no cycle of messages can deadlock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from eqcompile.toolchain.arrays import Codes
from eqcompile.toolchain.ir import Input, Interval, IntNet, State, ValueType
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import LINEAR, Analysis, Taps, bias_entries, linear_taps

__all__ = ["BLOCKS", "WORD", "Action", "Block", "Partition", "Population", "Stream", "Synapse", "partition"]

Block = Literal["drive", "step", "readout"]
BLOCKS: tuple[Block, ...] = ("drive", "step", "readout")
WORD = Interval(-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True, order=True)
class Stream:
    """Changes of `value`, sent once in every time step that evaluates `block`."""

    value: str
    block: Block

    def __str__(self) -> str:
        return f"{self.value}_{self.block}"


@dataclass(frozen=True)
class Action:
    """One thing a population does in a block: `send` a stream, `receive` sums of a synapse, `mirror` a stream of
    another population, or `compute` one operation. `value` is the value concerned."""

    kind: Literal["send", "receive", "mirror", "compute"]
    value: str
    op: Op | None = None


@dataclass(frozen=True, eq=False)
class Synapse:
    """`out = bias + matrix @ source`, flattened; listens to the stream `source`, feeds the populations `targets`."""

    name: str
    source: Stream
    matrix: Taps[np.int64]
    bias: Codes
    targets: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Population:
    """Units of one region.

    `units` is the largest number of elements among what it holds. `scripts` gives the actions of each block in order,
    `mirrors` the streams that it reads from other populations, `streams` those that it sends, `outputs` the values of
    the net's outputs that it holds, `clamped` the inputs that it stands for.
    """

    name: str
    units: int
    states: tuple[State, ...]
    clamped: tuple[Input, ...]
    scripts: Mapping[Block, tuple[Action, ...]]
    receives: tuple[str, ...]
    mirrors: tuple[Stream, ...]
    streams: tuple[Stream, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Partition:
    """The processes of a net. `depth`: messages in sequence within one tick (1 for a Jacobi step of one layer)."""

    net: IntNet
    types: Mapping[str, ValueType]
    ranges: Mapping[str, Interval]
    populations: tuple[Population, ...]
    synapses: tuple[Synapse, ...]
    depth: int

    @cached_property
    def sender(self) -> Mapping[Stream, str]:
        """Name of the population that sends each stream."""
        return {stream: p.name for p in self.populations for stream in p.streams}

    @cached_property
    def wide(self) -> frozenset[str]:
        """Values and parameters of more than 32 bits that one population computes with and tells nobody: not states,
        streams, sums of synapses or outputs."""
        actions = [a for p in self.populations for script in p.scripts.values() for a in script]
        computed = [a.op for a in actions if a.op is not None]
        inner = {name for op in computed for name in (op.out, *op.reads)}
        told = {a.value for a in actions if a.op is None}
        told |= {name for s in self.net.states for name in (s.name, s.update, s.init or "")}
        told |= {i.name for i in self.net.inputs} | {o.value for o in self.net.outputs}
        return frozenset(n for n in inner - told if n in self.ranges and not self.ranges[n].within(WORD))

    def words(self, value: str) -> int:
        """32-bit words of one entry."""
        return 2 if value in self.wide else 1

    def elements(self, value: str) -> int:
        """How many units a stream of this value has: its elements, one-hot for an index."""
        rows = next((i.rows for i in self.net.inputs if i.name == value and i.kind == "index"), None)
        return prod(self.types[value].shape) * (rows or 1)


def partition(net: IntNet) -> Partition:
    """Cut a verified net that has no `repeat`, `matmul` or tolerance."""
    return _Cutter(net).result()


@dataclass
class _Region:
    """A population in the making."""

    members: list[str]
    receives: set[str] = field(default_factory=set)
    mirrors: set[Stream] = field(default_factory=set)
    streams: set[Stream] = field(default_factory=set)
    outputs: list[str] = field(default_factory=list)


class _Cutter:
    def __init__(self, net: IntNet) -> None:
        self.net, self.types = net, Analysis.of(net).types
        self.block_of: dict[str, Block] = {}
        self.weighted: dict[str, Op] = {}
        self.inner: dict[str, Op] = {}
        for block, (_, block_ops) in zip(BLOCKS, net.blocks, strict=True):
            for op in block_ops:
                self.block_of[op.out] = block
                (self.weighted if isinstance(op, LINEAR) else self.inner)[op.out] = op
        self.states = {s.name: s for s in net.states}
        self.inputs = {i.name: i for i in net.inputs}
        self.group = {name: name for name in (*self.inner, *self.states, *self.inputs)}

    def find(self, name: str) -> str:
        while self.group[name] != name:
            name = self.group[name]
        return name

    def join(self, a: str, b: str) -> None:
        self.group[self.find(a)] = self.find(b)

    def result(self) -> Partition:
        self.connect()
        regions = self.regions()
        names = {root: self.name_of(r) for root, r in regions.items()}
        synapses = tuple(
            Synapse(
                out,
                Stream(self.source(op), self.block_of[out]),
                linear_taps(self.net, op),
                bias_entries(self.net, op),
                tuple(names[root] for root, r in regions.items() if out in r.receives),
            )
            for out, op in self.weighted.items()
        )
        populations = tuple(self.population(names[root], r) for root, r in regions.items())
        return Partition(self.net, self.types, Analysis.of(self.net).ranges, populations, synapses, self.depth())

    # Regions

    def connect(self) -> None:
        """Join what exchanges values elementwise; states go with their update, or else with who reads them."""
        for out, op in self.inner.items():
            for name in op.reads:
                if name in self.inner:
                    self.join(out, name)
        for s in self.net.states:
            for source in (s.update, s.init):
                if source is not None and source in self.inner:
                    self.join(s.name, source)
        for out, op in self.inner.items():
            # A lone operation on one population's values, such as a reshape before the readout, is done there.
            held = {self.find(n) for n in op.reads if n in self.group}
            alone = sum(self.find(m) == self.find(out) for m in self.group) == 1
            if alone and len(held) == 1 and not any(n in self.weighted for n in op.reads):
                self.join(out, *held)
        for s in self.net.states:
            reader = next((out for out, op in self.inner.items() if s.name in op.reads), None)
            if s.update not in self.inner and reader is not None:
                self.join(s.name, reader)
        # Every other value that someone needs from a population gets a relay of its own.
        needed = [self.source(op) for op in self.weighted.values()] + [o.value for o in self.net.outputs]
        for value in needed:
            if value not in self.group:
                holder = next(iter(self.holders(value)), None)
                self.group[value] = value if holder is None else self.find(holder)

    def source(self, op: Op) -> str:
        x: str = op.reads[0]
        return x

    def holders(self, value: str) -> Iterator[str]:
        """Members that read `value` themselves, so that their population holds it anyway."""
        if value not in self.weighted:
            return
        yield from (out for out, op in self.inner.items() if value in op.reads)
        yield from (s.name for s in self.net.states if value in (s.update, s.init))

    def regions(self) -> dict[str, _Region]:
        regions: dict[str, _Region] = {}
        for name in self.group:
            regions.setdefault(self.find(name), _Region([])).members.append(name)
        for op in self.weighted.values():
            value = self.source(op)
            regions[self.find(value)].streams.add(Stream(value, self.block_of[op.out]))
        for root, region in regions.items():
            for name, block in self.reads(region):
                if name in self.weighted:
                    region.receives.add(name)
                elif name in self.group and self.find(name) != root:
                    stream = Stream(name, block)
                    region.mirrors.add(stream)
                    regions[self.find(name)].streams.add(stream)
        for o in self.net.outputs:
            regions[self.find(o.value)].outputs.append(o.value)
        return regions

    def reads(self, region: _Region) -> Iterator[tuple[str, Block]]:
        """Every value that a region reads, with the block in which it does."""
        for member in region.members:
            if member in self.inner:
                yield from ((name, self.block_of[member]) for name in self.inner[member].reads)
            elif member in self.states:
                yield self.states[member].update, "step"
            elif member in self.weighted:
                yield member, self.block_of[member]
            init = self.states[member].init if member in self.states else None
            if init is not None:
                yield init, "drive"

    def name_of(self, region: _Region) -> str:
        for kind in (self.states, self.inputs):
            named = [m for m in region.members if m in kind]
            if named:
                return named[0]
        return (region.outputs or region.members)[0]

    def population(self, name: str, region: _Region) -> Population:
        held = {*region.members, *region.receives, *(s.value for s in region.mirrors)}
        sizes = [prod(self.types[m].shape) for m in held if m not in self.net.param_names or m in region.members]
        clamped = tuple(self.inputs[m] for m in region.members if m in self.inputs)
        sizes += [prod(i.shape) * i.rows for i in clamped if i.rows is not None]
        streams = tuple(sorted(region.streams))
        return Population(
            name=name,
            units=max(sizes),
            states=tuple(s for s in self.net.states if s.name in region.members),
            clamped=clamped,
            scripts={block: tuple(self.script(region, block)) for block in BLOCKS},
            receives=tuple(v for v in self.weighted if v in region.receives),
            mirrors=tuple(sorted(region.mirrors)),
            streams=streams,
            outputs=tuple(dict.fromkeys(region.outputs)),
        )

    def script(self, region: _Region, block: Block) -> Iterator[Action]:
        sends = sorted(s.value for s in region.streams if s.block == block)
        early = [v for v in sends if self.block_of.get(v) != block]
        yield from (Action("send", v) for v in early)
        yield from (Action("mirror", s.value) for s in sorted(region.mirrors) if s.block == block)
        members = set(region.members)
        for op in dict(self.net.blocks)[block]:
            if op.out in self.inner and op.out in members:
                yield Action("compute", op.out, op)
            elif op.out in region.receives:
                yield Action("receive", op.out)
            else:
                continue
            if op.out in sends:
                yield Action("send", op.out)

    def depth(self) -> int:
        """The longest chain of messages in a step: synapses, and elementwise links between populations."""
        level: dict[str, int] = {}
        for op in self.net.step:
            reach = [0]
            for name in op.reads:
                away = op.out in self.inner and name in self.states and self.find(name) != self.find(op.out)
                reach.append(level.get(name, int(away)))
            level[op.out] = max(reach) + isinstance(op, LINEAR)
        return max((1, *level.values()))
