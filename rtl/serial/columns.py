"""The weight memory: columns of words that hold something, and a table that says where each column is.

A word is `lanes` rows of one column of a map's matrix. Words that are all zero are not stored: a change of a unit costs
a clock for each word that is. An entry is a word's codes, lowest row in the lowest bits, each in two's complement of
`code_bits` (2 for ternary: 00, 01, 11), and above them the word's number. A table row is the address of a column's
first entry, and above it the number of its entries less one.

    table row of map m, unit u: rows[m] + u         table row that clears the sums of map m: clears + m

An accumulator must not be read in the clock after it was read to be changed. So every column starts with an even word,
and one of several entries, which the next may follow at once, ends with an odd one; an entry of zeros stands where a
column has none such. One of a single entry takes two clocks.

The load port sees the table from address 0, a row each, and the entries from address `depth` on, each as `parts` words
of 32 bits, lowest bits first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError

from .matrix import Matrix

__all__ = ["Layout", "make_layout", "memory_words"]

Entries = tuple[tuple[int, int], ...]
"""`(word, codes)` of one column."""


@dataclass(frozen=True)
class Layout:
    """Sizes of both memories. `capacity`: entries there is room for; `depth`: rows of the table, a power of two."""

    lanes: int
    code_bits: int
    index_bits: int
    rows: tuple[int, ...]
    clears: int
    depth: int
    capacity: int

    @property
    def codes_bits(self) -> int:
        return self.lanes * self.code_bits

    @property
    def entry_bits(self) -> int:
        return self.codes_bits + self.index_bits

    @property
    def address_bits(self) -> int:
        return max((self.capacity - 1).bit_length(), 1)

    @property
    def table_bits(self) -> int:
        return self.address_bits + self.index_bits

    @property
    def parts(self) -> int:
        """Words of the load port in one entry; a power of two, so some may be of no use."""
        needed = -(-self.entry_bits // 32)
        return 1 << (needed - 1).bit_length()

    @property
    def load_words(self) -> int:
        """Words of the load port."""
        return self.depth + self.capacity * self.parts


def make_layout(
    matrices: Sequence[Matrix], *, lanes: int, code_bits: int, granule: int, capacity: int | None
) -> Layout:
    """The layout for matrices `[rows, columns]`; without `capacity`, room for their entries, rounded up to a power of
    two that `granule` is at least."""
    words = [-(-len(m) // lanes) for m in matrices]
    rows, depth = [0] * len(matrices), 0
    # Blocks of falling powers of two: the number of a unit fills the zeros below where its block starts.
    for size, number in sorted(((1 << (m.shape[1] - 1).bit_length(), i) for i, m in enumerate(matrices)), reverse=True):
        rows[number], depth = depth, depth + size
    clears = depth
    depth = 1 << (depth + len(matrices) - 1).bit_length()
    if capacity is None:
        held, _ = _pack(matrices, lanes, code_bits)
        capacity = max(granule, 1 << (len(held) - 1).bit_length())
    index_bits = max((max(words) - 1).bit_length(), 1)
    return Layout(lanes, code_bits, index_bits, tuple(rows), clears, depth, capacity)


def memory_words(layout: Layout, matrices: Sequence[Matrix], name: str) -> tuple[list[int], list[int]]:
    """Rows of the table and entries, both as whole numbers; the table is as deep as the layout says.

    Raises UnsupportedError if there is no room for the entries, or a weight does not fit its code.
    """
    largest = max(int(np.abs(m).max(initial=0)) for m in matrices)
    if largest >= 1 << (layout.code_bits - 1):
        what = f"weights reach {largest}, a code of {layout.code_bits} bits holds {(1 << (layout.code_bits - 1)) - 1}"
        raise UnsupportedError([Diagnostic("rtl-weights", what, name, "build a core from this net")])
    entries, places = _pack(matrices, layout.lanes, layout.code_bits)
    if len(entries) > layout.capacity:
        what = f"the weights need {len(entries)} words of {layout.lanes}, the weight memory holds {layout.capacity}"
        raise UnsupportedError([Diagnostic("rtl-capacity", what, name, "build a core from this net")])
    table = [0] * layout.depth
    for number, (columns, clear) in enumerate(places):
        for unit, (start, count) in enumerate(columns):
            table[layout.rows[number] + unit] = start | (count - 1) << layout.address_bits
        start, count = clear
        table[layout.clears + number] = start | (count - 1) << layout.address_bits
    return table, [codes | word << layout.codes_bits for word, codes in entries]


Place = tuple[int, int]


def _pack(
    matrices: Sequence[Matrix], lanes: int, bits: int
) -> tuple[list[tuple[int, int]], list[tuple[list[Place], Place]]]:
    """All entries, and for each matrix the place `(start, count)` of each column and of its clearing column. Columns
    that are alike share their entries."""
    entries: list[tuple[int, int]] = []
    known: dict[Entries, int] = {}

    def placed(column: Entries) -> Place:
        if column not in known:
            known[column] = len(entries)
            entries.extend(column)
        return known[column], len(column)

    places = []
    for matrix in matrices:
        words = _words(matrix, lanes, bits)
        columns = [placed(_ordered({w: c for w, c in enumerate(column) if c})) for column in words]
        places.append((columns, placed(_ordered(dict.fromkeys(range(-(-len(matrix) // lanes)), 0)))))
    return entries, places


def _words(matrix: Matrix, lanes: int, bits: int) -> list[list[int]]:
    """Codes of each word of each column."""
    rows, columns = matrix.shape
    words = -(-rows // lanes)
    padded = np.zeros((words * lanes, columns), np.int64)
    padded[:rows] = matrix & ((1 << bits) - 1)
    groups = padded.T.reshape(columns, words, lanes).tolist()
    return [[sum(code << (bits * lane) for lane, code in enumerate(g)) for g in column] for column in groups]


def _ordered(column: dict[int, int]) -> Entries:
    """The entries in an order that keeps the rule of the accumulators."""
    if not any(word % 2 == 0 for word in column):
        column = {**column, 0: 0}
    if len(column) > 1 and not any(word % 2 for word in column):
        column = {**column, 1: 0}
    return tuple(sorted(column.items(), key=lambda entry: (entry[0] % 2, entry[0])))
