"""Inputs that the bench runs, and what golden says must come of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import IntNet, Param, ops
from eqcompile.toolchain.passes import example_codes, output_keys

__all__ = ["bench_inputs", "expected", "thinned", "tolerant"]

Codes = NDArray[np.int64]
SEED = 0
RANDOM = 3
FRAMES = 3
"""Of a sequence."""
THINNED_SHARE = 0.5


def bench_inputs(net: IntNet) -> dict[str, Codes]:
    """Input codes `[samples, (frames,) *shape]`: all zero, all at the upper end, all at the lower, both ends mixed,
    uniform ones and, last, a sparse one."""
    return example_codes(net, uniform=RANDOM, mixed=True, frames=FRAMES if net.schedule.frames else None)


def expected(net: IntNet, inputs: Mapping[str, Codes], run: Run) -> dict[str, Codes]:
    """The arrays of a vector file: `codes.NAME` and `output.KEY` [batch, ...], `state.NAME` after every tick
    [ticks, batch, ...], `steps` [batch]."""
    arrays = {f"codes.{name}": codes for name, codes in inputs.items()}
    arrays |= {f"state.{name}": codes for name, codes in run.states.items()}
    arrays |= {f"output.{key}": run.outputs[name] for name, key in output_keys(net).items()}
    return arrays | {"steps": run.steps}


def tolerant(net: IntNet, run: Run) -> IntNet:
    """The net with another tolerance: of the moves in `run`, golden's of `net`, the one at which samples end at the
    most different ticks. Without moves that exceed its own tolerance the net as it is."""
    # Initial codes are taken as zeros: a choice needs no more, golden says what comes of it.
    moves = [np.abs(np.diff(run.states[s.name], axis=0, prepend=0)) for s in net.states]
    largest = np.max([m.reshape(*m.shape[:2], -1).max(axis=2) for m in moves], axis=0)
    choices = [int(t) for t in np.unique(largest) if t > net.schedule.tolerance]
    if not choices:
        return net

    def ends(tolerance: int) -> int:
        """At how many different ticks samples end; never counts as one more."""
        quiet = np.append(largest <= tolerance, [[True] * largest.shape[1]], axis=0)
        return len(np.unique(quiet.argmax(axis=0)))

    tolerance = max(choices, key=lambda t: (ends(t), -t))
    return dataclasses.replace(net, schedule=dataclasses.replace(net.schedule, tolerance=tolerance))


def thinned(net: IntNet) -> IntNet:
    """The net with about half of its weights zero: another net for the same core.

    Every format holds as before: a product with zero lies within the bounds of what it replaces.
    """
    source = np.random.default_rng(SEED)
    weights = {op.weight for op in net.all_ops() if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))}
    params = []
    for p in net.params:
        keep = source.random(p.value.shape) >= THINNED_SHARE
        params.append(Param(p.name, p.value * keep, p.source) if p.name in weights else p)
    return dataclasses.replace(net, params=tuple(params))
