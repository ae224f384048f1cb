"""Cores side by side: what becomes of faults in each, what its hardening finds, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eqcompile.sim.campaign.definition import Campaign
from eqcompile.sim.campaign.estimates import rate_of
from eqcompile.sim.campaign.store import Store
from eqcompile.sim.faults.engine import Outcome

from .schema import CampaignPart, CoreRate, CoreRow, Cores, Rate

__all__ = ["compared_cores", "core_of"]

_SILENT = f"outcome IN ({Outcome.NEAR:d}, {Outcome.OTHER:d}, {Outcome.UNSETTLED:d}) AND output_differs"
RATES: Mapping[str, str] = {
    "wrong label": f"outcome = {Outcome.SDC:d}",
    "wrong output": _SILENT,
    "hang": f"outcome = {Outcome.HANG:d}",
    "unprotected": f"outcome IN ({Outcome.SDC:d}, {Outcome.HANG:d}) OR ({_SILENT})",
    "detected": f"outcome = {Outcome.DETECTED:d}",
    "repaired": f"outcome IN ({Outcome.MASKED:d}, {Outcome.HEALED:d}) AND corrected > 0",
}
"""Which rows each rate counts. `wrong output`: the label is right; `unprotected`: any of the three above."""


def core_of(campaign: Campaign, store: Store) -> CoreRow:
    """A core: its rates of all faults, the mechanisms that reported those that were detected (each row a set of them),
    and the figures of its synthesis, if the artifact has any."""
    total = int(store.query("SELECT count(*) AS n FROM results")["n"][0])
    rates: list[CoreRate] = []
    for name, where in RATES.items():
        hits = int(store.query(f"SELECT count(*) AS n FROM results WHERE {where}")["n"][0])
        whole = rate_of(campaign.plan, campaign.population, store, where)
        interval: Rate = {**whole.to_json(), "kind": "estimated"}
        rates.append({"outcome": name, "faults": hits, "kind": "simulated", "rate": interval})
    found = store.query(
        "SELECT found_by, count(*) AS faults, count(*) FILTER (aborted) AS aborted FROM results "
        f"WHERE outcome = {Outcome.DETECTED:d} GROUP BY found_by ORDER BY faults DESC, found_by"
    )
    rows = zip(*(found[key].tolist() for key in ("found_by", "faults", "aborted")), strict=True)
    source = campaign.notes.get("source")
    return {
        "net": campaign.net.name,
        "core": campaign.core,
        "faults": total,
        "rates": rates,
        "found_by": [
            {"mechanisms": by.split(",") if by else [], "faults": n, "aborted": aborted, "kind": "simulated"}
            for by, n, aborted in rows
        ],
        "synthesis": [] if source is None else source.get("synthesis", []),
    }


def compared_cores(parts: Sequence[CampaignPart]) -> Cores | None:
    """The cores among the parts of a report, each with a label of its own; `part`: the part of an FPGA for which all
    that have figures have them. None if none is hardened, and there are no two to compare."""
    cores: list[CoreRow] = [{**part["core"]} for part in parts if "core" in part]
    if len(cores) < 2 and not any("harden" in c["core"] for c in cores):
        return None
    nets, archs = ({c["net"] for c in cores}, {c["core"].get("arch", "serial") for c in cores})
    seen: dict[str, int] = {}
    for core in cores:
        named = [core["net"]] if len(nets) > 1 else []
        named += [str(core["core"].get("arch", "serial"))] if len(archs) > 1 else []
        label = ", ".join([*named, str(core["core"].get("harden", "no hardening"))])
        seen[label] = seen.get(label, 0) + 1
        core["label"] = label if seen[label] == 1 else f"{label} ({seen[label]})"
    known = [[figures["part"] for figures in c["synthesis"]] for c in cores if c["synthesis"]]
    part = next((p for p in known[0] if all(p in others for others in known)), None) if known else None
    return {"rows": cores, "part": part}
