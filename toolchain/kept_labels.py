"""What was widened so that an integer net keeps the labels of the float net: a row of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .typed_json import JsonObject, decode_as

__all__ = ["KeptLabels", "kept_labels"]


@dataclass(frozen=True, kw_only=True)
class KeptLabels:
    """Labels equal to those of the float net, of `labels`, before and after precision was added.

    `target`: the share asked for; `sought`: with a margin, or the most that was reached. `guard_bits`, `states`: the
    widths chosen. `output_error`: root of the outputs' mean squared error. `error_shares`: which values' rounding
    makes it, where they had to be widened. `settings`: how many were run.
    """

    target: float
    sought: float
    labels: int
    equal_before: int
    equal: int
    met: bool
    guard_bits: int
    states: Mapping[str, int]
    output_error_before: float
    output_error: float
    error_shares: Mapping[str, float]
    settings: int
    what: Literal["labels"] = "labels"
    name: Literal["kept"] = "kept"
    kind: Literal["simulated"] = "simulated"
    guards: Mapping[str, int] = field(default_factory=dict)


def kept_labels(rows: Iterable[JsonObject]) -> KeptLabels | None:
    """The row of this kind among the choices of a lowering; None without one."""
    return next((decode_as(KeptLabels, row, "labels") for row in rows if row["what"] == "labels"), None)
