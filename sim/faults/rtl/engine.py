"""Engine `rtl`: faults injected into a core by its saboteurs, one compiled simulation for all of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ....toolchain.diagnostics import Diagnostic, SimulatorError
from ....toolchain.interfaces import Run
from ....toolchain.ir import IntNet, check
from ....toolchain.typed_json import decode_as
from ...builds import VERILATOR, built_core
from ...exchange import absent_tools, demand, unreadable
from ...script_runner import run_script
from ..circuit import Circuit, unbounded
from ..engine import RESULT, Engine, Session
from ..outcome import Reported, Runs, observed, results
from ..table import Fault, FaultTable, Place
from .rows import Cell, Row, Translator, write_faults
from .weights import Memory

__all__ = ["Injected", "RtlEngine", "RtlSession"]

Array = NDArray[np.int64]
CHUNK = 500
"""Faults in one call of the simulator: their trajectories are held whole."""
PATIENCE = 4
"""Times the longest fault-free inference: what takes longer hangs, unless a watchdog may yet end it."""
BUILD_S, RUN_S = 1800.0, 6 * 3600.0


def _stored_words(core: Path) -> NDArray[np.int64]:
    """The words of the weight memory of an instrumented core."""
    with np.load(core / "bench" / "injected.npz", allow_pickle=False) as file:
        return np.asarray(file["words"])


class RtlEngine(Engine):
    """Takes the nets that the core takes; `rows` says which faults."""

    name: ClassVar[str] = "rtl"
    install: ClassVar[str] = "pip install 'eqcompile[rtl]' && apt-get install g++ make perl"
    instrument: ClassVar[str] = "rtl"
    sites: ClassVar[tuple[str, ...]] = ("state", "accumulator", "drive", "weight")

    def missing(self) -> Sequence[str]:
        return absent_tools({}, VERILATOR)

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or [*unbounded(net)]

    def open(self, net: IntNet, inputs: Mapping[str, Array], *, near: int) -> RtlSession:
        """Compiles the core of the artifact (some ten seconds), and runs the samples without a fault."""
        demand(self.name, packages={}, programs=VERILATOR)
        return RtlSession(net, inputs, near, core=self.opened_artifact())


@dataclass(frozen=True)
class Injected:
    """States `[ticks, faults, *shape]` after each tick, outputs `[faults, *shape]`, and which gave no whole result in
    time (`hung`); clocks from the first beat in to the last one out of each (`latency`), clock cycles of all (both
    simulated), and the seconds that they took (measured). Of a core with hardening: which runs it gave up, what FAULTS
    reads of each (`flags`), and the clocks in which it repaired a word (`corrected`)."""

    states: Mapping[str, Array]
    outputs: Mapping[str, Array]
    hung: NDArray[np.bool_]
    aborted: NDArray[np.bool_]
    flags: Array
    corrected: Array
    latency: Array
    cycles: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """Details of a run of `bench/native.py` with faults; lists have an entry a fault."""

    cycles: int
    seconds: float
    latency: tuple[int, ...]
    flags: tuple[int, ...]
    corrected: tuple[int, ...]


def measured_of(run: Run, core: Path) -> Measured:
    """The details of a run with faults. Raises SimulatorError if they are others."""
    with unreadable(core):
        return decode_as(Measured, run.details, "details")


class RtlSession(Session):
    """A core with saboteurs and its program. `core`: the folder of the target `rtl`, to
    which the net was compiled with saboteurs and a trace."""

    def __init__(self, net: IntNet, inputs: Mapping[str, Array], near: int, *, core: Path) -> None:
        self.net, self.near, self.inputs = net, near, inputs
        _, self.samples, _ = golden.clamped_codes(net, inputs)
        self.ticks, self.circuit = net.schedule.steps, Circuit.of(net)
        self.before = golden.first_states(net, inputs)
        self.core = core
        self.build = built_core(core, variant="saboteurs", timeout_s=BUILD_S)
        found = json.loads((self.core / "core.json").read_text(encoding="utf-8"))["inject"]
        memory = None
        if found["weights"] is not None:
            memory = Memory(net, _stored_words(self.core), found["weights"])
        cells = {site.pop("name"): Cell(number, **site) for number, site in enumerate(found["sites"])}
        image = bool(found.get("image"))
        words, clean = found["words"], self._clean_code
        self.translator = Translator(net, self.circuit, self.ticks, words, cells, memory, clean, image)
        self.mechanisms = tuple(found.get("flags", ()))
        self.limit = 0
        self.undisturbed = self._run_clean()
        self.clocks, span = int(self.undisturbed.latency.max()), found.get("span")
        self.limit = max(PATIENCE * self.clocks, 0 if span is None else self.clocks + (self.ticks + 1) * span)
        self._values = lru_cache(maxsize=64)(self._values_of)

    def clean(self, sample: int) -> Mapping[str, Array]:
        return {name: rows[:, sample].astype(np.int64) for name, rows in self.undisturbed.states.items()}

    def trace(self, fault: Fault) -> Mapping[str, Array]:
        return {name: rows[:, 0] for name, rows in self.inject(FaultTable.of([fault])).states.items()}

    def inject(self, table: FaultTable) -> Injected:
        """Whole disturbed runs. Raises UsageError for faults that the net, or the core, does not have."""
        return self.injected(self._rows(table))

    def run(self, table: FaultTable) -> NDArray[np.void]:
        rows = self._rows(table)
        parts = [slice(i, i + CHUNK) for i in range(0, len(rows), CHUNK)]
        return np.concatenate([np.zeros(0, RESULT), *(self._results(rows[p], table.faults["tick"][p]) for p in parts)])

    def _rows(self, table: FaultTable) -> list[Row]:
        self.circuit.check(table, samples=self.samples, ticks=self.ticks, core=True)
        return self.translator.rows(list(table))

    def _results(self, rows: Sequence[Row], first: NDArray[np.int64]) -> NDArray[np.void]:
        samples = np.array([row.sample for row in rows])
        found, usual = self.injected(rows), self.undisturbed
        states = {n: v[:, samples] for n, v in usual.states.items()}
        outputs = {n: v[samples] for n, v in usual.outputs.items()}
        before = {n: v[samples] for n, v in self.before.items()}
        first = np.where([row.site >= 0 for row in rows], -1, first)
        runs, clean = Runs(found.states, found.outputs, before), Runs(states, outputs, before)
        reported = Reported(found.aborted, found.flags, found.corrected) if self.mechanisms else None
        facts = observed(self.net, runs, clean, first, hung=found.hung, reported=reported)
        return results(facts, self.near)

    def _run_clean(self) -> Injected:
        """Every sample without a fault."""
        starts = range(0, self.samples, CHUNK)
        parts = [self.injected([Row(s) for s in range(i, min(i + CHUNK, self.samples))]) for i in starts]
        if any((p.hung | p.aborted | (p.flags != 0) | (p.corrected != 0)).any() for p in parts):
            what = "without a fault the core hangs, or its hardening reports something"
            raise SimulatorError(Diagnostic("simulator-output", what, str(self.core)))
        return Injected(
            {n: np.concatenate([p.states[n].astype(np.int32) for p in parts], axis=1) for n in parts[0].states},
            {n: np.concatenate([p.outputs[n] for p in parts]) for n in parts[0].outputs},
            np.concatenate([p.hung for p in parts]),
            np.concatenate([p.aborted for p in parts]),
            np.concatenate([p.flags for p in parts]),
            np.concatenate([p.corrected for p in parts]),
            np.concatenate([p.latency for p in parts]),
            sum(p.cycles for p in parts),
            sum(p.seconds for p in parts),
        )

    def injected(self, rows: Sequence[Row]) -> Injected:
        """Runs of what the core is told, in any number."""
        used, samples = np.unique([row.sample for row in rows], return_inverse=True)
        inputs = {n: codes[used] for n, codes in self.inputs.items()}
        with tempfile.TemporaryDirectory(prefix="eqcompile-rtl-") as name:
            faults = Path(name) / "faults.npz"
            write_faults(faults, rows, samples, self.limit)
            arguments = ["bench/native.py", "--built", "--build", str(self.build), "--faults", str(faults)]
            run = run_script(self.core, self.net, arguments, inputs, Path(name), trace=True, timeout_s=RUN_S)
        return self._read(run, rows)

    def _read(self, run: Run, rows: Sequence[Row]) -> Injected:
        measured, steps = measured_of(run, self.core), run.steps
        aborted = (steps == 0) & bool(self.mechanisms)
        wrong = (steps != self.ticks) & ~aborted & [row.every and row.site < 0 for row in rows]
        if wrong.any():
            what = f"the core made {int(steps[wrong][0])} ticks, must be {self.ticks}"
            raise SimulatorError(Diagnostic("simulator-output", what, str(self.core)))
        return Injected(
            run.states,
            run.outputs,
            steps < 0,
            aborted,
            np.array(measured.flags, np.int64),
            np.array(measured.corrected, np.int64),
            np.array(measured.latency, np.int64),
            measured.cycles,
            measured.seconds,
        )

    def _clean_code(self, place: Place, name: str, index: int, sample: int, tick: int) -> int:
        if place is Place.STATE:
            rows = self.undisturbed.states[name]
            code = rows[tick - 1, sample] if tick else self.before[name][sample]
        else:
            # The readout has one row.
            rows = self._values(sample)[name]
            code = rows[min(tick, len(rows) - 1)]
        return int(np.asarray(code).reshape(-1)[index])

    def _values_of(self, sample: int) -> dict[str, NDArray[Any]]:
        """Every value of the step `[ticks, *shape]` of a fault-free run, and of the readout `[1, *shape]`."""
        machine = golden.Machine(self.net, self.ticks, "dense")
        codes, _, _ = golden.clamped_codes(self.net, {n: v[sample : sample + 1] for n, v in self.inputs.items()})
        scope: dict[str, Any] = {n: np.repeat(v[:, 0], self.ticks, axis=0) for n, v in codes.items()}
        every = np.arange(self.ticks)
        machine.evaluate(self.net.drive, scope, every)
        for name, rows in self.undisturbed.states.items():
            scope[name] = np.concatenate([self.before[name][None, sample], rows[:-1, sample]])
        machine.evaluate(self.net.step, scope, every)
        last = {n: v[:1] for n, v in scope.items()}
        last |= {n: rows[-1:, sample] for n, rows in self.undisturbed.states.items()}
        machine.evaluate(self.net.readout, last, every[-1:] + 1)
        return {**last, **scope}
