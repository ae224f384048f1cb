"""What holds near a fixed point where nothing holds for all settings, and runs that show why nothing can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .. import golden
from ..arrays import Codes
from ..ir import IntNet
from .recovery import recovery

__all__ = ["SETTLING_TICKS", "Attraction", "Counterexample", "attraction", "counterexamples"]

SETTLING_TICKS = 300
"""Ticks after which a run that still moves is taken for a cycle, if it has one of at most `_LONGEST` ticks."""

_LONGEST = 64
_STARTS = 8
_SEED = 0


@dataclass(frozen=True)
class Attraction:
    """For each sample: an upset that moves no unit by more than `radius` codes, in any number of units, leaves the
    label as it is and each unit within `apart` <= `radius` codes, `ticks` ticks later. Radius 0: none is proved, or the
    run of the net does not stand still."""

    ticks: int
    radius: Codes
    apart: Codes

    def rates(self) -> list[float]:
        """By how much the bound of a code shrinks in a tick, in the mean of the ticks, where a radius is proved."""
        proved = self.radius > 0
        shares = np.maximum(self.apart[proved], 1) / self.radius[proved]
        return [float(v) for v in shares ** (1.0 / self.ticks)]


@dataclass(frozen=True)
class Counterexample:
    """A run of `SETTLING_TICKS` ticks from `start` that ends elsewhere than the run of the net, or in a cycle.

    `codes`: by how many codes a unit of it is off, at most. `labels`: at the end of both. `period`: of the cycle in
    which it, or the run of the net, ends; 1 where both stand still, at two fixed points.
    """

    sample: int
    kind: Literal["two fixed points", "cycle"]
    codes: int
    labels: tuple[int, int]
    period: int
    start: Mapping[str, Codes]


def attraction(net: IntNet, inputs: Mapping[str, Codes], *, ticks: int) -> Attraction:
    """The largest power of two that is a radius, for each sample; `inputs` are codes `[samples, *shape]`.

    Raises NoBoundError as `recovery`.
    """
    count = len(next(iter(inputs.values())))
    radius, apart = np.zeros(count, np.int64), np.zeros(count, np.int64)
    widest = max(net.formats[s.name].hi - net.formats[s.name].lo for s in net.states)
    for size in [1 << k for k in reversed(range(widest.bit_length()))]:
        left = np.flatnonzero(radius == 0)
        if not left.size:
            break
        proved = recovery(net, {name: v[left] for name, v in inputs.items()}, ticks=ticks, radius=size)
        holds = proved.settled & proved.safe[:, -1] & (proved.apart[:, -1] <= size)
        radius[left[holds]], apart[left[holds]] = size, proved.apart[holds, -1]
    return Attraction(ticks, radius, apart)


def counterexamples(net: IntNet, inputs: Mapping[str, Codes]) -> list[Counterexample]:
    """One for each sample for which a few starts (seed 0) give one: rather one with another label, and far off.

    Of a net of one output of classes, without frames; `inputs` are codes `[samples, *shape]`. The map is iterated
    beyond its schedule.
    """
    rng = np.random.default_rng(_SEED)
    clamped, count, _ = golden.clamped_codes(net, inputs)
    machine, every = golden.Machine(net, count, "dense"), np.arange(count)
    scope = {name: value[:, 0] for name, value in clamped.items()}
    machine.evaluate(net.drive, scope, every)
    (output,) = (o.name for o in net.outputs if o.kind == "classes")
    best: dict[int, Counterexample] = {}
    own = _end(machine, scope, machine.initial(scope))
    for number in range(_STARTS):
        start = {s.name: _start(net, s.name, (count, *s.shape), number, rng) for s in net.states}
        other = _end(machine, scope, start)
        labels = [golden.labels(machine.read(scope, end)[output]).reshape(count, -1) for end, _ in (own, other)]
        off = np.maximum.reduce([np.abs(other[0][n] - own[0][n]).reshape(count, -1).max(axis=1) for n in start])
        for sample in range(count):
            periods = [int(p[sample]) for _, p in (own, other)]
            if 0 in periods or (max(periods) == 1 and off[sample] == 0):
                continue
            example = Counterexample(
                sample,
                "cycle" if max(periods) > 1 else "two fixed points",
                int(off[sample]),
                (int(labels[0][sample, 0]), int(labels[1][sample, 0])),
                max(periods),
                {name: v[sample] for name, v in start.items()},
            )
            if sample not in best or _worse(example) > _worse(best[sample]):
                best[sample] = example
    return [best[sample] for sample in sorted(best)]


def _worse(example: Counterexample) -> tuple[bool, int]:
    return example.labels[0] != example.labels[1], example.codes


def _start(net: IntNet, name: str, shape: tuple[int, ...], number: int, rng: np.random.Generator) -> Codes:
    """Anywhere in the format, or at its ends, in turn."""
    ends = net.formats[name]
    pool = np.array([ends.lo, ends.hi]) if number % 2 else np.arange(ends.lo, ends.hi + 1)
    return rng.choice(pool, shape).astype(np.int64)


def _end(machine: golden.Machine, scope: golden.Scope, states: golden.Scope) -> tuple[golden.Scope, Codes]:
    """States after `SETTLING_TICKS` ticks, and the period [samples] of the cycle that they are on; 0 if it is longer
    than looked for."""
    every = np.arange(machine.batch)
    for _ in range(SETTLING_TICKS):
        states, _ = machine.tick(scope, states, every)
    end, period = states, np.zeros(machine.batch, np.int64)
    for tick in range(1, _LONGEST + 1):
        states, _ = machine.tick(scope, states, every)
        same = np.logical_and.reduce([(states[n] == end[n]).reshape(machine.batch, -1).all(axis=1) for n in states])
        period[same & (period == 0)] = tick
        if period.all():
            break
    return end, period
