"""The page of a report, drawn from its JSON alone: self-contained, no script, no external resource."""

from __future__ import annotations

from markupsafe import Markup

from eqcompile.sim.campaign.statistics import IntervalDocument

from ...wording import percent, shown
from ..figure import BLUE, INK, RED, Bar, Cell, Curve, bars, curves, heat, round_up
from ..kit import interval, marked, raw, remark, section
from ..kit import render as render_template
from ..kit import table as table_of
from .cores_page import cores_section
from .environment_page import environment_section
from .headline import headline
from .schema import Baseline, CampaignReport, Ranking, Strata, Stratum

__all__ = ["render"]

COLOURS = {
    "masked": "var(--muted, #64748b)",
    "healed": "var(--green, #15803d)",
    "near": "var(--olive, #4d7c0f)",
    "other": "var(--amber, #b45309)",
    "sdc": "var(--bad, #b91c1c)",
    "unsettled": "var(--violet, #6d28d9)",
    "detected": "var(--cyan, #0e7490)",
    "hang": "var(--pink, #a21caf)",
}
_UNITS_DRAWN = 20


def render(report: CampaignReport) -> str:
    """The page of a document of `document`."""
    campaign = report["campaign"]
    parts = [
        _outcomes(report),
        cores_section(report),
        *(_baseline(report, found) for found in report["baselines"]),
        _sites(report),
        *(_map(found) for found in report["maps"]),
        *(_ticks(found) for found in report["ticks"]),
        *(_ranking(found, "unit") for found in report["units"]),
        *(_ranking(found, "bit") for found in report["bits"]),
        _recovery(report),
        _cube(report),
        environment_section(report),
        _ids(report),
    ]
    title = f"Fault campaign: {campaign['net']}, model {campaign['model']}"
    body = Markup("\n").join(p for p in parts if p)
    intro = _intro(report) + headline(report)
    return render_template("page.html", title=title, heading=title, intro=intro, body=body)


def _intro(report: CampaignReport) -> Markup:
    c = report["campaign"]
    tools = ", ".join(f"{name} {version}" for name, version in report["tools"].items())
    options = ", ".join(f"{k}={v}" for k, v in c["options"].items()) or "defaults"
    core = ", ".join(f"{k} {v}" for k, v in c["core"].items()) or "arch serial, as it is by default"
    ended = Markup("")
    if not report["finished"]:
        ended = Markup('<p class="bad">The campaign is not finished: these are the faults so far.</p>')
    if report["stopped_at_margin"]:
        ended = remark(f"It stopped at +/- {c['plan']['stop_at_margin']:.3%} at a look that was planned.")
    inputs = c["samples"]["source"] if "samples" in c else "given"
    lines = (
        Markup("<code>{}</code>").format(c.get("command", "made by the API")),
        Markup("{}, IR digest <code>{}</code>").format(c["family"], c["ir_digest"][:16]),
        f"engine {c['engine']}; model {c['model']} ({options}); inputs: {inputs}",
        *([f"core: {core}"] if c["core"] or c["engine"] == "rtl" else []),
        *(f"chosen: {choice}" for choice in c.get("choices", ())),
        marked(f"{report['faults']['value']:,} faults, {shown(report['seconds']['value'])} s of injection", "measured"),
        c["plan"]["how"],
        f"{tools}. Figures are measured on this machine, simulated by the engine, or estimated from these.",
    )
    return Markup("").join(remark(one) for one in lines) + ended


def _outcomes(report: CampaignReport) -> Markup:
    rows = [o for o in report["outcomes"] if o["faults"] or o["outcome"] not in ("detected", "hang", "unsettled")]
    again = {o["outcome"]: o for o in report["reset"]}
    drawn = []
    for o in rows:
        drawn.append(_bar(o["outcome"], o["rate"], COLOURS[o["outcome"]]))
        drawn.append(_bar("after a reset", again[o["outcome"]]["rate"], COLOURS[o["outcome"]], faint=True))
    head = ["outcome", "meaning", "faults", "rate", "low", "high", "faults after reset", "rate after reset"]
    table = [
        [
            o["outcome"],
            o["meaning"],
            f"{o['faults']:,}",
            *interval(o["rate"]),
            f"{again[o['outcome']]['faults']:,}",
            f"{again[o['outcome']]['rate']['estimate']:.3%}",
        ]
        for o in rows
    ]
    plain = [
        [o["outcome"], o["faults"], *raw(o["rate"]), again[o["outcome"]]["faults"], *raw(again[o["outcome"]]["rate"])]
        for o in report["outcomes"]
    ]
    names = ["outcome", "faults", "rate", "low", "high", "reset_faults", "reset_rate", "reset_low", "reset_high"]
    note = (
        "After a reset: the same inference run anew with what a reset leaves of the fault (memory and defects stay, "
        "registers do not). The bar below each outcome."
    )
    return section(
        "What became of the faults",
        "simulated",
        bars("outcomes", drawn) + table_of(head, table, wide=1) + _whole(report),
        note=note,
        data=("outcomes", names, plain),
    )


def _whole(report: CampaignReport) -> Markup:
    found = report["stratified"]
    if found is None:
        return Markup("")
    r = found["rate"]
    text = (
        f"{found['measure']}, with {found['strata']:,} strata ({found['by']}) weighted by their shares of the "
        f"population: {r['estimate']:.3%} [{r['low']:.3%}, {r['high']:.3%}]"
    )
    return remark(marked(text, "estimated"))


def _bar(label: str, r: IntervalDocument, colour: str, *, faint: bool = False) -> Bar:
    note = f"{percent(r['estimate'], 2)} [{percent(r['low'], 2)}, {percent(r['high'], 2)}]"
    return Bar(label, r["estimate"], r["low"], r["high"], colour, note, faint)


def _baseline(report: CampaignReport, found: Baseline) -> Markup:
    c = found["baseline"]["campaign"]
    ours, theirs, name = report["campaign"]["net"], c["net"], found["name"]
    drawn, rows, plain = [], [], []
    for d in found["difference"]:
        drawn.append(_bar(d["measure"], d["net"], BLUE))
        drawn.append(_bar(name, d["baseline"], BLUE, faint=True))
        apart = "yes" if d["intervals_apart"] else "no"
        rows.append([d["measure"], *interval(d["net"]), *interval(d["baseline"]), apart])
        plain.append([d["measure"], *raw(d["net"]), *raw(d["baseline"]), apart])
    head = ["measure", f"this: {ours}", "low", "high", f"{name}: {theirs}", "low", "high", "intervals apart"]
    names = ["measure", "net", "low", "high", "baseline", "baseline_low", "baseline_high", "apart"]
    core = "".join(f", {option} {value}" for option, value in c["core"].items())
    count = found["baseline"]["faults"]["value"]
    steps = report["campaign"]["schedule"]["steps"], c["schedule"]["steps"]
    note = (
        f"Model {c['model']} with seed {c['plan']['seed']} in {theirs} ({c['family']}{core}): {count:,} faults. Rates "
        f"are of faults, each somewhere in one inference: steps {steps[0]:,} here, {steps[1]:,} there."
    )
    if steps[1] == 1:
        note += " A net of one step has nothing to settle: none of its faults is unsettled."
    return section(
        f"Against {name}",
        "estimated",
        bars("baseline", drawn) + table_of(head, rows) + _exposed(report, found),
        note=note,
        data=(name, names, plain),
    )


def _exposed(report: CampaignReport, found: Baseline) -> Markup:
    """Both nets at the same upset rate of a bit for the same time: what counts is how many bits there are to hit, not
    how many steps an inference takes."""
    rows = []
    for name, e in (("this", report["exposure"]), (found["name"], found["baseline"]["exposure"])):
        failing = f"{shown(e['failing'])} [{shown(e['low'])}, {shown(e['high'])}]"
        rows.append([name, f"{e['bits']:,}", e["measure"], failing])
    note = "Same exposure: upsets of a bit and hour times the last column are failures an hour of either, never idle."
    return table_of(["same time, same upset rate", "bits", "failure", "bits whose upset fails"], rows, (0, 2)) + remark(
        marked(note, "estimated")
    )


def _sites(report: CampaignReport) -> Markup:
    rows = report["sites"]
    outcomes = [o for o in COLOURS if any(r["outcomes"][o] for r in rows)]
    measure = rows[0]["measure"] if rows else ""
    head = ["site", "faults", *outcomes, measure, "low", "high"]
    table = [
        [r["site"], f"{r['faults']:,}", *(f"{r['outcomes'][o]:,}" for o in outcomes), *interval(r["rate"])]
        for r in rows
    ]
    plain = [[r["site"], r["faults"], *(r["outcomes"][o] for o in COLOURS), r["hits"], *raw(r["rate"])] for r in rows]
    names = ["site", "faults", *COLOURS, "hits", "rate", "low", "high"]
    return section("By site", "simulated", table_of(head, table), data=("sites", names, plain))


def _map(found: Strata) -> Markup:
    sites = sorted({c["site"] for c in found["rows"]})
    bits = sorted({c["bit"] for c in found["rows"]})
    limit = round_up(max((c["rate"] for c in found["rows"]), default=1.0))
    cells = [
        Cell(
            sites.index(c["site"]),
            bits.index(c["bit"]),
            c["rate"],
            f"{c['site']} bit {c['bit']}: {c['hits']} of {c['faults']}, " + " ".join(_ends(c)),
        )
        for c in found["rows"]
    ]
    there = {(c.row, c.column) for c in cells}
    cells += [
        Cell(i, k, None, f"{site} has no bit {bit}")
        for i, site in enumerate(sites)
        for k, bit in enumerate(bits)
        if (i, k) not in there
    ]
    names = [("none" if b < 0 else str(b)) for b in bits]
    body = heat("map", cells, sites, names, limit=limit, axis="bit")
    rows = [[c["site"], c["bit"], *_counts(c)] for c in found["rows"]]
    note = f"Dark is {percent(limit)}. Bit 0 is the lowest. Hover for the interval."
    columns = ["site", "bit", "hits", "faults", "rate", "low", "high"]
    return section(
        f"Site by bit: {found['measure']}",
        "estimated",
        Markup('<div class="wide">{}</div>').format(body),
        note=note,
        data=(f"map_{_name(found)}", columns, rows),
    )


def _name(found: Strata | Ranking) -> str:
    return str(found["measure"]).replace(" ", "_")


def _counts(r: Stratum) -> list[float]:
    return [r["hits"], r["faults"], r["rate"], r["low"], r["high"]]


def _ends(c: Stratum) -> list[str]:
    return interval({"estimate": c["rate"], "low": c["low"], "high": c["high"]})


def _ticks(found: Strata) -> Markup:
    rows = found["rows"]
    if len(rows) < 2:
        return Markup("")
    first = rows[0]["tick"]
    lines = [
        Curve([r["high"] for r in rows], RED, 1.0, 0.5, "ends of the interval", dashed=True, first=first),
        Curve([r["low"] for r in rows], RED, 1.0, 0.5, dashed=True, first=first),
        Curve([r["rate"] for r in rows], RED, 2.2, 1.0, found["measure"], first=first),
    ]
    body = curves("ticks", lines, x_label="tick of the upset", y_label="rate", mark=percent)
    columns = ["tick", "hits", "faults", "rate", "low", "high"]
    note = "Memory is upset before the inference: its faults stand at tick 0."
    return section(
        f"By the tick of the upset: {found['measure']}",
        "estimated",
        body,
        note=note,
        data=(f"ticks_{_name(found)}", columns, [[r["tick"], *_counts(r)] for r in rows]),
    )


def _ranking(found: Ranking, second: str) -> Markup:
    title, name = f"{second.capitalize()}s by rate: {found['measure']}", f"{second}s_{_name(found)}"
    if not found["rows"]:
        note = f"None of {found['of']:,} {second}s has a fault that ended so."
        return section(title, "estimated", "", note=note) if found["of"] else Markup("")
    drawn = [
        Bar(
            f"{r['site']} {second} {r['number']}",
            r["estimate"],
            r["low"],
            r["high"],
            RED,
            f"{r['hits']:,} of {r['faults']:,}; rank {r['rank_first']} to {r['rank_last']}",
        )
        for r in found["rows"][:_UNITS_DRAWN]
    ]
    columns = ["site", second, "hits", "faults", "estimate", "low", "high", "rank_first", "rank_last"]
    cells = [
        [r["site"], r["number"], r["hits"], r["faults"], *raw(r), r["rank_first"], r["rank_last"]]
        for r in found["rows"]
    ]
    note = f"The first {len(drawn)} of {found['of']:,}. Ranks that each may have: {found['how']}."
    return section(
        title,
        "estimated",
        bars(name, drawn),
        note=note,
        data=(name, columns, cells),
    )


def _recovery(report: CampaignReport) -> Markup:
    found = report["recovery"]
    if not found:
        return Markup("")
    lines = [Curve(c["distance"], COLOURS[c["outcome"]], 1.0, 0.35) for c in found["curves"]]
    seen = {c["outcome"] for c in found["curves"]}
    lines += [Curve([], COLOURS[o], 1.5, 1.0, f"faults that ended {o}") for o in COLOURS if o in seen]
    lines.append(Curve(found["median"], BLUE, 2.4, 1.0, "median"))
    limit = max(found["largest"])
    if "bound" in found:
        bound = found["bound"]
        limit = max(limit, *bound["distance"])
        label = f"proved: L^t, L = {bound['factor']:.4g}"
        lines.append(Curve(bound["contraction"], INK, 2.0, 1.0, label, dashed=True))
        lines.append(Curve(bound["distance"], INK, 1.2, 0.8, "and what rounding may add", dashed=True))
    lines = [c for c in lines if len(c.values) or c.label]
    body = curves(
        "recovery",
        lines,
        x_label="ticks after the upset",
        y_label="distance to the clean run, codes (log)",
        log=True,
        limits=(0.0, limit),
    )
    note = f"{found['how']}. Distance: the largest difference of any state code."
    if "bound" not in found:
        note += " No bound is drawn: no contraction of this net is proved here."
    rows = [[c["id"], c["outcome"], *c["distance"]] for c in found["curves"]]
    columns = ["id", "outcome", *(f"tick_{k}" for k in range(len(found["median"])))]
    return section("Recovery", "simulated", body, note=note, data=("recovery", columns, rows))


def _cube(report: CampaignReport) -> Markup:
    found = report["cube"]
    if not found:
        return Markup("")
    edge = found["edge"]
    share = [h / n if n else None for h, n in zip(found["hits"], found["faults"], strict=True)]
    limit = round_up(max((s for s in share if s is not None), default=1.0))
    figures = []
    for z in range(edge):
        cells = []
        for y in range(edge):
            for x in range(edge):
                unit = (z * edge + y) * edge + x
                text = f"unit {unit} (z {z}, y {y}, x {x}): {found['hits'][unit]} of {found['faults'][unit]}"
                cells.append(Cell(y, x, share[unit], text))
        drawn = heat("slice", cells, [""] * edge, [""] * edge, limit=limit, size=150 / edge, numbers=False)
        figures.append(Markup("<figure>{}<figcaption>z = {}</figcaption></figure>").format(drawn, z))
    columns = ["unit", "hits", "faults", "wrong_label"]
    rows = [list(r) for r in zip(range(edge**3), found["hits"], found["faults"], found["wrong"], strict=True)]
    note = f"State {found['state']}, rate of: {found['measure']}; dark is {percent(limit)}."
    return section(
        "Slices of the cube",
        "estimated",
        Markup('<div class="slices">{}</div>').format(Markup("").join(figures)),
        note=note,
        data=("cube", columns, rows),
    )


def _ids(report: CampaignReport) -> Markup:
    ids = report["wrong_ids"]
    if not ids:
        return Markup("")
    items = Markup("").join(Markup("<li><code>{}</code></li>").format(i) for i in ids)
    text = f"The first {len(ids)} faults that ended badly: eqfault replay CAMPAIGN ID"
    return Markup("<details><summary>{}</summary><ul>{}</ul></details>").format(text, items)
