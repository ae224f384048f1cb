"""`--weights KIND` and `--weights TENSOR=KIND`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["KINDS", "weights", "widths_of"]

KINDS = ("ternary", *(f"int{bits}" for bits in range(2, 9)))


def weights(text: str) -> tuple[str, str]:
    """`(tensor, kind)` of one option; the tensor is empty where it stands for all."""
    tensor, _, kind = text.rpartition("=")
    if kind not in KINDS or ("=" in text and not tensor):
        raise argparse.ArgumentTypeError(f"{text!r} is not [TENSOR=]KIND with KIND one of {', '.join(KINDS)}")
    return tensor, kind


def widths_of(options: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Fields of QuantizeOptions; UsageError if two options speak of the same tensor."""
    seen = [tensor for tensor, _ in options]
    twice = sorted({tensor for tensor in seen if seen.count(tensor) > 1})
    if twice:
        faults = [f"--weights is given twice for {tensor or 'all tensors'}" for tensor in twice]
        raise UsageError([Diagnostic("weights-twice", fault, "--weights") for fault in faults])
    found: dict[str, Any] = {"widths": {tensor: kind for tensor, kind in options if tensor}}
    for tensor, kind in options:
        if not tensor:
            found["weights"] = kind
    return found
