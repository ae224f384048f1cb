"""Blocks of operations in which every result follows from one level of sums: evaluated unit by unit, without lists.

A step can be fused if each state latches a value that follows, entry by entry, from sums over states, from states, and
from values that no state reaches; a readout if each output is such a value. A `unit` is an entry of a state, or of an
output; its program is the operations that lead to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import codes

__all__ = ["NOTHING", "Fusion", "dense", "fuse"]

Numbers = NDArray[np.int64]
Arrays = Mapping[str, Numbers]
Latched = Sequence[tuple[int, int, int]]
LARGEST = 1 << 24
"""Entries of a matrix of weights."""
SPARSEST = 16
"""A matrix with fewer weights than one in so many is none."""
DENSE = 4
"""A tick takes the matrix if the deviating states reach one in so many units, counted with repetitions."""


class Fusion(NamedTuple):
    """What the kernel reads of the fused blocks. `fused`: 1 if step and readout are, then how many totals and registers
    one of them takes.

    `reach_start[b * (states + 1) + e]` and the next bound the rows of `reach` that state entry e has in block b: a unit
    whose results may deviate because of it, a total, and the weight with which its deviation goes there. `unit`: of
    every unit of the step, then of the readout, its program. `program`: a row a program, `line`: a row an operation of
    one; columns in `codes`.
    """

    fused: Numbers
    reach_start: Numbers
    reach: Numbers
    unit_start: Numbers
    unit: Numbers
    program: Numbers
    line: Numbers


class _NotFused(Exception):
    """A block has an operation that needs lists."""


@dataclass
class _Block:
    """Programs of one block, as they are found."""

    units: list[int] = field(default_factory=list)
    programs: list[list[int]] = field(default_factory=list)
    lines: list[list[int]] = field(default_factory=list)
    edges: list[Numbers] = field(default_factory=list)
    totals: int = 1
    """Total 0 takes the deviations of operands that are no sum's: their weight is 0."""


class _Fuser:
    def __init__(self, graph: Arrays, first: int, last: int) -> None:
        """Operations `first` to `last - 1`, of the arrays of `graph.Graph`."""
        self.g, self.first, self.last = graph, first, last
        self.states = int(graph["limits"][4])
        self.maker = {int(row[codes.OUT]): n for n, row in enumerate(graph["op"]) if first <= n < last}
        self.reached: set[int] = set()
        for number in range(first, last):
            if any(self.moves(slot) for slot in self.slots(number)):
                self.reached.add(int(graph["op"][number][codes.OUT]))

    def slots(self, number: int) -> Numbers:
        row = self.g["op"][number]
        return self.g["slot"][row[codes.SLOT] : row[codes.SLOT] + row[codes.SLOTS]]

    def moves(self, slot: Numbers) -> bool:
        """Whether an operand deviates where states do."""
        value = int(slot[codes.SLOT_VALUE])
        return value in self.reached or self.is_state(value)

    def is_state(self, value: int) -> bool:
        return int(self.g["base"][value]) < self.states

    def program(self, block: _Block, value: int, bits: int, signed: int) -> None:
        """The program of the units of `value`, behind those that `block` has; none if no state reaches it."""
        number, size = len(block.programs), int(self.g["size"][value])
        begin, first = len(block.lines), len(block.units)
        block.units += [number] * size
        registers: dict[int, int] = {}
        if value in self.reached:
            self.line(block, value, first, registers)
        count = len(block.lines) - begin
        block.programs.append([begin, count, first, int(self.g["base"][value]), value, bits, signed])

    def line(self, block: _Block, value: int, first: int, registers: dict[int, int]) -> int:
        """The register of a value, behind those that it needs."""
        if value in registers:
            return registers[value]
        number = self.maker[value]
        row, size = self.g["op"][number], int(self.g["size"][value])
        line, kind = self.numbers(number), int(row[codes.KIND])
        if kind == codes.SUM:
            line[codes.LINE_TOTAL] = block.totals
            for slot in self.slots(number):
                self.sum(block, slot, first)
            block.totals += size
        elif kind > codes.COPY:
            raise _NotFused
        else:
            for at, slot in enumerate(self.slots(number)):
                mode, where = self.operand(block, slot, size, first, registers)
                line[codes.LINE_MODES + 2 * at : codes.LINE_MODES + 2 * at + 2] = [mode, where]
                steps = np.unique(np.diff(self.g["gather"][slot[codes.SLOT_GATHER] :][:size]))
                line[codes.LINE_STRIDES + at] = steps[0] if len(steps) == 1 and steps[0] in (0, 1) else -1
        registers[value] = len(registers)
        block.lines.append(line)
        return registers[value]

    def numbers(self, number: int) -> list[int]:
        """Columns of a line that are its operation's."""
        row, base, size = self.g["op"][number], self.g["base"], self.g["size"]
        line = [0] * codes.LINE_COLUMNS
        table, slope = int(row[codes.TABLE]), int(row[codes.SLOPE])
        line[codes.LINE_KIND], line[codes.LINE_BASE] = int(row[codes.KIND]), int(base[row[codes.OUT]])
        line[codes.LINE_BITS], line[codes.LINE_SIGNED] = int(row[codes.BITS]), int(row[codes.SIGNED])
        line[codes.LINE_SHIFT], line[codes.LINE_FACTOR] = int(row[codes.SHIFT]), int(row[codes.FACTOR])
        line[codes.LINE_FIRST], line[codes.LINE_SLOTS] = int(row[codes.FIRST]), int(row[codes.SLOTS])
        if table >= 0:
            line[codes.LINE_TABLE], line[codes.LINE_TABLE_SIZE] = int(base[table]), int(size[table])
        if slope >= 0:
            line[codes.LINE_SLOPE] = int(base[slope])
        return line

    def sum(self, block: _Block, slot: Numbers, first: int) -> None:
        value = int(slot[codes.SLOT_VALUE])
        if not self.moves(slot):
            return
        if not self.is_state(value):
            raise _NotFused
        start = self.g["fan_start"][slot[codes.SLOT_FAN] :][: int(self.g["size"][value]) + 1]
        to, weight = (self.g[name][start[0] : start[-1]] for name in ("fan_to", "fan_weight"))
        entry = np.repeat(np.arange(len(start) - 1), np.diff(start))
        block.edges.append(np.stack([self.g["base"][value] + entry, first + to, block.totals + to, weight]))

    def operand(
        self, block: _Block, slot: Numbers, size: int, first: int, registers: dict[int, int]
    ) -> tuple[int, int]:
        value, where = int(slot[codes.SLOT_VALUE]), int(slot[codes.SLOT_GATHER])
        if not self.moves(slot):
            region = int(np.searchsorted(self.g["limits"][:4], self.g["base"][value], side="right"))
            return codes.FROM_REGION + region, where
        if self.is_state(value):
            entries = self.g["gather"][where : where + size].astype(np.int64)
            units, none = first + np.arange(size), np.zeros(size, np.int64)
            block.edges.append(np.stack([entries, units, none, none]))
            return codes.FROM_STATE, where
        if not slot[codes.SLOT_SAME]:
            raise _NotFused
        return codes.FROM_REGISTER, self.line(block, value, first, registers)


def dense(graph: Arrays, fusion: Fusion) -> tuple[NDArray[np.int16], int]:
    """Weights of a fused step as a matrix `[states, totals]`, and from how many deviating states on a tick takes it.

    Sums of at most 16 bits follow from weights and deviations modulo 2**16. Without a matrix the number is never met.
    """
    states, totals = int(graph["limits"][4]), int(fusion.fused[1])
    none = np.zeros((0, totals), np.int16), states + 1
    if not fusion.fused[0]:
        return none
    lines = fusion.line[: fusion.program[: len(graph["state"]), codes.PROGRAM_LINES].sum()]
    widest = lines[lines[:, codes.LINE_KIND] == codes.SUM, codes.LINE_BITS].max(initial=0)
    start = fusion.reach_start[: states + 1]
    edges = int(start[-1])
    if widest > 16 or states * totals > LARGEST or edges * SPARSEST < states * totals:
        return none
    matrix = np.zeros((states, totals), np.int64)
    _, total, weight = fusion.reach[:edges].T
    np.add.at(matrix, (np.repeat(np.arange(states), np.diff(start)), total), weight)
    return matrix.astype(np.int16), -(-states * states // (DENSE * edges))


def fuse(graph: Arrays) -> Fusion | None:
    """The fused blocks of a net, from the arrays of `graph.Graph` by name; None if one needs lists."""
    latched = [(int(s[codes.STATE_UPDATE]), *s[codes.STATE_BITS : codes.STATE_SIGNED + 1]) for s in graph["state"]]
    read = [(int(value), 0, 0) for value in dict.fromkeys(graph["output"][:, 0])]
    _, step, readout, end = graph["blocks"]
    blocks = [_block(graph, step, readout, latched), _block(graph, readout, end, read)]
    found = [block for block in blocks if block is not None]
    return _joined(found, int(graph["limits"][4])) if len(found) == len(blocks) else None


def _block(graph: Arrays, first: int, last: int, wanted: Latched) -> _Block | None:
    fuser, block = _Fuser(graph, int(first), int(last)), _Block()
    if not all(value in fuser.maker for value, _, _ in wanted):
        return None
    try:
        for value, bits, signed in wanted:
            fuser.program(block, value, int(bits), int(signed))
    except _NotFused:
        return None
    return block


def _joined(blocks: Sequence[_Block], states: int) -> Fusion:
    starts, reach, offset = [], [], 0
    programs: list[list[int]] = []
    lines: list[list[int]] = []
    units, numbers = [0], []
    for block in blocks:
        edges = np.concatenate([np.zeros((4, 0), np.int64), *block.edges], axis=1)
        edges = edges[:, np.argsort(edges[0], kind="stable")]
        starts.append(offset + np.concatenate([[0], np.cumsum(np.bincount(edges[0], minlength=states))]))
        offset += edges.shape[1]
        reach.append(edges[1:].T)
        numbers += [len(programs) + u for u in block.units]
        programs += [[len(lines) + p[0], *p[1:]] for p in block.programs]
        lines += block.lines
        units.append(len(numbers))
    return Fusion(
        fused=np.array([1, max(b.totals for b in blocks), max(p[1] for p in programs)], np.int64),
        reach_start=np.concatenate(starts),
        reach=np.concatenate(reach),
        unit_start=np.array(units, np.int64),
        unit=np.array(numbers, np.int64),
        program=np.array(programs, np.int64).reshape(-1, codes.PROGRAM_COLUMNS),
        line=np.array(lines, np.int64).reshape(-1, codes.LINE_COLUMNS),
    )


NOTHING = Fusion(np.zeros(3, np.int64), *(np.zeros(1, np.int64) for _ in range(6)))
"""Of a net that is not fused."""
