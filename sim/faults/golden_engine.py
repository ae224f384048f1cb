"""Engine `golden`: the interpreter `toolchain/golden` with its words disturbed. The definition of right for faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eqcompile.toolchain import golden
from eqcompile.toolchain.golden.event import Accumulator

from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import Interval, IntNet, check, ops, walk
from ...toolchain.ir.ops import Op
from .circuit import Circuit, format_ranges, unbounded
from .engine import RESULT, Engine, Session
from .outcome import Runs, observed, results
from .storage import changed, wrap
from .table import Fault, FaultTable, Place, Upset

__all__ = ["GoldenEngine", "together"]

Array = NDArray[np.int64]
States = dict[str, Array]
CHUNK = 256
"""Faults that are computed side by side."""


class GoldenEngine(Engine):
    """Takes every net whose inner products stay inside 63 bits when disturbed."""

    name: ClassVar[str] = "golden"

    def missing(self) -> Sequence[str]:
        return []

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or unbounded(net)

    def open(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, near: int) -> Session:
        return _GoldenSession(net, inputs, near)


class _GoldenSession(Session):
    def __init__(self, net: IntNet, inputs: Mapping[str, NDArray[np.int64]], near: int) -> None:
        self.net = replace(net, schedule=replace(net.schedule, tolerance=0))
        self.asked, self.near = net, near
        self.codes, self.samples, self.frames = golden.clamped_codes(net, inputs)
        self.ticks = self.frames * net.schedule.steps
        self.circuit = Circuit.of(net)
        done = golden.run(self.net, inputs)
        self.states = {s.name: done.states[s.name].astype(_narrow(net, s.name)) for s in net.states}
        self.outputs = done.outputs
        self.machine = _Disturbed(self.net, CHUNK, self.circuit)

    def run(self, table: FaultTable) -> NDArray[np.void]:
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        found = np.zeros(len(table), RESULT)
        faults = list(table)
        for numbers in together(faults):
            found[numbers] = self._results([faults[i] for i in numbers])
        return found

    def trace(self, fault: Fault) -> Mapping[str, Array]:
        self.circuit.check(FaultTable.of([fault]), samples=self.samples, ticks=self.ticks)
        return {name: rows[:, 0] for name, rows in self._disturbed([fault])[1].items()}

    def clean(self, sample: int) -> Mapping[str, Array]:
        return {name: rows[:, sample].astype(np.int64) for name, rows in self.states.items()}

    def _disturbed(self, faults: Sequence[Fault]) -> tuple[States, States, States]:
        samples = np.array([f.sample for f in faults])
        codes = {name: value[samples] for name, value in self.codes.items()}
        return self.machine.relax(codes, self.frames, [f.upsets for f in faults])

    def _results(self, faults: Sequence[Fault]) -> NDArray[np.void]:
        samples = np.array([f.sample for f in faults])
        before, states, outputs = self._disturbed(faults)
        first = np.array([min((u.first for u in f.upsets), default=0) for f in faults])
        usual = {n: v[:, samples].astype(np.int64) for n, v in self.states.items()}
        clean = Runs(usual, {name: value[samples] for name, value in self.outputs.items()}, {})
        # Runs make all their ticks; a settled one is within the tolerance of the schedule that was asked for.
        return results(observed(self.asked, Runs(states, outputs, before), clean, first), self.near)


class _Disturbed(golden.Machine):
    """Golden's machine, one fault a sample. Values wrap at their formats, and upsets change them where `hold` sees
    them: every result of an operation, every code that is latched, passes there."""

    def __init__(self, net: IntNet, batch: int, circuit: Circuit) -> None:
        super().__init__(net, batch, "dense")
        self.circuit, self.clean_params = circuit, self.params
        self.schedule: dict[tuple[int, Place, str], list[tuple[int, int, Upset]]] = {}
        self.differences: dict[tuple[int, int], int] = {}
        self.constants: Sequence[Upset] = ()
        self.now = 0

    def bounds(self) -> dict[str, Interval]:
        return format_ranges(self.net)

    def relax(
        self, codes: States, frames: int, faults: Sequence[Sequence[Upset]]
    ) -> tuple[States, dict[str, Array], dict[str, Array]]:
        """Initial states, states `[ticks, fault, *shape]` and outputs of one sample for each fault; constants are
        disturbed as the first fault says."""
        steps, every = self.net.schedule.steps, np.arange(len(faults))
        self.batch, self.differences = len(faults), {}
        self.schedule = _schedule(faults)
        rows: dict[str, list[Array]] = {s.name: [] for s in self.net.states}
        results: dict[str, list[Array]] = {o.name: [] for o in self.net.outputs}
        clamped: golden.Scope = {}
        states: States = {}
        before: States = {}
        for tick in range(frames * steps + 1):
            self.now, begins = tick, tick % steps == 0 and tick < frames * steps
            self._disturb_params(faults[0])
            if not begins:
                for op in self.net.drive:
                    clamped[op.out] = self._disturbed(Place.VALUE, op.out, clamped[op.out])
            if tick > 0:
                states = self._upset(states)
            if tick > 0 and tick % steps == 0 and (self.net.schedule.emit == "every" or not begins):
                for name, value in self.read(clamped, states).items():
                    results[name].append(value)
            if begins:
                clamped = {name: value[:, tick // steps] for name, value in codes.items()}
                self.evaluate(self.net.drive, clamped, every)
            if tick == 0:
                before = self.initial(clamped)
                states = self._upset(before)
            if tick < frames * steps:
                states, _ = self.tick(clamped, states, every)
                for name, row in rows.items():
                    row.append(states[name])
        stack = self.net.schedule.emit == "every"
        outputs = {n: np.stack(v, axis=1) if stack else v[0] for n, v in results.items()}
        return before, {name: np.stack(row) for name, row in rows.items()}, outputs

    def hold(self, name: str, value: Array) -> Array:
        wide = value.dtype != bool
        return self._disturbed(Place.VALUE, name, wrap(value, self.net.formats[name]) if wide else value)

    def apply(self, op: Op, scope: golden.Scope, samples: golden.Samples) -> Array:
        if isinstance(op, ops.Divide):
            scope = {**scope, op.b: np.maximum(self.get(op.b, scope, len(samples)), 1)}
        return super().apply(op, scope, samples)

    def _upset(self, states: States) -> States:
        return {name: self._disturbed(Place.STATE, name, value) for name, value in states.items()}

    def _disturbed(self, place: Place, name: str, value: Array) -> Array:
        upsets = self.schedule.get((self.now, place, name))
        if not upsets:
            return value
        word = self.circuit.words[place, name]
        disturbed = value.copy()
        flat = disturbed.reshape(len(value), -1)
        for row, number, upset in upsets:
            code = int(flat[row, upset.index])
            if upset.held and self.now > upset.first:
                new = int(wrap(code + self.differences[row, number], word.format))
            else:
                new = changed(code, upset, word, saturate=place is Place.STATE)
                self.differences[row, number] = new - code
            flat[row, upset.index] = new
        return disturbed

    def _disturb_params(self, upsets: Sequence[Upset]) -> None:
        """Constants as the current tick reads them, and the sums that read them."""
        active = [u for u in upsets if u.place is Place.PARAM and u.first <= self.now <= u.last]
        if active == self.constants:
            return
        moved = {u.name for u in (*active, *self.constants)}
        self.constants, self.params = active, {**self.clean_params}
        for name in moved:
            self.params[name] = self.clean_params[name].copy()
        for u in active:
            flat = self.params[u.name].reshape(-1)
            flat[u.index] = changed(int(flat[u.index]), u, self.circuit.words[u.place, u.name], saturate=False)
        for name in moved:
            self.ranges[name] = Interval(int(self.params[name].min()), int(self.params[name].max()))
        for op in walk(self.net.step):
            if op.out in self.accumulators and moved.intersection(op.reads):
                self.accumulators[op.out] = Accumulator(self.weights(op), CHUNK, self.types[op.out].shape)


def _schedule(faults: Sequence[Sequence[Upset]]) -> dict[tuple[int, Place, str], list[tuple[int, int, Upset]]]:
    """`(row, number, upset)` of every word that is disturbed, by tick, place and name, in the order of the faults."""
    found: dict[tuple[int, Place, str], list[tuple[int, int, Upset]]] = defaultdict(list)
    for row, upsets in enumerate(faults):
        for number, upset in enumerate(upsets):
            for tick in range(upset.first, upset.last + 1) if upset.place is not Place.PARAM else ():
                found[tick, upset.place, upset.name].append((row, number, upset))
    return dict(found)


def together(faults: Sequence[Fault]) -> list[list[int]]:
    """Numbers of faults that can be computed side by side: constants belong to a whole run."""
    groups: dict[tuple[Upset, ...], list[int]] = defaultdict(list)
    for number, fault in enumerate(faults):
        groups[tuple(u for u in fault.upsets if u.place is Place.PARAM)].append(number)
    return [g[i : i + CHUNK] for g in groups.values() for i in range(0, len(g), CHUNK)]


def _narrow(net: IntNet, name: str) -> DTypeLike:
    fmt = net.formats[name]
    return np.min_scalar_type(-(1 << fmt.bits) if fmt.signed else 1 << fmt.bits)
