"""The codes of every weight, chosen before anything is emitted, and biases that make up for what rounding shifts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..toolchain.arrays import Numbers, Reals, row_parts
from ..toolchain.ir import EqNet, Param, ops
from ..toolchain.typed_json import JsonObject
from .exact import Map, moves
from .moments import Moments
from .weights import Codes, quantize_weights

__all__ = ["Plan", "Use", "free_biases", "make_plan", "taken", "uses"]

Use = tuple[str, bool]
"""Name of a weight, and whether it may have a scale for each row."""


@dataclass(frozen=True)
class Plan:
    """`net`: the float net with corrected biases; `codes` by use; `corrected`: the biases that were."""

    net: EqNet
    codes: Mapping[Use, Codes]
    corrected: tuple[str, ...] = ()

    def rows(self, before: EqNet) -> list[JsonObject]:
        """Report rows of the corrected biases (JSON values)."""
        changes = {name: float(np.abs(self.net.param(name) - before.param(name)).max()) for name in self.corrected}
        return [{"what": "bias", "name": name, "largest_change": change} for name, change in changes.items()]


def uses(net: EqNet, *, per_row: bool) -> Iterator[tuple[Map, Use]]:
    """Every map that gets codes, and how its weight is used: in the readout all rows share a scale, as logits do."""
    for op in net.all_ops():
        if isinstance(op, Map) and not moves(net, op):
            yield op, (op.weight, per_row and op not in net.readout)


def make_plan(
    net: EqNet,
    kinds: Mapping[str, str],
    *,
    per_row: bool,
    moments: Mapping[str, Moments],
    source: EqNet,
    known: Mapping[Use, Codes],
) -> Plan:
    """Codes of each weight of `net` in the kind that `kinds` names, except those that are `known`; `moments` by the
    `out` of a map, none of those that were not measured.

    A map that has its bias for itself is fitted up to a constant, which the bias then takes: `b + W E[x] - s Q E[y]`,
    with the W of `source`, which `net` is or comes from.
    """
    wanted = {p.name: p.value for p in source.params}
    grouped: dict[Use, list[Map]] = {}
    for op, use in uses(net, per_row=per_row):
        grouped.setdefault(use, []).append(op)
    free = free_biases(net, moments, per_row=per_row)
    codes: dict[Use, Codes] = {}
    biases: dict[str, Reals] = {}
    for use, maps in grouped.items():
        measured = [moments[op.out] for op in maps if op.out in moments]
        own = free.get(maps[0].out)
        moment = _sum(measured) if measured else None
        codes[use] = (
            known[use]
            if use in known
            else quantize_weights(
                taken(net, maps[0]), kinds[use[0]], per_row=use[1], moments=moment, centred=own is not None
            )
        )
        rounded = not codes[use].exact or net.param(use[0]) is not wanted[use[0]]
        if moment is not None and own is not None and rounded:
            before = taken(net, maps[0], wanted[maps[0].weight])
            biases[own] = wanted[own] + _shift(before, codes[use], moment)
    params = tuple(
        Param(p.name, biases[p.name], f"{p.source}, corrected") if p.name in biases else p for p in net.params
    )
    return Plan(replace(net, params=params), codes, tuple(biases))


def taken(net: EqNet, op: Map, weight: Numbers | None = None) -> Reals:
    """The weight of a map; taps outside a lattice, which read nothing and must set no scale, are 0.

    `[outputs, ...]`, as the net holds it.
    """
    value = net.param(op.weight) if weight is None else weight
    inside = net.param(op.index) >= 0 if isinstance(op, ops.Stencil) else True
    return np.asarray(value if inside is True else np.where(inside, value, 0.0), np.float64)


def _shift(before: Reals, after: Codes, moment: Moments) -> Reals:
    """By how much the mean of each row's sum moved."""
    shift = np.empty(len(before))
    for part in row_parts(before):
        mean_x, mean_y = (m[part] if m.ndim == 2 else m for m in (moment.mean_x, moment.mean_y))
        (before[part] * mean_x - after.real(part) * mean_y).sum(axis=1, out=shift[part])
    return shift


def free_biases(net: EqNet, measured: Collection[str], *, per_row: bool) -> dict[str, str]:
    """By the `out` of a map that was measured and whose weight nothing else uses: its bias, where nothing else reads
    it. The bias can take what the weights lose in the mean."""
    read = Counter(name for op in net.all_ops() for name in op.reads)
    shared = Counter(use for _, use in uses(net, per_row=per_row))
    return {
        op.out: op.bias
        for op, use in uses(net, per_row=per_row)
        if op.bias is not None and read[op.bias] == 1 and shared[use] == 1 and op.out in measured
    }


def _sum(moments: list[Moments]) -> Moments:
    total = moments[0]
    for more in moments[1:]:
        total = total + more
    return total
