"""A stop rule of the batch, which no circuit has, becomes one of each sample.

The source stops all samples once the one that moves most has nearly come to rest, so that a result depends on its
companions. An integer net makes all steps of each sample, or ends a sample once none of its codes moves, which leaves
its result as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from eqcompile.toolchain.reference import run_reference

from ..toolchain.arrays import Array
from ..toolchain.ir import EqNet
from ..toolchain.typed_json import JsonObject

__all__ = ["stop_rows", "without_stop"]


def without_stop(net: EqNet) -> EqNet:
    """The net that makes all steps of each sample."""
    return replace(net, schedule=replace(net.schedule, stop=None))


def stop_rows(net: EqNet, calibration: Mapping[str, Array] | None) -> tuple[JsonObject, ...]:
    """The report row of a net's stop rule, if it has one.

    `calibration`: real inputs `[samples, *shape]`, as for the float reference. The row then states the largest
    difference of an output with and without the rule, and how many labels differ, both measured on them in float64.
    """
    stop = net.schedule.stop
    if stop is None:
        return ()
    row: dict[str, str | int | float] = {
        "what": "stop",
        "name": stop.state,
        "of_the_batch": f"largest step of a sample below {stop.epsilon:g}",
        "here": "each sample until no code moves",
    }
    if calibration is not None:
        before, after = (run_reference(n, calibration).outputs for n in (net, without_stop(net)))
        row["max_output_difference"] = max(float(np.abs(before[o.name] - after[o.name]).max()) for o in net.outputs)
        row["labels_changed"] = sum(
            int((before[o.name].argmax(-1) != after[o.name].argmax(-1)).sum())
            for o in net.outputs
            if o.kind == "classes"
        )
        row["samples"] = len(next(iter(calibration.values())))
    return (row,)
