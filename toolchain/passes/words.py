"""Table operations whose inner numbers outgrow a 64-bit word; the verifier bounds results alone."""

from __future__ import annotations

from collections.abc import Iterator

from ..ir import IntNet, table_reach
from ..ir.ops import Op

__all__ = ["MAX_WORD", "wide_tables"]

MAX_WORD = (1 << 62) - 1
"""Largest magnitude of a number inside an operation: a rounding constant beside it still fits 64 signed bits."""


def wide_tables(net: IntNet) -> Iterator[tuple[Op, int]]:
    """Every `lookup` and `interpolate` of which an index or inner product can exceed `MAX_WORD`, with that bound."""
    return ((op, reach) for op, reach in table_reach(net) if reach > MAX_WORD)
