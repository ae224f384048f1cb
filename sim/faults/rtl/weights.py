"""Weights of a fault in the weight memory of the serial core: a disturbed copy of their columns in its free words.

The memory stores the words of a column that hold something, and columns that are alike once. So most weights have no
bit of their own: a disturbed column is written behind the last one, and its row of the table is pointed at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....toolchain.ir import IntNet, infer, ops
from ..circuit import Circuit
from ..maps import taps
from ..storage import changed
from ..table import Place, Upset

__all__ = ["Load", "Memory", "NoRoomError"]

Codes = NDArray[np.int64]
Load = tuple[int, int, int]
"""Address of the load port, the word of the fault, the word that is put back."""


class NoRoomError(Exception):
    """The memory has no words for this; the message says so with both numbers, or which code does not fit."""


@dataclass(frozen=True)
class Memory:
    """The weight memory of a core: `words` of the load port, and what core.json says of them (`inject.weights`)."""

    net: IntNet
    words: Codes
    layout: Mapping[str, Any]

    def loads(self, upsets: Sequence[Upset], circuit: Circuit) -> list[Load]:
        """What to write for weights disturbed by `upsets`. Raises NoRoomError."""
        free = self._used()
        found: list[Load] = []
        for (name, column), added in self._added(upsets, circuit).items():
            row = self.layout["rows"][name] + column
            entries = self._disturbed(row, added)
            if free + len(entries) > self.layout["capacity"]:
                what = f"its columns end at word {free + len(entries)}, the memory has {self.layout['capacity']}"
                raise NoRoomError(what)
            found.append(self._load(row, free | (len(entries) - 1) << self.layout["address_bits"]))
            for word, codes in entries:
                found += self._entry(free, codes | word << self.layout["lanes"] * self.layout["code_bits"])
                free += 1
        return found

    def _added(self, upsets: Sequence[Upset], circuit: Circuit) -> dict[tuple[str, int], dict[int, int]]:
        """By map and column: what is added to the weight of each row."""
        codes = {u.name: self.net.param(u.name).reshape(-1).copy() for u in upsets}
        for u in upsets:
            value = int(codes[u.name][u.index])
            codes[u.name][u.index] = changed(value, u, circuit.words[Place.PARAM, u.name], saturate=False)
        types = infer(self.net)
        found: dict[tuple[str, int], dict[int, int]] = {}
        for op in self.net.all_ops():
            if not isinstance(op, ops.Linear | ops.Stencil) or op.weight not in codes:
                continue
            difference = codes[op.weight] - self.net.param(op.weight).reshape(-1)
            tap = taps(op, self.net, types[op.x].shape)
            for i in np.flatnonzero(difference[tap.entry]):
                rows = found.setdefault((op.out, int(tap.x[i])), {})
                rows[int(tap.out[i])] = rows.get(int(tap.out[i]), 0) + int(difference[tap.entry[i]])
        return found

    def _disturbed(self, row: int, added: Mapping[int, int]) -> list[tuple[int, int]]:
        """The entries `(word, codes)` of the column of a row of the table, with what is added to its weights."""
        lanes, bits = self.layout["lanes"], self.layout["code_bits"]
        held = self.words[row]
        start = int(held) & ((1 << self.layout["address_bits"]) - 1)
        column = dict(self._entry_at(start + i) for i in range((int(held) >> self.layout["address_bits"]) + 1))
        for unit, difference in added.items():
            word, lane = divmod(unit, lanes)
            codes = column.get(word, 0)
            code = _signed(codes >> bits * lane, bits) + difference
            if not -(1 << (bits - 1)) <= code < 1 << (bits - 1) or (bits == 2 and code == -2):
                raise NoRoomError(f"its weight becomes {code}, which a code of {bits} bits does not hold")
            mask = ((1 << bits) - 1) << bits * lane
            column[word] = (codes & ~mask) | (code << bits * lane & mask)
        return _ordered({word: codes for word, codes in column.items() if codes})

    def _entry_at(self, number: int) -> tuple[int, int]:
        parts, bits = self.layout["parts"], self.layout["lanes"] * self.layout["code_bits"]
        at = self.layout["depth"] + number * parts
        whole = sum(int(word) << 32 * i for i, word in enumerate(self.words[at : at + parts]))
        return whole >> bits, whole & ((1 << bits) - 1)

    def _used(self) -> int:
        table = self.words[: self.layout["depth"]]
        bits = self.layout["address_bits"]
        return int(((table & ((1 << bits) - 1)) + (table >> bits) + 1).max())

    def _entry(self, number: int, entry: int) -> list[Load]:
        parts = self.layout["parts"]
        at = self.layout["depth"] + number * parts
        return [self._load(at + i, entry >> 32 * i & 0xFFFFFFFF) for i in range(parts)]

    def _load(self, address: int, word: int) -> Load:
        return address, word, int(self.words[address])


def _signed(code: int, bits: int) -> int:
    low = code & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


def _ordered(column: dict[int, int]) -> list[tuple[int, int]]:
    """Even words before odd ones, with a word of zeros where there is none such, as the accumulators demand."""
    if not any(word % 2 == 0 for word in column):
        column = {**column, 0: 0}
    if len(column) > 1 and not any(word % 2 for word in column):
        column = {**column, 1: 0}
    return sorted(column.items(), key=lambda entry: (entry[0] % 2, entry[0]))
