"""Which names operations read, and which operations a set of values needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..ir import ops
from ..ir.ops import Op

__all__ = ["live_ops", "reads"]


def reads(block: Iterable[Op]) -> set[str]:
    """Names of values and parameters that operations read, those of repeat bodies and their results included."""
    names: set[str] = set()
    for op in block:
        names |= set(op.reads)
        if isinstance(op, ops.Repeat):
            names |= reads(op.body) | {op.result}
    return names


def live_ops(block: Sequence[Op], needed: Collection[str]) -> list[Op]:
    """The operations of one block on which the values `needed` depend, in evaluation order."""
    live: list[Op] = []
    names = set(needed)
    for op in reversed(block):
        if op.out in names:
            live.append(op)
            names |= reads([op])
    return live[::-1]
