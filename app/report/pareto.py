"""The trials of a precision search as a picture: bits against labels kept, the front marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eqcompile.quantization.search import SearchResult, Trial

from ..wording import shown
from .figure import BLUE, RED, Dot, Level, dots

__all__ = ["front", "picture"]


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that no other beats in both bits and agreement, fewest bits first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.bits, -t.agreement)):
        if not kept or trial.agreement > kept[-1].agreement:
            kept.append(trial)
    return kept


def picture(result: SearchResult) -> str:
    """A self-contained SVG of a search."""
    unit, label = (8192.0, "KiB") if max(t.bits for t in result.trials) >= 81920 else (8.0, "bytes")

    def dot(trial: Trial) -> Dot:
        return Dot("", trial.bits / unit, trial.agreement, colour=RED if trial.accepted else BLUE)

    best = replace(dot(result.best), label=f"{shown(result.best.bits / unit)} {label}", ring=True)
    rows = [dot(trial) for trial in result.trials if trial != result.best]
    low = min(*(t.agreement for t in result.trials), result.target)
    drawn = dots(
        "pareto",
        [*rows, best],
        title="Widths that were tried (accepted ones red)",
        x_label=f"weights, states and inputs, {label}",
        y_label="labels as float64 (search half)",
        limits=(low - (0.05 * (1.0 - low) or 0.01), 1.0),
        joined=[dot(trial) for trial in front(result.trials)],
        level=Level(result.target, f"asked for: {100 * result.target:.4g} %"),
    )
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
