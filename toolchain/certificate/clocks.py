"""States that count ticks whatever else happens: they have no real meaning, and nothing of the net moves them."""

from __future__ import annotations

import numpy as np

from ..arrays import Codes
from ..ir import IntNet, Net, ops

__all__ = ["clocks"]


def clocks(net: Net) -> dict[str, int]:
    """For each state that a table sets from itself alone, after how many ticks all of its codes have become one.

    Proved by following every code. A state whose codes never become one is none of these.
    """
    if not isinstance(net, IntNet):
        return {}
    makers = {op.out: op for op in net.step}
    counts: dict[str, int] = {}
    for state in net.states:
        op, fmt = makers.get(state.update), net.formats[state.name]
        if state.frac is not None or not isinstance(op, ops.Lookup) or op.x != state.name:
            continue
        ticks = _ticks(np.arange(fmt.lo, fmt.hi + 1), net.param(op.table), op.first)
        if ticks is not None:
            counts[state.name] = ticks
    return counts


def _ticks(codes: Codes, table: Codes, first: int) -> int | None:
    ticks, count = 0, len(codes)
    while count > 1:
        codes = np.unique(table[np.clip(codes - first, 0, len(table) - 1)])
        if len(codes) == count:
            return None
        ticks, count = ticks + 1, len(codes)
    return ticks
