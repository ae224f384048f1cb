"""Weights that are integer codes times a scale already, up to float noise, or that only move entries: recognised, so
that nothing is rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..toolchain.arrays import largest, row_parts
from ..toolchain.ir import EqNet, ops
from ..toolchain.ir.ops import Op

__all__ = ["Map", "kind_of", "moves", "on_grid", "top_code"]

Map = ops.Linear | ops.Stencil | ops.Conv

Array = NDArray[np.float64]

_NOISE = 1e-6
"""Largest relative distance from a multiple of the scale: a few units in the last place of float32."""

_PROBE = 32
"""Entries that a scale must fit before all are looked at."""


def top_code(kind: str) -> int:
    """The largest code of `"ternary"` or `"intB"`."""
    return 1 if kind == "ternary" else (1 << (int(kind.removeprefix("int")) - 1)) - 1


def kind_of(codes: NDArray[np.int64]) -> str:
    """The narrowest kind that holds all codes.

    Codes of any shape, int64.
    """
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if -1 <= low and high <= 1:
        return "ternary"
    return f"int{max((-low - 1).bit_length(), high.bit_length()) + 1}"


def on_grid(weights: Array, top: int) -> tuple[Array, float] | None:
    """Codes and the largest scale with `weights = scale * codes` up to float noise; None if there are none.

    Codes are at most `top`, and at least `-top` (`-top - 1` above ternary: two's complement holds it). Weights that
    are all zero have the scale 0.

    Weights and codes are `[entries]`; codes are whole float64 numbers.
    """
    top_weight = largest(weights)
    if top_weight == 0.0:
        return np.zeros_like(weights), 0.0
    lowest = -top if top == 1 else -top - 1
    counts = np.arange(1, -lowest + 1)
    ratios = _first(weights) / top_weight * counts[:, None]
    for count in counts[(np.abs(np.rint(ratios) - ratios) <= _NOISE * ratios).all(axis=1)]:
        scale = top_weight / int(count)
        codes = np.rint(weights / scale)
        if codes.max() <= top and (np.abs(codes * scale - weights) <= _NOISE * np.abs(weights)).all():
            return codes, scale
    return None


def moves(net: EqNet, op: Op) -> bool:
    """Whether an operation is a map whose weights are all 0 or 1, without a bias: it moves and adds entries of its
    operand, which therefore keep the grid that they have. A pool's windows are such a map."""
    if not isinstance(op, Map) or op.bias is not None:
        return False
    weight = net.param(op.weight)
    if isinstance(op, ops.Stencil):
        weight = np.where(net.param(op.index) >= 0, weight, 0.0)
    # Most weights show what they are within a few entries.
    return all(bool(((w == 0.0) | (w == 1.0)).all()) for w in (weight.reshape(-1)[:_PROBE], weight))


def _first(weights: Array) -> Array:
    """Magnitudes of the first `_PROBE` weights that are not zero."""
    held: Array = np.zeros(0)
    for part in row_parts(weights):
        held = np.concatenate([held, np.abs(weights[part][weights[part] != 0.0][:_PROBE])])
        if len(held) >= _PROBE:
            break
    return held[:_PROBE]
