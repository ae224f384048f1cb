"""A stop rule of the batch, which no circuit has, becomes one of each sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from eqcompile.toolchain.reference import run_reference

from ..toolchain.arrays import Array
from ..toolchain.ir import EqNet
from ..toolchain.typed_json import JsonObject

__all__ = ["per_sample"]


def per_sample(net: EqNet, calibration: Mapping[str, Array] | None) -> tuple[EqNet, tuple[JsonObject, ...]]:
    """The net without its stop rule, and the report rows that say what this changes.

    The source stops all samples once the one that moves most has nearly come to rest, so that a result depends on its
    companions. Here each sample makes all steps, or ends once none of its codes moves, which leaves its result as it
    is. `calibration` (real inputs `[samples, *shape]`, as for the float reference): the row then states the largest
    difference of an output with and without the rule, and how many labels differ, both measured on it in float64.
    """
    stop = net.schedule.stop
    if stop is None:
        return net, ()
    alone = replace(net, schedule=replace(net.schedule, stop=None))
    row: dict[str, str | int | float] = {
        "what": "stop",
        "name": stop.state,
        "of_the_batch": f"largest step of a sample below {stop.epsilon:g}",
        "here": "each sample until no code moves",
    }
    if calibration is not None:
        before, after = run_reference(net, calibration), run_reference(alone, calibration)
        row["max_output_difference"] = max(
            float(np.abs(before.outputs[o.name] - after.outputs[o.name]).max()) for o in net.outputs
        )
        row["labels_changed"] = sum(
            int((before.outputs[o.name].argmax(-1) != after.outputs[o.name].argmax(-1)).sum())
            for o in net.outputs
            if o.kind == "classes"
        )
        row["samples"] = len(next(iter(calibration.values())))
    return alone, (row,)
