"""A memory whose words are checked as they are read, and walked through while nobody reads.

write_* ──► encoder ──► words ──► register ──► decoder ──► read_data, corrected, detected
                          ▲                       │
                          └────── scrubber ◄──────┘
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..memory import Ram
from .codes import Code, Parity

__all__ = ["LATENCY", "CheckedRam", "ParityRam"]

LATENCY = 2
"""Clocks from an address to its data: the decoder has one of its own, since a block RAM takes most of one."""


class CheckedRam(wiring.Component):
    """The ports of `memory.Ram`, with `code` on every word and `LATENCY` clocks for a read.

    `used` says that the data of this clock is used: `corrected` and `detected` tell of such words, in the same clock,
    and `read_data` is repaired. `free` says that nobody reads: the scrubber may take the read port, one clock after
    another; it writes a repaired word back and tells `scrubbed`, or tells `noticed` of one that cannot be repaired. A
    word that is written or read by others meanwhile is left to a later turn: no read meets a word as it is written.
    """

    def __init__(self, code: Code, *, depth: int, init: Sequence[int] = (), file: str = "") -> None:
        self.code, self.depth = code, depth
        stored = [code.encoded(word) for word in init]
        self.ram = Ram(width=code.width + code.check_bits, depth=depth, init=stored, file=file)
        self.init = tuple(init)
        bits = self.ram.address_bits
        super().__init__(
            {
                "read_address": In(bits),
                "read_data": Out(code.width),
                "write_address": In(bits),
                "write_data": In(code.width),
                "write_enable": In(1),
                "used": In(1),
                "free": In(1),
                "corrected": Out(1),
                "detected": Out(1),
                "scrubbed": Out(1),
                "noticed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        at = Signal(self.ram.address_bits, name="at")
        reading = Signal(name="reading")
        deciding = Signal(name="deciding")
        writing = Signal(name="writing")
        read = Signal(ram.width, name="read")
        word = Signal(ram.width, name="word")
        bad = Signal(name="bad")
        checked = self.code.read(m, read)
        again = self.write_enable | ~self.free
        m.d.comb += [
            ram.read_address.eq(Mux(self.free, at, self.read_address)),
            self.read_data.eq(checked.data),
            self.corrected.eq(self.used & checked.corrected),
            self.detected.eq(self.used & checked.detected),
            ram.write_address.eq(Mux(self.write_enable, self.write_address, at)),
            ram.write_data.eq(Mux(self.write_enable, self.code.encode(self.write_data), word)),
            ram.write_enable.eq(self.write_enable | self.scrubbed),
            self.scrubbed.eq(writing & bad & ~again),
        ]
        m.d.control += [read.eq(ram.read_data), word.eq(checked.word), bad.eq(checked.corrected)]
        m.d.control += reading.eq(~again & ~reading & ~deciding & ~writing)
        m.d.control += [deciding.eq(reading & ~again), writing.eq(deciding & ~again)]
        m.d.comb += self.noticed.eq(deciding & ~again & checked.detected)
        with m.If(writing & ~again):
            m.d.control += at.eq(Mux(at == self.depth - 1, 0, at + 1))
        return m


class ParityRam(wiring.Component):
    """The ports of `memory.Ram` that holds what it has read, with a bit of parity on every word and no clock more for a
    read. `used` says that the data of this clock is used, `detected` that such a word has another parity."""

    def __init__(self, *, width: int, depth: int, init: Sequence[int] = (), file: str = "") -> None:
        self.code = Parity(width)
        stored = [self.code.encoded(word) for word in init]
        self.ram = Ram(width=width + 1, depth=depth, init=stored, file=file, holds=True)
        bits = self.ram.address_bits
        super().__init__(
            {
                "read_address": In(bits),
                "read_enable": In(1),
                "read_data": Out(width),
                "write_address": In(bits),
                "write_data": In(width),
                "write_enable": In(1),
                "used": In(1),
                "detected": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        checked = self.code.read(m, ram.read_data)
        m.d.comb += [
            ram.read_address.eq(self.read_address),
            ram.read_enable.eq(self.read_enable),
            ram.write_address.eq(self.write_address),
            ram.write_data.eq(self.code.encode(self.write_data)),
            ram.write_enable.eq(self.write_enable),
            self.read_data.eq(checked.data),
            self.detected.eq(self.used & checked.detected),
        ]
        return m
