"""The C of a net as functions of this process, and the fault-free run as they read it."""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from ....toolchain.arrays import Array
from ....toolchain.ir import IntNet, State
from ....toolchain.ir.ops import Op
from ...c_library import COMPILER, load_c
from ...process import usable_processors
from ..engine import RESULT, Sweep
from ..fast.clean import CleanRun
from ..fast.graph import Layout
from ..gpu.plan import Plan, make_plan, refusals
from ..outcome import outcome_table
from .source import Place, source_of

__all__ = ["Native", "native_of"]

_FLAGS = ("-O3", "-march=native")
_PIECES = 4
"""Pieces of work for each thread: a slow one delays the end little."""


class Native:
    """Single flips of states, by compiled code. Holds the arrays that it reads."""

    def __init__(self, plan: Plan, layout: Layout, done: CleanRun, near: int) -> None:
        self.plan, self.near = plan, near
        places, widths = _places(layout)
        source = source_of(plan, places, widths)
        self.library = _loaded(source.text)
        self.states = {s.name: s for s in plan.net.states}
        self.first = dict(
            zip(self.states, np.cumsum([0, *(plan.sizes[n] for n in self.states)])[:-1].tolist(), strict=True)
        )
        self.rows = np.ascontiguousarray(done.rows, np.int32)
        self.row_of = np.ascontiguousarray(done.row_of, np.int64)
        self.samples, self.ticks = len(done.label), done.row_of.shape[1] - 1
        arrays: list[Array] = [
            self.rows,
            np.ascontiguousarray(done.held, np.int32),
            np.ascontiguousarray(done.read, np.int32),
            self.row_of,
            np.ascontiguousarray(np.stack([done.label, done.far], axis=1), np.int64),
            np.ascontiguousarray(outcome_table(plan.net)),
            _reaches(plan),
        ]
        self.arrays = [*arrays, *source.matrices]
        self.run = (ctypes.c_void_p * 8)(*(a.ctypes.data for a in arrays), near)
        self.net = (ctypes.c_void_p * max(1, len(source.matrices)))(*(m.ctypes.data for m in source.matrices))

    def kept(self) -> Array:
        """A thread's `struct bounds`, empty."""
        return np.zeros(self.library.bytes_kept(), np.uint8)

    def relax(self, queue: NDArray[np.int64], bounds: NDArray[np.int64], results: NDArray[np.void]) -> None:
        """Write the rows of `results` (dtype `RESULT`, of faults that change nothing) of those faults of a queue that
        flip bits of one state in one tick; see `fast.queue` for it, `bounds` `[samples + 1]` is where each sample's
        faults begin."""
        assert results.dtype == RESULT
        assert len(bounds) == self.samples + 1
        queue = np.ascontiguousarray(queue, np.int64)
        bounds = np.ascontiguousarray(bounds, np.int64)

        def work(first: int, last: int) -> None:
            arrays, kept = (_pointer(queue), _pointer(bounds), _pointer(results)), self.kept()
            self.library.relax(self.net, self.run, _pointer(kept), *_longs(first, last), *arrays)

        _shared(len(queue), work)

    def sweep(self, state: str, units: tuple[int, int]) -> Sweep:
        """As `Session.sweep`."""
        fmt, first = self.plan.net.formats[state], self.first[state]
        ticks = self.ticks + 1
        outcome = np.zeros((units[1] - units[0], fmt.bits, ticks, self.samples), np.uint8)
        distance = np.zeros((self.samples, ticks), np.int32)

        def work(start: int, stop: int) -> None:
            kept = self.kept()
            self.library.sweep(
                self.net,
                self.run,
                _pointer(kept),
                *_longs(start, stop, self.samples, first + units[0], first + units[1], fmt.bits, int(fmt.signed)),
                _pointer(outcome),
                _pointer(distance),
            )

        _shared(self.samples, work)
        return Sweep(outcome, distance.astype(np.int64))


def native_of(net: IntNet, layout: Layout, done: CleanRun, near: int) -> Native | None:
    """The compiled code of a net, None for a net that is not written in C, or on a machine that is not meant."""
    if sys.byteorder != "little" or shutil.which(COMPILER) is None:
        return None
    if net.schedule.frames or done.rows.dtype != np.int32 or refusals(net):
        return None
    return Native(make_plan(net), layout, done, near)


def _longs(*numbers: int) -> tuple[ctypes.c_int64, ...]:
    return tuple(ctypes.c_int64(n) for n in numbers)


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _shared(count: int, work: Callable[[int, int], None]) -> None:
    """Do `work(first, last)` on all of `count` things, by all processors. C runs without Python's lock."""
    threads = min(usable_processors(), max(count, 1))
    ends = np.linspace(0, count, (threads * _PIECES if threads > 1 else 1) + 1).astype(np.int64).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, ends[:-1], ends[1:]))


def _places(layout: Layout) -> tuple[dict[str, Place], dict[str, int]]:
    """Where the fault-free codes of each value are, and how long the rows are."""
    places, widths = {}, {}
    for kind, names in (("tick", layout.varying), ("held", layout.held), ("read", layout.read)):
        at = 0
        for name in names:
            places[name] = Place(kind, at)
            at += layout.size[name]
        widths[kind] = at
    return places, widths


def _reaches(plan: Plan) -> NDArray[np.uint8]:
    """Whether anything that a tick computes reads an element of the states, with a weight that is not 0."""

    def reach(state: State) -> NDArray[np.bool_]:
        read = np.zeros(prod(state.shape), bool)
        for op in plan.step:
            if state.name in {plan.resolve(n) for n in op.reads}:
                read |= _columns(plan, op)
        return read | any(plan.resolve(s.update) == state.name for s in plan.net.states)

    return np.concatenate([reach(s) for s in plan.net.states]).astype(np.uint8)


def _columns(plan: Plan, op: Op) -> NDArray[np.bool_] | np.bool_:
    return plan.matrices[op.out].any(axis=0) if op.out in plan.matrices else np.True_


@lru_cache(maxsize=8)
def _loaded(text: str) -> ctypes.CDLL:
    return load_c(text, _FLAGS)
