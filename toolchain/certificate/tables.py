"""How fast the value of an integer table can change with its index, and what it holds in a window: from its codes."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Codes, Reals
from ..ir import IntNet, ops
from .norm import NoBoundError

__all__ = ["Windows", "entries", "growth", "is_saturation"]

N = TypeVar("N", np.int64, np.float64)
_MAX_ENTRIES = 1 << 22
_MAX_WINDOWS = 1 << 18

_GRAIN = 20
"""Slopes are found to 2**-20."""


def growth(table: Codes) -> tuple[float, int]:
    """`(slope, jump)` with `|table[i] - table[j]| <= slope * |i - j| + jump` for all entries, jump 0 or 1.

    A table rounds a function whose slope is below its steps: neighbours differ by 0 or 1, so the largest difference of
    neighbours says little. With one code of jump allowed, for the rounding, the least slope that holds is that of the
    function (rounded up to a multiple of 2**-20). Without a gain from that, jump is 0. table: [n] integers.
    """
    codes = np.asarray(table, np.int64)
    if codes.size < 2:
        return 0.0, 0
    steepest = int(np.abs(np.diff(codes)).max())
    low, high = -1, steepest << _GRAIN
    while high - low > 1:
        middle = (low + high) // 2
        if _holds(codes, middle):
            high = middle
        else:
            low = middle
    slope = high / (1 << _GRAIN)
    return (slope, 1) if slope < steepest else (float(steepest), 0)


def _holds(codes: Codes, slope: int) -> bool:
    """Whether no two entries differ by more than `slope / 2**20` a step and one code more; in exact integers."""
    ramp = slope * np.arange(codes.size, dtype=np.int64)
    for signed in (codes, -codes):
        above = (signed << _GRAIN) - ramp
        if int((above - np.minimum.accumulate(above)).max()) > 1 << _GRAIN:
            return False
    return True


def entries(net: IntNet, op: ops.Lookup | ops.Interpolate) -> Codes:
    """Every value of a table, int64 [entries], by index from its first. Raises NoBoundError above 2**22 entries."""
    if isinstance(op, ops.Lookup):
        return net.param(op.table)
    base, slope = net.param(op.base), net.param(op.slope)
    count = len(base) << op.shift
    if count > _MAX_ENTRIES:
        raise NoBoundError(f"interpolate {op.out}: {count} entries, looked at are {_MAX_ENTRIES}")
    u = np.arange(count, dtype=np.int64)
    i, f = u >> op.shift, u & ((1 << op.shift) - 1)
    table: Codes = base[i] + ((slope[i] * f + ((1 << op.shift) >> 1)) >> op.shift)
    return table


def is_saturation(op: ops.Lookup | ops.Interpolate, net: IntNet) -> TypeGuard[ops.Interpolate]:
    """Whether a table is one segment of slope 1: it clamps its operand and adds a constant."""
    return isinstance(op, ops.Interpolate) and net.param(op.slope).tolist() == [1 << op.shift]


class Windows:
    """The least and largest value, and a slope, of any window of a table [entries], int64.

    `slope` bounds `|table[j] - table[i]| <= slope * |j - i| + jump` for i and j in the window, jump 1. Let f be the
    continuous function that goes, over each run of n equal entries, from half a code below to half a code above them
    (or back, as its neighbours say), and stands still over the first and the last. Where neighbours differ by at most
    1, f is within half a code of the table, and its slope is 1 / n. A table of larger steps has the slope of `growth`.
    """

    jump = 1

    def __init__(self, table: Codes) -> None:
        if len(table) > _MAX_WINDOWS:
            raise NoBoundError(f"a table of {len(table)} entries, windows are of at most {_MAX_WINDOWS}")
        self.size = len(table)
        self._least = _levels(-table)
        self._largest = _levels(table)
        self._slope = _levels(_slopes(table))

    def least(self, first: Codes, last: Codes) -> Codes:
        """Of the entries from `first` to `last`, both int64 of one shape and in the table."""
        return -_largest(self._least, first, last)

    def largest(self, first: Codes, last: Codes) -> Codes:
        """As `least`."""
        return _largest(self._largest, first, last)

    def slope(self, first: Codes, last: Codes) -> Reals:
        """As `least`; float64."""
        return _largest(self._slope, first, last)


def _slopes(table: Codes) -> Reals:
    steps = np.diff(table)
    if len(table) < 2 or int(np.abs(steps).max()) > 1:
        return np.full(len(table), growth(table)[0])
    ends = np.flatnonzero(steps)
    lengths = np.diff(np.concatenate([[-1], ends, [len(table) - 1]]))
    slopes = np.nextafter(1.0 / lengths, np.inf)
    slopes[[0, -1]] = 0.0
    return np.repeat(slopes, lengths)


def _levels(values: NDArray[N]) -> list[NDArray[N]]:
    """Level k: the largest of each 2**k neighbours."""
    levels, span = [values], 1
    while 2 * span <= len(values):
        levels.append(np.maximum(levels[-1][:-span], levels[-1][span:]))
        span *= 2
    return levels


def _largest(levels: list[NDArray[N]], first: Codes, last: Codes) -> NDArray[N]:
    level = np.frexp((last - first + 1).astype(np.float64))[1] - 1
    result: NDArray[N] = np.empty(first.shape, levels[0].dtype)
    for k, values in enumerate(levels):
        chosen = level == k
        a, b = first[chosen], last[chosen] - (1 << k) + 1
        result[chosen] = np.maximum(values[a], values[b])
    return result
