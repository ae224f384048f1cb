"""The panels of a relaxation, drawn from its document alone."""

from __future__ import annotations

from markupsafe import Markup

from ..wording import percent, shown
from .figure import BLUE, COLOURS, RED, Column, Curve, columns, curves, raster, slices
from .schema import Changing, CubeCodes, Logits, Movement, Relaxation, SampleRelaxation, Settling, UnitCodes

__all__ = ["cube_panels", "overall", "sample_panels", "settling_panel"]


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
    drawn = [_units(sample["units"])]
    return [*drawn, _logits(sample["logits"])] if "logits" in sample else drawn


def cube_panels(cube: CubeCodes) -> list[tuple[str, Markup]]:
    """For each tick its name, and the slices of the cube."""
    bound = max(abs(cube["lowest"]), abs(cube["highest"]), 1)
    rows = []
    for tick, codes in zip(cube["ticks"], cube["codes"], strict=True):
        told = f"State {cube['state']} after tick {tick}, {cube['edge']} slices: codes {min(codes)} to {max(codes)}"
        rows.append((f"tick {tick}", slices("cube", codes, cube["edge"], bound, told=told)))
    return rows


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
