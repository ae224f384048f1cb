"""A constant matrix product as a graph of shifts and two-operand additions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import Format, Interval

__all__ = ["Adder", "AdderGraph", "Term"]


@dataclass(frozen=True)
class Term:
    """`(-1 if negative else 1) * (node << shift)`; `node` counts the inputs first, then the adders."""

    node: int
    shift: int
    negative: bool


@dataclass(frozen=True)
class Adder:
    """`(a << shift_a) + (b << shift_b)`, or minus if `subtract`."""

    a: int
    shift_a: int
    b: int
    shift_b: int
    subtract: bool


@dataclass(frozen=True)
class AdderGraph:
    """`adders` in evaluation order over `inputs` operands; output i is `outputs[i]`, None a constant 0."""

    inputs: int
    adders: tuple[Adder, ...]
    outputs: tuple[Term | None, ...]

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Coefficients of every node over the inputs, `[inputs + adders, inputs]`."""
        rows = np.zeros((self.inputs + len(self.adders), self.inputs), np.int64)
        rows[: self.inputs] = np.eye(self.inputs, dtype=np.int64)
        for i, adder in enumerate(self.adders, self.inputs):
            b = rows[adder.b] << adder.shift_b
            rows[i] = (rows[adder.a] << adder.shift_a) + (-b if adder.subtract else b)
        return rows

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """The matrix that the graph computes, `[outputs, inputs]`: equality with the wanted one proves the graph."""
        zero = np.zeros(self.inputs, np.int64)
        rows = [zero if t is None else (self.rows[t.node] << t.shift) * (-1 if t.negative else 1) for t in self.outputs]
        return np.array(rows, np.int64).reshape(len(rows), self.inputs)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Additions on the longest path to each node."""
        depths = [0] * self.inputs
        for adder in self.adders:
            depths.append(1 + max(depths[adder.a], depths[adder.b]))
        return tuple(depths)

    @property
    def depth(self) -> int:
        """Additions on the longest path to an output."""
        return max((self.depths[t.node] for t in self.outputs if t is not None), default=0)

    def intervals(self, operands: Sequence[Interval]) -> list[Interval]:
        """Exact interval of every node, each operand anywhere in its own."""
        low = np.array([x.lo for x in operands], np.int64)
        high = np.array([x.hi for x in operands], np.int64)
        positive, negative = np.maximum(self.rows, 0), np.minimum(self.rows, 0)
        los = positive @ low + negative @ high
        his = positive @ high + negative @ low
        return [Interval(int(a), int(b)) for a, b in zip(los, his, strict=True)]

    def bits(self, operands: Sequence[Interval]) -> int:
        """Sum of the adders' result widths: about the LUTs they take."""
        return sum(Format.holding(x.lo, x.hi).bits for x in self.intervals(operands)[self.inputs :])
