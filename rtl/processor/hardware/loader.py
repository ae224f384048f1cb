"""Takes an image word by word and writes it to the memories; what is no whole image for this core never runs.

word ──► header: magic, version, core, lengths ──► entries ──► memories
  └────► CRC-32 ──────────────────────────────────────────────► held, or refused
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import crc

from ..description import Description
from ..isa import VERSION
from ..loadable import BANK_SHIFT, MAGIC, Fault, Header, Layout, Section
from .memories import Memories

__all__ = ["Loader"]


class State(IntEnum):
    """What the next word is."""

    IDLE = 0
    """none of an image"""
    HEADER = 1
    BODY = 2
    CHECK = 3


class Loader(Elaboratable):
    """A clock with `enable` takes the word `data`; with `first` it is the first one of an image, whatever came before.

    `held`: the core has a whole image and may run; from the last word of a good header up to a right CRC it has none.
    `fault`: why the last image was refused (`loadable.Fault`). `crc`: of the image that is held. `x_last`, `y_last`:
    numbers of the last code that enters and leaves in a sample. `begins`: an image is held from the next clock on, with
    `steps` and `tolerance`. `weights_crc`: of what a memory outside must hold, None where the core has the weights.

    The core starts with an image of `words`. With `drops` a clock with `drop` ends it: words of it are wrong that
    nobody can repair.
    """

    def __init__(self, description: Description, words: list[int], *, drops: bool = False) -> None:
        self.layout, self.words = Layout.of(description), words
        self.digest, self.preset = description.digest, description.preset
        self.enable, self.first, self.data = (
            Signal(name="load"),
            Signal(name="load_first"),
            Signal(32, name="load_word"),
        )
        self.drop = Signal(name="image_lost") if drops else None
        self.held, self.loading = Signal(init=1, name="image_held"), Signal(name="image_coming")
        self.fault = Signal(3, name="image_fault")
        self.crc = Signal(32, init=words[-1], name="image_crc")
        self.x_last = Signal(range(max(description.x.beats, 2)), init=words[Header.INPUTS] - 1, name="x_last")
        self.y_last = Signal(range(max(description.y.beats, 2)), init=words[Header.OUTPUTS] - 1, name="y_last")
        self.begins = Signal(name="image_begins")
        self.steps, self.tolerance = Signal(16, name="image_steps"), Signal(16, name="image_tolerance")
        preset_crc = words[len(Header) + self.layout.words(Section.PROGRAM) * words[Header.PROGRAM]]
        self.weights_crc = Signal(32, init=preset_crc, name="weights_crc") if description.external else None
        self.write, self.section = Signal(name="write"), Signal(range(len(Section)), name="section")
        self.index = Signal(range(max(self.layout.room) + 1), name="index")
        self.codes = description.x.beats, description.y.beats
        widest = max(self.layout.words(s) for s in Section)
        self.entry, self.sent = Signal(32 * widest, name="entry"), Signal(range(max(widest, 2)), name="entry_words")
        self.part, self.left = Signal.like(self.section, name="part"), Signal.like(self.index, name="entries_left")
        self.place = Signal.like(self.index, name="entry_number")

    def of(self, section: Section) -> Value:
        """The entry as one of a section."""
        top = len(self.entry)
        start = top - 32 * self.layout.words(section) + 32 * (section is Section.PARAMETERS)
        return self.entry[start : start + self.layout.bits[section]]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = crc.Processor(crc.catalog.CRC32_ISO_HDLC(data_width=32))
        m.d.comb += [check.data.eq(self.data), check.valid.eq(self.enable), check.start.eq(self.enable & self.first)]
        state = Signal(State, name="state")
        number = Signal(range(len(Header) + 1), name="header_word")
        counts = [Signal(range(room + 1), name=f"{s.name.lower()}_entries") for s, room in self._rooms]
        lasts = {
            Header.INPUTS: Signal.like(self.x_last, init=0, name="x_next"),
            Header.OUTPUTS: Signal.like(self.y_last, init=0, name="y_next"),
        }
        m.d.control += self.write.eq(0)
        with m.Switch(state):
            with m.Case(State.HEADER), m.If(self.enable):
                self._header(m, state, number, counts, lasts)
            with m.Case(State.BODY), m.If(self.enable):
                self._body(m, state, counts)
            with m.Case(State.CHECK), m.If(self.enable):
                m.d.control += [state.eq(State.IDLE), self.loading.eq(0)]
                with m.If(self.data == check.crc):
                    m.d.comb += self.begins.eq(1)
                    m.d.control += [self.held.eq(1), self.crc.eq(self.data)]
                    m.d.control += [self.x_last.eq(lasts[Header.INPUTS]), self.y_last.eq(lasts[Header.OUTPUTS])]
                with m.Else():
                    m.d.control += self.fault.eq(Fault.CRC)
        if self.drop is not None:
            with m.If(self.drop & (state != State.BODY) & (state != State.CHECK)):
                m.d.control += [self.held.eq(0), self.fault.eq(Fault.CRC)]
        with m.If(self.enable & self.first):
            m.d.control += [state.eq(State.HEADER), number.eq(1), self.loading.eq(1), self.fault.eq(Fault.NONE)]
            self._require(m, state, self.data == MAGIC, Fault.MAGIC)
        return m

    @property
    def _rooms(self) -> list[tuple[Section, int]]:
        return list(zip(Section, self.layout.room, strict=True))

    def _require(self, m: Module, state: Signal, good: Value, fault: Fault) -> None:
        with m.If(~good):
            m.d.control += [state.eq(State.IDLE), self.loading.eq(0), self.fault.eq(fault)]

    def _header(
        self, m: Module, state: Signal, number: Signal, counts: list[Signal], lasts: Mapping[Header, Signal]
    ) -> None:
        """A word of the header. Nothing is written and the core goes on as it is, up to the last of them."""
        data = self.data
        m.d.control += number.eq(number + 1)
        with m.If((number == len(Header) - 1) & (data <= self.layout.room[-1])):
            m.d.control += [state.eq(State.BODY), self.held.eq(0)]
            m.d.control += [self.sent.eq(0), self.part.eq(0), self.left.eq(counts[0]), self.place.eq(0)]
        with m.Switch(number):
            with m.Case(Header.VERSION):
                self._require(m, state, data == VERSION, Fault.VERSION)
            with m.Case(Header.DIGEST):
                self._require(m, state, data == self.digest, Fault.CORE)
            with m.Case(Header.SCHEDULE):
                m.d.sync += Cat(self.steps, self.tolerance).eq(data)
            for place, most in ((Header.INPUTS, self.codes[0]), (Header.OUTPUTS, self.codes[1])):
                with m.Case(place):
                    m.d.control += lasts[place].eq(data - 1)
                    self._require(m, state, (data != 0) & (data <= most), Fault.LENGTH)
            for (section, room), count in zip(self._rooms, counts, strict=True):
                with m.Case(Header.PROGRAM + section):
                    m.d.control += count.eq(data)
                    good = data <= room
                    self._require(m, state, good & (data != 0) if section is Section.PROGRAM else good, Fault.LENGTH)

    def _body(self, m: Module, state: Signal, counts: list[Signal]) -> None:
        """A word of an entry; with its last one the entry is written, a clock later."""
        part, left = self.part, self.left
        following, more, coming = Signal.like(part), Signal(name="more"), Signal.like(left, name="coming")
        for section in reversed(Section):
            with m.If((part < section) & (counts[section] != 0)):
                m.d.comb += [following.eq(section), more.eq(1), coming.eq(counts[section])]
        size: Value = Const(self.layout.words(Section.PROGRAM) - 1)
        for section in Section:
            size = Mux(part == section, self.layout.words(section) - 1, size)
        m.d.sync += self.entry.eq(Cat(self.entry[32:], self.data))
        m.d.control += self.sent.eq(self.sent + 1)
        with m.If(self.sent == size):
            m.d.control += [self.sent.eq(0), self.write.eq(1), self.section.eq(part), self.index.eq(self.place)]
            m.d.control += [self.place.eq(self.place + 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.control += [part.eq(following), left.eq(coming), self.place.eq(0)]
                with m.If(~more):
                    m.d.control += state.eq(State.CHECK)

    def connect(self, m: Module, memories: Memories) -> None:
        """Write the memories from here; to be called when everything else that writes them is there."""
        targets = [(Section.PROGRAM, memories.program)]
        if self.weights_crc is None:
            targets.append((Section.WEIGHTS, memories.weights))
        else:
            with m.If(self.write & (self.section == Section.WEIGHTS)):
                m.d.sync += self.weights_crc.eq(self.of(Section.WEIGHTS))
        targets += [(Section.COLUMNS, memories.columns)]
        targets += [(Section.TABLES, ram) for ram in (*memories.tables, *memories.slopes)]
        for section, ram in targets:
            m.d.comb += [
                ram.write_address.eq(self.index),
                ram.write_data.eq(self.of(section)),
                ram.write_enable.eq(self.write & (self.section == section)),
            ]
        lead = self.entry[len(self.entry) - 32 * self.layout.words(Section.PARAMETERS) :][:32]
        for number in self.preset:
            ram, bits = memories.banks[number], memories.core.banks[number].bits
            with m.If(self.write & (self.section == Section.PARAMETERS) & (lead[BANK_SHIFT:] == number)):
                code = self.of(Section.PARAMETERS)[:bits]
                m.d.comb += [
                    ram.write_address.eq(lead[memories.width_bits : BANK_SHIFT]),
                    ram.write_data.eq(Cat(code for _ in range(memories.width))),
                    ram.write_enable.eq(1 << lead[: memories.width_bits] if memories.width_bits else 1),
                ]
