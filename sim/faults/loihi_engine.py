"""Engine `loihi`: faults injected into the processes of the target `loihi`, under Lava. For samples of a campaign: a
run takes seconds.

A state register is disturbed in the population that holds it. The event of a fault of model `events` is itself dropped,
doubled or held back on its way into the synapse: that its accumulators are then off by what the fault's upsets say is
not assumed, but what comparing with `golden` shows.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import IntNet, check, ops
from ..exchange import demand
from ..lava_runner import INSTALL, run_network
from .circuit import Circuit, unbounded
from .engine import RESULT, Engine, Session
from .outcome import Runs, observed, results
from .table import Fault, FaultTable, Place, Upset

__all__ = ["LoihiEngine", "LoihiSession"]

Array = NDArray[np.int64]
CHUNK = 256
"""Faults in one run of the network."""
CONFIGURATION = "loihi2"
TIMEOUT_S = 3600.0
_EVENT = re.compile(r"(?P<kind>dropped|duplicated|delayed):(?P<map>.+)")


class LoihiEngine(Engine):
    """Takes the nets that the target `loihi` takes; of faults, any upsets of states, or one of an event."""

    name: ClassVar[str] = "loihi"
    install: ClassVar[str] = INSTALL
    instrument: ClassVar[str] = "loihi"
    sites: ClassVar[tuple[str, ...]] = ("state",)

    def missing(self) -> Sequence[str]:
        return [] if importlib.util.find_spec("lava") else ["lava-nc"]

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return check(net) or [*unbounded(net), *_divisions(net)]

    def open(self, net: IntNet, inputs: Mapping[str, Array], *, near: int) -> LoihiSession:
        """Runs the samples without a fault in the network of the artifact."""
        demand(self.name, packages={"lava": INSTALL}, programs={})
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

    def _results(self, table: FaultTable) -> NDArray[Any]:
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
        told: list[dict[str, Any]] = []
        refused: dict[str, Fault] = {}
        for row, fault in enumerate(table):
            said = self._told(fault)
            if said is None:
                refused.setdefault(", ".join(sorted({u.place.name.lower() for u in fault.upsets})), fault)
                continue
            told += [{"sample": row, **part} for part in said]
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
        return self._ran(table.faults["sample"], told)

    def _told(self, fault: Fault) -> list[dict[str, Any]] | None:
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

    def _state(self, u: Upset) -> dict[str, Any]:
        fmt = self.circuit.words[u.place, u.name].format
        masks = {key: getattr(u, key) for key in ("first", "last", "flip", "one", "zero", "add")}
        return {"state": u.name, "element": u.index, **masks, "bits": fmt.bits, "signed": fmt.signed}

    def _ran(self, samples: NDArray[Any], faults: Sequence[Mapping[str, Any]]) -> Runs:
        inputs = {name: codes[samples] for name, codes in self.inputs.items()}
        done = run_network(
            self.folder, inputs, configuration=CONFIGURATION, trace=True, timeout_s=TIMEOUT_S, faults=faults
        )
        states = {s.name: np.asarray(done.states[s.name]) for s in self.net.states}
        return Runs(states, done.outputs, golden.first_states(self.net, inputs))
