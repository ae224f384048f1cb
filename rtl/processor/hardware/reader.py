"""Reads runs of weight words from a memory outside, ahead of the applier: an AXI4 read master.

run of words ──► bursts ──► AR
                        R ──► buffer (`Memories.weights`) ──► a word a clock, in the order of the runs
"""

from __future__ import annotations

from amaranth import Cat, Elaboratable, Module, Mux, Signal

from ...interface import memory_pins
from ..description import Description
from ..outside import BUFFER, BURST

__all__ = ["Reader"]

INCR, MODIFIABLE = 0b01, 0b0011
"""ARBURST of addresses that rise; ARCACHE of normal memory that nobody caches."""


class Reader(Elaboratable):
    """In a clock with `start`, which may be while `free`, a run of `more` + 1 words from word `first` on is asked for.
    `available`: the oldest word of all runs that nobody took is in the buffer, at `read_address`; `take` takes it.
    `write_*`: into the buffer.

    `base`: number of the page where the words begin. `flush` drops all runs and words, those under way too, which the
    memory still sends: `free` is 0 until they have come. `failed`: RRESP of the first beat that was not OKAY, 0 while
    there is none; from then on no word is available, and nothing is asked for, until a flush. `pins`: of the bus, by
    name. A flush does not reach them: an address that is offered stays.
    """

    def __init__(self, description: Description) -> None:
        core = description.core
        self.beat_bytes = description.beat_bytes
        weight_bits = max((core.weight_words - 1).bit_length(), 1)
        run_bits = max(description.run_words - 1, 1).bit_length()
        self.start, self.free, self.flush = Signal(name="run_start"), Signal(), Signal(name="flush")
        self.first, self.more = Signal(weight_bits), Signal(run_bits)
        self.take, self.available = Signal(name="word_take"), Signal()
        self.read_address, self.write_address = (Signal(range(BUFFER), name=f"buffer_{n}") for n in ("out", "in"))
        self.write_enable, self.write_data = Signal(), Signal(core.lanes * core.code_bits + core.group_bits)
        self.base, self.failed = Signal(20, name="page"), Signal(2, name="read_failed")
        self.going = Signal(name="run_going")
        self.pins = {
            name: Signal(member.shape, name=f"axi_{name}") for name, member in memory_pins(8 * self.beat_bytes).items()
        }

    def elaborate(self, platform: object) -> Module:
        m, pins = Module(), self.pins
        at, left = Signal.like(self.first, name="run_at"), Signal(len(self.more) + 1, name="run_left")
        promised, filled = (Signal(range(BUFFER + 1), name=f"words_{n}") for n in ("promised", "filled"))
        pending, dropping = Signal(range(2 * BUFFER + 1), name="beats_pending"), Signal(name="dropping")
        shift, size = self.beat_bytes.bit_length() - 1, BURST.bit_length() - 1
        offered, address = Signal(name="address_offered"), Signal(32 - shift, name="burst_address")
        length, beats = Signal(range(BURST + 1), name="burst_beats"), Signal(8, name="burst_more")
        whole, asks = Signal(range(BURST + 1)), Signal()
        came = pins["rvalid"] & pins["rready"]
        keeps = came & ~dropping & ~self.flush
        m.d.comb += [
            whole.eq(BURST - at[:size]),
            length.eq(Mux(left < whole, left, whole)),
            asks.eq(self.going & (promised <= BUFFER - BURST) & ~offered & ~self.failed.any() & ~self.flush),
            self.free.eq((~self.going | (asks & (left == length))) & ~dropping & ~self.failed.any()),
            self.available.eq((filled != 0) & ~self.failed.any()),
            self.write_enable.eq(keeps),
            self.write_data.eq(pins["rdata"]),
            pins["arvalid"].eq(offered),
            pins["araddr"].eq(address << shift),
            pins["arlen"].eq(beats),
            pins["arsize"].eq(shift),
            pins["arburst"].eq(INCR),
            pins["arcache"].eq(MODIFIABLE),
            pins["rready"].eq(1),
        ]
        with m.If(pins["arready"]):
            m.d.control += offered.eq(0)
        with m.If(asks):
            m.d.control += [offered.eq(1), beats.eq(length - 1)]
            m.d.control += address.eq((self.base << 12 - shift) + at)
            m.d.control += [at.eq(at + length), left.eq(left - length), self.going.eq(left != length)]
        with m.If(self.start):
            m.d.control += [self.going.eq(1), at.eq(self.first), left.eq(self.more + 1)]
        asked = Mux(asks, length, 0)
        m.d.control += [
            promised.eq(promised + asked - self.take),
            filled.eq(filled + keeps - self.take),
            pending.eq(pending + asked - came),
            self.read_address.eq(self.read_address + self.take),
            self.write_address.eq(self.write_address + keeps),
            dropping.eq(dropping & (pending != 0)),
        ]
        with m.If(keeps & ~self.failed.any()):
            m.d.control += self.failed.eq(pins["rresp"])
        with m.If(self.flush):
            cleared = (promised, filled, self.read_address, self.write_address, self.going, self.failed)
            m.d.control += [Cat(*cleared).eq(0), dropping.eq(1)]
        return m
