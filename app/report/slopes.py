"""Slopes of a float net's step around the states of an integer run: where it stretches, and how fast it forgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from eqcompile.toolchain.arrays import Array, Reals
from eqcompile.toolchain.ir import EqNet, Input
from eqcompile.toolchain.reference import run_reference

__all__ = ["Slopes", "slopes"]

_STEP = 1e-5
"""Half the distance of a central difference, in units of the state."""
_MOST_UNITS = 256
_START = "start of "


@dataclass(frozen=True)
class Slopes:
    """`gain` `[ticks, units]`: the 2-norm of row i of d new_i / d h_j around the state after each tick; a change of the
    states by d moves unit i by gain times d at most, to first order. `radius`: the largest |eigenvalue| of that matrix
    around the last state, by which the net forgets in the long run."""

    gain: Reals
    radius: float


def slopes(net: EqNet, inputs: Mapping[str, Array], states: Mapping[str, Reals]) -> Slopes | None:
    """Slopes of a step by central differences in float64, all states side by side in the order of the net.

    `inputs`: one sample `[1, *shape]` by name; `states`: `[ticks, *shape]` by name, after each tick. None for nets of
    frames, of more than 256 units, or with a state that `states` lacks.
    """
    sizes = [int(np.prod(s.shape)) for s in net.states]
    units = sum(sizes)
    if net.schedule.frames or units > _MOST_UNITS or any(s.name not in states for s in net.states):
        return None
    started = replace(
        net,
        inputs=(*net.inputs, *(Input(_START + s.name, s.shape) for s in net.states)),
        states=tuple(replace(s, init=_START + s.name) for s in net.states),
        schedule=replace(net.schedule, steps=1, stop=None),
    )
    flat = np.concatenate([states[s.name].reshape(len(states[s.name]), -1) for s in net.states], axis=1)
    moved = np.concatenate([np.eye(units), -np.eye(units)]) * _STEP
    clamped = {name: np.repeat(value, 2 * units, axis=0) for name, value in inputs.items()}
    gain = np.empty(flat.shape)
    matrix = np.zeros((units, units))
    for tick, around in enumerate(flat):
        parts = np.split(around + moved, np.cumsum(sizes)[:-1], axis=1)
        starts = {_START + s.name: p.reshape(-1, *s.shape) for s, p in zip(net.states, parts, strict=True)}
        after = run_reference(started, {**clamped, **starts}).states
        new = np.concatenate([after[s.name].reshape(2 * units, -1) for s in net.states], axis=1)
        matrix = (new[:units] - new[units:]).T / (2 * _STEP)
        gain[tick] = np.linalg.norm(matrix, axis=1)
    return Slopes(gain, float(np.abs(np.linalg.eigvals(matrix)).max(initial=0.0)))
