"""A UART, 8N1: one start bit (low), eight data bits with the lowest first, one stop bit (high); the idle line is high.

`divisor` is the number of clocks a bit. The receiver takes each bit in its middle, so that sender and receiver may
differ by up to 4 % in speed.
"""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["Receiver", "Transmitter"]

_BITS = 10


class Receiver(wiring.Component):
    """Pin `rx` to bytes. `valid` is high for one clock a byte. `lost` is high for one clock where the stop bit is low:
    a break, noise, or another rate; the receiver then waits until the line is high.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "data": Out(8), "valid": Out(1), "lost": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        timer = Signal(range(self.divisor))
        bit = Signal(range(_BITS))
        shift = Signal(8)
        m.d.comb += self.data.eq(shift)
        with m.FSM():
            with m.State("IDLE"), m.If(~line):
                m.d.sync += [timer.eq(self.divisor // 2 - 1), bit.eq(0)]
                m.next = "BIT"
            with m.State("BIT"):
                m.d.sync += timer.eq(timer - 1)
                with m.If(timer == 0):
                    m.d.sync += [timer.eq(self.divisor - 1), bit.eq(bit + 1)]
                    with m.If(bit == _BITS - 1):
                        m.d.comb += [self.valid.eq(line), self.lost.eq(~line)]
                        m.next = "RELEASE"
                    with m.Elif(bit != 0):
                        m.d.sync += shift.eq(Cat(shift[1:], line))
                    with m.Elif(line):
                        # A start bit that is over by its middle was a glitch.
                        m.next = "IDLE"
            with m.State("RELEASE"), m.If(line):
                m.next = "IDLE"
        return m


class Transmitter(wiring.Component):
    """Bytes to pin `tx`."""

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"data": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer = Signal(range(self.divisor))
        left = Signal(range(_BITS + 1))
        shift = Signal(_BITS, init=-1)
        m.d.comb += [self.tx.eq(shift[0]), self.data.ready.eq(left == 0)]
        with m.If(left == 0):
            with m.If(self.data.valid):
                m.d.sync += [shift.eq(Cat(0, self.data.payload, 1)), left.eq(_BITS), timer.eq(self.divisor - 1)]
        with m.Elif(timer == 0):
            m.d.sync += [shift.eq(Cat(shift[1:], 1)), left.eq(left - 1), timer.eq(self.divisor - 1)]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m
