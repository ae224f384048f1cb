"""Memories of a processor: banks, lists of events, tables, weights, program."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Const, Module, Mux, Shape, Signal, Value

from ...memory import Ram
from ..encoding import record_bits
from ..features import Features
from ..image import Image

__all__ = ["Memories"]


class Memories:
    """`banks`: one memory each, of sums a word of all lanes. `counts`: events in each list, which stand from `bases`
    on. `difference`: shape of what an event adds. `run_words`: of one column of weights, at most."""

    def __init__(self, m: Module, image: Image, features: Features, run_words: int) -> None:
        self.image, self.core, self.features = image, image.core, features
        core = self.core
        self.lane_bits = (core.lanes - 1).bit_length()
        self.banks = [self._bank(m, number) for number in range(len(core.banks))]
        bits = max((b.bits for b in core.banks if not b.sums), default=1) + 1
        self.difference = Shape(bits, signed=True)
        self.place_bits = core.address_bits if features.places else 0
        self.column_bits = max(core.column_words - 1, 1).bit_length()
        self.bases = [sum(core.lists[:k]) for k in range(len(core.lists))]
        self.counts = [Signal(range(n + 1), name=f"events_{k}") for k, n in enumerate(core.lists)]
        self.events = self._ram(m, "events", bits + self.column_bits + self.place_bits, sum(core.lists))
        tables = [int(w) & (1 << core.table_bits) - 1 for w in image.tables]
        self.table = (
            self._ram(m, "table", core.table_bits, core.table_words, tables, holds=True) if features.tables else None
        )
        self.slopes = (
            self._ram(m, "slopes", core.table_bits, core.table_words, tables, holds=True) if features.slopes else None
        )
        self.weight_bits = max((core.weight_words - 1).bit_length(), 1)
        self.run_bits = max(run_words - 1, 1).bit_length()
        rows = [int(first) | int(count) - 1 << self.weight_bits for first, count in image.columns]
        self.columns = self._ram(m, "columns", self.weight_bits + self.run_bits, core.column_words, rows)
        width = core.lanes * core.code_bits + core.group_bits
        self.weights = self._ram(m, "weights", width, core.weight_words, image.weights)
        self.program = self._ram(m, "program", record_bits(core), core.program_words, image.program)

    def _ram(
        self, m: Module, name: str, width: int, depth: int, words: Sequence[int] = (), *, holds: bool = False
    ) -> Ram:
        # Both tables start with the same words.
        file = {"slopes": "table"}.get(name, name) if words else ""
        ram = Ram(width=width, depth=max(depth, 2), init=words, file=file, holds=holds)
        m.submodules[name] = ram
        return ram

    def _bank(self, m: Module, number: int) -> Ram:
        bank = self.core.banks[number]
        if bank.sums:
            return self._ram(
                m, f"bank{number}", bank.bits * self.core.lanes, -(-bank.words // self.core.lanes), holds=True
            )
        words = [0] * bank.words if any(which == number for which, _ in self.image.words) else []
        for (which, base), codes in self.image.words.items():
            if which == number:
                words[base : base + len(codes)] = [int(c) & (1 << bank.bits) - 1 for c in codes]
        return self._ram(m, f"bank{number}", bank.bits, bank.words, words, holds=True)

    def word_of(self, number: int, address: Value) -> Value:
        """The address of a word of a bank as its memory counts."""
        return address >> self.lane_bits if self.core.banks[number].sums else address

    def code(self, number: int, address: Value) -> Value:
        """What a bank gives for an address of the clock before."""
        bank, word = self.core.banks[number], self.banks[number].read_data
        if not bank.sums or not self.lane_bits:
            return word.as_signed()
        return word.word_select(address[: self.lane_bits], bank.bits).as_signed()

    def is_sums(self, number: Value) -> Value:
        """Whether a bank holds sums."""
        chosen: Value = Const(0, 1)
        for n, bank in enumerate(self.core.banks):
            if bank.sums:
                chosen = chosen | (number == n)
        return chosen

    def grouped(self, number: Value, value: Value) -> Value:
        """An address, or a number of words, of the bank of that number as its memory counts."""
        return Mux(self.is_sums(number), value >> self.lane_bits, value)
