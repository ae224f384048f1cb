"""The clean run as the GPU engine needs it: states that each tick reads, and what stands still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ....toolchain.ir import IntNet, Output
from .plan import Plan

__all__ = ["Clean", "clean_run"]

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clean:
    """`states`: by state, codes that tick t reads, `[T + 1, samples, units]` (the readout reads the last);
    `held`: by value, `[samples, units]`; `outputs`: by output, `[samples, codes]`."""

    states: Mapping[str, Array]
    held: Mapping[str, Array]
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
    net = plan.net
    run = golden.run(net, inputs)
    wanted = [*plan.held, *(s.init for s in net.states if s.init is not None and s.init not in net.param_names)]
    held = _held(net, tuple(dict.fromkeys(wanted)), inputs)
    samples = len(run.steps)
    states = {}
    for s in net.states:
        codes = run.states[s.name].reshape(*run.states[s.name].shape[:2], -1)
        first = np.zeros(codes.shape[1:], np.int64)
        if s.init is not None:
            first += plan.params[s.init] if s.init in net.param_names else held[s.init]
        states[s.name] = np.concatenate([first[None], codes])
    return Clean(states, held, {n: v.reshape(samples, -1) for n, v in run.outputs.items()})


def _held(net: IntNet, names: tuple[str, ...], inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, Array]:
    """Values that no state reaches, as golden computes them: as outputs of the same net, the drive ending with them."""
    if not names:
        return {}
    moving = {s.name for s in net.states}
    still = []
    for op in net.step:
        if moving & set(op.reads):
            moving.add(op.out)
        else:
            still.append(op)
    gone = {op.out for op in net.readout}
    shown = tuple(Output(name=f"held{i}", value=n, kind="values", scale=1.0) for i, n in enumerate(names))
    drive_only = replace(
        net,
        drive=(*net.drive, *still),
        step=tuple(op for op in net.step if op.out in moving),
        readout=(),
        outputs=shown,
        schedule=replace(net.schedule, steps=1),
        formats={n: f for n, f in net.formats.items() if n not in gone},
    )
    read = golden.run(drive_only, inputs, trace=False)
    return {name: read.outputs[o.name].reshape(len(read.steps), -1) for name, o in zip(names, shown, strict=True)}
