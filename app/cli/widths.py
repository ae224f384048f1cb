"""The option `--weights KIND` and `--weights TENSOR=KIND`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import FLOAT_WEIGHTS

__all__ = ["NO_WIDTHS", "add_weights", "weights", "widths_of"]

NO_WIDTHS = ("weights", "widths", "input_range", "tolerance", "max_lipschitz")
"""Fields of QuantizeOptions that are no options of a command which only chooses or trains widths."""


def add_weights(group: Any, *, default: str) -> None:
    """The option, which may be given again; `default` is the kind of weights that it does not name."""
    group.add_argument(
        "--weights",
        action="append",
        default=[],
        type=weights,
        metavar="[TENSOR=]KIND",
        help=f"codes of float weights: {FLOAT_WEIGHTS[0]}, or {FLOAT_WEIGHTS[1]} to {FLOAT_WEIGHTS[-1]} "
        f"(default {default}); with TENSOR= of that weight alone, as W_rec=int4 (may be given again); weights that "
        "hold fewer codes already keep them",
    )


def weights(text: str) -> tuple[str, str]:
    """`(tensor, kind)` of one option; the tensor is empty where it stands for all.

    Raises ArgumentTypeError for an unknown kind, or no tensor before the `=`.
    """
    tensor, _, kind = text.rpartition("=")
    if kind not in FLOAT_WEIGHTS or ("=" in text and not tensor):
        raise argparse.ArgumentTypeError(f"{text!r} is not [TENSOR=]KIND with KIND one of {', '.join(FLOAT_WEIGHTS)}")
    return tensor, kind


def widths_of(options: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Fields of QuantizeOptions; UsageError if two options speak of the same tensor."""
    seen = [tensor for tensor, _ in options]
    twice = sorted({tensor for tensor in seen if seen.count(tensor) > 1})
    if twice:
        faults = [f"--weights is given twice for {tensor or 'all tensors'}" for tensor in twice]
        raise UsageError([Diagnostic("weights-twice", fault, "--weights") for fault in faults])
    fields: dict[str, Any] = {"widths": {tensor: kind for tensor, kind in options if tensor}}
    for tensor, kind in options:
        if not tensor:
            fields["weights"] = kind
    return fields
