"""The section of the page on an environment: constants, rates of upsets and failures, missions."""

from __future__ import annotations

from markupsafe import Markup

from eqcompile.sim.campaign.environment.rates import HOURS_PER_FIT

from ..kit import marked, remark, section, table
from .schema import CampaignReport, EnvironmentRow

__all__ = ["environment_section", "years"]


def environment_section(report: CampaignReport) -> Markup:
    """Empty without an environment."""
    e = report.get("environment")
    if not e:
        return Markup("")
    constants = []
    if "kinds" in e:
        constants.append(["fluxes", f"within a factor of {e['factor']:.4g} (95 %)", e["spectra"]])
        for name, kind in e["kinds"].items():
            value = f"{kind['upsets_per_bit_day']:.4g} per day, within a factor of {kind['factor']:.4g} (95 %)"
            constants.append([f"upsets of a bit, {name}", value, kind["source"]])
    elif "rate" in e:
        of = f", {e['part']['title']}" if "part" in e else ""
        rate = f"{e['rate']['upsets_per_bit_day']:.4g} per day"
        constants.append([f"upsets of a bit{of}", rate, e["rate"]["source"]])
    else:
        f, p = e["flux"], e["part"]
        constants.append([f"flux, {f['particle']}", f"{f['per_cm2_hour']:.4g} per cm2 and hour", f["source"]])
        note = f" ({p['note']})" if p.get("note") else ""
        constants.append([f"cross-section, {p['title']}", f"{p['cm2_per_bit']:.4g} cm2 per bit", p["source"] + note])
    if "kinds" not in e:
        constants.append(["upsets of a bit", f"{e['upsets_per_bit_hour']:.4g} per hour", "follows from the above"])
    rows = [
        [
            r["site"],
            r.get("cell", ""),
            f"{r['bits']:,}",
            f"{r['upsets_per_hour']:.4g}",
            f"{r['failing']:.3%}",
            f"{r['fit']:.4g}",
            _between(r["fit_low"], r["fit_high"]),
            _mttf(r),
        ]
        for r in [*e["sites"], e["total"]]
    ]
    head = ["site", "cell", "bits", "upsets per hour", "failing", "FIT", "FIT, joint interval", "MTTF"]
    if not any(row[1] for row in rows):
        head, rows = head[:1] + head[2:], [row[:1] + row[2:] for row in rows]
    m = e["mission"]
    flown = (
        f"{m['runs']:,} simulated missions of {e['mission_s'] / 86_400:.4g} days, {e['devices']} device(s): on average "
        f"{m['upsets_mean']:.4g} upsets and {m['failures_mean']:.4g} failures (95 % of missions: at most "
        f"{m['upsets_95']:.4g} and {m['failures_95']:.4g}); {m['without_failure']:.2%} without a failure"
    )
    t = e["total"]
    if t["fit_low"] > 0:
        rows[-1][-1] += f" ({years(HOURS_PER_FIT / t['fit_high'])} to {years(HOURS_PER_FIT / t['fit_low'])})"
    scrub, accumulated = Markup(""), e["total"]["accumulated"]
    if accumulated is not None:
        standing = f"{accumulated:.3g} upsets stand at a time on average"
        sentence = f"Scrubbed every {e['scrub_s']:.4g} s: {standing}; single faults speak for far fewer than 1."
        scrub = remark(marked(sentence, "estimated"))
    body = (
        table(["constant", "value", "source"], constants, wide=2)
        + _kinds(report)
        + table(head, rows)
        + remark(marked(f"{flown}.", "simulated"))
        + scrub
    )
    columns = ["site", "bits", "upsets_per_hour", "failing", "failures_per_hour", "fit", "fit_low", "fit_high"]
    plain = [
        [
            *(
                r["site"],
                r["bits"],
                r["upsets_per_hour"],
                r["failing"],
                r["failures_per_hour"],
                r["fit"],
                r["fit_low"],
                r["fit_high"],
            )
        ]
        for r in e["sites"]
    ]
    return section(
        f"Environment: {e['title']}", "estimated", body, note=e["note"], data=("environment", columns, plain)
    )


def _kinds(report: CampaignReport) -> Markup:
    """By kind of memory cell; empty where one rate holds for all bits."""
    found = report["environment"]["by_kind"]
    if not found:
        return Markup("")
    rows = [
        [
            k["cell"],
            f"{k['bits']:,}",
            f"{k['upsets_per_hour']:.4g}",
            f"{k['fit']:.4g}",
            _between(k["fit_low"], k["fit_high"]),
        ]
        for k in found
    ]
    return table(["kind of cell", "bits", "upsets per hour", "FIT", "FIT, joint interval"], rows)


def _between(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"


def _mttf(row: EnvironmentRow) -> str:
    if "mttf_hours" not in row:
        return "no failure seen"
    return years(row["mttf_hours"])


def years(hours: float) -> str:
    """A time in hours, or in years where it is one or more."""
    return f"{hours:.4g} h" if hours < 8766 else f"{hours / 8766:.4g} years"
