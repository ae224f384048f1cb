"""Exact integer arithmetic from the memoryless primitives of NIR: sums, scaling, affine maps and thresholds.

NIR (Pedersen et al., Nature Communications 15, 8122, 2024) sums the edges into a node, and its Threshold is the step
`z = 1 if v > threshold else 0`. On integers a threshold at a half is never met, so every step is exact, and with steps
any integer function can be built: a table is a sum of steps; the floor of a division by a power of two is found bit by
bit, from the highest down; a number is gated by a step on each of its bits. All nodes hold vectors in double precision,
which is exact while every number stays below 2^52.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...toolchain.arrays import row_parts

if TYPE_CHECKING:
    from nir import NIRNode

__all__ = ["EXACT", "Circuit", "Term", "TooWideError", "Wire"]

EXACT = 1 << 52
"""Integers below it, and those plus a half, are exact in double precision."""

Array = NDArray[np.float64]


class Constant(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):
    """An array that nobody changes: a deep copy of it, of which the package's writer makes two, is itself."""

    def __deepcopy__(self, memo: object) -> Constant:
        return self


class TooWideError(ValueError):
    """A number can leave the range in which double precision is exact."""


@dataclass(frozen=True)
class Wire:
    """A vector of `size` integers in `[lo, hi]`: the output of the node `name`."""

    name: str
    size: int
    lo: int
    hi: int


Term = tuple[Wire, "Array | None"]
"""A wire, and what it is multiplied by: None (1), a vector (entry by entry) or a matrix `[out, in]`."""


@dataclass
class Circuit:
    """Grows a graph: `nodes` by name, in order, and `edges`. `one` names a node of one entry that is always 1."""

    nodes: dict[str, NIRNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    one: str = ""

    def place(self, name: str, node: NIRNode, *sources: str) -> str:
        """Add a node under `name` (with a number behind it if that is taken), fed by `sources`."""
        unique, count = name, 1
        while unique in self.nodes:
            count += 1
            unique = f"{name}-{count}"
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                setattr(node, key, value.view(Constant))
        self.nodes[unique] = node
        self.edges += [(source, unique) for source in sources]
        return unique

    def term(self, name: str, wire: Wire, factor: Array | None) -> str:
        import nir

        if factor is None:
            return wire.name
        if factor.ndim == 1:
            return self.place(f"{name}-scale", nir.Scale(factor), wire.name)
        return self.place(f"{name}-linear", nir.Linear(factor), wire.name)

    def add(
        self,
        name: str,
        terms: Sequence[Term],
        bias: NDArray[np.float64] | NDArray[np.int64] | int,
        size: int,
        lo: int,
        hi: int,
    ) -> Wire:
        """`sum of factor * wire + bias`, known to lie in `[lo, hi]`."""
        import nir

        constant = np.broadcast_to(np.asarray(bias, np.float64), (size,))
        reach = np.abs(constant).max() + sum(_reach(w, f) for w, f in terms)
        if reach >= EXACT:
            raise TooWideError(f"sums reach {reach:.0f}, double precision tells integers and halves below {EXACT}")
        sources = [self.term(name, wire, factor) for wire, factor in terms]
        if constant.any() or not sources:
            sources.append(self.place(f"{name}-bias", nir.Linear(constant[:, None].copy()), self.one))
        if len(sources) != 1 or len(set(sources)) != len(sources):
            # An edge stands once in a graph: a wire added to itself comes by way of a node of its own.
            seen: set[str] = set()
            distinct = []
            for s in sources:
                distinct.append(self.place(f"{name}-again", nir.Scale(_equal(1.0, size)), s) if s in seen else s)
                seen.add(s)
            sources = [self.place(name, nir.Scale(_equal(1.0, size)), *distinct)]
        return Wire(sources[0], size, lo, hi)

    def prune(self, kept: Iterable[str]) -> None:
        """Drop every node from which no edges lead to one of `kept`."""
        into: dict[str, list[str]] = {}
        for source, sink in self.edges:
            into.setdefault(sink, []).append(source)
        alive: set[str] = set()
        stack = list(kept)
        while stack:
            name = stack.pop()
            if name not in alive:
                alive.add(name)
                stack += into.get(name, [])
        self.nodes = {n: node for n, node in self.nodes.items() if n in alive}
        self.edges = [(a, b) for a, b in self.edges if a in alive and b in alive]

    def above(self, name: str, x: Wire, level: int, *more: str) -> str:
        """1 where `x` (plus the nodes `more`) is at least `level`."""
        import nir

        return self.place(name, nir.Threshold(_equal(level - 0.5, x.size)), x.name, *more)

    def bits(self, name: str, x: Wire, shift: int) -> tuple[list[str], int]:
        """Nodes with the bits of `(x >> shift) - offset`, lowest first, and the offset: successive approximation."""
        import nir

        offset = x.lo >> shift
        count = ((x.hi >> shift) - offset).bit_length()
        found: list[str] = []
        taken: list[str] = []
        for k in reversed(range(count)):
            bit = self.above(f"{name}-bit{k}", x, (offset << shift) + (1 << (k + shift)), *taken)
            found.append(bit)
            if k:
                taken.append(self.place(f"{name}-less{k}", nir.Scale(_equal(-float(1 << (k + shift)), x.size)), bit))
        return found[::-1], offset

    def shifted(self, name: str, x: Wire, shift: int) -> Wire:
        """`x >> shift`, the floor."""
        if shift == 0:
            return x
        bits, offset = self.bits(name, x, shift)
        terms = [(Wire(b, x.size, 0, 1), _equal(float(1 << k), x.size)) for k, b in enumerate(bits)]
        return self.add(name, terms, offset, x.size, x.lo >> shift, x.hi >> shift)

    def gate(self, name: str, x: Wire, condition: Wire) -> Wire:
        """`x` where `condition` is 1, else 0."""
        import nir

        bits, offset = self.bits(name, x, 0)
        terms: list[Term] = [(condition, _equal(float(offset), x.size))] if offset else []
        for k, bit in enumerate(bits):
            both = self.place(f"{name}-and{k}", nir.Threshold(_equal(1.5, x.size)), bit, condition.name)
            terms.append((Wire(both, x.size, 0, 1), _equal(float(1 << k), x.size)))
        return self.add(name, terms, 0, x.size, min(x.lo, 0), max(x.hi, 0))

    def steps(self, name: str, x: Wire, table: NDArray[np.int64], first: int) -> Wire:
        """`table[clamp(x, first, first + len(table) - 1) - first]`: one step for each change of the table."""
        rises = np.diff(table)
        terms: list[Term] = []
        for at in np.flatnonzero(rises):
            level = first + int(at) + 1
            step = Wire(self.above(f"{name}-step{at}", x, level), x.size, 0, 1)
            terms.append((step, _equal(float(rises[at]), x.size)))
        return self.add(name, terms, int(table[0]), x.size, int(table.min()), int(table.max()))

    def clamped(self, name: str, x: Wire, lo: int, hi: int) -> Wire:
        """`clamp(x, lo, hi)`."""
        terms: list[Term] = [(x, None)]
        bias = 0
        if x.lo < lo:
            under = self.add(f"{name}-under", [(x, _equal(-1.0, x.size))], lo, x.size, lo - x.hi, lo - x.lo)
            low = Wire(self.above(f"{name}-low", under, 1), x.size, 0, 1)
            terms.append((self.gate(f"{name}-rise", under, low), None))
        if x.hi > hi:
            over = self.add(f"{name}-over", [(x, None)], -hi, x.size, x.lo - hi, x.hi - hi)
            high = Wire(self.above(f"{name}-high", over, 1), x.size, 0, 1)
            terms.append((self.gate(f"{name}-fall", over, high), _equal(-1.0, x.size)))
        return self.add(name, terms, bias, x.size, max(x.lo, lo), min(max(x.hi, lo), hi))


def _equal(value: float, size: int) -> Array:
    """A vector of one number, which takes the memory of one: a table is hundreds of nodes of such vectors."""
    return np.broadcast_to(np.float64(value), (size,))


def _reach(wire: Wire, factor: Array | None) -> float:
    largest = float(max(abs(wire.lo), abs(wire.hi)))
    if factor is None:
        return largest
    if factor.ndim == 1:
        return largest * float(np.abs(factor).max(initial=0.0))
    return largest * max(float(np.abs(factor[part]).sum(axis=1).max()) for part in row_parts(factor))
