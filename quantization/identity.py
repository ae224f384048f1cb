"""A multiple of the identity that a file folded into a weight is taken out again.

`h <- (1 - a) h + a W h` may be stored as one matrix `(1 - a) I + a W`. Its diagonal then sets the scale of every row,
and the weights proper get the few codes that are left. As `c h + R h` the first term is one multiplication by a
constant, and R has a scale of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ..toolchain.arrays import Reals
from ..toolchain.ir import EqNet, Param, ops
from ..toolchain.ir.ops import Op
from ..toolchain.typed_json import JsonObject
from .exact import on_grid

__all__ = ["without_identities"]

_WORTH = 0.5
"""Largest remainder, as a share of the weight, for which a bit or more is gained."""

_CODES = 127
"""Weights that are whole multiples of a scale up to this are codes already, and stay as they are."""


def without_identities(net: EqNet) -> tuple[EqNet, tuple[JsonObject, ...]]:
    """The net with each such weight of its step as a multiple of the identity and a remainder, and their report rows.

    The multiple is the smallest entry of the diagonal: no sum of magnitudes grows, so that what was proved of ranges
    still is.
    """
    read = Counter(name for op in net.all_ops() for name in op.reads)
    taken = {op.out for op in net.all_ops()} | {p.name for p in net.params} | {s.name for s in net.states}
    step: list[Op] = []
    rests: dict[str, Param] = {}
    rows: list[JsonObject] = []
    for op in net.step:
        names = (f"{op.out}_rest", f"{op.out}_kept")
        share = None
        if isinstance(op, ops.Linear) and read[op.weight] == 1 and taken.isdisjoint(names):
            share = _share(np.asarray(net.param(op.weight), np.float64))
        if share is None or not isinstance(op, ops.Linear):
            step.append(op)
            continue
        weight = next(p for p in net.params if p.name == op.weight)
        source = f"{weight.source}, less {share:.9g} times the identity"
        rests[op.weight] = Param(op.weight, weight.value - share * np.eye(len(weight.value)), source)
        step += [
            replace(op, out=names[0]),
            ops.Scale(out=names[1], x=op.x, factor=share),
            ops.Add(out=op.out, a=names[0], b=names[1]),
        ]
        rows.append({"what": "identity", "name": op.weight, "share": share})
    return replace(net, step=tuple(step), params=tuple(rests.get(p.name, p) for p in net.params)), tuple(rows)


def _share(weight: Reals) -> float | None:
    """The multiple of the identity in `weight [n, n]`, None if taking it out gains less than a bit."""
    if weight.shape[0] != weight.shape[1] or len(weight) < 2:
        return None
    share = float(np.diagonal(weight).min())
    if share <= 0.0:
        return None
    rest, whole = (np.abs(w).max(axis=1) for w in (weight - share * np.eye(len(weight)), weight))
    if rest.mean() > _WORTH * whole.mean() or all(on_grid(row, _CODES) is not None for row in weight):
        return None
    return share
