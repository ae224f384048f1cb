"""Integer operations of the populations, on int32 arrays with the lanes in front.

Operands and results are codes `[lanes, *shape]`, and operands broadcast as NumPy's do. Products and sums are taken in
int64; every result is shown to fit 32 bits at compile time, and `narrow` raises OverflowError should one not. A result
of `bits=64` is an int64 array: a value that stays within its population, shown to fit 63 bits with all on its way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "absolute",
    "add",
    "damp",
    "divide",
    "interpolate",
    "isqrt",
    "lift",
    "lookup",
    "multiply",
    "narrow",
    "reduce_max",
    "reduce_sum",
    "rescale",
    "subtract",
]

Codes = NDArray[np.int32] | NDArray[np.int64]
Wide = NDArray[np.int64]
_LIMITS = np.iinfo(np.int32)


def narrow(value: Wide, bits: int = 32) -> Codes:
    """The same integers, of any shape, in 32 bits; with `bits` 64 as they are. Raises OverflowError if one does not fit
    32."""
    if bits == 64:
        return value
    if value.size and (value.min() < _LIMITS.min or value.max() > _LIMITS.max):
        raise OverflowError(f"a value in [{value.min()}, {value.max()}] does not fit 32 bits")
    return value.astype(np.int32)


def lift(value: Codes, rank: int) -> Codes:
    """`value` [lanes, *shape] with axes of size 1 put after the lanes until it has `rank` axes besides them."""
    return value.reshape(value.shape[0], *(1 for _ in range(rank - value.ndim + 1)), *value.shape[1:])


def _wide(value: Codes) -> Wide:
    return value.astype(np.int64)


def _half(shift: int) -> int:
    return (1 << shift) >> 1


def add(a: Codes, b: Codes, *, bits: int = 32) -> Codes:
    """`a + b` of codes `[lanes, *shape]`."""
    return narrow(_wide(a) + b, bits)


def subtract(a: Codes, b: Codes, *, bits: int = 32) -> Codes:
    """`a - b` of codes `[lanes, *shape]`."""
    return narrow(_wide(a) - b, bits)


def multiply(a: Codes, b: Codes, *, bits: int = 32) -> Codes:
    """`a * b` of codes `[lanes, *shape]`, entry by entry."""
    return narrow(_wide(a) * b, bits)


def absolute(x: Codes, *, bits: int = 32) -> Codes:
    """`|x|` of codes `[lanes, *shape]`."""
    return narrow(np.abs(_wide(x)), bits)


def reduce_sum(x: Codes, axes: tuple[int, ...], keep: bool, *, bits: int = 32) -> Codes:
    """Sum of codes `[lanes, *shape]` over `axes`, counted from the last as -1; `keep` leaves them as 1."""
    return narrow(_wide(x).sum(axis=axes, keepdims=keep), bits)


def reduce_max(x: Codes, axes: tuple[int, ...], keep: bool) -> Codes:
    """Largest entry of codes `[lanes, *shape]` over `axes`, as `reduce_sum` names them."""
    return np.asarray(x.max(axis=axes, keepdims=keep))


def rescale(x: Codes, multiplier: Codes, shift: int, *, bits: int = 32) -> Codes:
    """`(x * multiplier + half) >> shift` of codes `[lanes, *shape]`: rounds half up."""
    return narrow((_wide(x) * multiplier + _half(shift)) >> shift, bits)


def lookup(x: Codes, table: Codes, first: int) -> Codes:
    """`table[x - first]`, x saturated to the table's domain."""
    return np.asarray(table[np.clip(_wide(x) - first, 0, table.size - 1)])


def interpolate(x: Codes, base: Codes, slope: Codes, first: int, shift: int, *, bits: int = 32) -> Codes:
    """Piecewise-linear function of codes `[lanes, *shape]`, x saturated to its domain.

    `base`, `slope` [segments]: value and rise of each segment of `1 << shift` codes; the first begins at `first`.
    """
    u = np.clip(_wide(x) - first, 0, (base.size << shift) - 1)
    segment = u >> shift
    part = u & ((1 << shift) - 1)
    return narrow(base[segment] + ((_wide(slope)[segment] * part + _half(shift)) >> shift), bits)


def damp(old: Codes, new: Codes, multiplier: int, shift: int, *, bits: int = 32) -> Codes:
    """`old + (((new - old) * multiplier + half) >> shift)` of codes `[lanes, *shape]`."""
    return narrow(old + (((_wide(new) - old) * multiplier + _half(shift)) >> shift), bits)


def divide(a: Codes, b: Codes, shift: int, *, bits: int = 32) -> Codes:
    """`floor(((a << shift) + b // 2) / b)` of codes `[lanes, *shape]`, b positive."""
    return narrow(((_wide(a) << shift) + b // 2) // b, bits)


def isqrt(x: Codes, *, bits: int = 32) -> Codes:
    """The integer square root of codes `[...]`, 0 where x is negative: floats hold that of 62 bits to within one."""
    v = np.maximum(_wide(x), 0)
    y = np.sqrt(v).astype(np.int64)
    y -= y * y > v
    return narrow(y + ((y + 1) * (y + 1) <= v), bits)
