"""The section of the page on cores: rates and cost side by side."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from eqcompile.sim.campaign.notes import Synthesis

from ..figure import Dot, dots
from ..kit import kind, raw, section, table
from .schema import CampaignReport, CoreRate, CoreRow

__all__ = ["cores_section"]

DRAWN = "unprotected"
FIGURES = (("lut", "LUT"), ("ff", "flip-flops"), ("bram", "block RAMs"))


def cores_section(report: CampaignReport) -> Markup:
    """Empty where no core is compared, and none is hardened."""
    found = report["cores"]
    if not found:
        return Markup("")
    rows, part = found["rows"], found["part"]
    names = [r["outcome"] for r in rows[0]["rates"]]
    figures = [_figures(row, part) for row in rows]
    shown = [[r["label"], *(_rate(rate) for rate in r["rates"])] for r in rows]
    costs = [[r["label"], f"{r['faults']:,}", *_cost(figure)] for r, figure in zip(rows, figures, strict=True)]
    columns = ["core", "faults", *(f"{n}{end}" for n in names for end in ("", "_rate", "_low", "_high"))]
    columns += ["part", *(key for key, _ in FIGURES), "fmax_mhz"]
    plain = []
    for row, figure in zip(rows, figures, strict=True):
        rates = [value for r in row["rates"] for value in (r["faults"], *raw(r["rate"]))]
        plain.append([row["label"], row["faults"], *rates, part or "", *_numbers(figure)])
    note = (
        "Wrong output: the label is right; unprotected: wrong label, wrong output or hang; repaired: a stored word was "
        "corrected and the result is right. Votes repair silently: what they repair counts as masked. Counts are "
        "simulated, rates with their intervals estimated from them."
    )
    body = table(["core", *(f"{name}, %" for name in names)], shown) + _found(rows)
    body += table(["core", "faults run", *(title for _, title in FIGURES), "Fmax, MHz"], costs) + _told_cost(
        rows, part, figures
    )
    body += _drawn(rows, part, figures)
    return section("Cores and their hardening", "simulated", body, note=note, data=("cores", columns, plain))


def _rate(row: CoreRate) -> str:
    estimate, low, high = raw(row["rate"])
    return f"{100 * estimate:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _figures(row: CoreRow, part: str | None) -> Synthesis | None:
    return next((f for f in row["synthesis"] if f["part"] == part), None)


def _numbers(costs: Synthesis | None) -> list[float | str]:
    if costs is None:
        return [""] * (len(FIGURES) + 1)
    cells = {"ff": costs["flip_flops"], **costs["cells"]}
    found = [*(cells.get(key) for key, _ in FIGURES), costs["fmax_mhz"]]
    return ["" if value is None else value for value in found]


def _cost(costs: Synthesis | None) -> list[str]:
    found = [
        f"{v:.1f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else "absent" for v in _numbers(costs)
    ]
    return found


def _told_cost(rows: Sequence[CoreRow], part: str | None, figures: Sequence[Synthesis | None]) -> Markup:
    absent = [row["label"] for row, costs in zip(rows, figures, strict=True) if costs is None]
    known = [costs for costs in figures if costs is not None]
    notes = Markup("")
    if known:
        tools = ", ".join(dict.fromkeys(tool for costs in known for tool in costs["tools"]))
        seeds = ", ".join(dict.fromkeys(str(costs["seeds"]) for costs in known))
        text = f"Cells and Fmax: {part}, {seeds} seed(s), {tools}"
        notes = Markup('<p class="note">{}{}</p>').format(text, kind("estimated"))
    if absent:
        what = f"Without figures of cost: {'; '.join(absent)}. eqcompile --synth PART puts them into an artifact."
        notes += Markup('<p class="note">{}</p>').format(what)
    return notes


def _drawn(rows: Sequence[CoreRow], part: str | None, figures: Sequence[Synthesis | None]) -> Markup:
    """Cost and benefit, of the cores that have figures."""
    points = []
    for row, costs in zip(rows, figures, strict=True):
        luts = None if costs is None else costs["cells"].get("lut")
        rate = next(r["rate"] for r in row["rates"] if r["outcome"] == DRAWN)
        if luts is not None:
            points.append(Dot(row["label"], float(luts), rate["estimate"], rate["low"], rate["high"]))
    if len(points) < 2:
        return Markup("")
    return dots("cores", points, x_label=f"LUTs of the core on {part} (estimated)", y_label="unprotected faults")


def _found(rows: Sequence[CoreRow]) -> Markup:
    shown = [
        [
            row["label"],
            " and ".join(f["mechanisms"]) or "aborted without a flag",
            f"{f['faults']:,}",
            f"{f['aborted']:,}",
        ]
        for row in rows
        for f in row["found_by"]
    ]
    if not shown:
        return Markup("")
    return table(["core", "found by", "faults", "of these aborted"], shown, wide=1)
