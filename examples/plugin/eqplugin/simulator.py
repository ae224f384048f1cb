"""Simulator `listing`: runs the JSON file of an artifact. It reads nothing else, so that it cannot repeat golden."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .target import FILE

__all__ = ["Inference", "ListingSimulator", "Machine"]

Array = NDArray[np.int64]
States = dict[str, Array]
Disturb = Callable[[int, States], States]


@dataclass(frozen=True)
class Inference:
    """Of one sample: the states `before` the first tick, `states` `[ticks, *shape]` after each, `outputs`, and how many
    ticks were made until no state moved."""

    before: States
    states: States
    outputs: States
    steps: int


class Machine:
    """Computes a listing (see `target.listing`), one sample at a time, with Python's rules for `>>` and NumPy's for
    shapes, which are those of the specification."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.params: States = {name: np.array(value, np.int64) for name, value in content["params"].items()}

    def infer(self, inputs: Mapping[str, Array], disturb: Disturb | None = None) -> Inference:
        """`disturb(tick, states)` returns what tick `tick` reads; a run that is disturbed makes all its ticks."""
        clamped = self.evaluate("drive", {**self.params, **inputs})
        states = before = self.latch("init", clamped)
        rows, moving, steps = [], True, 0
        for tick in range(self.content["steps"]):
            if moving:
                read = disturb(tick, states) if disturb else states
                states = self.latch("update", self.evaluate("step", clamped | read))
                moved = max(int(np.abs(states[name] - read[name]).max()) for name in states)
                moving, steps = disturb is not None or moved > self.content["tolerance"], steps + 1
            rows.append(states)
        read = disturb(self.content["steps"], states) if disturb else states
        scope = self.evaluate("readout", clamped | read)
        outputs = {name: scope[value] for name, value in self.content["outputs"].items()}
        return Inference(before, {name: np.stack([row[name] for row in rows]) for name in states}, outputs, steps)

    def latch(self, source: str, scope: States) -> States:
        """The value that each state takes from its `init` (0 without one) or `update`."""
        return {
            s["name"]: np.broadcast_to(0 if s[source] is None else scope[s[source]], s["shape"]).astype(np.int64)
            for s in self.content["states"]
        }

    def evaluate(self, block: str, scope: States) -> States:
        """`scope` and the value of every operation of a block."""
        values = dict(scope)
        for op in self.content[block]:
            values[op["out"]] = apply(op, values)
        return values


def apply(op: Mapping[str, Any], values: States) -> Array:
    """The equation of one operation (`toolchain/ir/SPEC.md`)."""
    match op["op"]:
        case "linear":
            product: Array = values[op["x"]] @ values[op["weight"]].T
            return product if op["bias"] is None else product + values[op["bias"]]
        case "add":
            return values[op["a"]] + values[op["b"]]
        case "sub":
            return values[op["a"]] - values[op["b"]]
        case "reshape":
            return values[op["x"]].reshape(op["shape"])
        case "rescale":
            return half_up(values[op["x"]] * values[op["multiplier"]], op["shift"])
        case "lookup":
            table = values[op["table"]]
            entry: Array = table[np.clip(values[op["x"]] - op["first"], 0, len(table) - 1)]
            return entry
        case "damp_fixed":
            old = values[op["old"]]
            return old + half_up((values[op["new"]] - old) * op["multiplier"], op["shift"])
    raise ValueError(f"a listing has no operation {op['op']!r}")


def half_up(value: Array, shift: int) -> Array:
    """`value / 2**shift`, rounded half up."""
    rounded: Array = (value + ((1 << shift) >> 1)) >> shift
    return rounded


class ListingSimulator(Simulator):
    """The listing of an artifact, in this process. A simulator that may hang or die belongs in one of its own."""

    name: ClassVar[str] = "listing"
    target: ClassVar[str] = "listing"

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, Array],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        machine = Machine(json.loads((artifact.folder / FILE).read_text(encoding="utf-8")))
        count = len(next(iter(inputs.values())))
        samples = [machine.infer({name: codes[k] for name, codes in inputs.items()}) for k in range(count)]
        names = samples[0].states if trace else ()
        return Run(
            states={name: np.stack([s.states[name] for s in samples], axis=1) for name in names},
            outputs={name: np.stack([s.outputs[name] for s in samples]) for name in samples[0].outputs},
            steps=np.array([s.steps for s in samples]),
        )
