"""AXI4-Stream and AXI4-Lite around any engine: the core as a system on chip or a board sees it.

s_axis ──► framing ──► engine ──► framing ──► m_axis (TUSER: ticks made)
s_axil ──► registers: control, status, schedule, counters, weight load
                      engine ──► trace_* (absent without a trace)
inject_* ───────────► engine     (absent without saboteurs)
                      engine ──► guard: watchdog, error counters (absent without hardening)
"""

from __future__ import annotations

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from eqcompile.toolchain.ir import Schedule

from .failure import MemoryFailure
from .harden.guard import Guard
from .harden.tmr import merge_control
from .interface import Engine, Port
from .registers import ID, Register

__all__ = ["SLVERR", "Shell"]

SLVERR = 0b10
"""Response to what the registers do not take: an unknown address, a write to a read-only register, strobes that do not
cover the word, an address between two registers, zero or too many steps or frames, a weight word while the engine is
busy."""

ADDRESS_BITS = 8
COUNTER_BITS = 32
TICK_BITS = 16


def _codes(tdata: Value, port: Port) -> Value:
    """The codes of a beat side by side: what stands above each code's bits is not read."""
    return Cat(tdata[8 * port.bytes * i :][: port.format.bits] for i in range(port.beat))


class _Reading:
    """The registers through which a host reads memories: a word is there two clocks after its address, and no read is
    taken before."""

    def __init__(self, m: Module, engine: Engine) -> None:
        self.m = m
        self.memory, self.address = Signal(24, name="read_memory"), Signal(32, name="read_address")
        self.moved, waits = Signal(), Signal(2, name="read_waits")
        m.d.control += waits.eq(Cat(self.moved, waits[0]))
        m.d.comb += [
            Cat(engine.read_memory, engine.read_part).eq(self.memory),
            engine.read_address.eq(self.address),
        ]
        self.ready = ~waits.any()
        self.registers: dict[Register, Value] = {
            Register.READ_MEMORY: self.memory,
            Register.READ_ADDRESS: self.address,
            Register.READ_DATA: engine.read_data,
        }

    def choose(self, data: Value) -> None:
        """Another memory, or other bits of its words."""
        self.m.d.comb += self.moved.eq(1)
        self.m.d.control += self.memory.eq(data)

    def goto(self, address: Value) -> None:
        """Another word."""
        self.m.d.comb += self.moved.eq(1)
        self.m.d.control += self.address.eq(address)


class Shell(wiring.Component):
    """The core: `engine` behind its buses. Registers as in `Register`, reset to `schedule`.

    One input frame gives one result frame. TDATA carries `Port.beat` codes, each sign- or zero-extended to
    `Port.bytes`, the first one lowest; what stands above a code's bits is not read. There is no TKEEP: what the last
    beat of a frame has beyond `Port.count` codes is not read, and written as zeros. A frame whose TLAST comes early is
    filled up with zeros, one whose TLAST comes late is cut off; either adds one to ERRORS, and the next frame is whole
    again. TUSER of the result: ticks made.

    An engine that takes sequences takes FRAMES input frames for each; it gives one result frame for all of them, or one
    for each, whose TUSER counts from the first on.

    A soft reset drops the sample at hand, in both directions, and leaves registers and weights alone. It waits until a
    beat that is offered on the result side is taken; a result frame that has begun is then filled up with zeros, with
    TUSER 0, which no result has, in its last beat. CONTROL reads 1 until that has happened.

    An engine with hardening may give up a sample: its result frame ends in the same way, and what is left of the input
    frame is dropped. That waits for nobody: a beat that is offered then stays until it is taken, while the engine is
    idle again. So the engine's run ends within the bound of `harden.watchdog` whatever the reader does, and its frame
    with the last of `Port.beats` beats that the reader takes.

    An engine that reads weights from a memory outside gives up a sample when that answers with an error: what was
    offered is taken, the result frame ends with zeros and TUSER 0, what is left of the input frame is dropped, and no
    sample begins until a soft reset or an image.

    No READY depends on a VALID of the same clock: address and data of a write are taken together, one clock after both
    are there.
    """

    def __init__(self, engine: Engine, *, schedule: Schedule) -> None:
        inner = engine.signature
        self.engine, self.schedule = engine, schedule
        self.x_port, self.y_port = inner.x_port, inner.y_port
        members: dict[str, In | Out] = {
            "s_axis_tdata": In(inner.x_port.tdata_bits),
            "s_axis_tvalid": In(1),
            "s_axis_tready": Out(1),
            "s_axis_tlast": In(1),
            "m_axis_tdata": Out(inner.y_port.tdata_bits),
            "m_axis_tvalid": Out(1),
            "m_axis_tready": In(1),
            "m_axis_tlast": Out(1),
            "m_axis_tuser": Out(TICK_BITS),
            "s_axil_awaddr": In(ADDRESS_BITS),
            "s_axil_awprot": In(3),
            "s_axil_awvalid": In(1),
            "s_axil_awready": Out(1),
            "s_axil_wdata": In(32),
            "s_axil_wstrb": In(4),
            "s_axil_wvalid": In(1),
            "s_axil_wready": Out(1),
            "s_axil_bresp": Out(2),
            "s_axil_bvalid": Out(1),
            "s_axil_bready": In(1),
            "s_axil_araddr": In(ADDRESS_BITS),
            "s_axil_arprot": In(3),
            "s_axil_arvalid": In(1),
            "s_axil_arready": Out(1),
            "s_axil_rdata": Out(32),
            "s_axil_rresp": Out(2),
            "s_axil_rvalid": Out(1),
            "s_axil_rready": In(1),
        }
        self.traced = tuple(name for name in inner.members if name.startswith("trace_"))
        members |= {name: inner.members[name] for name in self.traced}
        self.injected = tuple(name for name in inner.members if name.startswith("inject_"))
        members |= {name: inner.members[name] for name in self.injected}
        self.streamed = tuple(name for name in inner.members if name.startswith("m_axi_"))
        members |= {name: inner.members[name] for name in self.streamed}
        self.loads = "load_data" in inner.members
        self.guard = Guard(span=engine.watched_span) if "harden_idle" in inner.members else None
        self.restart = Signal(name="restart")
        """The clock of a soft reset."""
        self.stalled = Signal(name="stalled")
        self.closing = Signal(name="closing")
        """A result waits for its reader; a soft reset has cut off a result, whose frame is being filled up."""
        self.failure = MemoryFailure() if self.streamed else None
        super().__init__(members)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.engine = self.engine
        errors = Signal(COUNTER_BITS)
        stalls = Signal(COUNTER_BITS)
        results = Signal(COUNTER_BITS)
        made = Signal(TICK_BITS, name="made")
        self._input(m, errors)
        self._output(m, stalls, results, made)
        self._registers(m, errors, stalls, results, made)
        if self.guard is not None:
            self._guard(m, self.guard)
        for name in self.traced:
            m.d.comb += Value.cast(getattr(self, name)).eq(Value.cast(getattr(self.engine, name)))
        for name in self.injected:
            m.d.comb += getattr(self.engine, name).eq(getattr(self, name))
        for name in self.streamed:
            mine, its = getattr(self, name), getattr(self.engine, name)
            m.d.comb += its.eq(mine) if self.signature.members[name].flow == In else mine.eq(its)
        return merge_control(m, voted=self.engine.voted)

    def _input(self, m: Module, errors: Signal) -> None:
        """Beats into the engine, exactly `x_port.beats` a frame."""
        x, last_index = self.engine.x, self.engine.lasts[0]
        index = Signal.like(last_index, init=0, name="index")
        filling = Signal(name="filling")
        cutting = Signal(name="cutting")
        passing = ~(filling | cutting | self.engine.restart)
        if self.guard is not None:
            passing &= ~self.guard.closing
        if self.failure is not None:
            passing &= ~self.failure.any
        last = Signal()
        m.d.comb += [
            last.eq(index == last_index),
            x.valid.eq(Mux(passing, self.s_axis_tvalid, filling & ~self.engine.restart)),
            x.payload.eq(Mux(filling, 0, _codes(self.s_axis_tdata, self.x_port))),
            self.s_axis_tready.eq(Mux(passing, x.ready, cutting & ~self.engine.restart)),
        ]
        with m.If(x.valid & x.ready):
            m.d.control += index.eq(Mux(last, 0, index + 1))
            with m.If(filling):
                m.d.control += filling.eq(~last)
            with m.Elif(self.s_axis_tlast != last):
                m.d.sync += errors.eq(errors + 1)
                m.d.control += [filling.eq(~last), cutting.eq(last)]
        with m.If(cutting & self.s_axis_tvalid & self.s_axis_tlast):
            m.d.control += cutting.eq(0)
        with m.If(self.engine.restart):
            m.d.control += [index.eq(0), filling.eq(0), cutting.eq(0)]
        inside = (index != 0) & ~filling & ~cutting
        if self.failure is not None:
            with m.If(self.failure.spoils):
                m.d.control += cutting.eq(inside | cutting)
        if self.guard is not None:
            m.d.comb += self.guard.begins.eq(index == 0)
            with m.If(self.guard.abort):
                m.d.control += cutting.eq(inside | cutting)

    def _output(self, m: Module, stalls: Signal, results: Signal, made: Signal) -> None:
        """Beats out of the engine, TLAST on the last one of a result."""
        y, port = self.engine.y, self.y_port
        last_index = self.engine.lasts[1]
        index = Signal.like(last_index, init=0, name="index")
        payload, bits = Value.cast(y.payload), port.format.bits
        for i in range(port.beat):
            code = payload[bits * i : bits * (i + 1)]
            lane = self.m_axis_tdata[8 * port.bytes * i : 8 * port.bytes * (i + 1)]
            m.d.comb += lane.eq(code.as_signed() if port.format.signed else code)
        m.d.comb += [
            self.m_axis_tvalid.eq(y.valid & ~self.engine.restart),
            y.ready.eq(self.m_axis_tready & ~self.engine.restart & ~self.closing),
            self.m_axis_tlast.eq(index == last_index),
            self.m_axis_tuser.eq(self.engine.made),
            self.stalled.eq(self.m_axis_tvalid & ~self.m_axis_tready),
        ]
        ended = self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast
        with m.If(self.m_axis_tvalid):
            with m.If(~self.m_axis_tready):
                m.d.sync += stalls.eq(stalls + 1)
            with m.Else():
                m.d.control += index.eq(Mux(self.m_axis_tlast, 0, index + 1))
                with m.If(self.m_axis_tlast & ~self.closing):
                    m.d.sync += results.eq(results + 1)
                    m.d.control += made.eq(self.m_axis_tuser)
        # What a soft reset cut off.
        cuts_off = self.restart & (index != 0)
        if self.failure is not None:
            cuts_off = cuts_off | self.failure.spoils
        with m.If(cuts_off):
            m.d.control += self.closing.eq(1)
        with m.Elif(ended):
            m.d.control += self.closing.eq(0)
        closing = self.closing
        if self.guard is not None:
            m.d.comb += self.guard.ended.eq(ended & ~self.closing)
            closing = closing | self.guard.closing
        with m.If(closing):
            m.d.comb += [self.m_axis_tvalid.eq(~self.restart), self.m_axis_tdata.eq(0), self.m_axis_tuser.eq(0)]
        if self.guard is not None:
            self._hold(m)

    def _hold(self, m: Module) -> None:
        """A beat that waits for its reader stays as it was offered: the guard restarts the engine behind it at once."""
        holding = Signal(name="holding")
        offer = Cat(self.m_axis_tdata, self.m_axis_tuser)
        kept = Signal(len(offer), name="kept")
        m.d.control += holding.eq(self.stalled)
        m.d.sync += kept.eq(offer)
        with m.If(holding):
            m.d.comb += [self.m_axis_tvalid.eq(1), offer.eq(kept)]

    def _guard(self, m: Module, guard: Guard) -> None:
        engine = self.engine
        m.submodules.guard = guard
        m.d.comb += [
            guard.steps.eq(engine.steps),
            guard.idle.eq(engine.harden_idle),
            guard.tick.eq(engine.harden_tick),
            guard.takes.eq(engine.x.valid & engine.x.ready),
            # The host's pace counts for nothing, unless the engine waits for a beat that no frame has.
            guard.held.eq((~engine.x.valid & (~guard.begins | guard.idle)) | (engine.y.valid & ~engine.y.ready)),
            guard.faults.eq(engine.harden_faults),
            guard.noticed.eq(engine.harden_noticed),
            guard.corrected.eq(engine.harden_corrected),
        ]

    def _registers(self, m: Module, errors: Signal, stalls: Signal, results: Signal, made: Signal) -> None:
        engine = self.engine
        steps = Signal(TICK_BITS, init=self.schedule.steps, name="steps")
        tolerance = Signal(TICK_BITS, init=self.schedule.tolerance, name="tolerance")
        frames = Signal(TICK_BITS, init=1, name="frames")
        written = Signal(name="written")
        asked = Signal(name="asked")
        # Not while a beat is offered: AXI takes no offer back.
        acts = asked & ~self.stalled
        if self.failure is not None:
            acts = acts | self.failure.watch(m, engine, asked, self.restart, self.stalled)
        load_address = Signal(len(engine.load_address) if self.loads else 0, name="load_address")
        m.d.comb += [engine.steps.eq(steps), engine.tolerance.eq(tolerance), engine.restart.eq(self.restart)]
        if self.guard is not None:
            # One register for the host's restarts and the guard's: the longest paths begin there.
            both = Signal(name="restart")
            m.d.control += both.eq(acts | self.guard.aborts)
            m.d.comb += [engine.restart.eq(both), self.guard.restart.eq(self.restart)]
        m.d.control += [self.restart.eq(acts), asked.eq(asked & self.stalled)]
        with m.If(results != 0):
            m.d.control += written.eq(1)

        readable: dict[Register, Value | int] = {
            Register.ID: ID,
            Register.CONTROL: asked | self.restart | self.closing,
            Register.STATUS: Cat(engine.busy, written | (results != 0)),
            Register.STEPS: steps,
            Register.TOLERANCE: tolerance,
            Register.MADE: made,
            Register.RESULTS: results,
            Register.STALLS: stalls,
            Register.ERRORS: errors,
        }
        if self.loads:
            readable[Register.LOAD_ADDRESS] = load_address
        base = Signal(20, name="weights_base")
        if self.failure is not None:
            failed = self.failure.any, Const(0, 1), self.failure.response
            readable[Register.STATUS] = Cat(readable[Register.STATUS], *failed)
            readable |= {Register.WEIGHTS_BASE: Cat(Const(0, 12), base), Register.WEIGHTS_CRC: engine.weights_crc}
            m.d.comb += engine.weights_base.eq(base)
        if engine.signature.image:
            readable |= {Register.IMAGE: engine.image_status, Register.IMAGE_CRC: engine.image_crc}
        if engine.signature.frames:
            readable[Register.FRAMES] = frames
            m.d.comb += engine.frames.eq(frames)
        reading = _Reading(m, engine) if engine.signature.readback else None
        if reading is not None:
            readable |= reading.registers
        if self.guard is not None:
            readable[Register.FAULTS] = self.guard.flags
            readable |= {Register.CORRECTED: self.guard.corrected_count, Register.DETECTED: self.guard.detected_count}
        free = ~self.s_axil_rvalid
        m.d.comb += self.s_axil_arready.eq(free if reading is None else free & reading.ready)
        with m.If(self.s_axil_rvalid & self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)
        with m.If(self.s_axil_arvalid & self.s_axil_arready):
            m.d.sync += [self.s_axil_rvalid.eq(1), self.s_axil_rdata.eq(0), self.s_axil_rresp.eq(SLVERR)]
            with m.Switch(self.s_axil_araddr):
                for register, value in readable.items():
                    with m.Case(register):
                        m.d.sync += [self.s_axil_rdata.eq(value), self.s_axil_rresp.eq(0)]
                        if reading is not None and register is Register.READ_DATA:
                            reading.goto(reading.address + 1)

        if engine.signature.image:
            with m.If(engine.image_begins):
                m.d.control += [steps.eq(engine.image_steps), tolerance.eq(engine.image_tolerance)]

        data = self.s_axil_wdata
        take = Signal(name="take")
        # Address and data are taken together, a clock after both are there: one response is pending at a time.
        m.d.control += take.eq(self.s_axil_awvalid & self.s_axil_wvalid & ~self.s_axil_bvalid & ~take)
        m.d.comb += [self.s_axil_awready.eq(take), self.s_axil_wready.eq(take)]
        with m.If(self.s_axil_bvalid & self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(take):
            m.d.sync += [self.s_axil_bvalid.eq(1), self.s_axil_bresp.eq(SLVERR)]
            accepted = self.s_axil_bresp.eq(0)
            fits = data[TICK_BITS:] == 0
            with m.If(self.s_axil_wstrb.all()), m.Switch(self.s_axil_awaddr):
                with m.Case(Register.CONTROL):
                    m.d.sync += accepted
                    with m.If(data[0]):
                        m.d.control += asked.eq(1)
                with m.Case(Register.STEPS), m.If(fits & (data != 0)):
                    m.d.sync += accepted
                    m.d.control += steps.eq(data)
                with m.Case(Register.TOLERANCE), m.If(fits):
                    m.d.sync += accepted
                    m.d.control += tolerance.eq(data)
                if engine.signature.frames:
                    with m.Case(Register.FRAMES), m.If(fits & (data != 0)):
                        m.d.sync += accepted
                        m.d.control += frames.eq(data)
                if reading is not None:
                    with m.Case(Register.READ_MEMORY), m.If((data[24:] == 0) & ~engine.busy):
                        m.d.sync += accepted
                        reading.choose(data)
                    with m.Case(Register.READ_ADDRESS):
                        m.d.sync += accepted
                        reading.goto(data)
                if self.failure is not None:
                    with m.Case(Register.WEIGHTS_BASE), m.If(~engine.busy & (data[:12] == 0)):
                        m.d.sync += accepted
                        m.d.control += base.eq(data[12:])
                if self.loads:
                    with m.Case(Register.LOAD_ADDRESS), m.If(data[len(load_address) :] == 0):
                        m.d.sync += accepted
                        m.d.control += load_address.eq(data)
                    with m.Case(Register.LOAD_DATA), m.If(~engine.busy):
                        m.d.comb += [
                            engine.load_address.eq(load_address),
                            engine.load_data.eq(data),
                            engine.load_enable.eq(1),
                        ]
                        m.d.sync += accepted
                        m.d.control += load_address.eq(load_address + 1)
                if self.guard is not None:
                    with m.Case(Register.FAULTS), m.If(data[len(self.guard.flags) :] == 0):
                        m.d.comb += self.guard.clear.eq(data)
                        m.d.sync += accepted
