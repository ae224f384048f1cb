"""The logic of a processor: memories, pipeline, applier, and the sequencer that fetches instructions for them."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value

from ...harden.memory import CheckedRam
from ...interface import Engine
from ...relaxation import Schedule
from ..compiler import Program
from ..description import Description
from ..encoding import Opcode, record_bits
from ..isa import Repeats
from ..outside import BUFFER
from .applier import Applier
from .loader import Loader
from .memories import Memories
from .pipeline import Pipeline
from .readback import Readback
from .reader import Reader
from .record import Record
from .tokens import choose

__all__ = ["Logic"]


class Logic:
    """Builds the module `m` of an engine that starts with a program, on the core of a description, and whose memories
    `loader` writes, and `readback` reads; `reader`: of weights in a memory outside, None where the core has them."""

    def __init__(
        self,
        engine: Engine,
        program: Program,
        description: Description,
        loader: Loader,
        readback: Readback | None = None,
        reader: Reader | None = None,
    ) -> None:
        image, features = program.image, description.features
        self.engine, self.core, self.features = engine, image.core, features
        self.states, self.nesting = program.states, description.nesting
        self.m = m = Module()
        self.schedule = Schedule(m, engine)
        self.word = Signal(record_bits(self.core), name="record")
        self.record = Record(self.core, self.word)
        buffer = 0 if reader is None else BUFFER
        self.memories = Memories(m, image, features, description.run_words, buffer, engine.harden)
        self.begins, self.ticks, self.waits_for_sample = Signal(), Signal(), Signal()
        self.pipeline = Pipeline(m, engine, self.memories, features, self.word, self.schedule.tolerance)
        self.applier = Applier(m, self.memories, self.pipeline, self.word, features.kernels, reader)
        self.clearing = Signal(name="clearing")
        self.clear_bank = Signal(4, name="clear_bank")
        self.clear_address = Signal(self.core.address_bits, name="clear_address")
        self.looking = Signal(name="gate_looks")
        self.gate_word = self.record.of(Opcode.GATE, "word_base").as_unsigned()
        self._banks()
        loader.connect(m, self.memories)
        if engine.signature.traced:
            self._trace()
        self._sequencer(self.core.program_words)
        if readback is not None:
            readback.connect(m, self.memories)

    def _banks(self) -> None:
        """Who reads and writes each bank."""
        m, pipeline = self.m, self.pipeline
        widest = max((b.bits for b in self.core.banks if not b.sums), default=1)
        values = [Signal(Shape(widest, signed=True), name=f"written_{k}") for k in pipeline.lanes]
        m.d.comb += [v.eq(of) for v, of in zip(values, pipeline.values, strict=True)]
        for number, bank in enumerate(self.core.banks):
            ram, vector = self.memories.banks[number], pipeline.read_address(number)
            enable: Value = pipeline.reads(number)
            if number in self.features.gated:
                vector = Mux(
                    self.looking,
                    self.memories.word_of(number, self.gate_word),
                    vector,
                )
                enable = enable | self.looking
            clear: Value = self.clearing
            if self.features.cleared != {number}:
                clear = clear & (self.clear_bank == number)
            if bank.sums:
                self.applier.drive(number, clear, self.clear_address, vector, enable)
                continue
            m.d.comb += [
                ram.read_address.eq(vector),
                ram.read_enable.eq(enable),
                ram.write_address.eq(self.memories.word_of(number, pipeline.write_address)),
                ram.write_data.eq(Cat(value[: bank.bits] for value in values)),
                ram.write_enable.eq(Mux(pipeline.written & (pipeline.bank == number), pipeline.write_lanes, 0)),
            ]
            if number in self.features.cleared:
                with m.If(clear):
                    m.d.comb += [ram.write_address.eq(self.clear_address), ram.write_data.eq(0)]
                    m.d.comb += ram.write_enable.eq(-1)

    def _trace(self) -> None:
        """A copy of all states, for benches only."""
        m, engine, pipeline = self.m, self.engine, self.pipeline
        for name, units, fmt in engine.signature.states:
            bank, base, _ = self.states[name]
            registers = [Signal(fmt.bits, name=f"{name}_{k}_shown") for k in range(units)]
            shift, width = self.memories.width_bits, self.core.width
            with m.If(pipeline.written & (pipeline.bank == bank)):
                for k, register in enumerate(registers):
                    word, lane = divmod(base + k, width)
                    with m.If((pipeline.write_address >> shift == word) & pipeline.write_lanes[lane]):
                        m.d.sync += register.eq(pipeline.values[lane])
            engine.show(m, name, registers)

    def _sequencer(self, length: int) -> None:
        m, core, engine, r = self.m, self.core, self.engine, self.record
        pipeline, applier, memories = self.pipeline, self.applier, self.memories
        pc = Signal(range(max(length + 1, 2)), name="pc")
        m.d.comb += memories.program.read_address.eq(pc)
        depth = self.nesting
        level, moved = Signal(range(depth + 1), name="level"), Signal(name="moved")
        starts = [Signal.like(pc, name=f"loop_{k}_start") for k in range(depth)]
        count_bits = max(core.count_bits, 16 if Repeats.FRAMES in self.features.repeats else 0)
        lefts = [Signal(count_bits, name=f"loop_{k}_left") for k in range(depth)]
        settles = [Signal(name=f"loop_{k}_settles") for k in range(depth)]
        clear_left = Signal(core.count_bits, name="clear_left")
        with m.If(pipeline.moved):
            m.d.control += moved.eq(1)
        with m.If(self.clearing):
            m.d.control += [self.clear_address.eq(self.clear_address + 1), clear_left.eq(clear_left - 1)]
            m.d.control += self.clearing.eq(clear_left != 1)
        framed = Repeats.FRAMES in self.features.repeats
        steps_kept, frames_kept = Signal(16, name="steps_kept"), Signal(16, name="frames_kept")
        still = Signal(name="still")
        m.d.comb += still.eq(pipeline.idle & applier.idle & ~self.clearing)
        ended: Value = still
        if framed:
            # A net that emits a result for each frame does so in the loop of frames, others behind all loops.
            m.d.comb += pipeline.last_result.eq((level == 0) | (lefts[0] == 1))
            ended = still & ~engine.y.valid
            if engine.signature.traced:
                m.d.comb += engine.trace_frame.eq(frames_kept - lefts[0])
        after = "wait" if memories.lag else "take"
        with m.FSM(domain="control", name="sequencer_state") as machine:
            with m.State("fetch"):
                m.next = after
            if memories.lag:
                with m.State("wait"):
                    m.next = "take"
            with m.State("take"):
                memories.used(memories.program, Const(1))
                m.d.control += [self.word.eq(memories.program.read_data), pc.eq(pc + 1)]
                m.next = "go"
                if isinstance(memories.program, CheckedRam):
                    # An instruction that is not known is not begun: the bus shell ends the sample.
                    with m.If(memories.program.detected):
                        m.d.control += pc.eq(pc)
                        m.next = "fetch"
            with m.State("go"), m.Switch(r.opcode):
                with m.Case(Opcode.BEGIN), m.If(still & engine.x.valid):
                    m.d.control += [c.eq(0) for c in memories.counts]
                    m.d.control += [pipeline.young.eq(1), engine.busy.eq(1), level.eq(0)]
                    self.schedule.start()
                    if engine.harden:
                        m.d.comb += self.begins.eq(1)
                    if framed:
                        m.d.control += [steps_kept.eq(engine.steps), frames_kept.eq(engine.frames)]
                    m.next = "fetch"
                with m.Case(Opcode.VECTOR), m.If(still):
                    m.d.comb += pipeline.start.eq(1)
                    m.next = after
                with m.Case(Opcode.APPLY):
                    early = r.of(Opcode.APPLY, "early")
                    with m.If(applier.idle & ~self.clearing & (pipeline.idle | early)):
                        m.d.comb += applier.start.eq(1)
                        m.next = after
                with m.Case(Opcode.CLEAR), m.If(still):
                    bank, word = r.of(Opcode.CLEAR, "word_bank"), r.of(Opcode.CLEAR, "word_base")
                    m.d.control += [self.clearing.eq(1), self.clear_bank.eq(bank)]
                    m.d.control += self.clear_address.eq(memories.grouped(bank, word))
                    m.d.control += clear_left.eq(memories.groups(bank, r.of(Opcode.CLEAR, "words")))
                    m.next = after
                with m.Case(Opcode.LOOP), m.If(still):
                    settled = r.of(Opcode.LOOP, "repeats") == Repeats.SETTLED
                    for k in range(depth):
                        with m.If(level == k):
                            m.d.control += [starts[k].eq(pc), settles[k].eq(settled)]
                            count = r.of(Opcode.LOOP, "count")
                            if framed:
                                count = Mux(r.of(Opcode.LOOP, "repeats") == Repeats.FRAMES, frames_kept, count)
                            m.d.control += lefts[k].eq(count)
                    with m.If(settled):
                        m.d.control += moved.eq(0)
                        if framed:
                            m.d.control += self.schedule.left.eq(steps_kept)
                    m.d.control += level.eq(level + 1)
                    m.next = "fetch"
                with m.Case(Opcode.END), m.If(ended):
                    for k in range(depth):
                        with m.If(level == k + 1):
                            self._end(lefts[k], settles[k], moved, {"pc": pc, "start": starts[k], "level": level}, k)
                    m.next = "fetch"
                if self.features.gated:
                    with m.Case(Opcode.GATE), m.If(still):
                        m.d.comb += self.looking.eq(1)
                        m.next = "look"
                with m.Case(Opcode.DONE), m.If(still & ~engine.busy):
                    m.d.control += pc.eq(0)
                    m.next = "fetch"

            if self.features.gated:
                with m.State("look"):
                    words = {
                        n: memories.code(memories.codes(n, self.gate_word), self.gate_word) for n in self.features.gated
                    }
                    with m.If(choose(r.of(Opcode.GATE, "word_bank"), words) == 0):
                        m.d.control += pc.eq(pc + r.of(Opcode.GATE, "skip"))
                    m.next = "fetch"

        if engine.harden:
            begins = machine.ongoing("go") & (r.opcode == Opcode.BEGIN) & still
            m.d.comb += self.waits_for_sample.eq(begins)
            for ram in (memories.weights, memories.program):
                if isinstance(ram, CheckedRam):
                    m.d.comb += ram.free.eq(begins & ~engine.x.valid)
        if engine.signature.traced:
            # For benches: the instruction in front of `pc` waits, and all before it are done.
            self.pc, self.waits = pc, Signal(name="instruction_waits")
            m.d.comb += self.waits.eq(machine.ongoing("go") & still)

    def _end(self, left: Signal, settles: Signal, moved: Signal, at: Mapping[str, Value], k: int) -> None:
        m, engine = self.m, self.engine
        with m.If(settles):
            self.schedule.advance()
            if engine.harden:
                m.d.comb += self.ticks.eq(1)
            if engine.signature.traced:
                m.d.comb += engine.trace_end.eq(1)
            m.d.control += [moved.eq(0), self.pipeline.young.eq(0)]
        more = self.schedule.unsettled(moved) & (self.schedule.left != 1)
        m.d.control += left.eq(left - 1)
        with m.If(Mux(settles, more, left != 1)):
            m.d.control += at["pc"].eq(at["start"])
        with m.Else():
            m.d.control += at["level"].eq(k)
