"""How a disturbed run comes back: distance to the clean run, tick by tick after the upset, as it is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eqcompile.sim.campaign.definition import Campaign
from eqcompile.sim.campaign.store import Store
from eqcompile.sim.faults.engine import Outcome
from eqcompile.toolchain.certificate import certify

from .schema import Bound, Recovery, RecoveryCurve

__all__ = ["proved_bound", "recovery"]


def recovery(campaign: Campaign, store: Store) -> Recovery | None:
    """Curves of a few faults in registers that disturbed a state; None without any.

    `distance[k]`: largest absolute difference of a state code after the k-th tick that follows the upset; curves end
    where the run does.
    """
    stored = store.curves()
    if not stored:
        return None
    faults = campaign.named([(chunk, number) for chunk, number, *_ in stored])
    curves: list[RecoveryCurve] = [
        {"id": str(fault), "outcome": Outcome(outcome).name.lower(), "distance": distance}
        for fault, (_, _, outcome, distance, _) in zip(faults, stored, strict=True)
    ]
    longest = max(len(c["distance"]) for c in curves)
    rows = np.full((len(curves), longest), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve["distance"])] = curve["distance"]
    found: Recovery = {
        "kind": "simulated",
        "how": f"engine {campaign.engine}, {len(curves)} faults in registers that disturbed a state",
        "unit": "codes",
        "curves": curves,
        "median": np.nanmedian(rows, axis=0).tolist(),
        "largest": np.nanmax(rows, axis=0).tolist(),
    }
    lines = proved_bound(campaign, [norm for *_, norm in stored], longest)
    if lines is not None:
        found["bound"] = lines
    return found


def proved_bound(campaign: Campaign, norms: Sequence[float], ticks: int) -> Bound | None:
    """The proved bound from the largest of the differences on, in codes; None where no contraction of all states as one
    block is proved. A difference of any code is at most the 2-norm over all codes, which is what the proof is about.
    `contraction` is `L^t` times the first difference: the share of the upset; `distance` adds what roundings may."""
    proved = certify(campaign.net)
    if len(proved.blocks) != 1 or not proved.blocks[0].contracts:
        return None
    block = proved.blocks[0]
    same = len({s.frac for s in campaign.net.states}) == 1 and len(block.states) == len(campaign.net.states)
    if block.ball >= block.diameter or not same:
        return None
    start = max(norms)
    return {
        "factor": float(block.bound),
        "kind": "proved",
        "how": str(block.verdict),
        "distance": [float(block.after(k, start * block.lsb) / block.lsb) for k in range(ticks)],
        "contraction": [start * float(block.bound) ** k for k in range(ticks)],
    }
