"""An engine behind a UART: the protocol between a host and a board.

The host asks, the board answers, one request at a time. Numbers are little-endian; a code has 1, 2, 4 or 8 bytes
(`Port.bytes`), sign- or zero-extended.

    host                                      board
    b"I"                                      b"I", identity u32 (first 4 bytes of the net's digest)
    b"C", steps u16, tolerance u16            b"K"
    b"W", address u32, count u32, words u32   b"K"                    (engines with loadable weights)
    b"S", every code of one sample            b"R", ticks made u16, every output code
    any other byte                            b"E"

A break (the line low for longer than a byte), or any byte whose stop bit is low, drops the request and the sample at
hand and sets steps and tolerance back to the net's schedule; weights stay. The board does not answer it. So a host
that does not know where the board is sends a break and then b"I". What a host sends before an answer has ended is lost.
"""

from __future__ import annotations

from enum import IntEnum

from amaranth import Cat, Const, Module, ResetInserter, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import Schedule

from ..interface import Engine, EngineSignature
from .uart import Receiver, Transmitter

__all__ = ["Command", "Link", "Protocol"]


class Command(IntEnum):
    """First byte of a request or an answer."""

    IDENTIFY = ord("I")
    CONFIGURE = ord("C")
    WRITE = ord("W")
    SAMPLE = ord("S")
    RESULT = ord("R")
    DONE = ord("K")
    UNKNOWN = ord("E")


class Protocol(wiring.Component):
    """Requests in, answers out, and the engine of this `signature` between them.

    A whole sample is buffered: an engine may take its input more slowly than the line brings it. Reset by a break.
    Raises UnsupportedError for streams with several codes a beat.
    """

    def __init__(self, signature: EngineSignature, *, identity: int, steps: int, tolerance: int) -> None:
        self.identity, self.steps, self.tolerance = identity, steps, tolerance
        self.x_port, self.y_port = signature.x_port, signature.y_port
        wide = [(name, port.beat) for name, port in (("x", self.x_port), ("y", self.y_port)) if port.beat != 1]
        if wide:
            # Amaranth warns of components that are never elaborated; this one will not be.
            self._MustUse__used = True
            raise UnsupportedError(
                [
                    Diagnostic(
                        "rtl-board-beat",
                        f"a beat has {beat} codes, a UART takes 1",
                        name,
                        "no --beat, no --result-beat",
                    )
                    for name, beat in wide
                ]
            )
        self.loads = "load_data" in signature.members
        members: dict[str, In | Out] = {
            "received": In(8),
            "valid": In(1),
            "answer": Out(stream.Signature(8)),
            "engine": In(signature),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        engine = self.engine
        m.submodules.buffer = buffer = fifo.SyncFIFOBuffered(width=self.x_port.format.bits, depth=self.x_port.count)
        m.d.comb += [
            engine.x.payload.eq(buffer.r_data),
            engine.x.valid.eq(buffer.r_rdy),
            buffer.r_en.eq(engine.x.ready),
        ]
        steps, tolerance = Signal(16, init=self.steps), Signal(16, init=self.tolerance)
        m.d.comb += [engine.steps.eq(steps), engine.tolerance.eq(tolerance)]

        request = Signal(8)
        bytes_left = Signal(4)
        item_bytes = Signal(4)
        items_left = Signal(32)
        word_bytes = max(4, self.x_port.bytes)
        word = Signal(8 * word_bytes)
        x_code = word[8 * (word_bytes - self.x_port.bytes) :][: self.x_port.format.bits]
        last4 = word[8 * (word_bytes - 4) :]
        answer_bits = 8 * max(5, self.y_port.bytes)
        answer, answer_left = Signal(answer_bits), Signal(4)
        results_left = Signal(range(self.y_port.count + 1))
        load_header = Signal(2)
        load_address = Signal(len(engine.load_address) if self.loads else 1)

        def read(items: int, size: int) -> None:
            m.d.sync += [items_left.eq(items), item_bytes.eq(size), bytes_left.eq(size)]
            m.next = "READ"

        def say(value: Value, size: int) -> None:
            m.d.sync += [answer.eq(value), answer_left.eq(size)]
            m.next = "SAY"

        with m.FSM():
            with m.State("IDLE"), m.If(self.valid):
                m.d.sync += [request.eq(self.received), load_header.eq(0)]
                with m.Switch(self.received):
                    with m.Case(Command.IDENTIFY):
                        say(Cat(Const(Command.IDENTIFY, 8), Const(self.identity, 32)), 5)
                    with m.Case(Command.CONFIGURE):
                        read(1, 4)
                    with m.Case(Command.SAMPLE):
                        m.d.sync += results_left.eq(self.y_port.count)
                        read(self.x_port.count, self.x_port.bytes)
                    if self.loads:
                        with m.Case(Command.WRITE):
                            read(2, 4)
                    with m.Default():
                        say(Const(Command.UNKNOWN, 8), 1)
            with m.State("READ"), m.If(self.valid):
                m.d.sync += [word.eq(Cat(word[8:], self.received)), bytes_left.eq(bytes_left - 1)]
                with m.If(bytes_left == 1):
                    m.d.sync += [items_left.eq(items_left - 1), bytes_left.eq(item_bytes)]
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.next = "READ"
                with m.If(items_left == 0):
                    m.next = "WAIT"
                with m.Switch(request):
                    with m.Case(Command.SAMPLE):
                        m.d.comb += [buffer.w_data.eq(x_code), buffer.w_en.eq(1)]
                    with m.Case(Command.CONFIGURE):
                        m.d.sync += [steps.eq(last4[:16]), tolerance.eq(last4[16:])]
                    if self.loads:
                        with m.Case(Command.WRITE):
                            with m.If(load_header == 0):
                                m.d.sync += [load_address.eq(last4), load_header.eq(1)]
                            with m.Elif(load_header == 1):
                                # A count of 0 would be 2^32 words; it is answered at once.
                                m.d.sync += [items_left.eq(last4), load_header.eq(2)]
                                m.next = "READ"
                                with m.If(last4 == 0):
                                    m.next = "WAIT"
                            with m.Else():
                                m.d.comb += [
                                    engine.load_address.eq(load_address),
                                    engine.load_data.eq(last4),
                                    engine.load_enable.eq(1),
                                ]
                                m.d.sync += load_address.eq(load_address + 1)
            with m.State("WAIT"):
                with m.If(request != Command.SAMPLE):
                    say(Const(Command.DONE, 8), 1)
                with m.Elif(engine.y.valid):
                    say(Cat(Const(Command.RESULT, 8), engine.made), 3)
            with m.State("SAY"), m.If(self.answer.ready):
                m.d.sync += [answer.eq(answer[8:]), answer_left.eq(answer_left - 1)]
                with m.If(answer_left == 1):
                    m.next = "IDLE"
                    with m.If((request == Command.SAMPLE) & (results_left != 0)):
                        m.next = "CODE"
            with m.State("CODE"), m.If(engine.y.valid):
                m.d.comb += engine.y.ready.eq(1)
                m.d.sync += results_left.eq(results_left - 1)
                code = Value.cast(engine.y.payload)
                say(code.as_signed() if self.y_port.format.signed else code.as_unsigned(), self.y_port.bytes)
        m.d.comb += [self.answer.payload.eq(answer[:8]), self.answer.valid.eq(answer_left != 0)]
        return m


class Link(wiring.Component):
    """`engine` behind a UART of `divisor` clocks a bit. `identity` is what b"I" answers; `steps` and `tolerance` are
    the net's schedule. `busy` is the engine's.
    """

    def __init__(self, engine: Engine, *, divisor: int, identity: int, schedule: Schedule) -> None:
        self.engine, self.divisor, self.identity, self.schedule = engine, divisor, identity, schedule
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = Receiver(self.divisor)
        m.submodules.transmitter = transmitter = Transmitter(self.divisor)
        m.submodules.engine = self.engine
        protocol = Protocol(
            self.engine.signature,
            identity=self.identity,
            steps=self.schedule.steps,
            tolerance=self.schedule.tolerance,
        )
        m.submodules.protocol = ResetInserter(receiver.lost)(protocol)
        wiring.connect(m, protocol.engine, self.engine)
        wiring.connect(m, protocol.answer, transmitter.data)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            protocol.received.eq(receiver.data),
            protocol.valid.eq(receiver.valid),
            protocol.engine.restart.eq(receiver.lost),
            self.busy.eq(self.engine.busy),
        ]
        return m
