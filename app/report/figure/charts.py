"""Bars, columns, curves and dots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from ...wording import percent, shown
from .frame import (
    BLUE,
    BOTTOM,
    GLYPH,
    HEIGHT,
    INK,
    LEFT,
    MUTED,
    RED,
    WIDTH,
    Axis,
    Key,
    Plot,
    line,
    plain_number,
    rect,
    round_up,
    spread,
    svg,
    text,
    ticks,
    with_legend,
)

__all__ = ["Bar", "Column", "Curve", "Dot", "Level", "bars", "columns", "curves", "dots"]


@dataclass(frozen=True)
class Bar:
    """A share `value`, with the ends of its interval, if it has one. `faint`: of the same as the row before."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = BLUE
    note: str = ""
    faint: bool = False


@dataclass(frozen=True)
class Column:
    """Two counts on top of each other, over one label."""

    label: str
    count: int
    other: int = 0


@dataclass(frozen=True)
class Curve:
    """`values[k]` at x = `first + k`; a curve with a label is in the legend."""

    values: Sequence[float]
    colour: str
    width: float
    opacity: float = 1.0
    label: str = ""
    dashed: bool = False
    first: int = 0


@dataclass(frozen=True)
class Dot:
    """A point: the share `value` over `x`, with the ends of its interval, if it has one."""

    label: str
    x: float
    value: float
    low: float | None = None
    high: float | None = None
    colour: str = BLUE
    ring: bool = False


@dataclass(frozen=True)
class Level:
    """A share that is asked for."""

    value: float
    label: str


def bars(name: str, rows: Sequence[Bar], *, limit: float | None = None) -> Markup:
    """Bars below their labels, with whiskers; the scale ends at `limit`, by default at a round number above all. A
    label that leaves no room for its note beside it has a line of its own."""
    top, step, line_of, left, right = 4, 34, 16, 8, 24
    room = int((WIDTH - left - right) / GLYPH) - 2
    long = [len(row.label) + len(row.note) > room for row in rows]
    bottom = top + step * len(rows) + line_of * sum(long)
    most = limit or min(1.0, round_up(max((r.value if r.high is None else r.high for r in rows), default=1.0)))
    x = Axis("", 0.0, most, ()).scale(left, WIDTH - right)
    parts = [line(x(mark), top, x(mark), bottom) for mark in spread(0.0, most)]
    parts += [text(x(mark), bottom + 15, percent(mark), "middle", MUTED) for mark in spread(0.0, most)[1:]]
    for k, row in enumerate(rows):
        y = top + step * k + line_of * sum(long[: k + 1]) + 24
        label = row.label if len(row.label) <= room else row.label[: room - 1] + "…"
        parts.append(text(left, y - 10 - line_of * long[k], label))
        parts.append(text(WIDTH - right + 16, y - 10, row.note, "end", MUTED))
        alt = f"{row.label}: {_interval(row.value, row.low, row.high)}"
        parts.append(
            rect(
                left,
                y - 6,
                x(min(row.value, most)) - left,
                12,
                row.colour,
                alt=alt,
                opacity=1 - 0.55 * row.faint,
            )
        )
        if row.low is not None and row.high is not None:
            parts.append(line(x(row.low), y, x(row.high), y, INK, 1.4))
            parts += [line(x(end), y - 4, x(end), y + 4, INK, 1.4) for end in (row.low, row.high)]
    parts.append(line(left, top, left, bottom, INK))
    alt = "; ".join(f"{row.label} {percent(row.value)}" for row in rows)
    return svg(name, WIDTH, bottom + 22, parts, alt=f"Bars: {alt}")


def columns(name: str, rows: Sequence[Column], *, title: str, x_label: str, y_label: str, other: str) -> Markup:
    """A histogram; `other` says what the upper part of a column counts."""
    top = max((r.count + r.other for r in rows), default=1) or 1
    y = Axis(y_label, 0, top * 1.12, [v for v in spread(0, top) if v == int(v)])
    every = math.ceil(len(rows) / 9)
    x = Axis(x_label, -0.5, len(rows) - 0.5, range(0, len(rows), every), lambda k: rows[int(k)].label)
    plot = Plot(title, x, y)
    at_x, at_y = plot.at_x, plot.at_y
    width = min(60.0, 0.84 * (at_x(1) - at_x(0)))
    parts = plot.frame()
    for k, row in enumerate(rows):
        left, low, high = at_x(k) - width / 2, at_y(row.count), at_y(row.count + row.other)
        alt = f"{x_label} {row.label}: {row.count}" + (f", and {row.other} {other}" if row.other else "")
        parts += [
            rect(left, low, width, at_y(0) - low, BLUE, alt=alt),
            rect(left, high, width, low - high, RED, alt=alt),
        ]
        if len(rows) <= 16 and row.count + row.other:
            parts.append(text(at_x(k), high - 4, str(row.count + row.other), "middle", MUTED))
    keys = [Key(RED, other, 10.0)] if any(r.other for r in rows) else []
    alt = "; ".join(f"{r.label}: {r.count}" + (f" and {r.other} {other}" if r.other else "") for r in rows)
    return with_legend(name, parts, keys, f"{title}. {y_label} by {x_label}: {alt}")


def curves(
    name: str,
    rows: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    mark: Callable[[float], str] = plain_number,
) -> Markup:
    """Curves over one axis of ticks; without `limits` from 0 to a round number above all (`log`: to the
    largest)."""
    first = min((c.first for c in rows), default=0)
    last = max((c.first + len(c.values) - 1 for c in rows), default=1)
    largest = max((v for c in rows for v in c.values), default=1.0) or 1.0
    low, high = limits or (0.0, largest if log else round_up(largest))
    y = Axis(y_label, low, high, _doublings(high) if log else spread(low, high), mark, log)
    plot = Plot(title, Axis(x_label, first, last, ticks(first, last)), y)
    at_x, at_y = plot.at_x, plot.at_y
    parts = plot.frame()
    for c in rows:
        points = " ".join(f"{at_x(c.first + k):.1f},{at_y(v):.1f}" for k, v in enumerate(c.values))
        stroke = Key(c.colour, c.label, c.width, c.dashed).stroke
        parts.append(f'<polyline points="{points}" fill="none" {stroke} stroke-opacity="{c.opacity}"/>')
    keys = [Key(c.colour, c.label, max(c.width, 1.5), c.dashed) for c in rows if c.label]
    alt = "; ".join(
        f"{c.label}: {mark(c.values[0])} at {c.first}, {mark(c.values[-1])} at {c.first + len(c.values) - 1}, "
        f"at most {mark(max(c.values))}"
        for c in rows
        if c.label and len(c.values)
    )
    return with_legend(name, parts, keys, f"{title}. {y_label} over {x_label}, {len(rows)} curves. {alt}".lstrip(". "))


def dots(
    name: str,
    rows: Sequence[Dot],
    *,
    x_label: str,
    y_label: str,
    title: str = "",
    limits: tuple[float, float] | None = None,
    joined: Sequence[Dot] = (),
    level: Level | None = None,
) -> Markup:
    """Points with whiskers over an axis from 0, the vertical one from 0 too without `limits`; `joined`: a line through
    these. Labels stand beside the points, the later of two close ones lower."""
    most = max(d.x for d in rows)
    low, high = limits or (0.0, min(1.0, round_up(max(d.value if d.high is None else d.high for d in rows))))
    marks = [v for v in spread(low, high) if v <= 1.0]
    longest = max(len(d.label) for d in rows)
    x = Axis(x_label, 0.0, 1.04 * most, spread(0.0, most), lambda v: f"{v:,.4g}")
    y = Axis(y_label, low, high, marks, lambda v: f"{100 * v:.4g}%")
    plot = Plot(title, x, y, right=min(150.0, 16 + 4 * longest))
    at_x, at_y = plot.at_x, plot.at_y
    parts = plot.frame()
    if level is not None:
        at = at_y(level.value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - plot.right}" stroke="{RED}" stroke-dasharray="4 3"/>')
        parts.append(text(LEFT + 6, at - 4, level.label))
    if joined:
        points = " ".join(f"{at_x(d.x):.1f},{at_y(d.value):.1f}" for d in joined)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{RED}" stroke-width="1.4"/>')
    labels: list[tuple[float, float]] = []
    for d in sorted(rows, key=lambda d: at_y(d.value)):
        px, py = at_x(d.x), at_y(d.value)
        if d.low is not None and d.high is not None:
            parts += [line(px, at_y(d.low), px, at_y(d.high), INK, 1.4)]
            parts += [line(px - 4, at_y(end), px + 4, at_y(end), INK, 1.4) for end in (d.low, d.high)]
        alt = f"{d.label}: {shown(d.x)}, {_interval(d.value, d.low, d.high)}".lstrip(": ")
        parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{d.colour}"><title>{escape(alt)}</title></circle>'
        )
        if d.ring:
            parts.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="7" fill="none" stroke="{d.colour}" stroke-width="1.6"/>'
            )
        if d.label:
            place = min(py + 4, HEIGHT - BOTTOM - 6)
            while any(abs(place - other) < 14 and abs(px - there) < 220 for there, other in labels):
                place += 14
            labels.append((px, place))
            # A label that would leave the picture stands at the left of its point.
            beyond = px + 9 + GLYPH * len(d.label) > WIDTH
            parts.append(text(px - 9 if beyond else px + 9, place, d.label, "end" if beyond else "start"))
    named = "; ".join(f"{d.label}: {shown(d.x)}, {percent(d.value)}" for d in rows if d.label)
    return svg(name, WIDTH, HEIGHT, parts, alt=f"{y_label} over {x_label}, {len(rows)} points. {named}")


def _doublings(top: float) -> list[float]:
    marks = [0.0, *(2.0**k for k in range(math.ceil(math.log2(top + 1)) + 1) if 2.0**k <= top * 1.05)]
    return marks if len(marks) <= 9 else [0.0, *marks[1::2]]


def _interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4%}" if low is None or high is None else f"{value:.4%} [{low:.4%}, {high:.4%}]"
