"""Activation tables: integer codes of a nonlinear function on a grid, plain or piecewise linear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..toolchain.arrays import Codes, Reals
from ..toolchain.ir.ops import ActivationKind

__all__ = ["MAX_ENTRIES", "PlainTable", "Segments", "Table", "function", "saturation", "tabulate"]


MAX_ENTRIES = 1 << 16
"""Largest plain table; wider domains are interpolated."""

_MAX_ERROR_LSB = 1.0
_CHUNK = 1 << 18
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True)
class PlainTable:
    """`entries[x - first]`; `max_error` against the real function, in steps of the output."""

    entries: Codes
    first: int
    max_error: float


@dataclass(frozen=True)
class Segments:
    """`base[i] + ((slope[i] * f + half) >> shift)`, see `ops.Interpolate`; `max_error` as in `PlainTable`."""

    base: Codes
    slope: Codes
    first: int
    shift: int
    max_error: float


Table = PlainTable | Segments


def function(kind: ActivationKind) -> Callable[[Reals], Reals]:
    """The real activation; gelu is the exact one.

    It works entry by entry: float64 of any shape.
    """
    match kind:
        case "tanh":
            return np.tanh
        case "sigmoid":
            return _sigmoid
        case "relu":
            return lambda x: np.maximum(x, 0.0)
        case "gelu":
            return lambda x: np.asarray(0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)).astype(np.float64)))
        case "silu":
            return lambda x: np.asarray(x * _sigmoid(x))
        case "exp":
            return np.exp


def _sigmoid(x: Reals) -> Reals:
    # tanh does not overflow where exp would.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def saturation(phi: Callable[[Reals], Reals], step: float, *, scale: float, top: int) -> int:
    """Half width, in steps of the input, of the smallest domain `[-D, D)` (D a power of two in real units, at least one
    step) whose ends round to the codes at infinity. `phi` must be monotone and bounded.

    `phi` works entry by entry: float64 of any shape.
    """
    ends = _codes(phi, np.array([-1e9, 1e9]), scale, top)
    exponent = math.floor(math.log2(step))
    while not np.array_equal(_codes(phi, np.array([-(2.0**exponent), 2.0**exponent - step]), scale, top), ends):
        exponent += 1
    return max(round(2.0**exponent / step), 1)


def tabulate(phi: Callable[[Reals], Reals], first: int, last: int, step: float, *, scale: float, top: int) -> Table:
    """Codes of `phi(x * step) / scale` for `first <= x <= last`, rounded half to even and clipped to `[-top, top]`.

    Up to `MAX_ENTRIES` a plain table; above, the coarsest power-of-two segments whose largest error over the whole
    domain is within one output step (the domain is then rounded up to whole segments).
    """
    count = last - first + 1
    if count <= MAX_ENTRIES:
        x = np.arange(first, last + 1, dtype=np.float64) * step
        entries = _codes(phi, x, scale, top)
        return PlainTable(entries, first, _error(entries, phi(x), scale, top))
    shift = count.bit_length() - 1
    while True:
        knots = np.arange(first, last + 1 + (1 << shift), 1 << shift, dtype=np.float64) * step
        codes = _codes(phi, knots, scale, top)
        made = Segments(codes[:-1], np.diff(codes), first, shift, 0.0)
        error = _segment_error(phi, made, count, step, scale=scale, top=top)
        if error <= _MAX_ERROR_LSB:
            return replace(made, max_error=error)
        # Single steps are exact to half a step, so this ends.
        shift -= 1


def _segment_error(
    phi: Callable[[Reals], Reals], made: Segments, count: int, step: float, *, scale: float, top: int
) -> float:
    """Largest error over every point of the domain, or of the first chunk where it is too large."""
    worst, shift = 0.0, made.shift
    for start in range(0, count, _CHUNK):
        at = np.arange(start, min(start + _CHUNK, count))
        i, f = at >> shift, at & ((1 << shift) - 1)
        codes = made.base[i] + ((made.slope[i] * f + ((1 << shift) >> 1)) >> shift)
        worst = max(worst, _error(codes, phi((at + made.first) * step), scale, top))
        if worst > _MAX_ERROR_LSB:
            break
    return worst


def _codes(phi: Callable[[Reals], Reals], x: Reals, scale: float, top: int) -> Codes:
    return np.asarray(np.clip(np.rint(phi(x) / scale), -top, top)).astype(np.int64)


def _error(codes: Codes, exact: Reals, scale: float, top: int) -> float:
    return float(np.abs(codes - np.clip(exact / scale, -top - 1, top + 1)).max())
