"""What became of faults: one function decides, for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import golden

from ...toolchain.ir import IntNet
from .engine import RESULT, Outcome

__all__ = ["Facts", "Reported", "Runs", "classify", "observed", "outcome_table", "results"]

PRECEDENCE = (
    Outcome.HANG,
    Outcome.DETECTED,
    Outcome.SDC,
    Outcome.MASKED,
    Outcome.HEALED,
    Outcome.NEAR,
    Outcome.UNSETTLED,
)
"""The first that applies counts; OTHER where none does."""
Flags = NDArray[np.bool_]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Reported:
    """What hardening reports of each fault, as the columns of `RESULT`."""

    aborted: Flags
    flags: NDArray[np.int64]
    corrected: NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What was seen of each fault; the columns of `RESULT`, and what its outcome follows from.

    `label_differs`: a label of any row of the first classes output. `output_differs`: a code of any output. `moving`:
    the last tick moved a state by more than the schedule's tolerance. `detected`, `hung`: hardware only (None: never);
    `reported`: what the hardware says of it.
    """

    label: Counts
    rejoin: Counts
    distance_max: Counts
    distance_end: Counts
    differ_end: Counts
    label_differs: Flags
    output_differs: Flags
    moving: Flags
    detected: Flags | None = None
    hung: Flags | None = None
    reported: Reported | None = None


@dataclass(frozen=True)
class Runs:
    """Disturbed runs, or fault-free ones of the same samples: `states` `[ticks, faults, *shape]` after each tick,
    `outputs` `[faults, *shape]`, `before` the states before the first tick `[faults, *shape]`."""

    states: Mapping[str, NDArray[np.int64]]
    outputs: Mapping[str, NDArray[np.int64]]
    before: Mapping[str, NDArray[np.int64]]


def observed(
    net: IntNet,
    runs: Runs,
    clean: Runs,
    first: NDArray[np.int64],
    *,
    hung: Flags | None = None,
    reported: Reported | None = None,
) -> Facts:
    """What is seen of faults by comparing whole runs with fault-free ones (whose `before` is not read). `rejoin` counts
    from the ticks `first` `[faults]` int64, where that is negative from the first one after which a state differs.
    `hung` `[faults]` bool: runs that gave no whole result."""
    rows = _flat(runs.states)
    ticks = len(rows)
    apart = np.abs(rows - _flat(clean.states))
    far = np.minimum(apart.max(axis=2), np.iinfo(np.int32).max)
    last = np.where(far > 0, np.arange(ticks)[:, None], -1).max(axis=0)
    first = np.where(first < 0, (far > 0).argmax(axis=0), first)
    previous = rows[-2] if ticks > 1 else _flat({n: v[None] for n, v in runs.before.items()})[0]
    differs = [(v != clean.outputs[n]).reshape(len(v), -1).any(axis=1) for n, v in runs.outputs.items()]
    label, label_differs = _labels(net, runs, clean)
    return Facts(
        label=label,
        rejoin=np.where(last < 0, 0, np.where(last == ticks - 1, -1, last + 1 - first)).astype(np.int32),
        distance_max=far.max(axis=0).astype(np.int32),
        distance_end=far[-1].astype(np.int32),
        differ_end=np.count_nonzero(apart[-1], axis=1).astype(np.int32),
        label_differs=label_differs,
        output_differs=np.any(differs, axis=0),
        moving=settles(net) & (np.abs(rows[-1] - previous) > net.schedule.tolerance).any(axis=1),
        detected=None if reported is None else reported.aborted | (reported.flags != 0),
        hung=hung,
        reported=reported,
    )


def _labels(net: IntNet, runs: Runs, clean: Runs) -> tuple[Counts, Flags]:
    count = len(next(iter(runs.outputs.values())))
    name = next((o.name for o in net.outputs if o.kind == "classes"), None)
    if name is None:
        return np.full(count, -1, np.int32), np.zeros(count, bool)
    found, usual = (golden.labels(r.outputs[name]).reshape(count, -1) for r in (runs, clean))
    return found[:, -1].astype(np.int32), (found != usual).any(axis=1)


def _flat(states: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """All states of `[ticks, faults, *shape]` side by side: `[ticks, faults, codes]`."""
    return np.concatenate([v.reshape(*v.shape[:2], -1) for v in states.values()], axis=2)


def classify(facts: Facts, near: int) -> NDArray[np.uint8]:
    """`Outcome` of each fault `[faults]` uint8: the first of `PRECEDENCE` that applies."""
    silent = ~facts.output_differs
    applies = {
        Outcome.HANG: facts.hung,
        Outcome.DETECTED: facts.detected,
        Outcome.SDC: facts.label_differs,
        Outcome.MASKED: (facts.rejoin == 0) & silent,
        Outcome.HEALED: (facts.rejoin > 0) & silent,
        Outcome.NEAR: facts.distance_end <= near,
        Outcome.UNSETTLED: facts.moving,
    }
    outcomes = np.full(len(facts.label), Outcome.OTHER, np.uint8)
    for outcome in reversed(PRECEDENCE):
        flags = applies[outcome]
        if flags is not None:
            outcomes[flags] = outcome
    return outcomes


def settles(net: IntNet) -> bool:
    """Whether there is anything to settle: the only tick of a net of one step moves its states from where they begin,
    whatever it computes."""
    return net.schedule.steps > 1


def outcome_table(net: IntNet) -> NDArray[np.uint8]:
    """What `classify` says of every case without hardware, for engines that classify in compiled code or on a GPU:
    outcomes `[label differs, output differs, moving, sign of rejoin + 1, near]`, shape (2, 2, 2, 3, 2)."""
    label, output, moving, rejoin, near = np.indices((2, 2, 2, 3, 2)).reshape(5, -1).astype(np.int32)
    none = np.zeros_like(label)
    facts = Facts(
        label=none,
        rejoin=rejoin - 1,
        distance_max=none,
        distance_end=1 - near,
        differ_end=none,
        label_differs=label != 0,
        output_differs=output != 0,
        moving=settles(net) & (moving != 0),
    )
    return classify(facts, 0).reshape(2, 2, 2, 3, 2)


def results(facts: Facts, near: int) -> NDArray[np.void]:
    """Rows `[faults]` of dtype `RESULT`; `near`: codes within which the end counts as near."""
    rows = np.zeros(len(facts.label), RESULT)
    rows["outcome"] = classify(facts, near)
    for name in ("label", "rejoin", "distance_max", "distance_end", "differ_end", "output_differs"):
        rows[name] = getattr(facts, name)
    if facts.reported is not None:
        for name in ("aborted", "flags", "corrected"):
            rows[name] = getattr(facts.reported, name)
    return rows
