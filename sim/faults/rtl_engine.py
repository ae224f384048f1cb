"""Engine `rtl`: faults injected into the serial core by its saboteurs, one compiled simulation for all of them.

The core keeps sums and adds to them what changed. A flip in its memory of codes is therefore two kinds of upset:

| upset | elementwise parts read | linear maps read | in the words of `table` |
|---|---|---|---|
| told | the flipped code | the flipped code | `state` |
| silent | the flipped code | until the end the code without the flip, of that tick's change | `silent_upset` |
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...toolchain import registry
from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet, check, ops
from .. import golden
from ..exchange import read_results, write_codes
from ..process import run_process
from ..rtl_runner import VERILATOR, missing_tools
from .circuit import Circuit, unbounded
from .engine import RESULT, Engine, Session
from .outcome import Facts, results
from .storage import changed
from .table import Fault, FaultTable, Place, Upset

__all__ = ["RtlEngine", "RtlSession", "silent_upset"]

Array = NDArray[np.int64]
TIMEOUT_S = 6 * 3600.0


class RtlEngine(Engine):
    """Takes what the serial core takes; of faults, one upset of a state register in one tick each."""

    name: ClassVar[str] = "rtl"
    install: ClassVar[str] = "pip install 'eqcompile[rtl]' && apt-get install g++ make perl"

    def missing(self) -> Sequence[str]:
        return registry.target_class("rtl")().missing()

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        serial: Any = registry.target_class("rtl")
        return check(net) or unbounded(net) or serial(arch="serial").check(net)

    def open(self, net: IntNet, inputs: Mapping[str, Array], *, near: int) -> RtlSession:
        missing_tools(self.name, {}, VERILATOR, verilator=True)
        return RtlSession(net, inputs, near)


class RtlSession(Session):
    """A core emitted into a temporary folder."""

    def __init__(self, net: IntNet, inputs: Mapping[str, Array], near: int) -> None:
        self.net, self.near, self.inputs = net, near, inputs
        done = golden.run(_unsettled(net), inputs)
        self.states = {name: np.asarray(value) for name, value in done.states.items()}
        self.outputs, self.circuit, self.ticks = done.outputs, Circuit.of(net), net.schedule.steps
        self.samples = len(next(iter(inputs.values())))
        machine = golden.Machine(net, self.samples, "dense")
        codes, _, _ = golden.clamped_codes(net, inputs)
        scope = {name: value[:, 0] for name, value in codes.items()}
        machine.evaluate(net.drive, scope, np.arange(self.samples))
        self.before = machine.initial(scope)
        self.folder = tempfile.TemporaryDirectory(prefix="eqcompile-rtl-faults-")
        serial: Any = registry.target_class("rtl")
        self.core = Path(self.folder.name) / "core"
        self.core.mkdir()
        serial(arch="serial").emit(net, self.core)

    def clean(self, sample: int) -> Mapping[str, Array]:
        return {name: rows[:, sample].astype(np.int64) for name, rows in self.states.items()}

    def trace(self, fault: Fault) -> Mapping[str, Array]:
        return {name: rows[:, 0] for name, rows in self.traces(FaultTable.of([fault]))[0].items()}

    def traces(
        self, table: FaultTable, *, told: bool = True
    ) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
        """States `[ticks, faults, *shape]`, outputs, and `cycles` and `seconds` of the simulator; not `told`: the
        change of the flipped code is not passed on (`silent_upset`)."""
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        rows = np.array([self._row(fault, told) for fault in table], np.int64)
        with tempfile.TemporaryDirectory(prefix="eqcompile-rtl-") as name:
            given, found, faults = write_codes(Path(name) / "x.npz", self.inputs), Path(name) / "y.npz", Path(name)
            with (faults / "faults.npz").open("wb") as file:
                np.savez(file, faults=rows)
            argv = [sys.executable, "-I", "-B", "bench/native.py", "--build", str(Path(self.folder.name) / "build")]
            argv += ["--inputs", str(given), "--results", str(found), "--trace", "--faults", file.name]
            run_process(argv, cwd=self.core, timeout_s=TIMEOUT_S)
            arrays = read_results(found)
        states = {s.name: arrays[f"state.{s.name}"].astype(np.int64) for s in self.net.states}
        outputs = {o.name: arrays[f"output.{o.name}"].astype(np.int64) for o in self.net.outputs}
        return states, outputs, {k: float(arrays[k]) for k in ("cycles", "seconds")}

    def run(self, table: FaultTable) -> NDArray[np.void]:
        if not len(table):
            return np.zeros(0, RESULT)
        states, outputs, _ = self.traces(table)
        samples = table.faults["sample"]
        apart = np.concatenate(
            [np.abs(v - self.states[n][:, samples]).reshape(*v.shape[:2], -1) for n, v in states.items()], axis=2
        )
        rows = np.concatenate([v.reshape(*v.shape[:2], -1) for v in states.values()], axis=2)
        begin = np.concatenate([v[samples].reshape(len(table), -1) for v in self.before.values()], axis=1)
        far = apart.max(axis=2)
        last = np.where(far > 0, np.arange(self.ticks)[:, None], -1).max(axis=0)
        clean = {n: self.outputs[n][samples] for n in outputs}
        label, differs = np.full(len(table), -1, np.int32), np.zeros(len(table), bool)
        name = next((o.name for o in self.net.outputs if o.kind == "classes"), None)
        if name is not None:
            found = golden.labels(outputs[name]).reshape(len(table), -1)
            label = found[:, -1].astype(np.int32)
            differs = (found != golden.labels(clean[name]).reshape(len(table), -1)).any(axis=1)
        previous = rows[-2] if self.ticks > 1 else begin
        facts = Facts(
            label=label,
            rejoin=np.where(
                last < 0, 0, np.where(last == self.ticks - 1, -1, last + 1 - table.faults["tick"])
            ).astype(np.int32),
            distance_max=far.max(axis=0).astype(np.int32),
            distance_end=far[-1].astype(np.int32),
            differ_end=np.count_nonzero(apart[-1], axis=1).astype(np.int32),
            label_differs=differs,
            output_differs=np.any(
                [(outputs[n] != clean[n]).reshape(len(table), -1).any(axis=1) for n in outputs], axis=0
            ),
            moving=(np.abs(rows[-1] - previous) > self.net.schedule.tolerance).any(axis=1),
        )
        return results(facts, self.near)

    def _row(self, fault: Fault, told: bool) -> list[int]:
        """Sample; enable, event, state, unit, tick, mask; no load word."""
        row = [fault.sample, 1, int(told), 0, 0, 0, 0, -1, 0, 0]
        if not fault.upsets:
            return row
        upset = fault.upsets[0]
        if len(fault.upsets) > 1 or upset.place is not Place.STATE or upset.first != upset.last:
            hint = "the saboteur flips bits of one state code in one tick; use --engine fast or golden for others"
            raise UsageError(Diagnostic("fault-rtl", "the serial core cannot be given this fault", str(fault), hint))
        word = self.circuit.words[upset.place, upset.name]
        code = self._code(fault.sample, upset)
        mask = (code ^ changed(code, upset, word, saturate=True)) & ((1 << word.format.bits) - 1)
        state = [s.name for s in self.net.states].index(upset.name)
        return [*row[:3], state, upset.index, upset.first, mask, *row[7:]]

    def _code(self, sample: int, upset: Upset) -> int:
        """The code that the upset is in, before it."""
        rows = self.states[upset.name]
        value = rows[upset.first - 1, sample] if upset.first else self.before[upset.name][sample]
        return int(np.asarray(value).reshape(-1)[upset.index])


def silent_upset(session: RtlSession, fault: Fault) -> Fault:
    """What golden is told for a flip in the core's memory of codes of which its sums learn nothing.

    In tick t the sums are those of the code without the flip. The change at its end is the new code less the flipped
    one, so that from then on the sums lack the flip's difference d: in every tick from t on, `-W[:, unit] * d` is added
    to each linear map of the step that reads the state. The readout reads the codes afresh.
    """
    upset = fault.upsets[0]
    net = session.net
    code = session._code(fault.sample, upset)
    word = session.circuit.words[upset.place, upset.name]
    difference = changed(code, upset, word, saturate=True) - code
    added = []
    if upset.first < session.ticks:
        for op in net.step:
            if isinstance(op, ops.Linear) and op.x == upset.name:
                weights = net.param(op.weight)[:, upset.index]
                added += list(_added(op.out, -weights * difference, upset.first, session.ticks - 1))
    return Fault(fault.sample, fault.site, fault.unit, fault.bit, (*fault.upsets, *added))


def _added(name: str, sums: Array, first: int, last: int) -> Iterable[Upset]:
    for index in np.flatnonzero(sums):
        yield Upset(Place.VALUE, name, int(index), first, last, add=int(sums[index]))


def _unsettled(net: IntNet) -> IntNet:
    """A disturbed run makes all ticks, and so does the clean one."""
    return replace(net, schedule=replace(net.schedule, tolerance=0))
