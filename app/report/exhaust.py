"""The page of a run over every fault: maps of the weak units, bits, ticks and samples, and what is proved beside it."""

from __future__ import annotations

from markupsafe import Markup

from eqcompile.sim.campaign.exhaust.bound import BoundDocument, Violation
from eqcompile.sim.campaign.exhaust.document import ExhaustDocument, SiteDocument

from ..wording import percent
from .figure import BLUE, RED, Cell, Curve, curves, heat, round_up
from .kit import remark, render, section
from .kit import table as table_of

__all__ = ["render_exhaust", "summary_lines"]

_CELLS = 1 << 14
"""Cells of a map that a page holds."""
_PIXELS = 880.0
_LABELS = 16


def render_exhaust(document: ExhaustDocument) -> str:
    """The page of a document of `document_of`."""
    parts = [_outcomes(document)]
    for site in document["sites"]:
        parts += [_map(site), _ticks(site), _units(site), _samples(site)]
    parts += [_bound(document["bound"]), _ids(document)]
    title = f"Every fault: {document['net']}, model {document['model']}"
    body = Markup("\n").join(part for part in parts if part)
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in summary_lines(document))
    intro = Markup("<ul>{}</ul>").format(items)
    return render("page.html", title=title, heading=title, intro=intro, body=body)


def summary_lines(document: ExhaustDocument) -> list[str]:
    """What is to be said of a run, a sentence each."""
    options = ", ".join(f"{name}={value}" for name, value in document["options"].items()) or "defaults"
    whole = "every fault" if document["finished"] else f"NOT FINISHED, of {document['population']:,}"
    where = f"model {document['model']} ({options}), {document['samples']:,} samples, {document['ticks']} ticks"
    lines = [f"{document['net']}, {where}: {document['faults']:,} faults, {whole} (simulated, exact counts)"]
    for name, count in document["outcomes"].items():
        if count:
            lines.append(f"{name}: {count:,}, {percent(count / document['faults'], 4)}")
    for site in document["sites"]:
        lines += _site_lines(site)
    bound = document["bound"]
    if bound is not None:
        lines.append(_bound_line(bound))
    return lines


def _site_lines(site: SiteDocument) -> list[str]:
    lines = []
    if site["silent"]:
        carried = ", ".join(f"{percent(c['share'])} in {c['units']:,}" for c in site["carriers"])
        hit = [k for k, count in enumerate(site["silent_ticks"]) if count]
        ticks = sorted(site["first"] + site["stride"] * k for k in hit)
        when = f"tick {ticks[0]}" if len(ticks) == 1 else f"{len(ticks)} ticks from {ticks[0]} to {ticks[-1]}"
        lines.append(
            f"{site['site']}: {site['silent']:,} end in silent corruption, in {site['units_hit']:,} of "
            f"{site['units']:,} words, {site['samples_hit']:,} samples, {when}; of it {carried} words"
        )
    elif site["faults"]:
        lines.append(f"{site['site']}: none of {site['faults']:,} ends in silent corruption")
    return lines


def _bound_line(bound: BoundDocument) -> str:
    if bound["reason"]:
        return f"certificate: nothing to compare with, {bound['reason']}"
    if bound["violations"]:
        return (
            f"certificate: VIOLATED {bound['violations']:,} times on {bound['samples']:,} samples: simulation is "
            "beyond what is proved, one of them is wrong"
        )
    return f"certificate: no fault is beyond what is proved of {bound['samples']:,} samples"


def _outcomes(document: ExhaustDocument) -> Markup:
    names = [name for name, count in document["outcomes"].items() if count]
    rows = [
        [s["site"], f"{s['faults']:,}", *(f"{s['outcomes'][n]:,}" for n in names), f"{s['silent']:,}"]
        for s in document["sites"]
    ]
    head = ["site", "faults", *names, "silent corruption"]
    plain = [[s["site"], s["faults"], *(s["outcomes"][n] for n in names), s["silent"]] for s in document["sites"]]
    return section("Outcomes", "simulated", table_of(head, rows), data=("outcomes", head, plain))


def _map(site: SiteDocument) -> Markup:
    if not site["silent"]:
        return Markup("")
    units, bits = site["units"], site["bits"]
    rows = [[u, b, count] for u, row in enumerate(site["silent_map"]) for b, count in enumerate(row) if count]
    title = f"Silent corruption by unit and bit: {site['site']}"
    data = (f"map_{site['site']}", ["unit", "bit", "silent"], rows)
    if units * bits > _CELLS:
        note = f"{units:,} units are too many for a map: the table holds each that has any."
        return section(title, "simulated", remark(note), data=data)
    each = site["faults"] / (units * bits)
    limit = round_up(max(count for row in site["silent_map"] for count in row) / each)
    cells = [
        Cell(bits - 1 - b, u, count / each, f"unit {u} bit {b}: {count:,} of {each:,.0f}")
        for u, row in enumerate(site["silent_map"])
        for b, count in enumerate(row)
    ]
    every = max(1, units // _LABELS)
    columns = [str(u) if u % every == 0 else "" for u in range(units)]
    size = min(30.0, max(3.0, _PIXELS / units))
    drawn = heat("map", cells, [str(b) for b in reversed(range(bits))], columns, limit=limit, size=size, numbers=False)
    note = f"Units from left to right, the highest bit on top. Dark is {percent(limit)} of the faults of a bit."
    return section(title, "simulated", Markup('<div class="wide">{}</div>').format(drawn), note=note, data=data)


def _ticks(site: SiteDocument) -> Markup:
    if not site["silent"] or site["ticks"] < 2:
        return Markup("")
    ticks = [site["first"] + site["stride"] * k for k in range(site["ticks"])]
    rates = [count / site["faults_a_tick"] for count in site["silent_ticks"]]
    line = Curve(rates, RED, 2.2, 1.0, "silent corruption", first=ticks[0])
    body = curves("ticks", [line], x_label="tick of the upset", y_label="share", mark=percent)
    rows = [[tick, count, site["faults_a_tick"]] for tick, count in zip(ticks, site["silent_ticks"], strict=True)]
    data = (f"ticks_{site['site']}", ["tick", "silent", "faults"], rows)
    note = "The last tick is the one in which the readout reads."
    return section(f"By the tick of the upset: {site['site']}", "simulated", body, note=note, data=data)


def _units(site: SiteDocument) -> Markup:
    if not site["weakest_units"]:
        return Markup("")
    rows = [
        [str(r["unit"]), f"{r['silent']:,}", percent(r["silent"] / r["faults"], 3), str(r["worst_bit"])]
        for r in site["weakest_units"]
    ]
    carried = "; ".join(f"{percent(c['share'])} of it lies in {c['units']:,} words" for c in site["carriers"])
    head = ["unit", "silent corruption", "of its faults", "worst bit"]
    note = f"{site['units_hit']:,} of {site['units']:,} words have any: {carried}."
    return section(f"The weakest units: {site['site']}", "simulated", table_of(head, rows), note=note)


def _samples(site: SiteDocument) -> Markup:
    if not site["weakest_samples"]:
        return Markup("")
    rows = [[str(r["sample"]), f"{r['silent']:,}"] for r in site["weakest_samples"]]
    note = f"{site['samples_hit']:,} samples have a fault that ends in silent corruption."
    body = table_of(["sample", "silent corruption"], rows)
    return section(f"The weakest samples: {site['site']}", "simulated", body, note=note)


def _bound(bound: BoundDocument | None) -> Markup:
    if bound is None or not bound["rows"]:
        return Markup("")
    lines = [
        Curve([float(r["proved"]) for r in bound["rows"]], BLUE, 2.2, 1.0, "proved, at most", first=1),
        Curve([float(r["simulated"]) for r in bound["rows"]], RED, 2.2, 1.0, "the worst of all faults", first=1),
    ]
    body = curves("bound", lines, x_label="ticks that the upset leaves", y_label="codes off at the end", log=True)
    head = ["ticks left", "codes off, proved", "codes off, simulated", "samples whose label is proved to stay"]
    head.append("samples whose label a fault changes")
    rows = [[r["ticks"], r["proved"], r["simulated"], r["safe"], r["silent"]] for r in bound["rows"]]
    table = table_of(head, [[f"{value:,}" for value in row] for row in rows])
    beyond = Markup("").join(remark(_violation(v)) for v in bound["first"])
    return section(
        "What is proved, and the worst case",
        "proved",
        body + table + beyond,
        note=_bound_line(bound),
        data=("bound", ["ticks", "proved", "simulated", "safe", "silent"], rows),
    )


def _violation(found: Violation) -> str:
    where = f"{found['site']}, sample {found['sample']}, {found['ticks']} ticks left"
    return f"{where}: {found['simulated']} codes off, proved {found['proved']}; {found['silent']} labels changed"


def _ids(document: ExhaustDocument) -> Markup:
    ids = document["silent_ids"]
    if not ids:
        return Markup("")
    items = Markup("").join(Markup("<li><code>{}</code></li>").format(i) for i in ids)
    text = f"The first {len(ids)} that end in silent corruption: eqfault replay FOLDER ID"
    return Markup("<details><summary>{}</summary><ul>{}</ul></details>").format(text, items)
