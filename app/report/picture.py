"""Inline SVG of a relaxation, drawn from the JSON of `relaxation` alone; no dependency, no external resource."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from .figure import GRID, INK, PAPER, Map, linear, svg, text

__all__ = [
    "BOTTOM",
    "FAINT",
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "STRONG",
    "TOP",
    "WIDTH",
    "axes",
    "panels",
    "picture",
    "spread",
]

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 34, 46
FAINT, STRONG = "#7a9cc6", "#c2410c"
_LINES = ("#1d4ed8", "#c2410c", "#15803d", "#a21caf", "#b45309", "#0e7490", "#be123c", "#4d7c0f", "#6d28d9", "#475569")


def panels(curves: Mapping[str, Any]) -> list[Markup]:
    """The panels of one relaxation, each an `<svg>` element."""
    found = [_movement(curves), _changing(curves), _units(curves["units"])]
    if "logits" in curves:
        found.append(_logits(curves["logits"]))
    return found


def _movement(curves: Mapping[str, Any]) -> Markup:
    samples = curves["movement"]["samples"]
    first = curves["first_tick"]
    top = max(1, max(max(s) for s in samples))
    decades = math.ceil(math.log2(top + 1))
    ticks = [0, *(1 << k for k in range(decades + 1) if 1 << k <= 2 * top)]
    x = linear(first, first + len(samples[0]) - 1, LEFT, WIDTH - RIGHT)
    y = _symlog(max(ticks))
    last_shown = ticks if len(ticks) <= 9 else [0, *ticks[1::2]]
    body = axes(
        "Movement: largest change of any unit in a tick",
        "tick",
        "LSB (log scale that holds 0)",
        [(y(t), str(t)) for t in last_shown],
        _tick_marks(x, first, first + len(samples[0]) - 1),
    )
    body += [_line(x, y, first, s, FAINT, 1.0, 0.55) for s in samples]
    body.append(_line(x, y, first, [max(column) for column in zip(*samples, strict=True)], STRONG, 2.2, 1.0))
    body.append(_legend([(FAINT, f"each of {len(samples)} samples"), (STRONG, "largest over the samples")]))
    return picture("movement", body)


def _changing(curves: Mapping[str, Any]) -> Markup:
    mean, first = curves["changing"]["mean"], curves["first_tick"]
    x = linear(first, first + len(mean) - 1, LEFT, WIDTH - RIGHT)
    y = linear(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    body = axes(
        "Events: units that still change",
        "tick",
        f"fraction of {curves['changing']['of_units']} units",
        [(y(v), f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)],
        _tick_marks(x, first, first + len(mean) - 1),
    )
    saved = 1.0 - sum(mean) / len(mean)
    body.append(_line(x, y, first, mean, STRONG, 2.2, 1.0))
    body.append(_legend([(STRONG, "mean over the samples")]))
    body.append(text(WIDTH - RIGHT - 6, TOP + 32, f"{saved:.0%} of the unit updates change nothing", "end"))
    return picture("changing", body)


def _units(units: Mapping[str, Any]) -> Markup:
    codes = units["codes"]
    ticks, shown = len(codes), len(codes[0])
    x = linear(0.5, ticks + 0.5, LEFT, WIDTH - RIGHT - 54)
    y = linear(0.0, shown, HEIGHT - BOTTOM, TOP)
    some = "" if shown == units["of_units"] else f" (first {shown} of {units['of_units']})"
    right = WIDTH - RIGHT - 54
    body = axes(
        f"State {units['state']}, sample {units['sample']}",
        "tick",
        f"unit{some}",
        [(y(v), str(v)) for v in sorted({0, shown // 2, shown})],
        _tick_marks(x, 1, ticks),
        right=right,
        grid=False,
    )
    bound = max(abs(units["lowest"]), abs(units["highest"]), 1)
    rows = [[_colour(codes[t][u] / bound) for t in range(ticks)] for u in reversed(range(shown))]
    body.append(_image(rows, LEFT, TOP, right - LEFT, HEIGHT - BOTTOM - TOP))
    scale = [[_colour(1.0 - k / 31.5)] for k in range(64)]
    body.append(_image(scale, right + 14, TOP, 10, HEIGHT - BOTTOM - TOP))
    at = linear(-bound, bound, HEIGHT - BOTTOM, TOP)
    for value in sorted({units["lowest"], 0, units["highest"]}):
        body.append(text(right + 28, at(value) + 4, str(value), "start"))
    return picture("units", body)


def _logits(logits: Mapping[str, Any]) -> Markup:
    rows = [[code * logits["scale"] for code in row] for row in logits["codes"]]
    first = logits["ticks"][0]
    low, high = min(map(min, rows)), max(map(max, rows))
    low, high = (low, high) if high > low else (low - 1.0, high + 1.0)
    x = linear(first, first + len(rows) - 1, LEFT, WIDTH - RIGHT - 34)
    y = linear(low, high, HEIGHT - BOTTOM, TOP)
    right = WIDTH - RIGHT - 34
    body = axes(
        f"Output {logits['output']}, sample {logits['sample']}",
        "tick at which it is read",
        "value",
        [(y(v), f"{v:.3g}") for v in spread(low, high)],
        _tick_marks(x, first, first + len(rows) - 1),
        right=right,
    )
    best = max(range(len(rows[-1])), key=lambda k: rows[-1][k])
    for k, curve in enumerate(zip(*rows, strict=True)):
        winner = k == best and logits["kind_of_output"] == "classes"
        body.append(_line(x, y, first, curve, _LINES[k % len(_LINES)], 2.6 if winner else 1.1, 1.0 if winner else 0.65))
        if len(rows[-1]) <= len(_LINES) and (winner or logits["kind_of_output"] != "classes"):
            body.append(text(right + 4, y(curve[-1]) + 4, f"class {k}" if winner else str(k), "start"))
    return picture("logits", body)


def _symlog(top: float) -> Map:
    """log2(1 + v), so that 0 has a place and one LSB is seen."""
    inner = linear(0.0, math.log2(1.0 + top), HEIGHT - BOTTOM, TOP)
    return lambda v: inner(math.log2(1.0 + v))


def spread(low: float, high: float) -> list[float]:
    """Round numbers inside `[low, high]`, about five."""
    raw = (high - low) / 5.0
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next(m for m in (1, 2, 5, 10) if m * unit >= raw)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _tick_marks(x: Map, first: int, last: int) -> list[tuple[float, str]]:
    step = max(1, round((last - first) / 6))
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if s >= step), step)
    return [(x(t), str(t)) for t in range(first, last + 1) if t == first or t % step == 0]


def axes(
    title: str,
    x_label: str,
    y_label: str,
    y_ticks: Sequence[tuple[float, str]],
    x_ticks: Sequence[tuple[float, str]],
    *,
    right: float = WIDTH - RIGHT,
    grid: bool = True,
) -> list[str]:
    """Title, axes, labels and ticks `(position, label)` of a picture."""
    bottom = HEIGHT - BOTTOM
    parts = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="600" fill="{INK}">{escape(title)}</text>']
    for at, label in y_ticks:
        if grid:
            parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 6, at + 4, label, "end"))
    for at, label in x_ticks:
        parts.append(f'<line x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 4}" stroke="{INK}"/>')
        parts.append(text(at, bottom + 16, label, "middle"))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{INK}"/>')
    parts.append(text((LEFT + right) / 2, HEIGHT - 10, x_label, "middle"))
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="16" y="{middle}" text-anchor="middle" font-size="11" fill="{INK}" '
        f'transform="rotate(-90 16 {middle})">{escape(y_label)}</text>'
    )
    return parts


def _line(x: Map, y: Map, first: int, values: Sequence[float], colour: str, width: float, opacity: float) -> str:
    points = " ".join(f"{x(first + k):.1f},{y(v):.1f}" for k, v in enumerate(values))
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" '
        'stroke-linejoin="round"/>'
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    left, height = WIDTH - RIGHT - 190, 16 * len(entries) + 6
    parts = [f'<rect x="{left}" y="{TOP + 2}" width="186" height="{height}" fill="{PAPER}" fill-opacity="0.8"/>']
    for k, (colour, label) in enumerate(entries):
        at = TOP + 12 + 16 * k
        right = WIDTH - RIGHT - 6
        parts.append(f'<line x1="{right - 18}" y1="{at}" x2="{right}" y2="{at}" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(text(right - 24, at + 4, label, "end"))
    return "".join(parts)


def picture(name: str, body: Sequence[str]) -> Markup:
    """An element of the class `name`, of the size that all pictures have; its title says what it shows."""
    told = Markup(body[0]).striptags()  # noqa: S704 - the first part of `axes`, whose text is escaped
    return svg(name, WIDTH, HEIGHT, body, told=str(told))


def _colour(v: float) -> tuple[int, int, int]:
    """Blue at -1, near white at 0, red at 1."""
    end = (178, 24, 43) if v > 0 else (33, 102, 172)
    share = min(abs(v), 1.0)
    return tuple(round(247 + (c - 247) * share) for c in end)  # type: ignore[return-value]


def _image(rows: Sequence[Sequence[tuple[int, int, int]]], x: float, y: float, width: float, height: float) -> str:
    """Pixels as an inline PNG, one a cell, not smoothed."""
    raw = b"".join(b"\0" + bytes(c for pixel in row for c in pixel) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(raw, 9)) + _chunk(b"IEND", b"")
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{source}"/>'
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
