"""How disturbed runs come back: what the report draws of a few faults, stored when these are injected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..faults.engine import Session
from ..faults.table import Fault, FaultTable, Place
from .plan import Plan

__all__ = ["Curve", "curves_of", "has_curves"]

CURVES, CHUNKS = 60, 4


@dataclass(frozen=True)
class Curve:
    """Fault `number` of its chunk. `distance[k]`: largest absolute difference of a state code to the clean run after
    the k-th tick that follows the upset; `norm`: 2-norm of the difference of all states after the first of them."""

    number: int
    distance: tuple[int, ...]
    norm: float


def has_curves(plan: Plan, chunk: int) -> bool:
    """Whether curves of faults of this chunk are stored: a few chunks, those up to the first look of a campaign that
    may stop, else evenly spread."""
    end = plan.looks[0] if plan.looks else plan.chunks
    return chunk in {(end - 1) * k // (CHUNKS - 1) for k in range(CHUNKS)}


def curves_of(session: Session, table: FaultTable, results: NDArray[np.void]) -> tuple[Curve, ...]:
    """Curves of up to 15 faults in registers that disturbed a state; `results`: rows `[faults]` of dtype `RESULT`, of
    the table. Memory faults stay for the whole inference and are no recovery; they are left out."""
    shown = np.flatnonzero(_in_register(table) & (results["distance_max"] > 0))
    each = CURVES // CHUNKS
    return tuple(_curve(session, int(k), table[int(k)]) for k in shown[:: max(1, len(shown) // each)][:each])


def _in_register(table: FaultTable) -> NDArray[np.bool_]:
    """Faults of one upset in a state, of one tick."""
    if not len(table.upsets):
        return np.zeros(len(table), np.bool_)
    first = table.upsets[np.minimum(table.faults["start"], len(table.upsets) - 1)]
    single = table.faults["count"] == 1
    inside: NDArray[np.bool_] = single & (first["place"] == Place.STATE) & (first["first"] == first["last"])
    return inside


def _curve(session: Session, number: int, fault: Fault) -> Curve:
    clean, disturbed = session.clean(fault.sample), session.trace(fault)
    apart = {name: np.abs(disturbed[name] - codes).reshape(len(codes), -1) for name, codes in clean.items()}
    start = fault.upsets[0].first
    distance = np.max([difference.max(axis=1) for difference in apart.values()], axis=0)
    tick = min(start, len(distance) - 1)
    norm = np.sqrt(sum((difference[tick].astype(np.float64) ** 2).sum() for difference in apart.values()))
    return Curve(number, tuple(distance[start:].tolist()), float(norm))
