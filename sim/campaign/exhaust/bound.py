"""What is proved of upsets beside the worst that was simulated. One beyond a bound shows a defect of either."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ....toolchain.certificate import NoBoundError, clocks, recovery
from ..definition import Campaign
from .totals import SiteTotals, Totals

__all__ = ["BoundDocument", "BoundRow", "Violation", "bound_of"]

_SHOWN = 20


class BoundRow(TypedDict):
    """Upsets that leave `ticks`: by how many codes a state is off at the end, at most, proved and in simulation; of how
    many samples the label is proved to stay, and of how many a fault changes it."""

    ticks: int
    proved: int
    simulated: int
    safe: int
    silent: int


class Violation(TypedDict):
    """A sample and the ticks left where simulation is beyond what is proved: codes off, or labels that change though
    they are proved to stay."""

    site: str
    sample: int
    ticks: int
    proved: int
    simulated: int
    silent: int


class BoundDocument(TypedDict):
    """Rows by ticks left; `violations`: how many samples and ticks, of which the first are listed in `first`. Without a
    bound `reason` says why, else it is empty."""

    samples: int
    rows: list[BoundRow]
    violations: int
    first: list[Violation]
    reason: str


def bound_of(campaign: Campaign, totals: Totals, samples: int) -> BoundDocument:
    """Compare the first `samples` samples with their certificate (`toolchain.certificate.recovery`)."""
    sites = [s for s in totals.sites if _covered(campaign, s)]
    count = min(samples, campaign.samples)
    if not sites:
        return _none("no site has upsets of states that last one tick")
    # What is proved holds in the ticks behind an upset, of which at least one must come before it.
    ticks = campaign.net.schedule.steps - 1
    if ticks < 1:
        return _none("the net makes one tick")
    try:
        proved = recovery(campaign.net, {n: v[:count] for n, v in campaign.inputs.items()}, ticks=ticks)
    except NoBoundError as error:
        return _none(str(error))
    distance = np.max([_by_left(s.distance, count) for s in sites], axis=0)
    silent = np.sum([_by_left(s.silent_at, count) for s in sites], axis=0)
    violations = [v for s in sites for v in _violations(s, count, proved.safe, proved.apart)]
    return {
        "samples": count,
        "rows": [
            {
                "ticks": t + 1,
                "proved": int(proved.apart[:, t].max()),
                "simulated": int(distance[:, t].max()),
                "safe": int(proved.safe[:, t].sum()),
                "silent": int((silent[:, t] > 0).sum()),
            }
            for t in range(ticks)
        ],
        "violations": len(violations),
        "first": violations[:_SHOWN],
        "reason": "",
    }


def _none(reason: str) -> BoundDocument:
    return {"samples": 0, "rows": [], "violations": 0, "first": [], "reason": reason}


def _covered(campaign: Campaign, found: SiteTotals) -> bool:
    """Whether the certificate speaks of these upsets: of states that do more than count ticks, in every tick, once."""
    site = found.site
    whole = site.name.startswith("state:") and site.first == 0 and site.stride == 1
    return whole and found.transient and site.ticks == campaign.ticks + 1 and site.target not in clocks(campaign.net)


def _by_left(counts: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """`[samples, ticks]` of upsets in ticks 0 to T as those that leave 1 to T - 1 ticks."""
    return counts[:samples, 1:-1][:, ::-1]


def _violations(found: SiteTotals, samples: int, safe: NDArray[np.bool_], apart: NDArray[np.int64]) -> list[Violation]:
    distance, silent = _by_left(found.distance, samples), _by_left(found.silent_at, samples)
    wrong = (distance > apart) | (safe & (silent > 0))
    return [
        {
            "site": found.site.name,
            "sample": int(sample),
            "ticks": int(tick) + 1,
            "proved": int(apart[sample, tick]),
            "simulated": int(distance[sample, tick]),
            "silent": int(silent[sample, tick]),
        }
        for sample, tick in np.argwhere(wrong)
    ]
