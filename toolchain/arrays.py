"""Types of arrays by what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Codes", "Numbers", "Reals", "largest", "row_parts", "row_reach"]

Array: TypeAlias = NDArray[np.generic]
"""Anything: what a file holds, or a caller hands over."""
Codes: TypeAlias = NDArray[np.int64]
"""Integers of an IntNet, indices and masks."""
Reals: TypeAlias = NDArray[np.float64]
"""Values of an EqNet."""
Numbers: TypeAlias = Codes | Reals
"""Parameters and values of a net of either level."""

_PART = 1 << 15


def row_parts(array: Array) -> Iterator[slice]:
    """Slices of the first axis of `[rows, *shape]`, of any dtype, about 2**15 entries each: so much is in the making at
    once, however large it is."""
    rows = len(array)
    count = max(1, _PART * rows // max(array.size, 1))
    return (slice(first, first + count) for first in range(0, rows, count))


def largest(numbers: Numbers) -> float:
    """The largest magnitude in `[*shape]`, 0 of an empty array, as a float: it takes no memory beside the array."""
    return max(-float(numbers.min()), float(numbers.max()), 0.0) if numbers.size else 0.0


def row_reach(weight: Codes) -> int:
    """The largest sum of the magnitudes of a row of `[rows, *taps]`, exact: times the largest operand, no partial sum
    of a row exceeds it, in whatever order. It takes the memory of a part of the rows."""
    rows = weight.reshape(len(weight), -1)
    exact = np.int64 if largest(rows) * rows.shape[1] < 1 << 62 else object
    sums = (int(np.abs(rows[part].astype(exact)).sum(axis=1).max(initial=0)) for part in row_parts(rows))
    return max(sums, default=0)
