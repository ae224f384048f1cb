"""How fast the value of an integer table can change with its index, exactly from its codes."""

from __future__ import annotations

import numpy as np

from ..arrays import Codes

__all__ = ["growth"]


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
