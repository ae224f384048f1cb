"""Heat maps of rates, and rasters of codes."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ...wording import percent
from .frame import (
    BLUE,
    BOTTOM,
    GLYPH,
    GRID,
    HEIGHT,
    INK,
    LEFT,
    MUTED,
    RIGHT,
    SIZE,
    TOP,
    WIDTH,
    Axis,
    Plot,
    rect,
    svg,
    text,
    ticks,
)

__all__ = ["Cell", "Pixel", "coded", "confusion", "heat", "observatory", "raster", "shade", "slices", "stack"]

_STACK = 240
"""Pixels that a cube seen from a corner takes, about."""
_LABELLED = 8
"""Planes that each have their label, at most."""
Pixel = tuple[float, float, float]
"""Red, green and blue, each in 0..1."""


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: `value` in 0..1, None for nothing there; `text` is what hovering tells."""

    row: int
    column: int
    value: float | None
    text: str


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
    size: float = 30.0,
    axis: str = "",
    numbers: bool = True,
) -> Markup:
    """Cells on a grid, shaded by `value / limit`; a cell without a value is grey."""
    top, left = (24, 30 + GLYPH * max(map(len, rows), default=0)) if any(rows) else (4, 4)
    wide = 1.45 * size if numbers else size
    parts = [text(left + wide * (k + 0.5), top - 7, c, "middle", MUTED) for k, c in enumerate(columns)]
    parts += [text(left - 8, top - 7, axis, "end", MUTED)] if axis else []
    parts += [text(left - 8, top + size * (k + 0.5) + 4, r, "end") for k, r in enumerate(rows)]
    for c in cells:
        share = 0.0 if c.value is None or limit <= 0 else c.value / limit
        x, y = left + wide * c.column, top + size * c.row
        fill = GRID if c.value is None else shade(share)
        parts.append(rect(x, y, wide - 1, size - 1, fill, alt=c.text))
        if numbers and c.value is not None:
            ink = "#fff" if share > 0.6 else "#24303c"
            parts.append(text(x + wide / 2, y + size / 2 + 4, percent(c.value), "middle", ink, 11))
    worst = max((c for c in cells if c.value is not None), key=lambda c: c.value or 0.0, default=None)
    alt = f"Heat map of {len(rows)} by {len(columns)} rates; dark is {percent(limit)}."
    alt += f" The largest: {worst.text}" if worst is not None else ""
    return svg(name, left + wide * len(columns) + 12, top + size * len(rows) + 6, parts, alt=alt)


def raster(name: str, rows: Sequence[Sequence[int]], ends: tuple[int, int], *, title: str, unit: str) -> Markup:
    """Codes `[tick][unit]` as an image, ticks from 1 at the left, units from below, with the scale of colours beside
    it; `ends`: of the format."""
    ticks_shown, units, beside = len(rows), len(rows[0]), 70.0
    x = Axis("tick", 0.5, ticks_shown + 0.5, ticks(1, ticks_shown))
    y = Axis(unit, 0, units, sorted({0, units // 2, units}))
    parts = Plot(title, x, y, beside, grid=False).frame()
    bound, height, right = max(abs(ends[0]), abs(ends[1]), 1), HEIGHT - BOTTOM - TOP, WIDTH - beside
    image = [[_colour(row[u] / bound) for row in rows] for u in reversed(range(units))]
    parts.append(_image(image, LEFT, TOP, right - LEFT, height))
    parts.append(_image([[_colour(1.0 - k / 31.5)] for k in range(64)], right + 14, TOP, 10, height))
    at = Axis("", -bound, bound, ()).scale(HEIGHT - BOTTOM, TOP)
    parts += [text(right + 28, at(value) + 4, f"{value:g}") for value in sorted({ends[0], 0, ends[1]})]
    flat = [code for code in rows[-1]]
    alt = f"{title}: {units} units over {ticks_shown} ticks; after the last one codes from {min(flat)} to {max(flat)}"
    return svg(name, WIDTH, HEIGHT, parts, alt=alt)


def observatory(name: str, rows: Sequence[Sequence[Pixel]], *, title: str, unit: str, alt: str) -> Markup:
    """Colours `[tick][unit]` as an image like that of `raster`."""
    ticks_shown, units = len(rows), len(rows[0])
    x = Axis("tick", 0.5, ticks_shown + 0.5, ticks(1, ticks_shown))
    y = Axis(unit, 0, units, sorted({0, units // 2, units}))
    image = [[_bytes(row[u]) for row in rows] for u in reversed(range(units))]
    parts = Plot(title, x, y, grid=False).frame()
    parts.append(_image(image, LEFT, TOP, WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP))
    return svg(name, WIDTH, HEIGHT, parts, alt=alt)


def slices(name: str, cells: Sequence[Pixel], edge: int, *, alt: str) -> Markup:
    """Colours of a cube `[z][y][x]`, flat, as `edge` slices side by side, z from the first on."""
    gap, across = 10, min(edge, 5)
    size = (WIDTH - 8) // across - gap
    parts = []
    for z in range(edge):
        x, y = 4 + (z % across) * (size + gap), 20 + (z // across) * (size + gap + 18)
        plane = [_bytes(cell) for cell in cells[z * edge * edge : (z + 1) * edge * edge]]
        parts.append(text(x, y - 5, f"z = {z}", "start", MUTED))
        parts.append(_image([plane[k * edge : (k + 1) * edge] for k in range(edge)], x, y, size, size))
    height = 20 + -(-edge // across) * (size + gap + 18)
    return svg(name, 8 + across * (size + gap), height, parts, alt=alt)


def stack(name: str, cells: Sequence[Pixel], edge: int, *, alt: str) -> Markup:
    """Colours of a cube `[z][y][x]`, flat, seen from above a corner: its planes one above the other, z = 0 the lowest,
    x to the lower right and y to the lower left."""
    right, down, rise = 0.87 * _STACK / 2, 0.3 * _STACK / 2, 0.42 * _STACK / 2
    parts = []
    for z in range(edge):
        x, y = 34 + right, 12 + rise * (edge - 1 - z)
        plane = [_bytes(cell) for cell in cells[z * edge * edge : (z + 1) * edge * edge]]
        pixels = _image([plane[k * edge : (k + 1) * edge] for k in range(edge)], 0, 0, 1, 1)
        across = f"{right:.2f} {down:.2f} {-right:.2f} {down:.2f}"
        parts.append(f'<g transform="matrix({across} {x:.1f} {y:.1f})">{pixels}</g>')
        corners = ((0, 0), (right, down), (0, 2 * down), (-right, down))
        outline = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)
        parts.append(f'<polygon points="{outline}" fill="none" stroke="{MUTED}" stroke-width="0.6"/>')
        if edge <= _LABELLED or z in (0, edge - 1):
            parts.append(text(0, y + down + 4, f"z = {z}", "start", MUTED))
    return svg(name, 38 + 2 * right, 20 + rise * (edge - 1) + 2 * down, parts, alt=alt)


def confusion(name: str, counts: Sequence[Sequence[int]]) -> Markup:
    """Samples `[true label][label]`, shaded by the share of the row: right ones blue, wrong ones amber to red."""
    classes, size, left, top = len(counts), 30.0 if len(counts) <= 16 else 16.0, 46.0, 46.0
    parts = [text(left + classes * size / 2, 16, "label of the integers", "middle")]
    turned = f'transform="rotate(-90 12 {top + classes * size / 2:.1f})" text-anchor="middle" font-size="{SIZE}"'
    parts.append(f'<text x="12" y="{top + classes * size / 2:.1f}" {turned} fill="{INK}">true label</text>')
    wrong = [(counts[t][k], t, k) for t in range(classes) for k in range(classes) if t != k]
    for t, row in enumerate(counts):
        total = sum(row) or 1
        parts += [text(left + size * (t + 0.5), top - 6, str(t), "middle", MUTED, 11)]
        parts += [text(left - 6, top + size * (t + 0.5) + 4, str(t), "end", MUTED, 11)]
        for k, count in enumerate(row):
            x, y, share = left + k * size, top + t * size, count / total
            hover = f"true {t}, integers say {k}: {count:,} of {sum(row):,}"
            fill = BLUE if t == k else shade(min(1.0, 0.25 + share)) if count else GRID
            parts.append(rect(x, y, size - 1, size - 1, fill, alt=hover, opacity=share if t == k else 1.0))
            if count and size > SIZE * 2:
                ink = INK if t == k and share < 0.6 else "#fff" if t == k or share > 0.35 else "#24303c"
                parts.append(text(x + size / 2, y + size / 2 + 4, f"{count:,}", "middle", ink, 11))
    right, total = sum(counts[k][k] for k in range(classes)), sum(map(sum, counts))
    alt = f"Confusion matrix: {right:,} of {total:,} labels are right"
    worst = max(wrong, default=(0, 0, 0))
    alt += f"; most often {worst[1]} is taken for {worst[2]}, {worst[0]:,} times" if worst[0] else ""
    return svg(name, left + classes * size + 8, top + classes * size + 8, parts, alt=alt)


def coded(code: int, bound: int) -> Pixel:
    """The colour of a code, as `raster` has it."""
    red, green, blue = _colour(code / bound)
    return red / 255, green / 255, blue / 255


def _bytes(pixel: Pixel) -> bytes:
    return bytes(round(255 * min(max(part, 0.0), 1.0)) for part in pixel)


def _colour(v: float) -> bytes:
    """Blue at -1, near white at 0, red at 1."""
    end = (178, 24, 43) if v > 0 else (33, 102, 172)
    share = min(abs(v), 1.0)
    return bytes(round(247 + (c - 247) * share) for c in end)


def _image(rows: Sequence[Sequence[bytes]], x: float, y: float, width: float, height: float) -> str:
    """Red, green and blue bytes as the pixels of an inline PNG, one a cell, not smoothed."""
    raw = b"".join(b"\0" + b"".join(row) for row in rows)
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(raw, 9)) + _chunk(b"IEND", b"")
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
