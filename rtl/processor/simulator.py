"""The processor as a program: runs an image record by record, as ISA.md says, and counts what it does.

It reads the binary alone. Nothing of the compiler or of golden is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from .encoding import decode
from .image import Image
from .isa import (
    CONSTANT,
    PORT,
    Alu,
    Apply,
    Begin,
    Clear,
    Done,
    End,
    Fresh,
    Gate,
    Instruction,
    Loop,
    Old,
    Reduction,
    Repeats,
    Stream,
    TableKind,
    Unit,
    Vector,
)
from .timing import Timing

__all__ = ["Codes", "Processor", "Sample"]

Codes = NDArray[np.int64]
Watch = Callable[["Processor"], None]
Step = Callable[["Processor", int], None]


@dataclass(frozen=True, eq=False)
class Sample:
    """What one sample gave: the codes that it emitted int64, ticks, how often each instruction ran, the clocks that a
    core spends in it and the words of weights that it reads (`timing.Timing`)."""

    emitted: Codes
    ticks: int
    runs: Counter[int]
    clocks: Counter[int]
    words: Counter[int]


class Processor:
    """Banks, lists and registers of one processor that holds an image.

    `watch` is called after each tick, which belongs to frame number `frame`; `step` after each instruction, with its
    number.
    """

    def __init__(self, image: Image, watch: Watch | None = None, step: Step | None = None) -> None:
        self.image, self.watch, self.step = image, watch, step
        self.program = tuple(decode(image.core, record) for record in image.program)
        self.banks = [np.zeros(bank.words, np.int64) for bank in image.core.banks]
        for (bank, base), words in image.words.items():
            self.banks[bank][base : base + len(words)] = words
        self.lists: list[list[tuple[Codes, Codes, Codes, Codes]]] = [[] for _ in image.core.lists]
        self.timing = Timing(image.core, self.program)
        self._words = [0 for _ in image.core.lists]
        self.moved = False
        self.ticks, self.frame, self._tolerance = 0, 0, 0
        self._places: dict[int, _Places] = {}
        self._columns: dict[tuple[int, int], tuple[Codes, Codes]] = {}
        _check_loops(self.program)

    def run(self, frames: Sequence[Codes]) -> Sample:
        """One sample of one or more frames of input codes."""
        self._frames = [np.asarray(f, np.int64).ravel() for f in frames]
        self.frame, self._taken = 0, 0
        self._emitted: list[Codes] = []
        runs: Counter[int] = Counter()
        self.timing.begin()
        loops: list[tuple[int, int]] = []
        at = 0
        while True:
            instruction, number = self.program[at], at
            runs[at] += 1
            match instruction:
                case Vector():
                    self._vector(at, instruction)
                case Apply():
                    self._apply(at, instruction)
                case Clear():
                    word = instruction.word
                    self.timing.clear(at, instruction.words, sums=self.image.core.banks[word.bank].sums)
                    self.banks[word.bank][word.base : word.base + instruction.words] = 0
                case Begin():
                    self.timing.control(at)
                    for entries in self.lists:
                        entries.clear()
                    self._words = [0 for _ in self.lists]
                    self.ticks = 0
                case Loop():
                    self.timing.control(at)
                    loops.append((at, 0))
                    if instruction.repeats is Repeats.SETTLED:
                        self.moved, self._tolerance = False, instruction.tolerance
                case End():
                    self.timing.control(at, end=True)
                    start, made = loops.pop()
                    if self._again(start, made + 1):
                        loops.append((start, made + 1))
                        at = start
                case Gate():
                    self.timing.control(at, gate=True)
                    if not self.banks[instruction.word.bank][instruction.word.base]:
                        at += instruction.skip
                case Done():
                    pass
                case _:
                    assert_never(instruction)
            if self.step is not None:
                self.step(self, number)
            if isinstance(instruction, Done):
                break
            at += 1
        emitted = np.concatenate(self._emitted) if self._emitted else np.zeros(0, np.int64)
        self.timing.end()
        return Sample(emitted, self.ticks, runs, self.timing.clocks, self.timing.words)

    def _again(self, start: int, made: int) -> bool:
        loop = self.program[start]
        assert isinstance(loop, Loop)
        if loop.repeats is Repeats.FRAMES:
            self.frame, self._taken = self.frame + 1, 0
            return self.frame < len(self._frames)
        if loop.repeats is Repeats.SETTLED:
            moved, self.moved = self.moved, False
            self.ticks += 1
            if self.watch is not None:
                self.watch(self)
            return moved and made < loop.count
        return made < loop.count

    # Vector

    def _vector(self, at: int, i: Vector) -> None:
        places = self._places.get(at)
        if places is None:
            _check_width(i, self.image.core.width)
            places = self._places[at] = _Places(i, self.image.core.width)
        c = self._read(i, i.c, places.c)
        a = self._read(i, i.a, places.a, c if i.indirect else None)
        b = self._read(i, i.b, places.b)
        value = _reduce(i, _unit(i, _alu(i, a, b, c), b))
        if i.shift and i.unit is not Unit.DIVIDE:
            value = value + (1 << i.shift - 1) >> i.shift
        outer = places.outer
        if i.add:
            value = value + _outer(i, c, outer)
        value = np.broadcast_to(self._table(i, value), outer)
        visible = self.timing.vector(at, i, places.issues)
        if i.d.bank == PORT:
            self._emitted.append(_damped(i, value, _outer(i, c, outer)).ravel())
            return
        bank, d = self.banks[i.d.bank], places.d
        before = self._fresh(i.d, bank[d])
        value = _damped(i, value, before if i.damping and i.damping.old is Old.D else _outer(i, c, outer))
        bits = self.image.core.banks[i.d.bank].bits
        value = (value + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1) if bits < 64 else value
        bank[d] = value
        difference = value - before
        if i.state and not self.moved:
            self.moved = bool((np.abs(difference) > self._tolerance).any())
        if i.events is not None:
            changed = np.nonzero(difference)
            if changed[0].size:
                entry = places.place[changed], places.column[changed], difference[changed], visible[changed]
                self.lists[i.events.list].append(entry)
                words = self._words[i.events.list] = self._words[i.events.list] + _list_words(i, difference, self.image)
                if words > self.image.core.lists[i.events.list]:
                    raise OverflowError(f"list {i.events.list} has {words} words")

    def _read(self, i: Vector, stream: Stream | None, place: Codes, offset: Codes | None = None) -> Codes:
        if stream is None:
            return place
        if stream.bank == CONSTANT:
            return np.full(place.shape, i.immediate, np.int64)
        if stream.bank == PORT:
            first = self._taken
            self._taken += place.size
            return self._frames[self.frame][first : self._taken].reshape(place.shape)
        return self._fresh(stream, self.banks[stream.bank][place if offset is None else place + offset])

    def _fresh(self, stream: Stream, words: Codes) -> Codes:
        zero = stream.fresh is Fresh.ALWAYS or (stream.fresh is Fresh.TICK and self.ticks == 0)
        return np.zeros_like(words) if zero else words

    def _table(self, i: Vector, x: Codes) -> Codes:
        t = i.table
        if t is None:
            return x
        tables = self.image.tables
        if t.kind is TableKind.LOOKUP:
            entry: Codes = tables[t.base + np.clip(x - t.first, 0, t.entries - 1)]
            return entry
        u = np.clip(x - t.first, 0, (t.entries << t.shift) - 1)
        segment, fraction = u >> t.shift, u & (1 << t.shift) - 1
        product: Codes = tables[t.slope + segment] * fraction
        start: Codes = tables[t.base + segment]
        return start + (product + (1 << t.shift - 1) >> t.shift if t.shift else product)

    # Apply

    def _apply(self, at: int, i: Apply) -> None:
        sums = self.banks[i.sums.bank]
        bits = self.image.core.banks[i.sums.bank].bits
        runs: list[tuple[int, list[list[int]]]] = []
        offsets = range(prod(i.kernel))
        for places, columns, differences, visible in self.lists[i.list]:
            for clock, column in zip(visible.tolist(), columns.tolist(), strict=True):
                first = i.columns + column
                runs.append((clock, [self.image.columns[first + k].tolist() for k in offsets]))
            for place, column, difference in zip(places.tolist(), columns.tolist(), differences.tolist(), strict=True):
                rows, codes = self._column(at, i, column)
                target = i.sums.base + place + rows
                total = sums[target] + codes * difference
                sums[target] = (total + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1) if bits < 64 else total
        self.timing.apply(at, runs, early=i.early)
        if i.drain:
            self.lists[i.list].clear()
            self._words[i.list] = 0

    def _column(self, at: int, i: Apply, column: int) -> tuple[Codes, Codes]:
        """Offsets of the sums and their codes, of one column."""
        if (at, column) not in self._columns:
            core = self.image.core
            offsets = _affine(i.kernel, Stream(0, 0, i.sums.strides)).ravel().tolist()
            rows, codes = [], []
            for k, offset in enumerate(offsets):
                first, count = self.image.columns[i.columns + column + k].tolist()
                for word in self.image.weights[first : first + count]:
                    group = word >> core.lanes * core.code_bits
                    for lane in range(core.lanes):
                        code = word >> lane * core.code_bits & (1 << core.code_bits) - 1
                        rows.append(offset + group * core.lanes + lane)
                        codes.append(code - (code >> core.code_bits - 1 << core.code_bits))
            self._columns[at, column] = np.array(rows, np.int64), np.array(codes, np.int64)
        return self._columns[at, column]


class _Places:
    """Addresses of one vector instruction, of every entry of its loop nest; `issues`: in which clock it goes in."""

    def __init__(self, i: Vector, width: int) -> None:
        axes = len(i.counts) - i.reduced
        self.outer = i.counts[:axes]
        rows = prod(i.counts[:-1])
        order = np.arange(rows * i.counts[-1]).reshape(i.counts)
        if i.wide:
            words = -(-i.counts[-1] // width)
            order = (np.arange(rows)[:, None] * words + np.arange(i.counts[-1]) // width).reshape(i.counts)
        self.issues: Codes = order.reshape(*self.outer, -1)[..., -1] if i.reduced else order
        self.a, self.b, self.c = (_affine(i.counts, s or Stream(0)) for s in (i.a, i.b, i.c))
        self.d = _affine(self.outer, Stream(0, i.d.base, i.d.strides[:axes]))
        place, column = (i.events.place, i.events.column) if i.events else (Stream(0), Stream(0))
        self.place = _affine(self.outer, Stream(0, place.base, place.strides[:axes]))
        self.column = _affine(self.outer, Stream(0, column.base, column.strides[:axes]))


def _affine(counts: Sequence[int], stream: Stream) -> Codes:
    total = np.full(tuple(counts), stream.base, np.int64)
    for k, stride in enumerate(stream.strides):
        shape = [1] * len(counts)
        shape[k] = counts[k]
        total += stride * np.arange(counts[k]).reshape(shape)
    return total


def _outer(i: Vector, c: Codes, outer: tuple[int, ...]) -> Codes:
    """c as the stages behind the reduction see it: at the first of the reduced entries."""
    return c.reshape(*outer, -1)[..., 0] if i.reduced else c


def _alu(i: Vector, a: Codes, b: Codes, c: Codes) -> Codes:
    match i.alu:
        case Alu.PASS:
            return a
        case Alu.ADD:
            return a + b
        case Alu.SUB:
            return a - b
        case Alu.ABS:
            size: Codes = np.abs(a)
            return size
        case Alu.DISTANCE:
            gap: Codes = np.abs(a - b)
            return gap
        case Alu.GREATER:
            return (a > b).astype(np.int64)
        case Alu.SELECT:
            return np.where(c != 0, a, b)
        case _:
            assert_never(i.alu)


def _unit(i: Vector, x: Codes, b: Codes) -> Codes:
    match i.unit:
        case Unit.NONE:
            return x
        case Unit.SCALE:
            return x * i.immediate
        case Unit.MULTIPLY:
            return x * b
        case Unit.DIVIDE:
            quotient: Codes = ((x << i.shift) + (b >> 1)) // b
            return quotient
        case Unit.ROOT:
            return _root(x)
        case _:
            assert_never(i.unit)


def _root(x: Codes) -> Codes:
    """By digits, two bits of x a step."""
    rest, root = np.maximum(x, 0), np.zeros_like(x)
    for bit in (1 << k for k in range(62, -1, -2)):
        fits = rest >= root + bit
        rest = np.where(fits, rest - root - bit, rest)
        root = (root >> 1) + np.where(fits, bit, 0)
    return root


def _reduce(i: Vector, x: Codes) -> Codes:
    axes = tuple(range(x.ndim - i.reduced, x.ndim))
    match i.reduction:
        case Reduction.NONE:
            return x
        case Reduction.SUM:
            total: Codes = x.sum(axis=axes)
            return total
        case Reduction.MAX:
            largest: Codes = x.max(axis=axes)
            return largest
        case _:
            assert_never(i.reduction)


def _damped(i: Vector, x: Codes, old: Codes) -> Codes:
    if i.damping is None:
        return x
    step = (x - old) * i.damping.multiplier
    return old + (step + (1 << i.damping.shift - 1) >> i.damping.shift if i.damping.shift else step)


def _list_words(i: Vector, difference: Codes, image: Image) -> int:
    """Words of a list: one for each event, of a wide instruction one for all that it takes in a clock."""
    changed = difference != 0
    if i.wide:
        width, count = image.core.width, changed.shape[-1]
        changed = np.pad(changed.reshape(-1, count), ((0, 0), (0, -count % width))).reshape(-1, width).any(axis=1)
    return int(changed.sum())


def _check_width(i: Vector, width: int) -> None:
    """Raises ValueError where the entries of a wide instruction do not lie side by side."""
    if not i.wide:
        return
    if i.reduced or i.indirect or i.unit in (Unit.DIVIDE, Unit.ROOT):
        raise ValueError("a wide instruction reduces nothing, reads through no offset, divides not and takes no roots")
    for stream in (i.a, i.b, i.c, i.d):
        if stream is None or stream.bank in (PORT, CONSTANT) or (stream is not i.d and not stream.strides[-1]):
            continue
        outer = [t for t, n in zip(stream.strides[:-1], i.counts, strict=False) if n > 1]
        if stream.strides[-1] != 1 or stream.base % width or any(t % width for t in outer):
            raise ValueError(
                f"a wide instruction takes words from b{stream.bank}[{stream.base}] on, which do not lie side by side"
            )
    if i.events is not None and (i.events.place.strides[-1] or i.events.column.strides[-1] != 1):
        raise ValueError("entries of a wide instruction have one place, and columns that follow each other")


def _check_loops(program: Sequence[Instruction]) -> None:
    """Raises ValueError where loops and ends do not match."""
    depth = 0
    for at, instruction in enumerate(program):
        depth += isinstance(instruction, Loop) - isinstance(instruction, End)
        if depth < 0:
            raise ValueError(f"the end at {at} closes no loop")
    if depth:
        raise ValueError(f"{depth} loops have no end")
