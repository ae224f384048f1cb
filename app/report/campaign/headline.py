"""What a reader of a campaign wants to know first, what it rests on and leaves out; from its document alone."""

from __future__ import annotations

from markupsafe import Markup

from eqcompile.sim.campaign.environment.rates import HOURS_PER_FIT
from eqcompile.sim.faults.sites import KINDS

from ...wording import percent
from ..kit import marked, table
from .environment_page import years
from .schema import CampaignReport

__all__ = ["assumptions", "environment_rows", "exclusions", "headline", "headline_rows"]

AT_ITS_END = "sites without a failure add nothing to the estimate, and what may fail there to its bounds"
"""Why an estimate can stand at the lower end of its own interval."""


def headline_rows(report: CampaignReport) -> list[tuple[str, str, str]]:
    """Name, value and kind of each figure: measures with their interval, and MTTF with its bounds."""
    confidence = report["campaign"]["plan"]["confidence"]
    rows = []
    for m in report["measures"]:
        r = m["rate"]
        value = f"{percent(r['estimate'], 3)} of faults, {percent(r['low'], 3)} to {percent(r['high'], 3)}"
        rows.append((m["measure"], f"{value} at {confidence:g} confidence", "simulated"))
    return [*rows, *environment_rows(report)]


def environment_rows(report: CampaignReport) -> list[tuple[str, str, str]]:
    """MTTF and FIT with their bounds, as `headline_rows`; none without an environment."""
    rows = []
    if "environment" in report:
        t = report["environment"]["total"]
        least = f"at least {years(HOURS_PER_FIT / t['fit_high'])}" if t["fit_high"] > 0 else "no lower bound"
        most = f"at most {years(HOURS_PER_FIT / t['fit_low'])}" if t["fit_low"] > 0 else "no upper bound"
        middle = years(t["mttf_hours"]) if "mttf_hours" in t else "no failure seen"
        where = report["environment"]["title"]
        why = f"; {AT_ITS_END}" if 0 < t["fit"] <= t["fit_low"] else ""
        rows.append((f"MTTF, {where}", f"{middle}, {least}, {most}{why}", "estimated"))
        fit = f"{t['fit']:.4g} FIT, {t['fit_low']:.4g} to {t['fit_high']:.4g}, of {t['bits']:,} bits"
        rows.append((f"failures in 10^9 h, {where}", fit, "estimated"))
    return rows


def headline(report: CampaignReport) -> Markup:
    """The same as a table."""
    rows = [[name, marked(value, kind)] for name, value, kind in headline_rows(report)]
    return table(["what", "value"], rows, (0,), 1)


def exclusions(report: CampaignReport) -> list[str]:
    """What no figure of the campaign counts, a sentence each."""
    c = report["campaign"]
    struck = [row["site"] for row in report["sites"]]
    absent = [kind for kind in KINDS if not any(site.partition(":")[0] == kind for site in struck)]
    lines = ["Nothing was irradiated: faults were injected into a model of the net or of its core."]
    if c["engine"] != "rtl":
        logic = "The logic that computes, its control, buses, clock trees and configuration memory were not struck."
        lines.append(logic)
        if absent:
            lines.append(f"No fault was injected into any {', '.join(absent)}; struck were {', '.join(struck)}.")
    else:
        lines.append(
            f"Struck were {', '.join(struck)}; not so configuration memory, clock trees and all outside the core."
        )
    each = "each model that is combined" if c["model"] == "combined" else f"model {c['model']}"
    lines.append(f"An inference meets one fault of {each}; several upsets in one inference are not in it.")
    lines.append(f"Rates are over {c['inputs']['samples']:,} input samples; other inputs may have other rates.")
    if "environment" in report:
        lines.append(f"Of the environment: {report['environment']['note']}.")
    lines.append("Total ionizing dose, displacement damage and latch-up are not in it.")
    if not report["finished"]:
        lines.append("The campaign is NOT FINISHED: these are the faults so far.")
    return lines


def assumptions(report: CampaignReport) -> list[str]:
    """What the figures rest on, a sentence each, with its source where it has one."""
    c = report["campaign"]
    lines = [f"Faults: {c['plan']['how']}."]
    lines += [f"Chosen: {choice}." for choice in c.get("choices", ())]
    options = ", ".join(f"{name}={value}" for name, value in c["options"].items())
    lines.append(f"Fault model {c['model']} ({options or 'defaults'}), engine {c['engine']}.")
    lines.append(f"An end within {c['near']} code of the undisturbed run counts as near.")
    if "environment" in report:
        e = report["environment"]
        for name, kind in e.get("kinds", {}).items():
            lines.append(f"Upsets of a bit of {name}: {kind['upsets_per_bit_day']:.4g} per day. {kind['source']}")
        if "rate" in e:
            lines.append(f"Upsets of a bit: {e['rate']['upsets_per_bit_day']:.4g} per day. {e['rate']['source']}")
        if "flux" in e:
            lines.append(f"Flux: {e['flux']['per_cm2_hour']:.4g} per cm2 and hour. {e['flux']['source']}")
        if "flux" in e and "part" in e and "cm2_per_bit" in e["part"]:
            part = e["part"]
            lines.append(f"Cross-section: {part['cm2_per_bit']:.4g} cm2 per bit. {part.get('source', '')}")
        scrub = "never" if e["scrub_s"] is None else f"every {e['scrub_s']:.4g} s"
        days = f"{e['mission_s'] / 86_400:.4g} days of {e['devices']} device(s)"
        lines.append(f"Memory is scrubbed {scrub}; a mission is {days}.")
    return lines
