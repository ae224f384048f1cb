"""The plot of examples/cartpole.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]

COLOURS = {"equilibrium net": "#1b6ca8", "contracting net": "#2a9d6a", "feed-forward net": "#c8553d"}
TITLES = {
    "state": "one bit of a state register, gone after the inference",
    "weight": "bits of weights, kept until the end",
}


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Shares of episodes balanced, with intervals, and of wrong pushes, against upsets an inference, by site; what
    `cartpole.json` holds is drawn, its verdict below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(TITLES), sharex="col", sharey="row")
    for column, (site, title) in enumerate(TITLES.items()):
        top, bottom = axes[0][column], axes[1][column]
        top.set_title(f"upsets in {title}", fontsize=9)
        for name, colour in COLOURS.items():
            drawn = [r for r in found["results"] if r["controller"] == name and r["site"] == site]
            at = [r["upsets_per_inference"] for r in drawn]
            shares = [r["balanced"]["estimate"] for r in drawn]
            below = [r["balanced"]["estimate"] - r["balanced"]["low"] for r in drawn]
            above = [r["balanced"]["high"] - r["balanced"]["estimate"] for r in drawn]
            top.errorbar(at, shares, [below, above], color=colour, marker="o", capsize=3, label=f"{name}, RTL core")
            bottom.plot(at, [r["wrong_pushes"] for r in drawn], color=colour, marker="o")
        for r in found["results"]:
            if r["wrong_pushes"] is None:
                top.axhline(r["balanced"]["estimate"], linewidth=0.8, linestyle=":", color="#555555")
        top.set_ylim(-0.05, 1.05)
        bottom.set_xscale("log")
        bottom.set_xlabel("upsets an inference, mean")
    axes[0][0].set_ylabel(f"episodes of {found['pushes']} pushes balanced")
    axes[1][0].set_ylabel("pushes changed by upsets")
    axes[0][1].legend(fontsize=8, loc="lower left")
    notes = "\n".join([*found["verdict"], "simulated; 95 % Wilson intervals; dotted: float controllers without upsets"])
    figure.supxlabel(notes, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
