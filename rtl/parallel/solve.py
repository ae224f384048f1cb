"""Adder graphs for constant matrices by sharing of common two-term sub-expressions.

Hartley, "Subexpression sharing in filters using canonic signed digit multipliers", 1996: the weights are written in
signed digits, and the pair of terms that most rows share becomes an adder, until no pair is shared.
"""

from __future__ import annotations

import heapq
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from .graph import Adder, AdderGraph, Term

__all__ = ["signed_digits", "solve"]

Digit = tuple[int, int, bool]
"""A term of a row: node, shift, negative."""
Pair = tuple[int, int, int, bool]
"""`a + (b << shift)` (shift may be negative: then a is shifted), minus if the flag is set."""


def solve(matrix: NDArray[np.int64]) -> AdderGraph:
    """A graph that computes exactly `matrix` `[outputs, inputs]`.

    Term pairs are shared greedily; no output is deeper than the deepest would be without sharing.
    """
    graph = _Sharing(matrix).graph()
    if not np.array_equal(graph.matrix, matrix):
        raise AssertionError("the adder graph computes another matrix")
    return graph


def signed_digits(value: int) -> list[tuple[int, bool]]:
    """Canonic signed digits of `value`: `(shift, negative)`, the fewest, no two neighbours."""
    digits, shift = [], 0
    while value:
        if value & 1:
            negative = value & 3 == 3
            digits.append((shift, negative))
            value += 1 if negative else -1
        value >>= 1
        shift += 1
    return digits


class _Sharing:
    def __init__(self, matrix: NDArray[np.int64]) -> None:
        self.inputs = matrix.shape[1]
        self.adders: list[Adder] = []
        self.depths = [0] * self.inputs
        self.rows: list[set[Digit]] = [
            {(int(i), shift, negative) for i in np.flatnonzero(row) for shift, negative in signed_digits(int(row[i]))}
            for row in matrix
        ]
        self.limit = max((len(row) - 1).bit_length() if row else 0 for row in self.rows)
        self.count: Counter[Pair] = Counter()
        self.where: dict[Pair, set[int]] = {}
        for r, row in enumerate(self.rows):
            terms = sorted(row)
            for i, first in enumerate(terms):
                for second in terms[i + 1 :]:
                    self.seen(first, second, r)
        self.heap = [(-n, self.depth_of(p), p) for p, n in self.count.items() if n > 1]
        heapq.heapify(self.heap)

    def graph(self) -> AdderGraph:
        while self.heap:
            negated, depth, pair = heapq.heappop(self.heap)
            count = self.count[pair]
            if count < 2:
                continue
            if count != -negated:
                heapq.heappush(self.heap, (-count, depth, pair))
                continue
            self.share(pair)
        outputs = tuple(self.tree(row) for row in self.rows)
        return AdderGraph(self.inputs, tuple(self.adders), outputs)

    def depth_of(self, pair: Pair) -> int:
        return 1 + max(self.depths[pair[0]], self.depths[pair[1]])

    def seen(self, one: Digit, other: Digit, row: int) -> Pair:
        pair = _pair(one, other)
        self.count[pair] += 1
        self.where.setdefault(pair, set()).add(row)
        return pair

    def share(self, pair: Pair) -> None:
        """Make `pair` an adder where at least two places can take it; else it is never tried again."""
        places = [(r, *m) for r in sorted(self.where[pair]) for m in self.matches(pair, r)]
        if len(places) < 2:
            self.count[pair] = 0
            return
        node = self.add(*pair)
        fresh: set[Pair] = set()
        for r, one, other in places:
            row = self.rows[r]
            row -= {one, other}
            for term in row:
                self.count[_pair(one, term)] -= 1
                self.count[_pair(other, term)] -= 1
            made = (node, min(one[1], other[1]), one[2])
            fresh |= {self.seen(made, term, r) for term in row}
            row.add(made)
        self.count[pair] = 0
        for key in fresh:
            if self.count[key] > 1:
                heapq.heappush(self.heap, (-self.count[key], self.depth_of(key), key))

    def matches(self, pair: Pair, r: int) -> list[tuple[Digit, Digit]]:
        """Disjoint places of `pair` in a row whose balanced tree stays within the depth limit (Kraft's inequality)."""
        a, b, shift, minus = pair
        row = self.rows[r]
        weight = sum(1 << self.depths[n] for n, _, _ in row)
        extra = (1 << self.depth_of(pair)) - (1 << self.depths[a]) - (1 << self.depths[b])
        places: list[tuple[Digit, Digit]] = []
        used: set[Digit] = set()
        for one in sorted(row):
            other = (b, one[1] + shift, one[2] ^ minus)
            if one[0] != a or one in used or other not in row or other in used or other == one:
                continue
            if weight + extra > 1 << self.limit:
                break
            weight += extra
            used |= {one, other}
            places.append((one, other))
        return places

    def add(self, a: int, b: int, shift: int, minus: bool) -> int:
        self.adders.append(Adder(a, max(-shift, 0), b, max(shift, 0), minus))
        self.depths.append(1 + max(self.depths[a], self.depths[b]))
        return self.inputs + len(self.adders) - 1

    def tree(self, row: set[Digit]) -> Term | None:
        """The sum of what is left of a row: always the two shallowest terms, a positive one first."""
        heap = [(self.depths[n], n, s, negative) for n, s, negative in row]
        heapq.heapify(heap)
        while len(heap) > 1:
            first, second = sorted((heapq.heappop(heap), heapq.heappop(heap)), key=lambda t: t[3])
            node = self.add(first[1], second[1], second[2] - first[2], first[3] != second[3])
            heapq.heappush(heap, (self.depths[node], node, min(first[2], second[2]), first[3]))
        return Term(heap[0][1], heap[0][2], heap[0][3]) if heap else None


def _pair(one: Digit, other: Digit) -> Pair:
    if other < one:
        one, other = other, one
    return one[0], other[0], other[1] - one[1], one[2] != other[2]
