"""Drives cut to what the table behind them can tell apart.

    pre = d + r,  new = table[pre]

`d` stands still for a whole sample and `r` moves in a known interval. Where the table is constant up to `low` and from
`high` on, every `d` beyond `low - max(r)` and `high - min(r)` gives the same entries as those bounds. So `d` is cut
once a sample, and each step has narrower sums and no index that could leave the table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eqcompile.toolchain.ir import Interval, IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import Analysis

from .fuse import fusible
from .matrix import bias_of, matrix_of

__all__ = ["useful_drives"]


def useful_drives(net: IntNet, block: Sequence[Op]) -> dict[str, list[Interval]]:
    """For each addend of `block` that only a table reads behind its sum: the interval of each entry, in C order,
    beyond which its code makes no difference."""
    types, readers = Analysis.of(net).types, Analysis.of(net).readers
    tables = {op.x: op for op in block if isinstance(op, ops.Lookup)}
    useful = {}
    for fused in fusible(block, net).values():
        table, x = tables.get(fused.add.out), net.formats.get(fused.linear.x)
        shapes = {types[name].shape for name in (fused.addend, fused.linear.out, fused.add.out)}
        if table is None or x is None or len(shapes) > 1 or readers[fused.addend] > 1 or readers[fused.add.out] > 1:
            continue
        matrix, bias = matrix_of(fused.linear, net, types), bias_of(fused.linear, net, types)
        positive, negative = np.maximum(matrix, 0).sum(axis=1), np.minimum(matrix, 0).sum(axis=1)
        least = (bias + positive * x.lo + negative * x.hi) * fused.factor
        most = (bias + positive * x.hi + negative * x.lo) * fused.factor
        steps = np.flatnonzero(np.diff(net.param(table.table)))
        # A constant table tells nothing apart.
        low, high = (int(steps[0]), int(steps[-1]) + 1) if len(steps) else (0, 0)
        useful[fused.addend] = [
            Interval(table.first + low - int(b), table.first + high - int(a)) for a, b in zip(least, most, strict=True)
        ]
    return useful
