"""Weights of a fault in the weight memory of the serial core: their columns in place, or disturbed copies behind.

The memory stores the words of a column that hold something, and columns that are alike once. So not every weight has a
bit of its own. A column that no other shares and that stays as long is disturbed in place; any other is written behind
the last one, and its row of the table is pointed at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....toolchain.ir import IntNet, ops
from ....toolchain.passes import Analysis, tap_places
from ..circuit import Circuit
from ..storage import changed
from ..table import Place, Upset

__all__ = ["Flip", "Load", "Memory", "NoRoomError"]

Codes = NDArray[np.int64]
Load = tuple[int, int, int]
"""Address of the load port, the word of the fault, the word that is put back."""
Flip = tuple[int, int, int]
"""Site of a memory, number of a word in it, the bits of it that flip."""


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
            start, length = self._held(row)
            if len(entries) == length and self._alone(row):
                for i, (word, codes) in enumerate(entries):
                    new = self._entry(start + i, codes | word << self.layout["lanes"] * self.layout["code_bits"])
                    found += [(at, code, kept) for at, code, kept in new if code != kept]
                continue
            if free + len(entries) > self.layout["capacity"]:
                what = f"its columns end at word {free + len(entries)}, the memory has {self.layout['capacity']}"
                raise NoRoomError(what)
            found.append(self._load(row, free | (len(entries) - 1) << self.layout["address_bits"]))
            for word, codes in entries:
                found += self._entry(free, codes | word << self.layout["lanes"] * self.layout["code_bits"])
                free += 1
        return found

    @property
    def coded(self) -> bool:
        """Whether its words have a code, which sees bits flip once they are loaded."""
        return bool(self.layout.get("coded"))

    def flips(self, upsets: Sequence[Upset], circuit: Circuit) -> tuple[list[Load], list[Flip]]:
        """The same for a memory with a code: its columns are loaded as they are, with the words in them that only a
        disturbed weight needs, and what the upsets change flips afterwards. Raises NoRoomError."""
        free, codes_bits = self._used(), self.layout["lanes"] * self.layout["code_bits"]
        loads: list[Load] = []
        flips: list[Flip] = []
        for (name, column), added in self._added(upsets, circuit).items():
            row = self.layout["rows"][name] + column
            start, length = self._held(row)
            clean, disturbed = self._column(row), self._changed(row, added)
            words = [word for word, _ in _ordered(disturbed)]
            if len(words) > length or not self._alone(row):
                if free + len(words) > self.layout["capacity"]:
                    what = f"its columns end at word {free + len(words)}, the memory has {self.layout['capacity']}"
                    raise NoRoomError(what)
                start, free = free, free + len(words)
                loads.append(self._load(row, start | (len(words) - 1) << self.layout["address_bits"]))
            for i, word in enumerate(words):
                # In place too: what is loaded is put back.
                loads += self._entry(start + i, clean.get(word, 0) | word << codes_bits)
                mask, parts = self._bits(clean.get(word, 0), disturbed.get(word, 0)), enumerate(self.layout["coded"])
                flips += [(site, start + i, bits) for k, site in parts if (bits := mask >> 32 * k & 0xFFFFFFFF)]
        return loads, flips

    def _bits(self, clean: int, disturbed: int) -> int:
        """The bits of a word that flip. A ternary -1 is 0 once its low bit is: the high one is not read then."""
        lanes, bits, mask = self.layout["lanes"], self.layout["code_bits"], clean ^ disturbed
        for lane in range(lanes if bits == 2 else 0):
            if clean >> 2 * lane & 3 == 3 and disturbed >> 2 * lane & 3 == 0:
                mask &= ~(2 << 2 * lane)
        return mask

    def _added(self, upsets: Sequence[Upset], circuit: Circuit) -> dict[tuple[str, int], dict[int, int]]:
        """By map and column: what is added to the weight of each row."""
        codes = {u.name: self.net.param(u.name).reshape(-1).copy() for u in upsets}
        for u in upsets:
            value = int(codes[u.name][u.index])
            codes[u.name][u.index] = changed(value, u, circuit.words[Place.PARAM, u.name], saturate=False)
        found: dict[tuple[str, int], dict[int, int]] = {}
        for op in self.net.all_ops():
            if not isinstance(op, ops.Linear | ops.Stencil) or op.weight not in codes:
                continue
            difference = codes[op.weight] - self.net.param(op.weight).reshape(-1)
            out, x, entry = tap_places(self.net, op, zeros=True)
            for i in np.flatnonzero(difference[entry]):
                rows = found.setdefault((op.out, int(x[i])), {})
                rows[int(out[i])] = rows.get(int(out[i]), 0) + int(difference[entry[i]])
        return found

    def _disturbed(self, row: int, added: Mapping[int, int]) -> list[tuple[int, int]]:
        """The entries `(word, codes)` of the column of a row of the table, with what is added to its weights."""
        return _ordered({word: codes for word, codes in self._changed(row, added).items() if codes})

    def _column(self, row: int) -> dict[int, int]:
        """Codes by word of the column of a row of the table."""
        start, length = self._held(row)
        return dict(self._entry_at(start + i) for i in range(length))

    def _changed(self, row: int, added: Mapping[int, int]) -> dict[int, int]:
        """The same with what is added to its weights."""
        lanes, bits, column = self.layout["lanes"], self.layout["code_bits"], self._column(row)
        for unit, difference in added.items():
            word, lane = divmod(unit, lanes)
            codes = column.get(word, 0)
            code = _signed(codes >> bits * lane, bits) + difference
            if not -(1 << (bits - 1)) <= code < 1 << (bits - 1) or (bits == 2 and code == -2):
                raise NoRoomError(f"its weight becomes {code}, which a code of {bits} bits does not hold")
            mask = ((1 << bits) - 1) << bits * lane
            column[word] = (codes & ~mask) | (code << bits * lane & mask)
        return column

    def _held(self, row: int) -> tuple[int, int]:
        """First entry of the column of a row of the table, and how many it has."""
        held, bits = int(self.words[row]), self.layout["address_bits"]
        return held & ((1 << bits) - 1), (held >> bits) + 1

    def _alone(self, row: int) -> bool:
        """Whether no other row of the table shares an entry of this one."""
        start, length = self._held(row)
        others = (self._held(i) for i in self._rows() if i != row)
        return all(first >= start + length or first + count <= start for first, count in others)

    def _rows(self) -> list[int]:
        """Rows of the table that columns have; the rest of it is 0, which would say the one entry at 0."""
        sizes, first = Analysis.of(self.net).sizes, self.layout["rows"]
        maps = (op for op in self.net.all_ops() if isinstance(op, ops.Linear | ops.Stencil))
        return [first[op.out] + k for op in maps if op.out in first for k in range(sizes[op.x])]

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
