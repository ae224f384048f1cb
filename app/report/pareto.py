"""The trials of a precision search as a picture: bits against labels kept, the front marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .figure import linear, text
from .picture import BOTTOM, FAINT, HEIGHT, LEFT, RIGHT, STRONG, TOP, WIDTH, axes, spread
from .picture import picture as element

__all__ = ["front", "picture"]


def front(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trials that no other beats in both bits and agreement, fewest bits first."""
    kept: list[Mapping[str, Any]] = []
    for trial in sorted(trials, key=lambda t: (t["bits"], -t["agreement"])):
        if not kept or trial["agreement"] > kept[-1]["agreement"]:
            kept.append(trial)
    return kept


def picture(found: Mapping[str, Any]) -> str:
    """A self-contained SVG of the JSON of a search."""
    trials, target = found["trials"], found["target_agreement"]
    top = max(t["bits"] for t in trials)
    unit, label = (8192.0, "KiB") if top >= 81920 else (8.0, "bytes")
    sizes, shares = [t["bits"] / unit for t in trials], [100.0 * t["agreement"] for t in trials]
    low, high = min(*shares, 100.0 * target), 100.0
    margin = 0.05 * (high - low) or 1.0
    x = linear(0.0, max(sizes) * 1.04, LEFT, WIDTH - RIGHT)
    y = linear(low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    body = axes(
        "Widths that were tried",
        f"weights, states and inputs, {label}",
        "labels as float64, % (search half)",
        [(y(v), f"{v:.4g}") for v in spread(low - margin, high) if v <= high],
        [(x(v), f"{v:.4g}") for v in spread(0.0, max(sizes))],
    )
    at = y(100.0 * target)
    body.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{STRONG}" stroke-dasharray="4 3"/>')
    body.append(text(LEFT + 6, at - 4, f"asked for: {100.0 * target:.4g} %", "start"))
    points = [(x(t["bits"] / unit), y(100.0 * t["agreement"])) for t in front(trials)]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    body.append(f'<polyline points="{line}" fill="none" stroke="{STRONG}" stroke-width="1.4"/>')
    for trial, size, share in zip(trials, sizes, shares, strict=True):
        colour = STRONG if trial["accepted"] else FAINT
        body.append(f'<circle cx="{x(size):.1f}" cy="{y(share):.1f}" r="3" fill="{colour}"/>')
    best = found["best"]
    at_x, at_y = x(best["bits"] / unit), y(100.0 * best["agreement"])
    body.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="6" fill="none" stroke="{STRONG}" stroke-width="1.6"/>')
    size = best["bits"] / unit
    shown = f"{size:.{max(0, 2 - math.floor(math.log10(max(size, 1.0))))}f} {label}"
    body.append(text(at_x + 9, at_y + 16, shown, "start"))
    return str(element("pareto", body)).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
