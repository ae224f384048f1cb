"""Codes in the logic of the parallel engine, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from amaranth import Cat, Const, Value
from numpy.typing import NDArray

from eqcompile.rtl.datapath import decode, shape_of
from eqcompile.toolchain.ir import Format, Interval

__all__ = ["Scope", "Wire", "Wires", "composed", "constant", "filled", "narrowed", "shifted", "source"]


@dataclass(frozen=True, eq=False)
class Wire:
    """One code: its interval, the registers before it (`stage`) and the additions since the last one (`level`).

    The lowest `low` bits are those of `offset` whatever the code: `code = (core << low) + offset`, offset in
    0..2**low - 1. Weights that are shifted left, and biases added to them, leave such bits: they need no logic.
    """

    value: Value
    range: Interval
    stage: int = 0
    level: int = 0
    low: int = 0
    offset: int = 0

    @property
    def is_constant(self) -> bool:
        return self.range.lo == self.range.hi

    def core(self, low: int | None = None) -> Value:
        """The bits above the lowest `low` (None: all that are constant)."""
        cut = self.low if low is None else low
        if self.is_constant:
            return constant(self.range.lo >> cut).value
        kept = self.value[cut:]
        return kept.as_signed() if self.value.shape().signed else kept

    def core_range(self, low: int | None = None) -> Interval:
        """Interval of `core`."""
        cut = self.low if low is None else low
        return Interval(self.range.lo >> cut, self.range.hi >> cut)


Wires = NDArray[np.object_]
"""Array of `Wire`, shaped as the value."""
Scope = dict[str, Wires]


def constant(code: int) -> Wire:
    """A code that never changes, as wide as it needs to be."""
    return Wire(Const(code, shape_of(Format.holding(code, code))), Interval(code, code))


def source(value: Value, fmt: Format) -> Wire:
    """A register that stands still, with codes of `fmt`."""
    return Wire(value, Interval(fmt.lo, fmt.hi))


def composed(core: Value, low: int, offset: int) -> Value:
    """`(core << low) + offset`, no logic."""
    if low == 0:
        return core
    value = Cat(Const(offset, low), core)
    return value.as_signed() if core.shape().signed else value


def shifted(wire: Wire, by: int) -> Wire:
    """`wire << by`, no logic."""
    if wire.is_constant:
        return constant(wire.range.lo << by)
    interval = Interval(wire.range.lo << by, wire.range.hi << by)
    return replace(wire, value=composed(wire.value, by, 0), range=interval, low=wire.low + by, offset=wire.offset << by)


def narrowed(value: Value, interval: Interval) -> Value:
    """The lowest bits of `value` that hold every code of `interval`."""
    fmt = Format.holding(interval.lo, interval.hi)
    return decode(value, fmt) if fmt.bits <= len(value) else value


def filled(shape: tuple[int, ...], wires: Sequence[Wire]) -> Wires:
    """`wires`, in C order, as an array of this shape; its dtype is object."""
    array = np.empty(len(wires), object)
    array[:] = wires
    return array.reshape(shape)
