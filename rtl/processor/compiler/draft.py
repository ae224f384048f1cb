"""A program before banks and addresses: passes over views, applications of events, control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..isa import Begin, Done, End, Fresh, Loop
from .chain import Chain
from .views import Buffer, View

__all__ = ["Application", "Codes", "Column", "Draft", "Item", "Listing", "Pass", "Skip", "Weights", "Wipe"]

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Listing:
    """Events of one list: `place` and `column` are affine in the axes of the value, bases first."""

    list: str
    place: tuple[int, ...]
    column: tuple[int, ...]


@dataclass(eq=False)
class Pass:
    """One vector instruction: `chain` into `target`, or to the output port where that is None. `reads_port`: a comes
    from the input port. `fresh`: of the streams a, b, c, d."""

    chain: Chain
    target: View | None
    value: str
    state: bool = False
    reads_port: bool = False
    fresh: dict[str, Fresh] = field(default_factory=dict)
    listing: Listing | None = None


Column = Mapping[int, tuple[int, ...]]
"""Codes of each group of sums that is not all 0."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Columns of one part of a map, kernel offsets innermost."""

    name: str
    columns: tuple[Column, ...]


@dataclass(eq=False)
class Application:
    """One apply instruction: `sums` is a view whose axes are those of the kernel."""

    list: str
    sums: View
    weights: Weights
    value: str
    drain: bool = False
    early: bool = False


@dataclass(frozen=True)
class Wipe:
    """A clear instruction over a whole buffer."""

    buffer: str


@dataclass(frozen=True)
class Skip:
    """A gate over the next `count` items."""

    word: View
    count: int


Item = Pass | Application | Wipe | Loop | End | Begin | Done | Skip


@dataclass(eq=False)
class Draft:
    """Items in order; buffers by name; params and tables by the name of their parameter."""

    items: list[Item] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    params: dict[str, Codes] = field(default_factory=dict)
    tables: dict[str, Codes] = field(default_factory=dict)
