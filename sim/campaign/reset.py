"""The control of a network started anew: reset, then the same inference with whatever of the fault a reset leaves.

A reset writes every register and accumulator; it does not write memory that holds weights, and it mends no defect. So
an upset outlives it if it is in a parameter and lasts to the end of the run, or holds a word through several ticks to
the end (a stuck bit, a dead unit). Of a core it writes registers, and an inference the memories that it reads, but for
those that hold weights: an upset of these stands in the new run from its first clock on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..faults.table import FaultTable, Place

__all__ = ["left_after_reset"]

LOADED = "loaded:"
"""How model `core` calls the sites of memories that start with contents."""


def left_after_reset(table: FaultTable, ticks: int) -> tuple[NDArray[np.intp], FaultTable]:
    """Which faults of the table a reset leaves something of, as rows of the table `[faults left]` intp, and what: their
    surviving upsets, from the first tick of the new run on."""
    upsets = table.upsets
    lasts = upsets["last"] >= ticks
    held = (upsets["first"] < ticks) & ~upsets["held"] & (upsets["place"] != Place.CORE)
    survives = lasts & ((upsets["place"] == Place.PARAM) | held)
    owner = np.repeat(np.arange(len(table)), table.faults["count"])
    rows = np.concatenate(
        [np.arange(s, s + c) for s, c in zip(table.faults["start"], table.faults["count"], strict=True)]
        or [np.zeros(0, np.int64)]
    )
    loaded = np.array([name.startswith(LOADED) for name in table.sites], np.bool_)[table.faults["site"][owner]]
    kept = survives[rows] | loaded
    left = upsets[rows[kept]].copy()
    left["first"], left["last"] = 0, np.where(left["place"] == Place.CORE, 0, ticks)
    which, counts = np.unique(owner[kept], return_counts=True)
    faults = table.faults[which].copy()
    faults["count"] = counts
    faults["start"] = np.cumsum(counts) - counts
    faults["tick"] = 0
    return which, FaultTable(table.names, table.sites, faults, left)
