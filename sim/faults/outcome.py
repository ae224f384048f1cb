"""What became of faults: one function decides, for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import RESULT, Outcome

__all__ = ["Facts", "classify", "results"]

Flags = NDArray[np.bool_]
Counts = NDArray[np.int32]


@dataclass(frozen=True)
class Facts:
    """What was seen of each fault; the columns of `RESULT`, and what its outcome follows from.

    `label_differs`: a label of any row of the first classes output. `output_differs`: a code of any output. `moving`:
    the last tick moved a state by more than the schedule's tolerance. `detected`, `hung`: hardware only (None: never).
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


def classify(facts: Facts, near: int) -> NDArray[np.uint8]:
    """`Outcome` of each fault: the first that applies, in the order that its docstring gives."""
    silent = ~facts.output_differs
    applies = [
        (facts.hung, Outcome.HANG),
        (facts.detected, Outcome.DETECTED),
        (facts.label_differs, Outcome.SDC),
        ((facts.rejoin == 0) & silent, Outcome.MASKED),
        ((facts.rejoin > 0) & silent, Outcome.HEALED),
        (facts.distance_end <= near, Outcome.NEAR),
        (facts.moving, Outcome.UNSETTLED),
    ]
    found = np.full(len(facts.label), Outcome.OTHER, np.uint8)
    for flags, outcome in reversed(applies):
        if flags is not None:
            found[flags] = outcome
    return found


def results(facts: Facts, near: int) -> NDArray[Any]:
    """Rows of dtype `RESULT`."""
    rows = np.zeros(len(facts.label), RESULT)
    rows["outcome"] = classify(facts, near)
    for name in ("label", "rejoin", "distance_max", "distance_end", "differ_end"):
        rows[name] = getattr(facts, name)
    return rows
