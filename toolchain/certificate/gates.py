"""Gates on the change of a unit: it keeps its value in a tick in which it would move by no more than a threshold.

Whether such a gate is open or closed, the unit is within the threshold of where the map without it would take it:
`|G(u) - F(u)| <= c`. Hence `|G(u) - G(v)| <= |F(u) - F(v)| + 2c`: the gate costs slack and no contraction. A gate on
anything else, as on the change of a layer's input, may hold an upset of any size.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Reals
from ..ir import Net, ops
from ..passes import Analysis

__all__ = ["hold"]


def hold(net: Net, op: ops.Select) -> Reals | None:
    """By how much `op.out` can differ from `op.a` at most, [entries]: the threshold c where the condition is
    `|a - b| > c` of the very operands, c a parameter, each unit with its own gate. None for any other selection."""
    makers = {made.out: made for made in net.step}
    greater = makers.get(op.condition)
    size = makers.get(greater.a) if isinstance(greater, ops.Greater) else None
    difference = makers.get(size.x) if isinstance(size, ops.Abs) else None
    if not (isinstance(greater, ops.Greater) and isinstance(difference, ops.Sub)):
        return None
    shapes, limit = Analysis.of(net).shapes, Analysis.of(net).params.get(greater.b)
    alike = shapes[op.a] == shapes[op.b] == shapes[op.condition] == shapes[difference.out]
    if {difference.a, difference.b} != {op.a, op.b} or not alike or limit is None:
        return None
    # A negative threshold holds nothing: the condition is then always true.
    return np.broadcast_to(np.maximum(limit.astype(np.float64), 0.0), shapes[op.out]).reshape(-1)
