"""Memories of a processor: banks, lists of events, tables, weights, program."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from amaranth import Const, Module, Mux, Shape, Signal, Value

from ...harden.codes import code_of
from ...harden.memory import LATENCY, CheckedRam, ParityRam
from ...memory import Ram
from ..encoding import record_bits
from ..features import Features
from ..image import Image

__all__ = ["Memories"]


class Memories:
    """`banks`: one memory each, a word of which is `width` words of the bank, of sums that of all lanes. `counts`: of
    words in each list, which stand from `bases` on: differences of `width` entries, a bit for each of several that says
    whether it changed, column and place. `difference`: shape of what an event adds. `tables`, `slopes`: a copy for each
    entry that is taken in a clock. `run_words`: of one column of weights, at most. `buffer`: words that `weights` holds
    of a memory outside; 0 where it holds all of them."""

    def __init__(
        self,
        m: Module,
        image: Image,
        features: Features,
        run_words: int,
        buffer: int = 0,
        harden: Collection[str] = (),
    ) -> None:
        self.m, self.image, self.core, self.features = m, image, image.core, features
        self.harden = harden
        self.checked: list[CheckedRam | ParityRam] = []
        core = self.core
        self.width = core.width
        self.width_bits, self.lane_bits = (core.width - 1).bit_length(), (core.lanes - 1).bit_length()
        self.banks = [self._bank(m, number) for number in range(len(core.banks))]
        bits = core.difference_bits or max((b.bits for b in core.banks if not b.sums), default=1) + 1
        self.difference = Shape(bits, signed=True)
        self.place_bits = core.address_bits if features.places else 0
        self.column_bits = max(core.column_words - 1, 1).bit_length()
        self.bases = [sum(core.lists[:k]) for k in range(len(core.lists))]
        self.counts = [Signal(range(n + 1), name=f"events_{k}") for k, n in enumerate(core.lists)]
        self.flag_bits = core.width if core.width > 1 else 0
        event_bits = bits * core.width + self.flag_bits + self.column_bits + self.place_bits
        self.events = self._ram(m, "events", event_bits, sum(core.lists), holds=True)
        entries = [int(w) & (1 << core.table_bits) - 1 for w in image.tables]
        self.tables = self._tables(m, "table", entries) if features.tables else []
        self.slopes = self._tables(m, "slopes", entries) if features.slopes else []
        self.weight_bits = max((core.weight_words - 1).bit_length(), 1)
        self.run_bits = max(run_words - 1, 1).bit_length()
        rows = [int(first) | int(count) - 1 << self.weight_bits for first, count in image.columns]
        self.columns = self._checked(m, "columns", self.weight_bits + self.run_bits, core.column_words, rows)
        width = core.lanes * core.code_bits + core.group_bits
        # Words of a memory outside have no code; `check_hardening` refuses one.
        words = () if buffer else image.weights
        self.weights = self._coded(m, "weights", width, buffer or core.weight_words, words)
        self.program = self._coded(m, "program", record_bits(core), core.program_words, image.program)

    def _ram(
        self,
        m: Module,
        name: str,
        width: int,
        depth: int,
        words: Sequence[int] = (),
        *,
        holds: bool = False,
        parts: int = 1,
        file: str = "",
    ) -> Ram:
        ram = Ram(
            width=width, depth=max(depth, 2), init=words, holds=holds, parts=parts, file=(file or name) if words else ""
        )
        m.submodules[name] = ram
        return ram

    def _coded(self, m: Module, name: str, width: int, depth: int, words: Sequence[int]) -> Ram | CheckedRam:
        """A memory with a code on its words, if hardening has one, and `lag` clocks more for a read."""
        code = code_of(self.harden, width)
        if code is None:
            return self._ram(m, name, width, depth, words)
        m.submodules[name] = ram = CheckedRam(code, depth=max(depth, 2), init=words, file=name if words else "")
        self.checked.append(ram)
        return ram

    def _checked(
        self, m: Module, name: str, width: int, depth: int, words: Sequence[int], *, file: str = ""
    ) -> Ram | ParityRam:
        """A memory that holds what it has read, with parity if hardening has a code."""
        if code_of(self.harden, width) is None:
            return self._ram(m, name, width, depth, words, holds=True, file=file)
        file = (file or name) if words else ""
        m.submodules[name] = ram = ParityRam(width=width, depth=max(depth, 2), init=words, file=file)
        self.checked.append(ram)
        return ram

    @property
    def lag(self) -> int:
        """Clocks that a read of weights or of the program takes beside one."""
        return LATENCY - 1 if isinstance(self.weights, CheckedRam) else 0

    def used(self, ram: Ram | CheckedRam | ParityRam, now: Value) -> None:
        """The data of a memory is used in this clock."""
        if not isinstance(ram, Ram):
            self.m.d.comb += ram.used.eq(now)

    def _tables(self, m: Module, name: str, words: Sequence[int]) -> list[Ram | ParityRam]:
        """All tables start with the same words."""
        core = self.core
        return [
            self._checked(m, f"{name}_{lane}", core.table_bits, core.table_words, words, file="table")
            for lane in range(core.width)
        ]

    def _bank(self, m: Module, number: int) -> Ram:
        bank, width = self.core.banks[number], self.core.width
        name, depth = f"bank{number}", -(-bank.words // width)
        if bank.sums:
            return self._ram(m, name, bank.bits * self.core.lanes, -(-bank.words // self.core.lanes), holds=True)
        codes = [0] * depth * width if any(which == number for which, _ in self.image.words) else []
        for (which, base), mine in self.image.words.items():
            if which == number:
                codes[base : base + len(mine)] = [int(c) & (1 << bank.bits) - 1 for c in mine]
        words = [
            sum(code << lane * bank.bits for lane, code in enumerate(codes[at : at + width]))
            for at in range(0, len(codes), width)
        ]
        return self._ram(m, name, bank.bits * width, depth, words, holds=True, parts=width)

    def word_of(self, number: int, address: Value) -> Value:
        """The address of a word of a bank as its memory counts."""
        return address >> (self.lane_bits if self.core.banks[number].sums else self.width_bits)

    def codes(self, number: int, address: Value) -> list[Value]:
        """The `width` words side by side that a bank gives for an address of the clock before."""
        bank, word = self.core.banks[number], self.banks[number].read_data
        if bank.sums and self.lane_bits > self.width_bits:
            chosen = Signal(bank.bits * self.width)
            self.m.d.comb += chosen.eq(word.word_select(address[self.width_bits : self.lane_bits], len(chosen)))
            word = chosen
        return [word[k * bank.bits : (k + 1) * bank.bits].as_signed() for k in range(self.width)]

    def code(self, codes: Sequence[Value], address: Value) -> Value:
        """The one word of an address among those of `codes`."""
        if not self.width_bits:
            return codes[0]
        chosen = codes[-1]
        for lane, code in enumerate(codes[:-1]):
            chosen = Mux(address[: self.width_bits] == lane, code, chosen)
        return chosen

    def is_sums(self, number: Value) -> Value:
        """Whether a bank that is cleared holds sums."""
        cleared = self.features.cleared
        sums = [n for n in sorted(cleared) if self.core.banks[n].sums]
        if len(sums) == len(cleared):
            return Const(1)
        chosen: Value = Const(0, 1)
        for n in sums:
            chosen = chosen | (number == n)
        return chosen

    def grouped(self, number: Value, value: Value) -> Value:
        """An address of a bank that is cleared as its memory counts."""
        return Mux(self.is_sums(number), value >> self.lane_bits, value >> self.width_bits)

    def groups(self, number: Value, words: Value) -> Value:
        """How many words of its memory so many words of a bank that is cleared are."""
        return Mux(self.is_sums(number), words >> self.lane_bits, words + (self.width - 1) >> self.width_bits)
