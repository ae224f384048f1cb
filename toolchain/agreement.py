"""Golden against the float64 reference: how far the integers of a net are from the network that was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .arrays import Array
from .data import encode
from .golden import run as run_golden
from .interfaces import FloatRun, Run
from .ir import IntNet

__all__ = ["Agreement", "agree", "labels_agreeing", "labels_equal"]


@dataclass(frozen=True)
class Agreement:
    """Golden against the float64 reference on the samples.

    `labels_equal` of `labels` (None, 0 without a classes output); `state_error`: largest absolute difference of any
    unit at any tick by state, in real units, `state_error_lsb` the same in steps of the state's format.
    `output_error`: by output, in real units.
    """

    samples: int
    labels_equal: int | None
    labels: int
    state_error: Mapping[str, float]
    state_error_lsb: Mapping[str, float]
    output_error: Mapping[str, float]


def agree(net: IntNet, golden: Run, reference: FloatRun) -> Agreement:
    """How far the integers are from the float64 reference; ticks are compared as far as both went."""
    state_error, state_lsb = {}, {}
    for s in net.states:
        trace = (reference.trace or {}).get(s.name)
        if s.frac is None or trace is None:
            continue
        codes = golden.states[s.name]
        ticks = min(len(codes), len(trace))
        lsb = 2.0**-s.frac
        state_error[s.name] = float(np.abs(codes[:ticks] * lsb - trace[:ticks]).max(initial=0.0))
        state_lsb[s.name] = state_error[s.name] / lsb
    equal, labels = None, 0
    output_error = {}
    for o in net.outputs:
        real, code = reference.outputs[o.name], golden.outputs[o.name]
        output_error[o.name] = float(np.abs(code * (o.scale or 1.0) - real).max(initial=0.0))
        if o.kind == "classes":
            same = code.argmax(axis=-1) == real.argmax(axis=-1)
            equal, labels = (equal or 0) + int(same.sum()), labels + int(same.size)
    return Agreement(len(golden.steps), equal, labels, state_error, state_lsb, output_error)


def labels_agreeing(net: IntNet, real: Mapping[str, Array], reference: FloatRun) -> tuple[int, int]:
    """How many labels of golden on the inputs `real` are those of the reference, and how many there are.

    `real`: float64 `[samples, *shape]` by input.
    """
    return labels_equal(net, run_golden(net, encode(net, real)[0], trace=False), reference)


def labels_equal(net: IntNet, run: Run, reference: FloatRun) -> tuple[int, int]:
    """How many labels of a run of golden are those of the reference on the same inputs, and how many there are."""
    pairs = [
        np.argmax(run.outputs[o.name], axis=-1) == np.argmax(reference.outputs[o.name], axis=-1)
        for o in net.outputs
        if o.kind == "classes"
    ]
    return sum(int(p.sum()) for p in pairs), sum(p.size for p in pairs)
