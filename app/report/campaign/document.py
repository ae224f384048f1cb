"""The report as JSON values. Every figure says its kind: outcomes are `simulated` by the engine, intervals and rates of
failure `estimated` from them, times `measured` on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.campaign.chunks import NOT_RUN
from eqcompile.sim.campaign.definition import STORE, Campaign, baselines_of, read_campaign
from eqcompile.sim.campaign.estimates import rate_of
from eqcompile.sim.campaign.plan import FEWEST
from eqcompile.sim.campaign.run import state_of
from eqcompile.sim.campaign.statistics import Interval, Ranked, rank, stratified, wilson_bounds
from eqcompile.sim.campaign.store import Store, counted, open_store
from eqcompile.sim.campaign.strata import shares
from eqcompile.sim.faults.engine import Outcome
from eqcompile.toolchain import artifact

from ..data import number
from ..relaxation import cube_edge
from .cores import compared_cores, core_of
from .environment import environment_report
from .recovery import recovery
from .schema import (
    CampaignPart,
    CampaignReport,
    Cube,
    Difference,
    Exposure,
    Measure,
    OutcomeRow,
    Ranking,
    RankingRow,
    Rate,
    SiteRow,
    Strata,
    StratifiedRate,
    Stratum,
)

__all__ = ["MEANINGS", "document"]

WRONG = (Outcome.SDC, Outcome.HANG)
LEFT = (Outcome.NEAR, Outcome.OTHER, Outcome.SDC, Outcome.UNSETTLED, Outcome.HANG)
MEANINGS: Mapping[Outcome, str] = {
    Outcome.MASKED: "no state and no output ever differed",
    Outcome.HEALED: "states differed, in the end none does",
    Outcome.NEAR: "ends within a few codes, same label",
    Outcome.OTHER: "another fixed point, same label",
    Outcome.SDC: "another label (silent data corruption)",
    Outcome.UNSETTLED: "still moving, same label",
    Outcome.DETECTED: "a hardening mechanism reported it",
    Outcome.HANG: "the hardware did not end",
}
_RANKED, _SHOWN_IDS = 10_000, 20


def document(folder: Path, *, against: Sequence[Path] = ()) -> CampaignReport:
    """The whole report of a campaign folder; `against` are other campaigns to compare with, beside the
    baselines inside it. Raises ArtifactError if there are no results."""
    with _opened(folder) as (campaign, store):
        measures = _counted(campaign)
        report: CampaignReport = {
            "report_version": 3,
            "tools": artifact.tool_versions("duckdb", "numba", "scipy"),
            **_part(campaign, store),
            "maps": [_strata(campaign, store, ["site", "bit"], *m) for m in measures],
            "ticks": [_ticks(campaign, store, *m) for m in measures],
            "bits": [_ranking(campaign, store, "bit", *m) for m in measures],
            "units": [_ranking(campaign, store, "unit", *m) for m in measures],
            "wrong_ids": _ids(campaign, store),
            "recovery": recovery(campaign, store),
            "cube": _cube(campaign, store),
            "stratified": _stratified(campaign, store),
            "baselines": [],
            "cores": None,
        }
    places = [place for place in baselines_of(folder) if (place / STORE).exists()]
    names = [place.name for place in places]
    places += against
    names += labels(against)
    for name, place in zip(names, places, strict=True):
        with _opened(place) as (campaign, store):
            part = _part(campaign, store)
        report["baselines"].append({"name": name, "baseline": part, "difference": _differences(report, part)})
    report["cores"] = compared_cores([report, *(b["baseline"] for b in report["baselines"])])
    return report


def labels(places: Sequence[Path]) -> list[str]:
    """A name for each campaign: that of its folder, with those above it as far as names are alike."""
    paths = [place.resolve().parts for place in places]
    length = 1
    while len({path[-length:] for path in paths}) < len(set(paths)):
        length += 1
    return ["/".join(path[-length:]) for path in paths]


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[Campaign, Store]]:
    campaign = read_campaign(folder)
    with open_store(folder / STORE, write=False) as store:
        yield campaign, store


def _part(campaign: Campaign, store: Store) -> CampaignPart:
    """What is told of every campaign."""
    state = state_of(campaign.plan, store)
    part: CampaignPart = {
        "campaign": {**campaign.to_json(), "bits_note": "a bit of -1 is a fault of no single bit"},
        "faults": number(state.faults, "simulated", "faults"),
        "finished": state.finished,
        "stopped_at_margin": state.stopped,
        "seconds": number(store.seconds(), "measured", "s", "injection, all workers together"),
        "outcomes": _outcomes(campaign, store, state.outcomes, "outcome = {}"),
        "measures": _measures(campaign, store, state.outcomes),
        "reset": _reset(campaign, store),
        "sites": (sites := _sites(campaign, store)),
        "exposure": _exposure(campaign, sites),
    }
    if campaign.engine == "rtl":
        part["core"] = core_of(campaign, store)
    if "environment" in campaign.notes:
        stated = campaign.notes["environment"]
        part["environment"] = environment_report(stated, part["sites"], _bits(campaign), campaign.plan)
    return part


def _classes(campaign: Campaign) -> bool:
    return any(o.kind == "classes" for o in campaign.net.outputs)


def _bad(campaign: Campaign) -> tuple[tuple[Outcome, ...], str]:
    """What counts against a stratum: a wrong label, or where the net tells none, any end but the clean one."""
    return (WRONG, "wrong label") if _classes(campaign) else (LEFT, "not healed")


def _counted(campaign: Campaign) -> list[tuple[tuple[Outcome, ...], str]]:
    """What is counted by bit, tick and unit."""
    left = (LEFT, "not healed")
    return [(WRONG, "wrong label"), left] if _classes(campaign) else [left]


def _codes(outcomes: tuple[Outcome, ...]) -> str:
    return ", ".join(str(int(o)) for o in outcomes)


def _rate(interval: Interval) -> Rate:
    return {**interval.to_json(), "kind": "estimated"}


def _outcomes(campaign: Campaign, store: Store, counts: Mapping[Outcome, int], condition: str) -> list[OutcomeRow]:
    """`condition`: SQL of the rows that ended with outcome `{}`."""
    return [
        {
            "outcome": o.name.lower(),
            "meaning": MEANINGS[o],
            "faults": counts.get(o, 0),
            "kind": "simulated",
            "rate": _rate(rate_of(campaign.plan, campaign.population, store, condition.format(int(o)))),
        }
        for o in Outcome
    ]


def _measures(campaign: Campaign, store: Store, counts: Mapping[Outcome, int]) -> list[Measure]:
    """Rates that compare networks: of all faults, and of those that disturbed a state or an output (these not
    where strata are weighted, whose shares of them are not known)."""
    total = sum(counts.values())
    disturbed = total - counts.get(Outcome.MASKED, 0)
    rows: list[tuple[str, tuple[Outcome, ...], int]] = [("not healed, of all faults", LEFT, total)]
    conditional: list[tuple[str, tuple[Outcome, ...], int]] = [
        ("healed exactly, of faults that disturbed", (Outcome.HEALED,), disturbed)
    ]
    if _classes(campaign):
        rows.insert(0, ("wrong label, of all faults", WRONG, total))
        conditional.append(("wrong label, of faults that disturbed", WRONG, disturbed))
    if campaign.plan.strata is None:
        rows += conditional
    measures: list[Measure] = []
    for name, which, faults in rows:
        hits = sum(counts.get(o, 0) for o in which)
        if faults == total:
            interval = rate_of(campaign.plan, campaign.population, store, f"outcome IN ({_codes(which)})")
        else:
            interval = _plain(campaign, hits, faults)
        measures.append({"measure": name, "kind": "simulated", "hits": hits, "faults": faults, "rate": _rate(interval)})
    return measures


def _plain(campaign: Campaign, hits: int, faults: int) -> Interval:
    """Of a part of the faults whose number was not fixed beforehand, given that number."""
    low, high = wilson_bounds(hits, faults, confidence=campaign.plan.confidence)
    return Interval(hits / faults if faults else 0.5, float(low), float(high))


def _reset(campaign: Campaign, store: Store) -> list[OutcomeRow]:
    """Outcomes of the network started anew; a fault of which a reset leaves nothing counts as masked."""
    table = store.query(f"SELECT after_reset, {counted()} AS faults FROM tally GROUP BY after_reset")
    counts = dict.fromkeys(Outcome, 0)
    for code, faults in zip(table["after_reset"].tolist(), table["faults"].tolist(), strict=True):
        counts[Outcome.MASKED if code == NOT_RUN else Outcome(code)] += faults
    masked = Outcome.MASKED
    rows = _outcomes(campaign, store, counts, "after_reset = {}")
    left = rate_of(campaign.plan, campaign.population, store, f"after_reset IN ({int(masked)}, {NOT_RUN})")
    return [{**row, "rate": _rate(left)} if row["outcome"] == masked.name.lower() else row for row in rows]


def _sites(campaign: Campaign, store: Store) -> list[SiteRow]:
    which, name = _bad(campaign)
    names = {o.name.lower(): (o,) for o in Outcome}
    strata = store.grouped(["site"], {**names, "hits": which})
    rows: list[SiteRow] = []
    for k, (site,) in enumerate(strata.keys):
        hits, faults = int(strata.counts["hits"][k]), int(strata.faults[k])
        rows.append(
            {
                "site": str(site),
                "kind": "simulated",
                "faults": faults,
                "outcomes": {key: int(strata.counts[key][k]) for key in names},
                "hits": hits,
                "measure": name,
                "rate": _rate(_plain(campaign, hits, faults)),
            }
        )
    return rows


def _exposure(campaign: Campaign, sites: Sequence[SiteRow]) -> Exposure:
    """Of the sites that have faults."""
    bits = _bits(campaign)
    return {
        "kind": "estimated",
        "measure": _bad(campaign)[1],
        "bits": sum(bits[row["site"]] for row in sites),
        "failing": sum(bits[row["site"]] * row["rate"]["estimate"] for row in sites),
        "low": sum(bits[row["site"]] * row["rate"]["low"] for row in sites),
        "high": sum(bits[row["site"]] * row["rate"]["high"] for row in sites),
    }


def _bits(campaign: Campaign) -> dict[str, int]:
    """Bits of the words that each site has in the net."""
    return {site.name: site.units * site.bits for site in campaign.population.sites}


def _strata(campaign: Campaign, store: Store, keys: Sequence[str], which: tuple[Outcome, ...], name: str) -> Strata:
    """Rates by the keys, with the interval of each."""
    strata = store.grouped(keys, {"hits": which})
    hits, faults = strata.counts["hits"], strata.faults
    low, high = wilson_bounds(hits, faults, confidence=campaign.plan.confidence)
    numbers = zip(hits.tolist(), faults.tolist(), (hits / faults).tolist(), low.tolist(), high.tolist(), strict=True)
    rows: list[Stratum] = []
    for stratum, (hit, fault, rate, least, most) in zip(strata.keys, numbers, strict=True):
        row: Stratum = {"hits": hit, "faults": fault, "rate": rate, "low": least, "high": most}
        for key, value in zip(keys, stratum, strict=True):
            row[key] = value  # type: ignore[literal-required]
        rows.append(row)
    return {"measure": name, "kind": "estimated", "rows": rows}


def _ticks(campaign: Campaign, store: Store, which: tuple[Outcome, ...], name: str) -> Strata:
    """Rates by tick; of stratified faults, with the sites that have faults in a tick weighted by their shares of it."""
    if campaign.plan.strata is None:
        return _strata(campaign, store, ["tick"], which, name)
    strata = store.grouped(["tick", "site"], {"hits": which})
    ticks = np.array([tick for tick, _ in strata.keys])
    whole = shares(campaign.population, ("site", "bit", "tick"))
    size = {s.name: s.bits for s in campaign.population.sites}
    weight = np.array([whole[site, 0, tick] * size[str(site)] for tick, site in strata.keys])
    rows: list[Stratum] = []
    for tick in np.unique(ticks).tolist():
        at = ticks == tick
        hits, faults = strata.counts["hits"][at], strata.faults[at]
        rate = stratified(hits, faults, weight[at], confidence=campaign.plan.confidence)
        row: Stratum = {
            "hits": int(hits.sum()),
            "faults": int(faults.sum()),
            "rate": rate.estimate,
            "low": rate.low,
            "high": rate.high,
            "tick": tick,
        }
        rows.append(row)
    return {"measure": name, "kind": "estimated", "rows": rows}


def _ranking(campaign: Campaign, store: Store, second: str, which: tuple[Outcome, ...], name: str) -> Ranking:
    """Strata by the lower end of their rate's interval, with the ranks that they may have; those without a hit are not
    listed."""
    strata = store.grouped(["site", second], {"hits": which}, f"{second} >= 0")
    ranked: list[Ranked] = rank(strata.counts["hits"], strata.faults, confidence=campaign.plan.confidence)
    rows: list[RankingRow] = [
        {
            "site": str(strata.keys[r.index][0]),
            "number": int(strata.keys[r.index][1]),
            "hits": r.hits,
            "faults": r.faults,
            **r.rate.to_json(),
            "rank_first": r.first,
            "rank_last": r.last,
        }
        for r in ranked[:_RANKED]
        if r.hits
    ]
    how = f"intervals hold for all {len(ranked)} together at {campaign.plan.confidence:.4g} confidence (Bonferroni)"
    return {"measure": name, "kind": "estimated", "how": how, "of": len(ranked), "rows": rows}


def _ids(campaign: Campaign, store: Store) -> list[str]:
    """Ids of a few faults that ended badly, the first that were drawn."""
    which, _ = _bad(campaign)
    table = store.query(
        f"SELECT chunk, number FROM results WHERE outcome IN ({_codes(which)}) "
        f"ORDER BY chunk, number LIMIT {_SHOWN_IDS}"
    )
    chunks, numbers = table["chunk"].tolist(), table["number"].tolist()
    return [str(fault) for fault in campaign.named(list(zip(chunks, numbers, strict=True)))]


def _cube(campaign: Campaign, store: Store) -> Cube | None:
    """By place, for a state on a lattice: n * n * n units that a stencil joins."""
    for state in campaign.net.states:
        edge = cube_edge(campaign.net, state)
        if edge is None:
            continue
        units = edge**3
        # A site is called KIND:NAME.
        where = "split_part(site, ':', 2) = ? AND unit BETWEEN 0 AND ?"
        strata = store.grouped(["unit"], {"hits": LEFT, "wrong": WRONG}, where, [state.name, units - 1])
        if not strata.keys:
            continue
        numbers = [int(unit) for (unit,) in strata.keys]
        return {
            "state": state.name,
            "edge": edge,
            "kind": "estimated",
            "measure": "not healed",
            "faults": _filled(numbers, strata.faults, units),
            "hits": _filled(numbers, strata.counts["hits"], units),
            "wrong": _filled(numbers, strata.counts["wrong"], units),
        }
    return None


def _filled(units: Sequence[int], values: NDArray[np.int64], count: int) -> list[int]:
    row = [0] * count
    for unit, value in zip(units, values.tolist(), strict=True):
        row[unit] = value
    return row


def _stratified(campaign: Campaign, store: Store) -> StratifiedRate | None:
    """The rate with the strata site x bit x tick weighted by their shares of the population; coarser strata where some
    of these have too few faults to tell a rate. None where all faults are injected, or every rate is weighted so."""
    if campaign.plan.method == "exhaustive" or campaign.plan.strata is not None:
        return None
    which, name = _bad(campaign)
    for keys in (("site", "bit", "tick"), ("site", "bit"), ("site",)):
        whole = shares(campaign.population, keys)
        strata = store.grouped(keys, {"hits": which})
        if set(strata.keys) != set(whole) or strata.faults.min(initial=FEWEST) < FEWEST:
            continue
        weights = np.array([whole[row] for row in strata.keys])
        interval = stratified(strata.counts["hits"], strata.faults, weights, confidence=campaign.plan.confidence)
        return {"measure": name, "by": " x ".join(keys), "strata": len(strata.keys), "rate": _rate(interval)}
    return None


def _differences(ours: CampaignPart, other: CampaignPart) -> list[Difference]:
    """Measures side by side, and whether their intervals are apart."""
    theirs = {m["measure"]: m for m in other["measures"]}
    rows: list[Difference] = []
    for m in ours["measures"]:
        if m["measure"] in theirs:
            t = theirs[m["measure"]]
            apart = m["rate"]["high"] < t["rate"]["low"] or t["rate"]["high"] < m["rate"]["low"]
            rows.append({"measure": m["measure"], "net": m["rate"], "baseline": t["rate"], "intervals_apart": apart})
    return rows
