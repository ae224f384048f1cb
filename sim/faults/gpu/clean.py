"""The clean run as the GPU engine needs it: states and lookups of each tick, and what stands still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import ops

from .plan import Plan

__all__ = ["Clean", "clean_run"]

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clean:
    """`states`: by state, codes that tick t reads, `[T + 1, samples, units]` (the readout reads the last);
    `held`: by value, `[samples, units]`; `drive`: by input and value of the drive, the same, int32;
    `lookups`: by lookup of the step, its operand and its result, each `[T, samples, units]`; `sums`: by map of the step
    `[T, samples, sums]`, by map of the readout `[samples, sums]`, int32; `outputs`: by output, `[samples, codes]`."""

    states: Mapping[str, Array]
    held: Mapping[str, Array]
    drive: Mapping[str, NDArray[np.int32]]
    lookups: Mapping[str, tuple[Array, Array]]
    sums: Mapping[str, NDArray[np.int32]]
    outputs: Mapping[str, Array]

    @property
    def samples(self) -> int:
        """Inputs that were run."""
        return len(next(iter(self.outputs.values())))

    @property
    def ticks(self) -> int:
        """T."""
        return len(next(iter(self.states.values()))) - 1

    def labels(self, plan: Plan) -> Array:
        """`[samples]`: label of the first output of classes, -1 without one."""
        for o in plan.net.outputs:
            if o.kind == "classes":
                return golden.labels(self.outputs[o.name])
        return np.full(self.samples, -1, np.int64)


def clean_run(plan: Plan, inputs: Mapping[str, NDArray[np.int64]]) -> Clean:
    """Golden's run of input codes `[samples, *shape]`."""
    # Disturbed runs make all their ticks, whatever the tolerance is.
    net = replace(plan.net, schedule=replace(plan.net.schedule, tolerance=0))
    run = golden.run(net, inputs)
    codes, samples, _ = golden.clamped_codes(net, inputs)
    machine, every = golden.Machine(net, samples, "dense"), np.arange(samples)
    values: golden.Scope = {name: code[:, 0] for name, code in codes.items()}
    machine.evaluate(net.drive, values, every)
    drive = {name: np.asarray(code).reshape(samples, -1).astype(np.int32) for name, code in values.items()}
    first = machine.initial(values)
    states = {name: np.concatenate([start[None], run.states[name]]) for name, start in first.items()}
    read = [op for op in plan.step if isinstance(op, ops.Lookup)]
    rows: dict[str, list[tuple[Array, Array]]] = {op.out: [] for op in read}
    added: dict[str, list[NDArray[np.int32]]] = {op.out: [] for op in plan.step if op.out in plan.matrices}
    for t in range(net.schedule.steps):
        values |= {name: trajectory[t] for name, trajectory in states.items()}
        machine.evaluate(net.step, values, every)
        for op in read:
            rows[op.out].append((values[op.x], values[op.out]))
        for name, found in added.items():
            found.append(values[name].reshape(samples, -1).astype(np.int32))
    held = {name: values[name].reshape(samples, -1) for name in plan.held}
    values |= {name: trajectory[-1] for name, trajectory in states.items()}
    machine.evaluate(net.readout, values, every)
    last = [op.out for op in plan.readout if op.out in plan.matrices]
    return Clean(
        states={name: v.reshape(*v.shape[:2], -1) for name, v in states.items()},
        held=held,
        drive=drive,
        lookups={
            name: (_flat([x for x, _ in r], samples), _flat([y for _, y in r], samples)) for name, r in rows.items()
        },
        sums={name: np.stack(found) for name, found in added.items()}
        | {name: values[name].reshape(samples, -1).astype(np.int32) for name in last},
        outputs={name: v.reshape(samples, -1) for name, v in run.outputs.items()},
    )


def _flat(rows: list[Array], samples: int) -> Array:
    """`[ticks, samples, codes]`."""
    return np.stack(rows).reshape(len(rows), samples, -1)
