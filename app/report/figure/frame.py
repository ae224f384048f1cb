"""What every figure is made of: the element, its frame with both axes, its legend, and the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

__all__ = [
    "Axis",
    "Key",
    "Plot",
    "line",
    "plain_number",
    "rect",
    "round_up",
    "spread",
    "svg",
    "text",
    "ticks",
    "with_legend",
]

INK, GRID, MUTED = "var(--ink, #24303c)", "var(--grid, #dfe4ea)", "var(--muted, #64748b)"
BLUE, RED = "var(--blue, #1d4ed8)", "var(--red, #c2410c)"
COLOURS = (
    BLUE,
    RED,
    "var(--green, #15803d)",
    "var(--pink, #a21caf)",
    "var(--amber, #b45309)",
    "var(--cyan, #0e7490)",
    "var(--rose, #be123c)",
    "var(--olive, #4d7c0f)",
    "var(--violet, #6d28d9)",
    "var(--slate, #475569)",
)
"""Told apart on a light and on a dark page: `page.html` has those of the dark one."""
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 34, 46
SIZE, GLYPH = 12, 7.0
"""Pixels of the text, and the width of one character of it on average."""
Scale = Callable[[float], float]


def plain_number(value: float) -> str:
    """A number of an axis."""
    return f"{value:g}"


@dataclass(frozen=True)
class Key:
    """An entry of a legend."""

    colour: str
    label: str
    width: float = 2.0
    dashed: bool = False

    @property
    def stroke(self) -> str:
        """The attributes of its line."""
        dash = ' stroke-dasharray="6 4"' if self.dashed else ""
        return f'stroke="{self.colour}" stroke-width="{self.width:g}"{dash}'


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with numbers at `marks`; `log`: of 1 + v to the base 2, so that 0 has a place."""

    label: str
    low: float
    high: float
    marks: Sequence[float]
    text: Callable[[float], str] = plain_number
    log: bool = False

    def scale(self, start: float, end: float) -> Scale:
        """Pixels of a value, from `start` at the low end to `end`."""
        measure = (lambda v: math.log2(1 + v)) if self.log else (lambda v: v)
        low, span = measure(self.low), (measure(self.high) - measure(self.low)) or 1.0
        return lambda v: start + (measure(v) - low) / span * (end - start)


@dataclass(frozen=True)
class Plot:
    """A frame with both axes; `right`: pixels left free there."""

    title: str
    x: Axis
    y: Axis
    right: float = RIGHT
    grid: bool = True

    @property
    def at_x(self) -> Scale:
        return self.x.scale(LEFT, WIDTH - self.right)

    @property
    def at_y(self) -> Scale:
        return self.y.scale(HEIGHT - BOTTOM, TOP)

    def frame(self) -> list[str]:
        """Title, axes, labels and marks."""
        bottom, right, middle = HEIGHT - BOTTOM, WIDTH - self.right, (TOP + HEIGHT - BOTTOM) / 2
        parts = [f'<text x="8" y="18" font-size="14" font-weight="600" fill="{INK}">{escape(self.title)}</text>']
        for mark in self.y.marks:
            at = self.at_y(mark)
            parts += [line(LEFT, at, right, at)] if self.grid else []
            parts.append(text(LEFT - 6, at + 4, self.y.text(mark), "end", MUTED))
        for mark in self.x.marks:
            at = self.at_x(mark)
            parts += [line(at, bottom, at, bottom + 4, INK), text(at, bottom + 17, self.x.text(mark), "middle", MUTED)]
        parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{INK}"/>')
        parts.append(text((LEFT + right) / 2, HEIGHT - 10, self.x.label, "middle"))
        turned = f'transform="rotate(-90 14 {middle})" text-anchor="middle" font-size="{SIZE}" fill="{INK}"'
        return [*parts, f'<text x="14" y="{middle}" {turned}>{escape(self.y.label)}</text>']


def svg(name: str, width: float, height: float, body: Iterable[str], *, alt: str) -> Markup:
    """An element of the class `name`; `alt` says what it shows to those who do not see it."""
    return Markup(  # noqa: S704 - every text in it is escaped
        f'<svg class="{escape(name)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(alt)}" '
        f'font-family="system-ui, sans-serif">{"".join(body)}</svg>'
    )


def text(x: float, y: float, label: str, anchor: str = "start", colour: str = INK, size: int = SIZE) -> str:
    """A label at its baseline."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(label)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1.0) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def rect(x: float, y: float, width: float, height: float, fill: str, *, alt: str = "", opacity: float = 1.0) -> str:
    """A filled box; hovering shows `alt`."""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}"'
    title = f"<title>{escape(alt)}</title>" if alt else ""
    return f'<rect {place} fill="{fill}" fill-opacity="{opacity:g}">{title}</rect>'


def round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(m * unit for m in (1, 2, 5, 10) if m * unit >= value * (1 - 1e-9))


def spread(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers inside `[low, high]`, about `count`."""
    step = round_up((high - low) / count)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def ticks(first: int, last: int) -> list[float]:
    """The first of whole numbers `first` to `last`, and some round ones after it."""
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if (last - first) / s <= 8), 200)
    return [t for t in range(first, last + 1) if t == first or (t % step == 0 and t - first >= step / 2)]


def with_legend(name: str, parts: Iterable[str], keys: Sequence[Key], alt: str) -> Markup:
    """A figure with its legend below it, in as many lines as it takes."""
    drawn, x, y = list(parts), float(LEFT), HEIGHT + 8.0
    for key in keys:
        wide = 34 + GLYPH * len(key.label)
        if x > LEFT and x + wide > WIDTH:
            x, y = float(LEFT), y + 18
        drawn.append(f'<line x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x + 16:.1f}" y2="{y - 4:.1f}" {key.stroke}/>')
        drawn.append(text(x + 21, y, key.label))
        x += wide
    return svg(name, WIDTH, y + 8 if keys else HEIGHT, drawn, alt=alt)
