"""The panels of a relaxation, drawn from its document alone."""

from __future__ import annotations

import math
from itertools import pairwise

from markupsafe import Markup

from ..wording import percent, shown
from .figure import (
    BLUE,
    COLOURS,
    RED,
    Column,
    Curve,
    Pixel,
    coded,
    columns,
    confusion,
    curves,
    observatory,
    raster,
    slices,
    stack,
)
from .schema import (
    AccuracyDocument,
    Changing,
    CubeCodes,
    Logits,
    Movement,
    NudgeDocument,
    Relaxation,
    SampleRelaxation,
    Settling,
    SlopesDocument,
    UnitCodes,
)

__all__ = ["OBSERVATORY", "confusion_panel", "cube_panels", "overall", "sample_panels", "settling_panel"]

OBSERVATORY = (
    "Observatory: red is the size of a unit's code, green how far it moved in the tick (logarithmic), white that a"
    " change of the states by d moves it by more than d (slope above 1). Blue is how hard a nudge pushes the unit: the"
    " free phase, which is what was compiled, has none. A nudged phase as in training ran in the float net alone, where"
    " samples have labels and the net is one vector of states behind one nonlinearity."
)
"""What the colours say."""


def overall(relaxation: Relaxation) -> list[Markup]:
    """The panels of all samples together, each an `<svg>` element; none where the only tick starts
    from codes that are not in the trace."""
    first = relaxation["first_tick"]
    if not relaxation["changing"]["mean"]:
        return []
    return [_movement(relaxation["movement"], first), _changing(relaxation["changing"], first)]


def settling_panel(settling: Settling) -> Markup:
    """How many samples settled after how many steps."""
    lost, bins = settling["not_settled"]["value"], settling["histogram"]["bins"]
    count = sum(row["settled"] + row["not_settled"] for row in bins)
    rows = []
    for row in bins:
        label = str(row["first"]) if row["first"] == row["last"] else f"{row['first']}-{row['last']}"
        rows.append(Column(label, row["settled"], row["not_settled"]))
    title = f"Settling: {shown(lost)} of {shown(count)} samples not settled"
    other = "spent the budget and still move"
    return columns("settling", rows, title=title, x_label="steps", y_label="samples", other=other)


def sample_panels(sample: SampleRelaxation) -> list[Markup]:
    """The panels of one sample."""
    drawn = [_units(sample["units"]), _observatory(sample["units"], sample.get("slopes"))]
    drawn += [_logits(sample["logits"])] if "logits" in sample else []
    return [*drawn, _nudge(sample["nudge"], sample["units"])] if "nudge" in sample else drawn


def confusion_panel(accuracy: AccuracyDocument) -> Markup:
    """Which labels the integers take for which; nothing where there are too many."""
    return confusion("confusion", accuracy["confusion"]["counts"]) if "confusion" in accuracy else Markup("")


def cube_panels(cube: CubeCodes, stretched: SlopesDocument | None) -> list[tuple[str, Markup]]:
    """For each tick its name, the cube by its codes, and by activity and motion: slice by slice, then in 3-D.
    `stretched`: of the same sample, None where no slopes are known of every unit."""
    bound = max(abs(cube["lowest"]), abs(cube["highest"]), 1)
    rows = []
    for tick, codes, moves in zip(cube["ticks"], cube["codes"], cube["moves"], strict=True):
        alt = f"State {cube['state']} after tick {tick}, {cube['edge']} slices: codes {min(codes)} to {max(codes)}"
        plain = [coded(code, bound) for code in codes]
        steep = set(stretched["steep"][tick - 1]) if stretched and tick <= len(stretched["steep"]) else set()
        cells = [_pixel(c, m, bound, u in steep) for u, (c, m) in enumerate(zip(codes, moves, strict=True))]
        same = f"The same: {sum(m > 0 for m in moves)} of {len(moves)} units moved, {len(steep)} have a slope above 1"
        drawn = [
            draw("cube", pixels, cube["edge"], alt=f"{say}{how}")
            for draw, how in ((slices, ""), (stack, ", in 3-D"))
            for pixels, say in ((plain, alt), (cells, same))
        ]
        rows.append((f"tick {tick}", Markup('<div class="panels">{}</div>').format(Markup("").join(drawn))))
    return rows


def _pixel(code: float, move: float, bound: int, steep: bool, push: float = 0.0) -> Pixel:
    """Red for activity, green for motion, blue for a nudge, of 0 to 1; white for a slope above 1."""
    if steep:
        return 1.0, 1.0, 1.0
    return abs(code) / bound, math.log2(1 + move) / math.log2(1 + 2 * bound), push


def _nudge(nudge: NudgeDocument, units: UnitCodes) -> Markup:
    """The nudged phase in the colours of the observatory, tick by tick from the free equilibrium on."""
    bound, lsb = max(abs(units["lowest"]), abs(units["highest"]), 1), 2.0 ** units["frac"]
    most = max(abs(push) for row in nudge["push"] for push in row)
    rows = []
    for (before, now), push in zip(pairwise(nudge["states"]), nudge["push"], strict=True):
        cells = zip(before, now, push, strict=True)
        rows.append([_pixel(b * lsb, abs(b - a) * lsb, bound, False, abs(p) / (most or 1.0)) for a, b, p in cells])
    first, last = nudge["loss"]
    alt = f"Activity, motion and push of {len(rows[0])} units over {len(rows)} ticks with beta = {nudge['beta']:g}: the"
    alt += f" loss goes from {first:.4g} to {last:.4g}; the largest push, drawn in full blue, is {most:.3g}"
    title = f"Nudged, sample {units['sample']}: loss {first:.3g} to {last:.3g}"
    return observatory("nudged", rows, title=title, unit="unit", alt=alt)


def _observatory(units: UnitCodes, stretched: SlopesDocument | None) -> Markup:
    codes, bound = units["codes"], max(abs(units["lowest"]), abs(units["highest"]), 1)
    rows, white = [], 0
    for tick, now in enumerate(codes):
        before = codes[tick - 1] if tick else [0] * len(now)
        steep = set(stretched["steep"][tick]) if stretched and tick < len(stretched["steep"]) else set()
        white += len(steep)
        pairs = enumerate(zip(now, before, strict=True))
        rows.append([_pixel(a, abs(a - b), bound, u in steep) for u, (a, b) in pairs])
    alt = f"Activity and motion of {len(codes[0])} units over {len(codes)} ticks"
    if stretched:
        most = max(stretched["largest"])
        alt += f"; {white} of {len(codes) * len(codes[0])} have a slope above 1, the largest {most:.3g}"
    title = f"Observatory, sample {units['sample']}"
    return observatory("observatory", rows, title=title, unit="unit", alt=alt)


def _movement(movement: Movement, first: int) -> Markup:
    samples = movement["samples"]
    largest = [max(column) for column in zip(*samples, strict=True)]
    each = f"each of {len(samples)} samples"
    rows = [Curve(s, BLUE, 1.0, 0.4, "" if k else each, first=first) for k, s in enumerate(samples)]
    return curves(
        "movement",
        [*rows, Curve(largest, RED, 2.2, label="largest over the samples", first=first)],
        title="Movement: largest change of any unit in a tick",
        x_label="tick",
        y_label="LSB (log scale that holds 0)",
        log=True,
    )


def _changing(changing: Changing, first: int) -> Markup:
    mean = changing["mean"]
    idle = 1.0 - sum(mean) / len(mean)
    label = f"mean of the samples; {percent(idle)} of all updates change nothing"
    return curves(
        "changing",
        [Curve(mean, RED, 2.2, label=label, first=first)],
        title="Events: units that still change",
        x_label="tick",
        y_label=f"fraction of {changing['of_units']} units",
        limits=(0.0, 1.0),
    )


def _units(units: UnitCodes) -> Markup:
    width = len(units["codes"][0])
    some = "" if width == units["of_units"] else f" (first {width} of {units['of_units']})"
    title = f"State {units['state']}, sample {units['sample']}"
    return raster("units", units["codes"], (units["lowest"], units["highest"]), title=title, unit=f"unit{some}")


def _logits(logits: Logits) -> Markup:
    scale, ticks = logits["scale"] or 1.0, logits["ticks"]
    values = [[code * scale for code in row] for row in logits["codes"]]
    low, high = min(map(min, values)), max(map(max, values))
    last, classes = values[-1], logits["kind_of_output"] == "classes"
    best = last.index(max(last))
    rows = []
    for k, curve in enumerate(zip(*values, strict=True)):
        winner = classes and k == best
        label = (f"class {k}" if winner else str(k)) if len(last) <= len(COLOURS) else ""
        strength = (2.6, 1.0) if winner else (1.2, 0.75)
        rows.append(Curve(curve, COLOURS[k % len(COLOURS)], *strength, label, first=ticks[0]))
    return curves(
        "logits",
        rows,
        title=f"Output {logits['output']}, sample {logits['sample']}",
        x_label="tick at which it is read",
        y_label="value",
        limits=(low, high) if high > low else (low - 1.0, high + 1.0),
        mark=lambda value: f"{value:.3g}",
    )
