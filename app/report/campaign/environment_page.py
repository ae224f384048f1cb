"""The section of the page on an environment: constants, rates of upsets and failures, missions."""

from __future__ import annotations

from markupsafe import Markup

from ..kit import marked, remark, section, table
from .schema import CampaignReport, EnvironmentRow

__all__ = ["environment_section"]


def environment_section(report: CampaignReport) -> Markup:
    """Empty without an environment."""
    e = report.get("environment")
    if not e:
        return Markup("")
    constants = []
    if "rate" in e:
        of = f", {e['part']['title']}" if "part" in e else ""
        rate = f"{e['rate']['upsets_per_bit_day']:.4g} per day"
        constants.append([f"upsets of a bit{of}", rate, e["rate"]["source"]])
    else:
        f, p = e["flux"], e["part"]
        constants.append([f"flux, {f['particle']}", f"{f['per_cm2_hour']:.4g} per cm2 and hour", f["source"]])
        note = f" ({p['note']})" if p.get("note") else ""
        constants.append([f"cross-section, {p['title']}", f"{p['cm2_per_bit']:.4g} cm2 per bit", p["source"] + note])
    constants.append(["upsets of a bit", f"{e['upsets_per_bit_hour']:.4g} per hour", "follows from the above"])
    rows = [
        [
            r["site"],
            f"{r['bits']:,}",
            f"{r['upsets_per_hour']:.4g}",
            f"{r['failing']:.3%}",
            f"{r['fit']:.4g}",
            f"{r['fit_most']:.4g}",
            _mttf(r),
        ]
        for r in [*e["sites"], e["total"]]
    ]
    m = e["mission"]
    flown = (
        f"{m['runs']:,} simulated missions of {e['mission_s'] / 86_400:.4g} days, {e['devices']} device(s): on average "
        f"{m['upsets_mean']:.4g} upsets and {m['failures_mean']:.4g} failures (95 % of missions: at most "
        f"{m['upsets_95']:.4g} and {m['failures_95']:.4g}); {m['without_failure']:.2%} without a failure"
    )
    scrub, accumulated = Markup(""), e["total"]["accumulated"]
    if accumulated is not None:
        standing = f"{accumulated:.3g} upsets stand at a time on average"
        told = f"Scrubbed every {e['scrub_s']:.4g} s: {standing}; single faults speak for far fewer than 1."
        scrub = remark(marked(told, "estimated"))
    body = (
        table(["constant", "value", "source"], constants, wide=2)
        + table(["site", "bits", "upsets per hour", "failing", "FIT", "FIT at most", "MTTF"], rows)
        + remark(marked(f"{flown}.", "simulated"))
        + scrub
    )
    columns = ["site", "bits", "upsets_per_hour", "failing", "failures_per_hour", "fit", "fit_most"]
    plain = [
        [*(r["site"], r["bits"], r["upsets_per_hour"], r["failing"], r["failures_per_hour"], r["fit"], r["fit_most"])]
        for r in e["sites"]
    ]
    return section(
        f"Environment: {e['title']}", "estimated", body, note=e["note"], data=("environment", columns, plain)
    )


def _mttf(row: EnvironmentRow) -> str:
    if "mttf_hours" not in row:
        return "no failure seen"
    hours = row["mttf_hours"]
    return f"{hours:.4g} h" if hours < 8766 else f"{hours / 8766:.4g} years"
