"""A net cut into what the serial engine has: vectors in memories, maps in the weight memory, sweeps over units.

The drive, the step and the readout each become: apply events to the accumulators of their maps, then sweep over the
units and compute everything elementwise. A reduction over all units needs a sweep of its own before the one that reads
it. In a sweep a unit's old codes are read before its new ones are written, and units do not see each other: all states
latch together although each is written in place. Changes wait in lists until the next tick applies them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.ir.ops import Op

from ..datapath import ELEMENTWISE, Datapath
from .columns import Layout, make_layout, memory_words
from .matrix import WEIGHTED, Matrix, bias_rows, code_bits, dense

__all__ = ["BLOCKS", "Block", "Map", "Plan", "PlanError", "Sweep", "Vector", "make_plan", "plan_memory", "plan_words"]

Block = Literal["drive", "step", "readout"]
BLOCKS: tuple[Block, ...] = ("drive", "step", "readout")


class PlanError(ValueError):
    """This engine does not take a node; `where` names it."""

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.where, self.what, self.hint = where, what, hint


@dataclass(frozen=True)
class Vector:
    """Codes held in a memory: an input, a value of the drive, or a state."""

    name: str
    units: int
    format: Format
    kind: Literal["input", "drive", "state"]

    @property
    def change(self) -> Format:
        """Format of the difference of two codes, and of a code itself."""
        span = self.format.hi - self.format.lo
        return Format.holding(-span, span)


@dataclass(frozen=True, eq=False)
class Map:
    """`out = bias + matrix @ source`: `words` accumulator words in `bank`."""

    out: str
    block: Block
    source: str
    matrix: Matrix
    bias: tuple[int, ...]
    words: int
    bank: int
    format: Format


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over `units`: the operations it needs, and what becomes of their values.

    `stores`: vector to the value it takes (None: zero). `shows`: number of an output and its value. `sums`: reductions
    over the units. `scans`: vectors whose codes become events as they are.
    """

    name: str
    block: Block
    units: int
    script: tuple[Op, ...] = ()
    stores: tuple[tuple[str, str | None], ...] = ()
    shows: tuple[tuple[int, str], ...] = ()
    sums: tuple[ops.Reduce, ...] = ()
    scans: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about one engine but its wires. `alias`: values that are others under another shape."""

    net: IntNet
    lanes: int
    width: int
    vectors: Mapping[str, Vector]
    maps: tuple[Map, ...]
    sweeps: tuple[Sweep, ...]
    alias: Mapping[str, str]
    weights: Layout

    @cached_property
    def banks(self) -> tuple[tuple[int, int], ...]:
        """`(words, bits of one accumulator)` of each bank."""
        count = 1 + max((m.bank for m in self.maps), default=-1)
        grouped = [[m for m in self.maps if m.bank == bank] for bank in range(count)]
        return tuple((max(m.words for m in b), max(m.format.bits for m in b)) for b in grouped)

    def maps_of(self, block: Block, source: str | None = None) -> tuple[Map, ...]:
        return tuple(m for m in self.maps if m.block == block and source in (None, m.source))

    @cached_property
    def listed(self) -> tuple[str, ...]:
        """Vectors whose changes are kept in a list."""
        sources = (m.source for m in self.maps if m.block != "drive")
        return tuple(dict.fromkeys(sources))


def make_plan(net: IntNet, *, lanes: int, width: int, granule: int = 1, capacity: int | None = None) -> Plan:
    """The plan of a verified net with `lanes` rows a clock and `width` units a clock; raises PlanError. `granule` and
    `capacity` as in `columns.make_layout`."""
    return _Planner(net, lanes, width).plan(granule, capacity)


def plan_memory(plan: Plan, net: IntNet) -> tuple[list[int], list[int]]:
    """Table and entries of the weight memory for a net that differs from the plan's in its weights alone.

    Raises UnsupportedError if it differs in more, or does not fit.
    """
    kept = {op.weight for op in plan.net.all_ops() if isinstance(op, WEIGHTED)}
    theirs = {p.name: p for p in plan.net.params if p.name in kept}
    same = replace(net, params=tuple(theirs.get(p.name, p) for p in net.params))
    if same != plan.net:
        what = "the net differs from the core's in more than its weights"
        raise UnsupportedError([Diagnostic("rtl-weights", what, net.name, "build a core from this net")])
    by_name = {op.out: op for op in net.all_ops()}
    return memory_words(plan.weights, [dense(by_name[m.out], net) for m in plan.maps], net.name)


def plan_words(plan: Plan, net: IntNet) -> list[int]:
    """32-bit words of the load port from address 0; raises what `plan_memory` raises."""
    table, entries = plan_memory(plan, net)
    parts = range(plan.weights.parts)
    return table + [entry >> (32 * part) & 0xFFFFFFFF for entry in entries for part in parts]


class _Planner:
    def __init__(self, net: IntNet, lanes: int, width: int) -> None:
        self.net, self.lanes, self.width = net, lanes, width
        self.path = Datapath(net)
        self.types = self.path.types
        self.alias: dict[str, str] = {}
        self.block_of: dict[str, Block] = {}
        self.op_of: dict[str, Op] = {}
        self.blocks = tuple((block, script) for block, (_, script) in zip(BLOCKS, net.blocks, strict=True))
        for block, script in self.blocks:
            for op in script:
                self.block_of[op.out], self.op_of[op.out] = block, op
                if isinstance(op, ops.Reshape):
                    self.alias[op.out] = self.resolve(op.x)
        self.inputs = {i.name for i in net.inputs}
        self.states = {s.name for s in net.states}
        self.vectors: dict[str, Vector] = {}
        self.maps: list[Map] = []
        self.sweeps: list[Sweep] = []

    def resolve(self, name: str) -> str:
        return self.alias.get(name, name)

    def size(self, name: str) -> int:
        return prod(self.types[name].shape)

    def plan(self, granule: int, capacity: int | None) -> Plan:
        for s in self.net.states:
            self.vectors[s.name] = Vector(s.name, self.size(s.name), self.net.formats[s.name], "state")
        self.hold_what_is_read()
        matrices = self.read_maps()
        if not matrices:
            raise PlanError(self.net.name, "the net has no linear map, this engine is built around one")
        bits = code_bits(matrices)
        if bits is None:
            raise PlanError(
                self.net.name, f"weights reach {max(int(abs(w).max()) for w in matrices)}, 16 bits hold 32767"
            )
        self.drive_sweeps()
        self.final_sweeps("step", {s.name: s.update for s in self.net.states})
        self.readout_sweeps()
        return Plan(
            net=self.net,
            lanes=self.lanes,
            width=self.width,
            vectors=self.vectors,
            maps=tuple(self.maps),
            sweeps=tuple(self.sweeps),
            alias=self.alias,
            weights=make_layout(matrices, lanes=self.lanes, code_bits=bits, granule=granule, capacity=capacity),
        )

    def hold_what_is_read(self) -> None:
        """Give memories to inputs that are read elementwise and to drive values that the step or the readout reads."""
        reads = [(block, op, self.resolve(name)) for block, script in self.blocks for op in script for name in op.reads]
        elementwise = [name for block, op, name in reads if not (block == "drive" and self.is_map(op))]
        drive = [name for block, _, name in reads if block != "drive" and self.block_of.get(name) == "drive"]
        ends = [self.resolve(s.update) for s in self.net.states] + [self.resolve(o.value) for o in self.net.outputs]
        for name in dict.fromkeys((*elementwise, *ends)):
            if name in self.inputs:
                self.vectors[name] = Vector(name, self.size(name), self.net.formats[name], "input")
        for name in dict.fromkeys((*drive, *(n for n in ends if self.block_of.get(n) == "drive"))):
            if self.types[name].kind == "boolean":
                raise PlanError(name, f"{name} is a comparison of the drive; this engine keeps numbers")
            self.vectors[name] = Vector(name, self.size(name), self.net.formats[name], "drive")

    def is_map(self, op: Op | None) -> bool:
        return isinstance(op, WEIGHTED)

    def read_maps(self) -> list[Matrix]:
        for block in BLOCKS:
            maps = [op for op in dict(self.net.blocks)[block] if self.is_map(op)]
            for bank, op in enumerate(maps):
                source = self.resolve(op.reads[0])
                known = self.inputs if block == "drive" else {n for n, v in self.vectors.items() if v.kind != "input"}
                if source not in known:
                    what = f"{op.mnemonic} {op.out} of the {block} reads {source}, this engine needs "
                    raise PlanError(
                        op.out, what + ("an input" if block == "drive" else "a state or a value of the drive")
                    )
                matrix = dense(op, self.net)
                words = -(-len(matrix) // self.lanes)
                bias = tuple(bias_rows(op, self.net))
                fmt = self.net.formats[op.out]
                self.maps.append(Map(op.out, block, source, matrix, bias, words, bank, fmt))
        return [m.matrix for m in self.maps]

    # Sweeps

    def drive_sweeps(self) -> None:
        targets: dict[str, str | None] = {n: n for n, v in self.vectors.items() if v.kind == "drive"}
        targets |= {s.name: s.init for s in self.net.states}
        self.final_sweeps("drive", targets)

    def readout_sweeps(self) -> None:
        for source in dict.fromkeys(m.source for m in self.maps if m.block == "readout"):
            self.sweeps.append(Sweep(f"scan_{source}", "readout", self.vectors[source].units, scans=(source,)))
        outputs = self.net.outputs
        needed = self.sum_sweeps("readout", [o.value for o in outputs])
        for number, o in enumerate(outputs):
            script = self.script("readout", [o.value], self.size(o.value), needed)
            sweep = Sweep(f"output_{o.name}", "readout", self.size(o.value), script, shows=((number, o.value),))
            self.sweeps.append(sweep)

    def final_sweeps(self, block: Block, targets: Mapping[str, str | None]) -> None:
        """The sweeps that store: one for each number of units."""
        needed = self.sum_sweeps(block, [value for value in targets.values() if value is not None])
        for units in dict.fromkeys(self.vectors[name].units for name in targets):
            stores = tuple((n, v) for n, v in targets.items() if self.vectors[n].units == units)
            script = self.script(block, [v for _, v in stores if v is not None], units, needed)
            self.sweeps.append(Sweep(f"{block}_{units}", block, units, script, stores=stores))

    def sum_sweeps(self, block: Block, targets: Iterable[str]) -> set[str]:
        """Append a sweep for each level and size of the reductions that `targets` need; return their values."""
        level: dict[str, int] = {}
        sums: dict[tuple[int, int], list[ops.Reduce]] = {}
        needed = self.closure(block, targets)
        for op in dict(self.net.blocks)[block]:
            if op.out not in needed:
                continue
            level[op.out] = max((level.get(self.resolve(n), 0) for n in op.reads), default=0)
            if isinstance(op, ops.Reduce):
                if op.kind != "sum" or self.size(op.out) != 1:
                    shapes = f"{list(self.types[op.x].shape)} to {list(self.types[op.out].shape)}"
                    raise PlanError(
                        op.out,
                        f"reduce {op.out} is a {op.kind} over axes {list(op.axes)}, {shapes}; this engine sums all "
                        "units to one number and has no sweep over pairs of units, which ranks (the k largest) need",
                        "--arch parallel compares all pairs at once",
                    )
                sums.setdefault((level[op.out], self.size(op.x)), []).append(op)
                level[op.out] += 1
        known: set[str] = set()
        for (depth, units), reductions in sorted(sums.items(), key=lambda item: item[0]):
            script = self.script(block, [op.x for op in reductions], units, known)
            self.sweeps.append(Sweep(f"{block}_sum{depth}_{units}", block, units, script, sums=tuple(reductions)))
            known |= {op.out for op in reductions}
        return known

    def closure(self, block: Block, targets: Iterable[str]) -> set[str]:
        """Values of the block that `targets` need."""
        values: set[str] = set()
        todo = [self.resolve(t) for t in targets]
        while todo:
            name = todo.pop()
            if name not in values and self.block_of.get(name) == block:
                values.add(name)
                todo += [self.resolve(n) for n in self.op_of[name].reads]
        return values

    def script(self, block: Block, targets: Iterable[str], units: int, sums: set[str]) -> tuple[Op, ...]:
        """Elementwise operations that compute `targets` in one sweep, in order."""
        needed: set[str] = set()
        todo = [self.resolve(t) for t in targets]
        for name in todo:
            if name not in self.net.param_names:
                self.spans(name, name, units)
        while todo:
            name = todo.pop()
            if name in needed or name in sums or self.block_of.get(name) != block:
                continue
            op = self.op_of[name]
            if self.is_map(op):
                continue  # its sums are read from the accumulators
            if not isinstance(op, ELEMENTWISE):
                raise PlanError(name, f"this engine has no {op.mnemonic}, which computes {name}", "take another target")
            self.fits(op, units)
            needed.add(name)
            todo += [self.resolve(n) for n in op.reads]
        return tuple(op for op in dict(self.net.blocks)[block] if op.out in needed)

    def fits(self, op: Op, units: int) -> None:
        """An operation of a sweep is on one element for each unit, or on single numbers."""
        for name in (op.out, *(n for n in op.reads if n not in self.net.param_names)):
            self.spans(op.out, name, units)

    def spans(self, where: str, name: str, units: int) -> None:
        size, source = self.size(name), self.resolve(name)
        single = size == 1 and source not in self.vectors and not self.is_map(self.op_of.get(source))
        if size != units and not single:
            what = f"{where} needs {name} with {size} elements in a sweep over {units} units"
            raise PlanError(where, what, "this engine broadcasts parameters and sums, nothing else")
