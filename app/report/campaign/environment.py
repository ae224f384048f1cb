"""Rates of upsets and failures of a campaign in an environment, with joint intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.campaign.environment import rates
from eqcompile.sim.campaign.environment.joint import Part, draw_failures, interval
from eqcompile.sim.campaign.notes import Environment
from eqcompile.sim.campaign.plan import EXHAUSTIVE, Plan

from .schema import EnvironmentReport, EnvironmentRow, EnvironmentTotal, KindTotal, SiteRow

__all__ = ["environment_report"]

_MISSIONS = 10_000


def environment_report(
    stated: Environment, sites: Sequence[SiteRow], bits: Mapping[str, int], plan: Plan
) -> EnvironmentReport:
    """Rates by site, by kind of cell, and in all. `bits`: of the words that each site has in the net. A kind that the
    campaign injects nothing into counts with the bits and the failing share that the file states."""
    shares: list[tuple[str, float]] = [(row["site"], row["rate"]["estimate"]) for row in sites]
    parts = [_part(stated, row, bits[row["site"]], plan) for row in sites]
    numbers = [bits[row["site"]] for row in sites]
    injected = _sums([part.kind for part in parts], numbers)
    uncounted: list[str] = []
    for name, rate in stated.get("kinds", {}).items():
        left = rate.get("bits", 0) - injected.get(name, 0)
        if left > 0 and name not in injected and "failing" in rate:
            shares.append((f"{name} (stated)", rate["failing"]))
            parts.append(Part(_per_hour(stated, name) * left, name, rate["factor"], False, share=rate["failing"]))
            numbers.append(left)
        elif left > 0:
            uncounted.append(f"{left:,} bits of {name}")
    drawn = draw_failures(parts, factor=stated.get("factor", 1.0), generator=np.random.default_rng(plan.seed))
    rows = [
        _row(site, part, count, share, drawn[:, k : k + 1], plan.confidence)
        for k, ((site, share), part, count) in enumerate(zip(shares, parts, numbers, strict=True))
    ]
    whole = _row("all", _joined(parts), sum(numbers), _failing(rows), drawn, plan.confidence)
    scrub = stated["scrub_s"]
    upsets = whole["upsets_per_hour"]
    accumulated = None if scrub is None else rates.accumulated(upsets, scrub)
    total = cast("EnvironmentTotal", {**whole, "accumulated": accumulated})
    flown = rates.mission(
        upsets,
        total["failing"],
        mission_s=stated["mission_s"],
        devices=stated["devices"],
        runs=_MISSIONS,
        generator=np.random.default_rng(plan.seed),
    )
    kinds = _kinds(parts, numbers, rows, drawn, plan.confidence) if "kinds" in stated else []
    note = (
        "one upset at a time; bits outside the words of this campaign (control, buses, configuration) are not counted"
    )
    if "kinds" in stated:
        note = f"one upset at a time; not counted: {', '.join(uncounted) or 'nothing that the file states bits of'}"
    return {
        **stated,
        "note": note,
        "sites": rows,
        "by_kind": kinds,
        "total": total,
        "mission": flown,
        "kind": "estimated",
    }


def _per_hour(stated: Environment, kind: str) -> float:
    if "kinds" in stated:
        return stated["kinds"][kind]["upsets_per_bit_day"] / rates.HOURS_PER_DAY
    return stated["upsets_per_bit_hour"]


def _part(stated: Environment, row: SiteRow, bits: int, plan: Plan) -> Part:
    kind, factor, spectral = "", 1.0, False
    if "kinds" in stated:
        kind = rates.kind_of(stated, row["site"]) or ""
        assert kind, "`api.define` refuses a site without a rate"
        factor, spectral = stated["kinds"][kind]["factor"], "ion_per_bit_day" in stated["kinds"][kind]
    known = row["rate"]["estimate"] if plan.method == EXHAUSTIVE and row["faults"] else None
    return Part(_per_hour(stated, kind) * bits, kind, factor, spectral, row["hits"], row["faults"], known)


def _row(
    site: str, part: Part, bits: int, share: float, drawn: NDArray[np.float64], confidence: float
) -> EnvironmentRow:
    low, high = interval(drawn.sum(axis=1), confidence)
    found = rates.failures(part.upsets_per_hour / bits if bits else 0.0, bits, share)
    row = cast("EnvironmentRow", found)
    row |= {
        "site": site,
        "bits": bits,
        "failing": share,
        # The central interval of a share of which no fault or every fault failed does not hold the estimate.
        "fit_low": min(low * rates.HOURS_PER_FIT, found["fit"]),
        "fit_high": max(high * rates.HOURS_PER_FIT, found["fit"]),
    }
    if part.kind:
        row["cell"] = part.kind
    return row


def _joined(parts: Sequence[Part]) -> Part:
    return Part(sum(part.upsets_per_hour for part in parts), "", 1.0, False)


def _failing(rows: Sequence[EnvironmentRow]) -> float:
    upsets = sum(row["upsets_per_hour"] for row in rows)
    return sum(row["failures_per_hour"] for row in rows) / upsets if upsets else 0.0


def _sums(names: Sequence[str], numbers: Sequence[int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in zip(names, numbers, strict=True):
        found[name] = found.get(name, 0) + count
    return found


def _kinds(
    parts: Sequence[Part],
    numbers: Sequence[int],
    rows: Sequence[EnvironmentRow],
    drawn: NDArray[np.float64],
    confidence: float,
) -> list[KindTotal]:
    found: list[KindTotal] = []
    for kind, bits in _sums([part.kind for part in parts], numbers).items():
        which = [k for k, part in enumerate(parts) if part.kind == kind]
        low, high = interval(drawn[:, which].sum(axis=1), confidence)
        found.append(
            {
                "cell": kind,
                "bits": bits,
                "upsets_per_hour": sum(rows[k]["upsets_per_hour"] for k in which),
                "fit": (fit := sum(rows[k]["fit"] for k in which)),
                "fit_low": min(low * rates.HOURS_PER_FIT, fit),
                "fit_high": max(high * rates.HOURS_PER_FIT, fit),
            }
        )
    return found
