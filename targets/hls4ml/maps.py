"""Weights in the order in which the turns of a linear map read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import Format
from .values import largest_divisor

__all__ = ["Stored", "Turns", "format_of", "ordered", "turns"]

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """A constant of the project: its C++ name, its codes in the order of the array, and their format."""

    name: str
    codes: Codes
    format: Format


@dataclass(frozen=True)
class Turns:
    """How often a multiplier of a map is used: over groups of inputs, and of outputs. `lanes`: multipliers."""

    inputs: int
    outputs: int
    lanes: int

    @property
    def reuse(self) -> int:
        return self.inputs * self.outputs


def turns(n_out: int, n_in: int, reuse: int, *, along_inputs: bool = True) -> Turns:
    """The largest reuse of at most `reuse` whose turns are all alike: divisors of both sizes, the inputs first."""
    inputs = largest_divisor(n_in, reuse) if along_inputs else 1
    outputs = largest_divisor(n_out, reuse // inputs)
    return Turns(inputs, outputs, (n_in // inputs) * (n_out // outputs))


def ordered(weight: Codes, found: Turns) -> Codes:
    """`weight` `[out, in]` as `[group of outputs, turn of inputs, output, input]`, flat."""
    n_out, n_in = weight.shape
    split = weight.reshape(found.outputs, n_out // found.outputs, found.inputs, n_in // found.inputs)
    return np.ascontiguousarray(split.transpose(0, 2, 1, 3)).reshape(-1)


def format_of(codes: Codes) -> Format:
    """The narrowest format of codes of any shape; signs take two bits: a ternary weight is an ap_int<2>."""
    lo, hi = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    return Format.holding(lo, hi)
