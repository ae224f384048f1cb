"""What the outcomes of every fault say, as JSON values: exact counts, without intervals."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ...faults.engine import Outcome
from ..definition import Campaign, read_campaign
from .bound import BoundDocument, bound_of
from .store import ids, totals_of
from .totals import SiteTotals

__all__ = ["ExhaustDocument", "SiteDocument", "document_of"]

_SHOWN = 20
"""Units, samples and ids that are named."""
_SHARES = (0.5, 0.9, 0.99)


class UnitRow(TypedDict):
    """A unit: its faults that end in silent corruption, how many it has, and the bit that has most of them."""

    unit: int
    silent: int
    faults: int
    worst_bit: int


class SampleRow(TypedDict):
    """A sample, and how many of its faults end in silent corruption."""

    sample: int
    silent: int


class Carrier(TypedDict):
    """The fewest units (words) that carry this share of all silent corruption of the site."""

    share: float
    units: int


class SiteDocument(TypedDict):
    """One site. `silent_map`: silent corruption by unit and bit; `silent_ticks`: by tick, the first being `first` and
    others `stride` apart; `faults_a_tick`: faults of each tick. `samples_hit`: samples with any."""

    site: str
    units: int
    bits: int
    ticks: int
    first: int
    stride: int
    faults: int
    outcomes: dict[str, int]
    silent: int
    silent_map: list[list[int]]
    silent_ticks: list[int]
    faults_a_tick: int
    units_hit: int
    samples_hit: int
    weakest_units: list[UnitRow]
    weakest_samples: list[SampleRow]
    carriers: list[Carrier]


class ExhaustDocument(TypedDict):
    """What is stored of a run over every fault; `silent_ids`: the first faults that end in silent corruption."""

    net: str
    ir_digest: str
    model: str
    options: dict[str, object]
    engine: str
    near: int
    samples: int
    ticks: int
    population: int
    faults: int
    finished: bool
    outcomes: dict[str, int]
    sites: list[SiteDocument]
    silent_ids: list[str]
    bound: BoundDocument | None
    bytes: int
    kind: str


def document_of(folder: Path, *, proved: int) -> ExhaustDocument:
    """The document of a folder; `proved`: the certificate is asked for so many samples (0: not at all).

    Raises ArtifactError as `read_block`.
    """
    campaign = read_campaign(folder)
    totals = totals_of(folder, campaign)
    population = campaign.population
    return {
        "net": campaign.net.name,
        "ir_digest": campaign.net.digest,
        "model": campaign.model,
        "options": dict(campaign.options),
        "engine": campaign.engine,
        "near": campaign.near,
        "samples": campaign.samples,
        "ticks": campaign.ticks,
        "population": population.size,
        "faults": totals.faults,
        "finished": totals.faults == population.size,
        "outcomes": _outcomes(totals.outcomes),
        "sites": [_site(s, campaign) for s in totals.sites],
        "silent_ids": list(islice(ids(folder, campaign, Outcome.SDC), _SHOWN)),
        "bound": bound_of(campaign, totals, proved) if proved else None,
        "bytes": sum(path.stat().st_size for path in (folder / "outcomes").iterdir()),
        "kind": "simulated",
    }


def _outcomes(counts: NDArray[np.int64]) -> dict[str, int]:
    return {outcome.name.lower(): int(counts[outcome]) for outcome in Outcome}


def _site(found: SiteTotals, campaign: Campaign) -> SiteDocument:
    site, by_unit, by_sample = found.site, found.silent.sum(axis=1), found.silent_at.sum(axis=1)
    samples = int((found.injected > 0).sum())
    return {
        "site": site.name,
        "units": site.units,
        "bits": site.bits,
        "ticks": site.ticks,
        "first": site.first,
        "stride": site.stride,
        "faults": int(found.outcomes.sum()),
        "outcomes": _outcomes(found.outcomes),
        "silent": int(by_unit.sum()),
        "silent_map": found.silent.tolist(),
        "silent_ticks": found.silent_at.sum(axis=0).tolist(),
        "faults_a_tick": site.units * site.bits * samples,
        "units_hit": int((by_unit > 0).sum()),
        "samples_hit": int((by_sample > 0).sum()),
        "weakest_units": [
            {
                "unit": int(unit),
                "silent": int(by_unit[unit]),
                "faults": site.bits * site.ticks * samples,
                "worst_bit": int(found.silent[unit].argmax()),
            }
            for unit in _largest(by_unit)
        ],
        "weakest_samples": [{"sample": int(s), "silent": int(by_sample[s])} for s in _largest(by_sample)],
        "carriers": carriers(by_unit),
    }


def _largest(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """The places of the largest counts above 0, the largest first."""
    order = np.argsort(-counts, kind="stable")[:_SHOWN]
    return np.asarray(order[counts[order] > 0])


def carriers(by_unit: NDArray[np.int64]) -> list[Carrier]:
    """How few units carry 50, 90 and 99 % of the counts `[units]` int64; none without a count."""
    total = int(by_unit.sum())
    if not total:
        return []
    most = np.cumsum(np.sort(by_unit)[::-1])
    return [{"share": share, "units": int(np.searchsorted(most, share * total) + 1)} for share in _SHARES]
