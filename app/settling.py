"""When samples settle: steps, and which of them spent the budget and still move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.interfaces import FloatRun, Run

__all__ = ["still_moving", "trace_of"]


def trace_of(run: Run | FloatRun) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """States after each tick `[ticks, batch, *shape]`, int64 codes or float64; empty without a trace."""
    return dict(run.states) if isinstance(run, Run) else dict(run.trace or {})


def still_moving(run: Run | FloatRun, *, tolerance: float, budget: int) -> NDArray[np.bool_]:
    """Which samples `[samples]` spent the budget of steps and still moved by more than the tolerance in the last one;
    without a trace, those that spent the budget."""
    last = [states[-2:].astype(np.float64) for states in trace_of(run).values() if len(states) > 1]
    if not last:
        spent: NDArray[np.bool_] = (run.steps >= budget) & (not trace_of(run))
        return spent
    moves = [np.abs(np.diff(pair, axis=0)).reshape(pair.shape[1], -1).max(axis=1) for pair in last]
    moving: NDArray[np.bool_] = np.max(moves, axis=0) > tolerance
    return moving
