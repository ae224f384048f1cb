"""How a disturbed run comes back: distance to the clean run, tick by tick after the upset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.campaign.chunks import open_engine
from eqcompile.sim.campaign.definition import Campaign
from eqcompile.sim.campaign.store import Store
from eqcompile.sim.faults.engine import Outcome, Session
from eqcompile.sim.faults.table import Fault, FaultTable, Place
from eqcompile.toolchain.certificate import certify

__all__ = ["proved_bound", "recovery"]

_CURVES, _CHUNKS = 60, 4


def recovery(campaign: Campaign, store: Store) -> dict[str, Any] | None:
    """Curves of up to 60 faults in registers that disturbed a state, drawn evenly from a few chunks; None without any.

    `distance[k]`: largest absolute difference of a state code after the k-th tick that follows the upset, None beyond
    the end of the run. Memory faults stay for the whole inference and are no recovery; they are left out.
    """
    faults = _some(campaign, store)
    if not faults:
        return None
    session = open_engine(campaign)
    curves = [{"id": str(f), "outcome": o.name.lower(), "distance": _distance(session, f)} for f, o in faults]
    longest = max(len(c["distance"]) for c in curves)
    rows = np.full((len(curves), longest), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve["distance"])] = curve["distance"]
    found = {
        "kind": "simulated",
        "how": f"engine {campaign.engine}, {len(curves)} faults in registers that disturbed a state",
        "unit": "codes",
        "curves": curves,
        "median": np.nanmedian(rows, axis=0).tolist(),
        "largest": np.nanmax(rows, axis=0).tolist(),
    }
    lines = proved_bound(campaign, [_norm(session, f) for f, _ in faults], longest)
    return found if lines is None else found | {"bound": lines}


def _some(campaign: Campaign, store: Store) -> list[tuple[Fault, Outcome]]:
    last = max(store.chunks(), default=-1)
    chosen = sorted({last * k // max(1, _CHUNKS - 1) for k in range(_CHUNKS)}) if last >= 0 else []
    found: list[tuple[Fault, Outcome]] = []
    for chunk in chosen:
        rows = store.query(
            f"SELECT number, outcome FROM results WHERE chunk = {chunk} AND distance_max > 0 ORDER BY number"
        )
        if not len(rows["number"]):
            continue
        table = campaign.faults(chunk)
        numbers = rows["number"].astype(np.intp)
        kept = np.flatnonzero(_in_register(table)[numbers])
        for k in kept[:: max(1, len(kept) // (_CURVES // len(chosen)))][: _CURVES // len(chosen)]:
            found.append((table[int(numbers[k])], Outcome(int(rows["outcome"][k]))))
    return found


def _in_register(table: FaultTable) -> NDArray[np.bool_]:
    """Faults of one upset in a state, of one tick."""
    first = table.upsets[np.minimum(table.faults["start"], max(0, len(table.upsets) - 1))]
    single = table.faults["count"] == 1
    kept: NDArray[np.bool_] = single & (first["place"] == Place.STATE) & (first["first"] == first["last"])
    return kept


def _distance(session: Session, fault: Fault) -> list[int]:
    start = fault.upsets[0].first
    clean, found = session.clean(fault.sample), session.trace(fault)
    apart = [np.abs(found[name] - clean[name]).reshape(len(codes), -1).max(axis=1) for name, codes in clean.items()]
    rows: list[int] = np.max(apart, axis=0)[start:].tolist()
    return rows


def _norm(session: Session, fault: Fault) -> float:
    """2-norm of the difference of all states after the tick of the upset, in codes."""
    tick = min(fault.upsets[0].first, len(next(iter(session.clean(fault.sample).values()))) - 1)
    clean, found = session.clean(fault.sample), session.trace(fault)
    return float(
        np.sqrt(sum(((found[n][tick] - codes[tick]).astype(np.float64) ** 2).sum() for n, codes in clean.items()))
    )


def proved_bound(campaign: Campaign, norms: Sequence[float], ticks: int) -> dict[str, Any] | None:
    """The proved bound from the largest of the differences on, in codes; None where no contraction of all states as one
    block is proved. A difference of any code is at most the 2-norm over all codes, which is what the proof is about.
    `contraction` is `L^t` times the first difference: the share of the upset; `distance` adds what roundings may."""
    proved = certify(campaign.net)
    if not proved.certified or len(proved.blocks) != 1:
        return None
    block = proved.blocks[0]
    same = len({s.frac for s in campaign.net.states}) == 1 and len(block.states) == len(campaign.net.states)
    if block.vacuous or not same:
        return None
    start = max(norms)
    return {
        "factor": float(block.bound),
        "kind": "proved",
        "how": str(block.verdict),
        "distance": [float(block.after(k, start * block.lsb) / block.lsb) for k in range(ticks)],
        "contraction": [start * float(block.bound) ** k for k in range(ticks)],
    }
