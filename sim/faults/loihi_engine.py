"""Engine `loihi`: faults injected into the processes of the target `loihi`, under Lava. For samples of a campaign: a
run takes seconds.

A state register is disturbed in the population that holds it. The event of a fault of model `events` is itself dropped,
doubled or held back on its way into the synapse: that its accumulators are then off by what the fault's upsets say is
not assumed, but what comparing with `golden` shows.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet, check, ops
from ...toolchain.typed_json import JSON, JsonObject
from ..exchange import demand
from ..script_runner import run_script
from ..simulators import LAVA, Loihi2Simulator
from .circuit import Circuit, unbounded
from .engine import RESULT, Engine, Session
from .outcome import Runs, observed, results
from .table import Fault, FaultTable, Place, Upset

__all__ = ["LoihiEngine", "LoihiSession"]

Array = NDArray[np.int64]
CHUNK = 256
"""Faults in one run of the network."""
TIMEOUT_S = 3600.0
_EVENT = re.compile(r"(?P<kind>dropped|duplicated|delayed):(?P<map>.+)")


class LoihiEngine(Engine):
    """Takes the nets that the target `loihi` takes; of faults, any upsets of states, or one of an event."""

    name: ClassVar[str] = "loihi"
    install: ClassVar[str] = LAVA
    instrument: ClassVar[str] = "loihi"
    sites: ClassVar[tuple[str, ...]] = ("state",)

    def missing(self) -> Sequence[str]:
        return [] if importlib.util.find_spec("lava") else ["lava-nc"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or [*unbounded(net), *_divisions(net)]

    def open(self, net: IntNet, inputs: Mapping[str, Array], *, near: int) -> LoihiSession:
        """Runs the samples without a fault in the network of the artifact."""
        demand(self.name, packages={"lava": LAVA}, programs={})
        return LoihiSession(net, inputs, near, self.opened_artifact())


def _divisions(net: IntNet) -> Iterator[Diagnostic]:
    for op in net.all_ops():
        if isinstance(op, ops.Divide):
            what = f"{op.out} divides: a process has no answer to a divisor below 1, which a fault can make"
            yield Diagnostic("fault-divide", what, f"{net.name}: {op.out}", "engines golden and fast count it as 1")


class LoihiSession(Session):
    """The network in `folder`, of the target `loihi`."""

    def __init__(self, net: IntNet, inputs: Mapping[str, Array], near: int, folder: Path) -> None:
        self.net, self.near, self.inputs = net, near, inputs
        _, self.samples, frames = golden.clamped_codes(net, inputs)
        self.ticks, self.circuit = frames * net.schedule.steps, Circuit.of(net)
        self.folder = folder
        self.usual = self._ran(np.arange(self.samples), [])

    def run(self, table: FaultTable) -> NDArray[np.void]:
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        parts = [slice(i, i + CHUNK) for i in range(0, len(table), CHUNK)]
        return np.concatenate([np.zeros(0, RESULT), *(self._results(table.take(p)) for p in parts)])

    def trace(self, fault: Fault) -> Mapping[str, Array]:
        return {name: rows[:, 0] for name, rows in self.inject(FaultTable.of([fault])).states.items()}

    def clean(self, sample: int) -> Mapping[str, Array]:
        return {name: rows[:, sample] for name, rows in self.usual.states.items()}

    def _results(self, table: FaultTable) -> NDArray[np.void]:
        samples, usual = table.faults["sample"], self.usual
        clean = Runs(
            {n: v[:, samples] for n, v in usual.states.items()},
            {n: v[samples] for n, v in usual.outputs.items()},
            {n: v[samples] for n, v in usual.before.items()},
        )
        facts = observed(self.net, self.inject(table), clean, table.faults["tick"])
        return results(facts, self.near)

    def inject(self, table: FaultTable) -> Runs:
        """Whole disturbed runs, in one run of the network. Raises UsageError for faults that it cannot be given."""
        self.circuit.check(table, samples=self.samples, ticks=self.ticks)
        injected: list[dict[str, JSON]] = []
        refused: dict[str, Fault] = {}
        for row, fault in enumerate(table):
            parts = self._injected(fault)
            if parts is None:
                refused.setdefault(", ".join(sorted({u.place.name.lower() for u in fault.upsets})), fault)
                continue
            injected += [{"sample": row, **part} for part in parts]
        if refused:
            hint = (
                "models seu, mbu, stuck, dead and noise with states alone, and events; engine golden takes every fault"
            )
            raise UsageError(
                Diagnostic(
                    "fault-loihi",
                    f"upsets of {what}: processes are given those of states or one event",
                    str(fault)[:120],
                    hint,
                )
                for what, fault in refused.items()
            )
        return self._ran(table.faults["sample"], injected)

    def _injected(self, fault: Fault) -> list[dict[str, JSON]] | None:
        """The fault as the program of the network takes it, for its sample; None if it cannot."""
        event = _EVENT.fullmatch(fault.site)
        if all(u.place is Place.STATE for u in fault.upsets):
            return [self._state(u) for u in fault.upsets]
        held = all(u.place is Place.VALUE and u.held and u.name == (event and event["map"]) for u in fault.upsets)
        if event is None or not held:
            return None
        # Every accumulator that the event reaches is off in the same ticks.
        first, last = fault.upsets[0].first, fault.upsets[0].last
        named = {"synapse": event["map"], "kind": event["kind"], "unit": fault.unit}
        return [{**named, "tick": first, "until": last + 1 if event["kind"] == "delayed" else -1}]

    def _state(self, u: Upset) -> dict[str, JSON]:
        fmt = self.circuit.words[u.place, u.name].format
        masks = {key: getattr(u, key) for key in ("first", "last", "flip", "one", "zero", "add")}
        return {"state": u.name, "element": u.index, **masks, "bits": fmt.bits, "signed": fmt.signed}

    def _ran(self, samples: NDArray[np.int64], faults: Sequence[JsonObject]) -> Runs:
        inputs = {name: codes[samples] for name, codes in self.inputs.items()}
        with tempfile.TemporaryDirectory(prefix="eqcompile-lava-") as name:
            arguments = ["run.py", "--sim-cfg", Loihi2Simulator.configuration, "--timeout", str(TIMEOUT_S)]
            if faults:
                path = Path(name) / "faults.json"
                path.write_text(json.dumps(list(faults)), encoding="utf-8")
                arguments += ["--faults", str(path)]
            limit_s = TIMEOUT_S + Loihi2Simulator.grace_s
            run = run_script(self.folder, self.net, arguments, inputs, Path(name), trace=True, timeout_s=limit_s)
        return Runs(run.states, run.outputs, golden.first_states(self.net, inputs))
