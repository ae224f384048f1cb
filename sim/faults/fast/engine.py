"""Engine `fast`: the same results as `golden`, from what deviates alone, on all cores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic
from ....toolchain.ir import IntNet, check, infer, ops, walk
from ..circuit import Circuit, unbounded
from ..engine import Engine, Session
from ..outcome import Facts, results
from ..table import Fault, FaultTable, Place
from . import codes
from .clean import clean_run, without_tolerance
from .graph import Layout, compile_net
from .memory import Memory
from .unroll import unroll

__all__ = ["FastEngine"]

TAPS = 1 << 26
"""Taps of sums that are held in memory, 24 bytes each."""
PIECES = 4
"""Pieces of work for each thread: a slow one delays the end little."""


class FastEngine(Engine):
    """Takes what `golden` takes, up to a size. Lossless: every column of every result is golden's."""

    name: ClassVar[str] = "fast"
    install: ClassVar[str] = "pip install numba"

    def missing(self) -> Sequence[str]:
        return [] if find_spec("numba") else ["numba"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or [*unbounded(net), *_large(net)]

    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> Session:
        return _FastSession(net, inputs, near)


class _FastSession(Session):
    def __init__(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], near: int) -> None:
        self.net, self.near = net, near
        self.circuit = Circuit.of(net)
        unrolled = unroll(without_tolerance(net))
        self.layout: Layout = compile_net(unrolled.net)
        done = clean_run(unrolled.net, inputs, self.layout, net.schedule.tolerance)
        self.samples, self.ticks = len(done.label), done.row_of.shape[1] - 1
        self.done = done
        self.memory = Memory.of(net, self.layout, done)
        self.words = _Words(net, self.circuit, self.layout, unrolled.copies)

    def run(self, table: FaultTable) -> NDArray[np.void]:
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        first = table.faults["tick"].astype(np.int64)
        facts = self._facts(table, np.zeros((0, 0), np.int64))
        last = facts[:, codes.LAST]
        column = facts.T
        found = Facts(
            label=column[codes.LABEL],
            rejoin=np.where(last < 0, 0, np.where(last == self.ticks - 1, -1, last + 1 - first)).astype(np.int32),
            distance_max=column[codes.DISTANCE_MAX],
            distance_end=column[codes.DISTANCE_END],
            differ_end=column[codes.DIFFER_END],
            label_differs=facts[:, codes.LABEL_DIFFERS] != 0,
            output_differs=facts[:, codes.OUTPUT_DIFFERS] != 0,
            moving=facts[:, codes.MOVING] != 0,
        )
        return results(found, self.near)

    def trace(self, fault: Fault) -> Mapping[str, NDArray[np.int64]]:
        table = FaultTable.of([fault])
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        rows = self._rows(fault.sample)
        self._facts(table, rows)
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

    def _facts(self, table: FaultTable, trace: NDArray[np.int64]) -> NDArray[np.int32]:
        """Columns of `codes` for each fault; deviations of the last one are written into `trace` if it has rows."""
        from .kernel import relax_many

        # Faults of one sample follow each other, so that its rows, and theirs, are in the nearest cache.
        sample = table.faults["sample"]
        order = np.argsort(sample.astype(np.uint16 if self.samples <= 1 << 16 else np.int64), kind="stable")
        faults, upsets, target, targets = self.words.of(table.take(order))
        facts = np.zeros((len(table), codes.FACT_COLUMNS), np.int32)
        sample = faults["sample"]
        facts[:, codes.LABEL], facts[:, codes.MOVING] = self.done.label[sample], self.done.far[sample]
        threads = min(len(os.sched_getaffinity(0)), max(len(order) // 64, 1))
        ends = np.linspace(0, len(order), (threads * PIECES if threads > 1 else 1) + 1).astype(np.int64)
        most = int(faults["count"].max(initial=0))

        def work(thread: int) -> None:
            scratch = self.memory.scratch(most)
            net, clean, rows = self.memory.net, self.memory.clean, self.done.row_of
            for first, end in zip(ends[thread:-1:threads], ends[thread + 1 :: threads], strict=True):
                relax_many(first, end, faults, rows, upsets, target, targets, facts, trace, net, scratch, clean)

        if threads == 1:
            work(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, range(threads)))
        found = np.empty_like(facts)
        found[order] = facts
        return found


class _Words:
    """Upsets of a table as rows of numbers."""

    def __init__(self, net: IntNet, circuit: Circuit, layout: Layout, copies: Mapping[str, Sequence[str]]) -> None:
        self.circuit, self.layout, self.copies = circuit, layout, copies
        self.block = {op.out: number for number, (_, block) in enumerate(net.blocks) for op in walk(block)}

    def of(self, table: FaultTable) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Faults and upsets, for each upset its row of the last array, whose columns are `codes.TO_*`. An upset of an
        operation in a repeat is one of each of its copies."""
        faults, upsets = table.faults, table.upsets
        key = upsets["place"].astype(np.int64) * len(table.names) + upsets["name"]
        first, many = (np.zeros(len(Place) * len(table.names), np.int64) for _ in range(2))
        rows: list[list[int]] = []
        for k in np.flatnonzero(np.bincount(key, minlength=len(first))):
            found = self._targets(Place(int(k) // len(table.names)), table.names[int(k) % len(table.names)])
            first[k], many[k] = len(rows), len(found)
            rows += found
        target = first[key]
        if (many > 1).any():
            ends = np.concatenate([[0], np.cumsum(many[key])])
            which = np.repeat(np.arange(len(upsets)), many[key])
            upsets, target = upsets[which], target[which] + np.arange(len(which)) - ends[which]
            faults = faults.copy()
            start = ends[faults["start"]]
            faults["count"] = ends[table.faults["start"] + faults["count"]] - start
            faults["start"] = start
        return faults, upsets, target, np.array(rows, np.int64).reshape(-1, codes.TO_COLUMNS)

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


def _large(net: IntNet) -> list[Diagnostic]:
    """The sums of a net that is too large for lists of all taps."""
    shapes = infer(net)
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
