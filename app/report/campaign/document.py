"""The report as JSON values. Every figure says its kind: outcomes are `simulated` by the engine, intervals and rates of
failure `estimated` from them, times `measured` on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.campaign.chunks import NOT_RUN
from eqcompile.sim.campaign.definition import STORE, Campaign, baselines_of, read_campaign
from eqcompile.sim.campaign.environment import rates
from eqcompile.sim.campaign.run import state_of
from eqcompile.sim.campaign.statistics import Interval, Ranked, rank, stratified, wilson_bounds
from eqcompile.sim.campaign.store import Store, open_store
from eqcompile.sim.faults.engine import Outcome
from eqcompile.toolchain import artifact
from eqcompile.toolchain.ir import ops, walk

from ..data import number
from .cores import compared_cores, core_of
from .recovery import recovery

__all__ = ["MEANINGS", "document"]

REPORT_VERSION = 2
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
_FEWEST = 20
_RANKED, _SHOWN_IDS, _MISSIONS = 10_000, 20, 10_000


def document(folder: Path, *, against: Path | None = None) -> dict[str, Any]:
    """The whole report of a campaign folder; `against` is another campaign to compare with, beside the
    baselines inside it. Raises ArtifactError if there are no results."""
    found: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "tools": artifact.tool_versions("duckdb", "numba", "scipy"),
    }
    found |= _campaign(folder, full=True)
    places = [place for place in baselines_of(folder) if (place / STORE).exists()]
    names = [place.name for place in places]
    if against is not None:
        places.append(against)
        names.append(against.resolve().name)
    baselines = [_campaign(place, full=False) for place in places]
    found["baselines"] = [
        {"name": name, "baseline": baseline, "difference": _differences(found, baseline)}
        for name, baseline in zip(names, baselines, strict=True)
    ]
    cores = compared_cores([found, *baselines])
    return found | ({} if cores is None else {"cores": cores})


def _campaign(folder: Path, *, full: bool) -> dict[str, Any]:
    campaign = read_campaign(folder)
    with open_store(folder / STORE, write=False) as store:
        state = state_of(campaign.plan, store)
        found: dict[str, Any] = {
            "campaign": campaign.to_json() | {"bits_note": "a bit of -1 is a fault of no single bit"},
            "faults": number(state.faults, "simulated", "faults"),
            "finished": state.finished,
            "stopped_at_margin": state.stopped,
            "seconds": number(store.seconds(), "measured", "s", "injection, all workers together"),
            "outcomes": _outcomes(campaign, state.outcomes),
            "measures": _measures(campaign, state.outcomes),
            "reset": _reset(campaign, store),
            "sites": _sites(campaign, store),
        }
        if campaign.engine == "rtl":
            found["core"] = core_of(campaign, store)
        if full:
            measures = _counted(campaign)
            found["maps"] = [_strata(campaign, store, ["site", "bit"], *m) for m in measures]
            found["ticks"] = [_strata(campaign, store, ["tick"], *m) for m in measures]
            found["bits"] = [_ranking(campaign, store, "bit", *m) for m in measures]
            found["units"] = [_ranking(campaign, store, "unit", *m) for m in measures]
            found["wrong_ids"] = _ids(campaign, store)
            cube = _cube(campaign, store)
            found |= {} if cube is None else {"cube": cube}
            whole = _stratified(campaign, store)
            found |= {} if whole is None else {"stratified": whole}
            found["recovery"] = recovery(campaign, store)
        if "environment" in campaign.notes:
            found["environment"] = _environment(campaign, found["sites"])
    return found


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


def _rate(interval: Interval) -> dict[str, Any]:
    return {**interval.to_json(), "kind": "estimated"}


def _outcomes(campaign: Campaign, counts: Mapping[Outcome, int]) -> list[dict[str, Any]]:
    total = sum(counts.values())
    return [
        {
            "outcome": o.name.lower(),
            "meaning": MEANINGS[o],
            "faults": counts.get(o, 0),
            "kind": "simulated",
            "rate": _rate(campaign.plan.interval(counts.get(o, 0), total)),
        }
        for o in Outcome
    ]


def _measures(campaign: Campaign, counts: Mapping[Outcome, int]) -> list[dict[str, Any]]:
    """Rates that compare networks: of all faults, and of those that disturbed a state or an output."""
    total = sum(counts.values())
    disturbed = total - counts.get(Outcome.MASKED, 0)
    wrong, left = (sum(counts.get(o, 0) for o in which) for which in (WRONG, LEFT))
    rows = [("not healed, of all faults", left, total), ("healed exactly, of faults that disturbed", -1, disturbed)]
    if _classes(campaign):
        rows = [("wrong label, of all faults", wrong, total), *rows]
        rows.append(("wrong label, of faults that disturbed", wrong, disturbed))
    found = []
    for name, hits, faults in rows:
        count = counts.get(Outcome.HEALED, 0) if hits < 0 else hits
        whole = faults == total
        interval = campaign.plan.interval(count, faults) if whole else _plain(campaign, count, faults)
        row = {"measure": name, "kind": "simulated", "hits": count, "faults": faults, "rate": _rate(interval)}
        found.append(row)
    return found


def _plain(campaign: Campaign, hits: int, faults: int) -> Interval:
    """Of a part of the faults whose number was not fixed beforehand, given that number."""
    low, high = wilson_bounds(hits, faults, confidence=campaign.plan.confidence)
    return Interval(hits / faults if faults else 0.5, float(low), float(high))


def _reset(campaign: Campaign, store: Store) -> list[dict[str, Any]]:
    """Outcomes of the network started anew; a fault of which a reset leaves nothing counts as masked."""
    found = store.query("SELECT after_reset, count(*) AS faults FROM results GROUP BY after_reset")
    counts = dict.fromkeys(Outcome, 0)
    for code, faults in zip(found["after_reset"].tolist(), found["faults"].tolist(), strict=True):
        counts[Outcome.MASKED if code == NOT_RUN else Outcome(code)] += faults
    return _outcomes(campaign, counts)


def _sites(campaign: Campaign, store: Store) -> list[dict[str, Any]]:
    which, name = _bad(campaign)
    names = {o.name.lower(): (o,) for o in Outcome}
    columns = store.grouped(["site"], {**names, "hits": which})
    rows = []
    for k, site in enumerate(columns["site"].tolist()):
        counts = {key: int(columns[key][k]) for key in ("faults", *names, "hits")}
        rate = _rate(_plain(campaign, counts["hits"], counts["faults"]))
        rows.append({"site": site, "kind": "simulated", **counts, "measure": name, "rate": rate})
    return rows


def _strata(
    campaign: Campaign, store: Store, keys: Sequence[str], which: tuple[Outcome, ...], name: str
) -> dict[str, Any]:
    """Rates by the keys, with the interval of each."""
    columns = store.grouped(keys, {"hits": which})
    low, high = wilson_bounds(columns["hits"], columns["faults"], confidence=campaign.plan.confidence)
    columns |= {"rate": columns["hits"] / columns["faults"], "low": low, "high": high}
    shown = [*keys, "hits", "faults", "rate", "low", "high"]
    rows = [dict(zip(shown, row, strict=True)) for row in zip(*(columns[k].tolist() for k in shown), strict=True)]
    return {"measure": name, "kind": "estimated", "rows": rows}


def _ranking(campaign: Campaign, store: Store, second: str, which: tuple[Outcome, ...], name: str) -> dict[str, Any]:
    """Strata by the lower end of their rate's interval, with the ranks that they may have; those without a hit are not
    listed."""
    columns = store.grouped(["site", second], {"hits": which}, f"{second} >= 0")
    ranked: list[Ranked] = rank(columns["hits"], columns["faults"], confidence=campaign.plan.confidence)
    rows = [
        {
            "site": str(columns["site"][r.index]),
            second: int(columns[second][r.index]),
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
    found = store.query(
        f"SELECT chunk, number FROM results WHERE outcome IN ({_codes(which)}) "
        f"ORDER BY chunk, number LIMIT {_SHOWN_IDS}"
    )
    chunks, numbers = found["chunk"].tolist(), found["number"].tolist()
    tables = {chunk: campaign.faults(chunk) for chunk in set(chunks)}
    return [str(tables[chunk][k]) for chunk, k in zip(chunks, numbers, strict=True)]


def _cube(campaign: Campaign, store: Store) -> dict[str, Any] | None:
    """By place, for a state on a lattice: n * n * n units that a stencil joins."""
    lattice = {op.x for op in walk(campaign.net.step) if isinstance(op, ops.Stencil)}
    for state in campaign.net.states:
        units = int(np.prod(state.shape))
        edge = round(units ** (1 / 3))
        if state.name not in lattice or edge**3 != units:
            continue
        # A site is called KIND:NAME.
        where = "split_part(site, ':', 2) = ? AND unit BETWEEN 0 AND ?"
        columns = store.grouped(["unit"], {"hits": LEFT, "wrong": WRONG}, where, [state.name, units - 1])
        if not len(columns["unit"]):
            continue
        table = {key: _filled(columns["unit"], columns[key], units) for key in ("faults", "hits", "wrong")}
        return {"state": state.name, "edge": edge, "kind": "estimated", "measure": "not healed", **table}
    return None


def _filled(units: NDArray[Any], values: NDArray[Any], count: int) -> list[int]:
    row = np.zeros(count, np.int64)
    row[units] = values
    found: list[int] = row.tolist()
    return found


def _stratified(campaign: Campaign, store: Store) -> dict[str, Any] | None:
    """The rate with the strata site x bit x tick weighted by their shares of the population; coarser strata where some
    of these have too few faults to tell a rate. None where all faults are injected."""
    if campaign.plan.method == "exhaustive":
        return None
    which, name = _bad(campaign)
    for keys in (("site", "bit", "tick"), ("site", "bit"), ("site",)):
        strata = _shares(campaign, keys)
        found = store.grouped(keys, {"hits": which})
        seen = list(zip(*(found[key].tolist() for key in keys), strict=True))
        if set(seen) != set(strata) or found["faults"].min(initial=_FEWEST) < _FEWEST:
            continue
        weights = np.array([strata[row] for row in seen])
        interval = stratified(found["hits"], found["faults"], weights, confidence=campaign.plan.confidence)
        return {"measure": name, "by": " x ".join(keys), "strata": len(seen), "rate": _rate(interval)}
    return None


def _shares(campaign: Campaign, keys: tuple[str, ...]) -> dict[tuple[Any, ...], float]:
    """Share of the population of each stratum; `keys` are the first ones of site, bit, tick."""
    population = campaign.population
    shares: dict[tuple[Any, ...], float] = {}
    for site in population.sites:
        bits = range(site.bits) if "bit" in keys else [0]
        ticks = range(site.first, site.first + site.ticks) if "tick" in keys else [0]
        share = site.size * population.samples / population.size / (len(bits) * len(ticks))
        for bit in bits:
            for tick in ticks:
                shares[(site.name, bit, tick)[: len(keys)]] = share
    return shares


def _environment(campaign: Campaign, sites: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates of upsets and failures. Bits are those of the words that a site has in the net. `most` takes the upper end
    of each site's interval."""
    said = campaign.notes["environment"]
    per_bit = said["upsets_per_bit_hour"]
    bits = {site.name: site.units * site.bits for site in campaign.population.sites}
    rows: list[dict[str, Any]] = []
    for row in sites:
        found = rates.failures(per_bit, bits[row["site"]], row["rate"]["estimate"])
        most = rates.failures(per_bit, bits[row["site"]], row["rate"]["high"])
        rows.append({"site": row["site"], "bits": bits[row["site"]], "failing": row["rate"]["estimate"], **found})
        rows[-1]["fit_most"] = most["fit"]
    upsets = sum(r["upsets_per_hour"] for r in rows)
    failing = sum(r["failures_per_hour"] for r in rows) / upsets if upsets else 0.0
    total: dict[str, Any] = {
        **rates.failures(per_bit, sum(r["bits"] for r in rows), failing),
        "failing": failing,
        "bits": sum(r["bits"] for r in rows),
        "fit_most": sum(r["fit_most"] for r in rows),
    }
    if said["scrub_s"] is not None:
        total["accumulated"] = rates.accumulated(upsets, said["scrub_s"])
    flown = rates.mission(
        upsets,
        failing,
        mission_s=said["mission_s"],
        devices=said["devices"],
        runs=_MISSIONS,
        generator=np.random.default_rng(campaign.plan.seed),
    )
    note = (
        "one upset at a time; bits outside the words of this campaign (control, buses, configuration) are not counted"
    )
    return {**said, "note": note, "sites": rows, "total": total, "mission": flown, "kind": "estimated"}


def _differences(ours: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Measures side by side, and whether their intervals are apart."""
    theirs = {m["measure"]: m for m in other["measures"]}
    rows = []
    for m in ours["measures"]:
        if m["measure"] in theirs:
            t = theirs[m["measure"]]
            apart = m["rate"]["high"] < t["rate"]["low"] or t["rate"]["high"] < m["rate"]["low"]
            rows.append({"measure": m["measure"], "net": m["rate"], "baseline": t["rate"], "intervals_apart": apart})
    return rows
