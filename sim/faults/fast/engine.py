"""Engine `fast`: the same results as `golden`, from what deviates alone, on all cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic
from ....toolchain.ir import IntNet, check, ops, walk
from ....toolchain.passes import Analysis
from ...process import usable_processors
from ..circuit import Circuit, unbounded
from ..engine import RESULT, Engine, Outcome, Session, Sweep
from ..outcome import outcome_table
from ..table import Fault, FaultTable, Place
from . import codes
from .clean import clean_run, code_type, without_tolerance
from .graph import Layout, compile_net
from .memory import Memory
from .unroll import unroll

if TYPE_CHECKING:
    from ..native.library import Native

__all__ = ["FastEngine"]

T = TypeVar("T")
TAPS = 1 << 26
"""Taps of sums that are held in memory, 24 bytes each."""
PIECES = 4
"""Pieces of work for each thread: a slow one delays the end little."""
MANY = 1 << 17
"""So many flips of states are worth the seconds that compiling C for a net takes."""
TRIED = 1 << 11
"""Flips by which the C of a net and this kernel are timed."""


class FastEngine(Engine):
    """Takes what `golden` takes, up to a size. Lossless: every column of every result is golden's."""

    name: ClassVar[str] = "fast"
    install: ClassVar[str] = "pip install numba"

    def missing(self) -> Sequence[str]:
        return [] if find_spec("numba") else ["numba"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or [*unbounded(net), *_large(net)]

    def prepare(self, net: IntNet) -> None:
        from .prepare import prepare

        prepare(code_type(net))

    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> Session:
        return _FastSession(net, inputs, near)


class _FastSession(Session):
    def __init__(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], near: int) -> None:
        self.net, self.near = net, near
        self.native_wins: bool | None = None
        self.circuit = Circuit.of(net)
        unrolled = unroll(without_tolerance(net))
        self.layout: Layout = compile_net(unrolled.net)
        done = clean_run(unrolled.net, inputs, self.layout, net.schedule.tolerance)
        self.samples, self.ticks = len(done.label), done.row_of.shape[1] - 1
        self.done = done
        self.memory = Memory.of(net, self.layout, done, near)
        self.usual = np.stack([done.label, done.far], axis=1).astype(np.int64)
        self.verdict = outcome_table(net)
        self.words = _Words(net, self.circuit, self.layout, unrolled.copies)

    def run(self, table: FaultTable) -> NDArray[np.void]:
        return self._run(table, np.zeros((0, 0), np.int64))

    def trace(self, fault: Fault) -> Mapping[str, NDArray[np.int64]]:
        table = FaultTable.of([fault])
        # A sample that there is not is refused below, with all else that is wrong.
        rows = self._rows(min(max(fault.sample, 0), self.samples - 1))
        self._run(table, rows)
        return self._named(rows)

    def clean(self, sample: int) -> Mapping[str, NDArray[np.int64]]:
        return self._named(self._rows(sample))

    def _rows(self, sample: int) -> NDArray[np.int64]:
        """All states of a sample after each tick, side by side."""
        rows = self.done.row_of[sample, 1:]
        return np.ascontiguousarray(self.done.rows[rows, : self.memory.states].astype(np.int64))

    def _named(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        found, start = {}, 0
        for s in self.net.states:
            size = prod(s.shape)
            found[s.name] = rows[:, start : start + size].reshape(self.ticks, *s.shape)
            start += size
        return found

    def _run(self, table: FaultTable, trace: NDArray[np.int64]) -> NDArray[np.void]:
        """Results of all faults; deviations of the last one are written into `trace` if it has rows."""
        from .kernel import relax_many
        from .queue import enqueue, survey

        count, ticks = len(table), self.ticks
        threads = min(usable_processors(), max(count // 64, 1))
        pieces = threads * PIECES if threads > 1 else 1
        ends = np.linspace(0, count, pieces + 1).astype(np.int64)
        words, targets = self.words.of(table.names)
        counts = np.zeros((pieces, self.samples), np.int64)

        def check(piece: int) -> bool:
            rows = len(table.upsets) * np.arange(piece, piece + 2) // pieces
            span = ends[piece : piece + 2]
            return int(survey(*span, *rows, table.faults, table.upsets, words, ticks, counts[piece])) >= 0

        with _pool(threads) as every:
            if not all(every(check, range(pieces))):
                self.circuit.check(table, samples=self.samples, ticks=ticks)
                raise AssertionError("the survey refuses what the check does not")
            faults, upsets, copies = _copied(table, words)
            bounds = np.concatenate([[0], np.cumsum(counts.sum(axis=0))])
            offsets = bounds[:-1] + np.cumsum(counts, axis=0) - counts
            queue, found = np.empty((count, 2), np.int64), np.zeros(count, RESULT)
            fused = self.memory.fused and not len(copies)

            def sort(piece: int) -> None:
                where, label = offsets[piece], self.usual[:, 0]
                span = ends[piece : piece + 2]
                enqueue(*span, fused, faults, upsets, words, targets, where, label, Outcome.MASKED, queue, found)

            every(sort, range(pieces))
            most = int(faults["count"].max(initial=0))

            def relax(queue: NDArray[np.int64], bounds: NDArray[np.int64]) -> None:
                ends_of = np.linspace(0, len(queue), pieces + 1).astype(np.int64).tolist()
                spans = iter(list(pairwise(ends_of)))

                def work(_: int) -> None:
                    scratch, dense = self.memory.scratch(most), self.memory.dense()
                    for span in spans:
                        relax_many(
                            *span, queue, bounds, self.usual, self.done.row_of, faults, upsets, words, copies, targets,
                            self.verdict, found, trace, self.memory.net, scratch, self.memory.clean, dense,
                        )  # fmt: skip

                every(work, range(threads))

            native = None if len(trace) else self._chosen(queue, bounds, found, relax)
            if native is not None:
                native.relax(queue, bounds, found)
                queue, bounds = _parted(queue, bounds, queue[:, 1] < 0)
            if len(queue):
                relax(queue, bounds)
        return found

    def _chosen(
        self,
        queue: NDArray[np.int64],
        bounds: NDArray[np.int64],
        found: NDArray[np.void],
        relax: Callable[[NDArray[np.int64], NDArray[np.int64]], None],
    ) -> Native | None:
        """The C of the net if it is worth compiling and, by a few of these faults, faster than `relax`."""
        flips = queue[:, 1] >= 0
        native = self.native if np.count_nonzero(flips) >= MANY else None
        if native is None:
            return None
        if self.native_wins is None:
            some = np.zeros_like(flips)
            some[np.flatnonzero(flips)[:: max(1, len(queue) // TRIED)]] = True
            few = _parted(queue, bounds, some)
            times = [_seconds(lambda: relax(*few)), _seconds(lambda: native.relax(*few, found))]
            self.native_wins = times[1] < times[0]
        return native if self.native_wins else None

    @cached_property
    def native(self) -> Native | None:
        """The net's tick in C."""
        from ..native.library import native_of

        return native_of(self.net, self.layout, self.done, self.near)

    def sweep(self, state: str, units: tuple[int, int], masks: NDArray[np.int64]) -> Sweep | None:
        bits = 1 << np.arange(self.net.formats[state].bits)
        return self.native.sweep(state, units) if self.native is not None and np.array_equal(masks, bits) else None


def _parted(
    queue: NDArray[np.int64], bounds: NDArray[np.int64], which: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of `which` of a queue, and the bounds of their samples."""
    counts = np.concatenate([[0], np.cumsum(which)])
    return np.ascontiguousarray(queue[which]), counts[bounds]


def _seconds(work: Callable[[], None]) -> float:
    """How long `work` takes the second time."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class _Mapper(Protocol):
    """Calls a function of each number; the results in that order."""

    def __call__(self, work: Callable[[int], T], numbers: Iterable[int], /) -> list[T]: ...


@contextmanager
def _pool(threads: int) -> Iterator[_Mapper]:
    """Something that maps: over threads, or in this one alone."""
    if threads == 1:
        yield lambda work, numbers: [work(n) for n in numbers]
    else:
        with ThreadPoolExecutor(threads) as pool:
            yield lambda work, numbers: list(pool.map(work, numbers))


class _Words:
    """What upsets may name, as rows of numbers."""

    def __init__(self, net: IntNet, circuit: Circuit, layout: Layout, copies: Mapping[str, Sequence[str]]) -> None:
        self.circuit, self.layout, self.copies = circuit, layout, copies
        self.block = {op.out: number for number, (_, block) in enumerate(net.blocks) for op in walk(block)}

    def of(self, names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row `4 * name + place` of the first array is what `codes.WORD_*` say, 0 for what the net has not; rows of the
        second are `codes.TO_*` of each target. An operation in a repeat has a target for each of its copies."""
        words = np.zeros((len(Place) * len(names), codes.WORD_COLUMNS), np.int64)
        rows: list[list[int]] = []
        for number, name in enumerate(names):
            for place in Place:
                word = self.circuit.words.get((place, name))
                if word is not None:
                    found = self._targets(place, name)
                    held = place is Place.VALUE and name in self.circuit.held
                    size, bits = self.circuit.sizes[place, name], word.format.bits
                    words[len(Place) * number + place] = [len(rows), len(found), size, bits, held]
                    rows += found
        return words, np.array(rows, np.int64).reshape(-1, codes.TO_COLUMNS)

    def _targets(self, place: Place, name: str) -> list[list[int]]:
        word = self.circuit.words[place, name]
        fmt = [word.format.bits, int(word.format.signed), int(word.ternary)]
        if place is not Place.VALUE:
            value = self.layout.value[name]
            where = codes.IN_STATE if place is Place.STATE else codes.IN_PARAM
            return [[where, -1, value, int(self.layout.graph.base[value]), *fmt]]
        found = []
        for copy in self.copies[name]:
            value = self.layout.value[copy]
            where = (codes.IN_DRIVE, codes.IN_STEP, codes.IN_READOUT)[self.block[name]]
            found.append([where, self.layout.op[copy], value, int(self.layout.graph.base[value]), *fmt])
        return found


def _copied(
    table: FaultTable, words: NDArray[np.int64]
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.int64]]:
    """Faults and upsets of which each has one target, and the rows of the targets; none where all have one anyway."""
    faults, upsets = table.faults, table.upsets
    if (words[:, codes.WORD_TARGETS] <= 1).all():
        return faults, upsets, np.zeros(0, np.int64)
    word = words[len(Place) * upsets["name"].astype(np.int64) + upsets["place"]]
    many = word[:, codes.WORD_TARGETS]
    ends = np.concatenate([[0], np.cumsum(many)])
    which = np.repeat(np.arange(len(upsets)), many)
    faults = faults.copy()
    faults["start"] = ends[table.faults["start"]]
    faults["count"] = ends[table.faults["start"] + table.faults["count"]] - faults["start"]
    return faults, upsets[which], word[which, codes.WORD_TARGET] + np.arange(len(which)) - ends[which]


def _large(net: IntNet) -> list[Diagnostic]:
    """The sums of a net that is too large for lists of all taps."""
    shapes = Analysis.of(net).types
    count = 0
    for op in net.all_ops():
        match op:
            case ops.Linear(x=x, weight=w):
                count += prod(shapes[x].shape[:-1]) * net.param(w).size
            case ops.Stencil(weight=w):
                count += net.param(w).size
            case ops.Conv(out=out, weight=w):
                count += prod(shapes[out].shape[1:]) * net.param(w).size
            case ops.MatMul(a=a, out=out):
                count += prod(shapes[out].shape) * shapes[a].shape[-1]
            case _:
                continue
    if count <= TAPS:
        return []
    what = f"the sums have {count} taps, the fast engine lists at most {TAPS}"
    return [Diagnostic("fault-size", what, net.name, "--engine golden takes any size")]
