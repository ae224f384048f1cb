"""Operands of the integer operations: values with a scale, constants without codes yet, and the grids they meet on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Constant", "Operand", "Value", "common_scale", "is_power_of_two"]
from ..toolchain.arrays import Reals


@dataclass(frozen=True)
class Value:
    """A value of the IntNet and what it means: real = code * scale."""

    name: str
    scale: Fraction


@dataclass(frozen=True)
class Constant:
    """A real parameter used as a value; it gets codes once the grid of its partner is known."""

    name: str
    value: Reals
    source: str


Operand = Value | Constant


def is_power_of_two(scale: Fraction) -> bool:
    """Whether `scale` is 2**k for a whole k of either sign."""
    n, d = scale.numerator, scale.denominator
    return n > 0 and n & (n - 1) == 0 and d & (d - 1) == 0


def common_scale(operands: Iterable[Operand], finest: Fraction) -> Fraction:
    """The grid on which operands meet; whole numbers alone meet in steps of 1.

    Values of one scale keep it, halved until it is no coarser than `finest` if a constant needs that; values of several
    powers of two take the smallest of these; all others meet at `finest`, which no mixture goes below.
    """
    held = list(operands)
    scales = {v.scale for v in held if isinstance(v, Value)}
    if not scales and all(_holds(Fraction(1), c) for c in held if isinstance(c, Constant)):
        return Fraction(1)
    if len(scales) != 1:
        smallest = min(scales, default=finest)
        return smallest if smallest >= finest and all(map(is_power_of_two, scales)) else finest
    scale = scales.pop()
    if any(isinstance(c, Constant) and not _holds(scale, c) for c in held):
        while scale > finest:
            scale /= 2
    return scale


def _holds(scale: Fraction, constant: Constant) -> bool:
    """Whether every entry is a whole multiple of `scale`."""
    return all((Fraction(float(v)) / scale).denominator == 1 for v in constant.value.reshape(-1))
