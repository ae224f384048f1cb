"""Inline SVG: bars with intervals, heat maps, curves, and the parts they share. No script, no external resource.

Colours of ink, paper and grid are those of the page, in a dark one too; alone, an image has those of a light page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

__all__ = ["Bar", "Cell", "Curve", "Dot", "bars", "curves", "dots", "heat", "shade"]

INK, GRID, MUTED = "var(--ink, #24303c)", "var(--grid, #dfe4ea)", "var(--muted, #64748b)"
PAPER, DARK = "var(--paper, #fff)", "#24303c"
Map = Callable[[float], float]


@dataclass(frozen=True)
class Bar:
    """One row: `value`, `low` and `high` in 0..1; `note` is shown at its right, `faint` draws a second bar below."""

    label: str
    value: float
    low: float
    high: float
    colour: str
    note: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: `value` in 0..1, None for nothing there; `text` is what hovering tells."""

    row: int
    column: int
    value: float | None
    text: str


@dataclass(frozen=True)
class Curve:
    """`values[k]` at x = `first + k`."""

    values: Sequence[float]
    colour: str
    width: float
    opacity: float = 1.0
    label: str = ""
    dashed: bool = False
    first: int = 0


@dataclass(frozen=True)
class Dot:
    """A labelled point: `value`, `low` and `high` in 0..1 over `x`, which is not negative."""

    label: str
    x: float
    value: float
    low: float
    high: float


def svg(name: str, width: float, height: float, body: Sequence[str], *, told: str) -> Markup:
    """An element of the class `name`; `told` says what it shows to those who do not see it."""
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<svg class="{escape(name)}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(told)}" font-family="system-ui, sans-serif">{"".join(body)}</svg>'
    )


def text(x: float, y: float, label: str, anchor: str = "start", colour: str = INK, size: int = 11) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(label)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1.0) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def linear(low: float, high: float, start: float, end: float) -> Map:
    span = (high - low) or 1.0
    return lambda v: start + (v - low) / span * (end - start)


def round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(m * unit for m in (1, 2, 5, 10) if m * unit >= value * (1 - 1e-9))


def percent(value: float) -> str:
    """Three digits at most: 12 %, 1.2 %, 0.012 %."""
    shown = 100 * value
    return f"{shown:.0f}%" if shown >= 10 or shown == 0 else f"{shown:.2g}%"


def bars(name: str, rows: Sequence[Bar], *, width: int = 720, left: int = 190, right: int = 210) -> Markup:
    """Horizontal bars with whiskers; the scale ends at a round number above the largest interval."""
    top, step = 10, 26
    bottom = top + step * len(rows)
    limit = min(1.0, round_up(max((r.high for r in rows), default=1.0)))
    x = linear(0.0, limit, left, width - right)
    parts = []
    for k in range(6):
        at = x(limit * k / 5)
        parts += [line(at, top, at, bottom), text(at, bottom + 15, percent(limit * k / 5), "middle", MUTED)]
    for k, row in enumerate(rows):
        y = top + step * k + step / 2
        parts.append(text(left - 8, y + 4, row.label, "end"))
        opacity = 0.45 if row.faint else 1.0
        parts.append(
            f'<rect x="{left}" y="{y - 7:.1f}" width="{max(0.0, x(row.value) - left):.1f}" height="14" rx="2" '
            f'fill="{row.colour}" fill-opacity="{opacity}"><title>{escape(row.label)}: {row.value:.4%} '
            f"[{row.low:.4%}, {row.high:.4%}]</title></rect>"
        )
        parts += [
            line(x(row.low), y, x(row.high), y, INK, 1.4),
            line(x(row.low), y - 4, x(row.low), y + 4, INK, 1.4),
            line(x(row.high), y - 4, x(row.high), y + 4, INK, 1.4),
            text(max(x(row.high), x(row.value)) + 8, y + 4, row.note, "start", MUTED),
        ]
    parts.append(line(left, top, left, bottom, INK))
    told = "; ".join(f"{row.label} {percent(row.value)}" for row in rows)
    return svg(name, width, bottom + 24, parts, told=f"Rates with intervals: {told}")


def shade(share: float) -> str:
    """White at 0 over amber to dark red at 1."""
    stops = ((255, 255, 255), (253, 224, 150), (234, 100, 40), (127, 15, 30))
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    k = min(int(at), len(stops) - 2)
    part = at - k
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(stops[k], stops[k + 1], strict=True))


def heat(
    name: str,
    cells: Sequence[Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    limit: float,
    left: int = 150,
    size: float = 30.0,
    axis: str = "",
    numbers: bool = True,
) -> Markup:
    """Cells on a grid, shaded by `value / limit`; a cell without a value is hatched grey."""
    top = 24
    wide = 1.35 * size if numbers else size
    parts = [text(left + wide * (k + 0.5), top - 7, c, "middle", MUTED) for k, c in enumerate(columns)]
    if axis:
        parts.append(text(left - 8, top - 7, axis, "end", MUTED))
    parts += [text(left - 8, top + size * (k + 0.5) + 4, r, "end") for k, r in enumerate(rows)]
    for c in cells:
        share = 0.0 if c.value is None or limit <= 0 else c.value / limit
        fill = GRID if c.value is None else shade(share)
        x, y = left + wide * c.column, top + size * c.row
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{size:.1f}" fill="{fill}" stroke="{PAPER}">'
            f"<title>{escape(c.text)}</title></rect>"
        )
        if numbers and c.value is not None:
            ink = "#fff" if share > 0.6 else DARK
            parts.append(text(x + wide / 2, y + size / 2 + 4, percent(c.value), "middle", ink, 10))
    told = f"Heat map of {len(rows)} by {len(columns)} rates; dark is {percent(limit)}"
    return svg(name, left + wide * len(columns) + 12, top + size * len(rows) + 6, parts, told=told)


def curves(
    name: str,
    found: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    log: bool,
    width: int = 720,
    height: int = 330,
    y_limit: float | None = None,
) -> Markup:
    """Curves over one axis; `log` draws log2(1 + v), so that 0 has a place. Labelled curves make the legend."""
    left, right, top, bottom = 62, 210, 14, height - 44
    last = max((c.first + len(c.values) - 1 for c in found), default=1)
    start = min((c.first for c in found), default=0)
    largest = y_limit or max((v for c in found for v in c.values), default=1.0) or 1.0
    x = linear(start, last, left, width - right)
    if log:
        inner = linear(0.0, math.log2(1 + largest), bottom, top)
        marks = [0.0, *(2.0**k for k in range(math.ceil(math.log2(largest + 1)) + 1) if 2.0**k <= largest * 1.05)]
    else:
        limit = largest if y_limit else round_up(largest)
        inner = linear(0.0, limit, bottom, top)
        marks = [limit * k / 5 for k in range(6)]

    def y(value: float) -> float:
        return inner(math.log2(1 + value)) if log else inner(value)

    parts = []
    for mark in marks:
        parts.append(line(left, y(mark), width - right, y(mark)))
        parts.append(text(left - 6, y(mark) + 4, f"{mark:g}" if log else percent(mark), "end", MUTED))
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if (last - start) / s <= 10), 200)
    for k in range(start, last + 1):
        if (k - start) % step == 0:
            parts.append(text(x(k), bottom + 16, str(k), "middle", MUTED))
    for c in found:
        points = " ".join(f"{x(c.first + k):.1f},{y(v):.1f}" for k, v in enumerate(c.values))
        dash = ' stroke-dasharray="6 4"' if c.dashed else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{c.colour}" stroke-width="{c.width}" '
            f'stroke-opacity="{c.opacity}" stroke-linejoin="round"{dash}/>'
        )
    parts += _axes(left, top, width - right, bottom, x_label, y_label)
    for k, c in enumerate([c for c in found if c.label]):
        at, edge = top + 8 + 18 * k, width - right + 14
        dash = ' stroke-dasharray="6 4"' if c.dashed else ""
        parts.append(
            f'<line x1="{edge}" y1="{at}" x2="{edge + 20}" y2="{at}" stroke="{c.colour}" '
            f'stroke-width="{max(c.width, 1.5)}"{dash}/>'
        )
        parts.append(text(edge + 26, at + 4, c.label))
    legend = ", ".join(c.label for c in found if c.label)
    return svg(name, width, height, parts, told=f"{y_label} over {x_label}, {len(found)} curves: {legend}")


def _axes(left: float, top: float, right: float, bottom: float, x_label: str, y_label: str) -> list[str]:
    """Both axes with what they show; the label of x stands below the numbers."""
    middle = (top + bottom) / 2
    upright = (
        f'<text x="14" y="{middle}" text-anchor="middle" font-size="11" fill="{INK}" '
        f'transform="rotate(-90 14 {middle})">{escape(y_label)}</text>'
    )
    frame = f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="{INK}"/>'
    return [frame, text((left + right) / 2, bottom + 36, x_label, "middle"), upright]


def dots(name: str, found: Sequence[Dot], *, x_label: str, y_label: str, width: int = 720, height: int = 330) -> Markup:
    """Points with whiskers, both axes from 0; labels stand beside the points, the later of two close ones lower."""
    left, right, top, bottom = 62, 190, 14, height - 44
    x_limit, y_limit = round_up(max(d.x for d in found)), min(1.0, round_up(max(d.high for d in found)))
    x, y = linear(0.0, x_limit, left, width - right), linear(0.0, y_limit, bottom, top)
    parts = []
    for k in range(6):
        at = y(y_limit * k / 5)
        parts += [line(left, at, width - right, at), text(left - 6, at + 4, percent(y_limit * k / 5), "end", MUTED)]
        parts.append(text(x(x_limit * k / 5), bottom + 16, f"{x_limit * k / 5:,.0f}", "middle", MUTED))
    taken: list[tuple[float, float]] = []
    for d in sorted(found, key=lambda d: y(d.value)):
        at, height_of = x(d.x), y(d.value)
        parts += [line(at, y(d.low), at, y(d.high), INK, 1.4)]
        parts += [line(at - 4, y(end), at + 4, y(end), INK, 1.4) for end in (d.low, d.high)]
        parts.append(
            f'<circle cx="{at:.1f}" cy="{height_of:.1f}" r="4.5" fill="#1d4ed8"><title>{escape(d.label)}: {d.x:,.0f}, '
            f"{d.value:.4%} [{d.low:.4%}, {d.high:.4%}]</title></circle>"
        )
        place = min(height_of + 4, bottom - 6)
        while any(abs(place - other) < 13 and abs(at - there) < 220 for there, other in taken):
            place += 13
        taken.append((at, place))
        parts.append(text(at + 9, place, d.label))
    parts += _axes(left, top, width - right, bottom, x_label, y_label)
    return svg(name, width, height, parts, told=f"{y_label} over {x_label}, {len(found)} points")
