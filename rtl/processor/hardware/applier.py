"""Adds weight columns times differences to sums: a word of all lanes a clock.

event ──► row of the column table ──► words of the column ──► products ──► word of the sums += products
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value

from ..encoding import Opcode
from .memories import Memories
from .nest import LoopNest
from .pipeline import Pipeline, choose
from .record import Record

__all__ = ["Applier"]

STAGES = 3
"""Clocks from the address of a weight to its sum."""


class Applier:
    """Runs the apply instruction whose record is there in a clock with `start`; `idle` when its last sum is written. An
    event that the pipeline lists meanwhile counts."""

    def __init__(self, m: Module, memories: Memories, pipeline: Pipeline, word: Value, kernels: bool) -> None:
        self.m, self.memories, self.core = m, memories, memories.core
        self.start, self.idle, self.busy = Signal(name="apply_start"), Signal(), Signal()
        register = Signal(len(word), name="apply_record")
        with m.If(self.start):
            m.d.control += register.eq(word)
        self.record = Record(self.core, register)
        self._fetch(pipeline, kernels)
        self._add()

    def field(self, name: str) -> Value:
        return self.record.of(Opcode.APPLY, name)

    def _fetch(self, pipeline: Pipeline, kernels: bool) -> None:
        """Events, and for each kernel offset the run of words that it meets; the next run waits for the one at hand."""
        m, core, memories, field = self.m, self.core, self.memories, self.field
        axes = range(core.axes)
        counts = [field(f"kernel_{k}") for k in axes] if kernels else [Const(1)]
        steps = [field(f"sums_step_{k}") for k in axes] if kernels else [Const(0)]
        m.submodules.kernel = kernel = LoopNest(
            counts, {"sums": field("sums_base")}, {"sums": steps}, core.address_bits
        )
        entry = Signal(range(sum(core.lists) + 1), name="entry")
        event = Signal(memories.events.width, name="event")
        offset = Signal(memories.column_bits, name="offset")
        bits = memories.difference.width
        column, place = event[bits : bits + memories.column_bits], event[bits + memories.column_bits :]
        m.d.comb += memories.events.read_address.eq(entry)
        m.d.comb += memories.columns.read_address.eq(field("columns") + column + offset)
        self.ready, self.taken = Signal(name="ready"), Signal()
        self.next_base = Signal(core.address_bits, name="next_base")
        self.next_change = Signal(memories.difference, name="next_change")
        self.next_start = Signal(memories.weight_bits, name="next_start")
        self.next_more = Signal(memories.run_bits, name="next_more")
        number = field("list")
        ends = {k: c + b for k, (c, b) in enumerate(zip(memories.counts, memories.bases, strict=True))}
        finished = entry == choose(number, ends)
        free = ~self.ready | self.taken
        with m.If(self.taken):
            m.d.control += self.ready.eq(0)
        with m.FSM(domain="control", name="applier_state") as machine:
            with m.State("idle"):
                with m.If(self.start):
                    m.next = "begin"
            with m.State("begin"):
                m.d.control += entry.eq(choose(number, {k: Const(b) for k, b in enumerate(memories.bases)}))
                m.next = "look"
            with m.State("look"):
                with m.If(~finished):
                    m.next = "event"
                with m.Elif(pipeline.idle & ~self.ready & ~self.busy):
                    for k, count in enumerate(memories.counts):
                        with m.If(field("drain") & (number == k)):
                            m.d.control += count.eq(0)
                    m.next = "idle"
            with m.State("event"):
                m.d.control += [event.eq(memories.events.read_data), offset.eq(0), entry.eq(entry + 1)]
                m.d.comb += kernel.load.eq(1)
                m.next = "row"
            with m.State("row"):
                m.next = "run"
            with m.State("run"):
                with m.If(free):
                    row = memories.columns.read_data
                    base = kernel.address["sums"] + (place if memories.place_bits else 0)
                    m.d.control += [self.ready.eq(1), self.next_base.eq(base), self.next_change.eq(event[:bits])]
                    m.d.control += [self.next_start.eq(row[: memories.weight_bits])]
                    m.d.control += [self.next_more.eq(row[memories.weight_bits :])]
                    with m.If(kernel.last):
                        m.next = "look"
                    with m.Else():
                        m.d.comb += kernel.step.eq(1)
                        m.d.control += offset.eq(offset + 1)
                        m.next = "row"
            m.d.comb += self.idle.eq(machine.ongoing("idle"))

    def _add(self) -> None:
        m, core, memories = self.m, self.core, self.memories
        active = Signal(name="active")
        address, more = Signal(memories.weight_bits, name="weight"), Signal(memories.run_bits, name="more")
        base, change = Signal(core.address_bits, name="base"), Signal(memories.difference, name="difference")
        m.d.comb += [self.taken.eq(self.ready & (~active | (more == 0))), memories.weights.read_address.eq(address)]
        with m.If(active):
            m.d.control += [address.eq(address + 1), more.eq(more - 1), active.eq(more != 0)]
        with m.If(self.taken):
            m.d.control += [active.eq(1), address.eq(self.next_start), more.eq(self.next_more)]
            m.d.control += [base.eq(self.next_base), change.eq(self.next_change)]
        live, bases, changes = [Value.cast(active)], [Value.cast(base)], [Value.cast(change)]
        for k in range(STAGES):
            flag, later = Signal(name=f"applies_{k}"), Signal(core.address_bits, name=f"base_{k}")
            before = Signal(memories.difference, name=f"difference_{k}")
            m.d.control += flag.eq(live[-1])
            m.d.sync += [later.eq(bases[-1]), before.eq(changes[-1])]
            live.append(flag)
            bases.append(later)
            changes.append(before)
        word = memories.weights.read_data
        self.group = Signal(core.address_bits, name="group")
        codes = Signal(core.lanes * core.code_bits, name="codes")
        m.d.sync += self.group.eq((bases[1] >> memories.lane_bits) + word[core.lanes * core.code_bits :])
        m.d.sync += codes.eq(word[: core.lanes * core.code_bits])
        self.products = []
        width = core.code_bits + memories.difference.width
        for lane in range(core.lanes):
            product = Signal(Shape(width, signed=True), name=f"product_{lane}")
            m.d.sync += product.eq(self._product(codes.word_select(lane, core.code_bits), changes[2]))
            self.products.append(product)
        self.write_group = Signal(core.address_bits, name="write_group")
        m.d.sync += self.write_group.eq(self.group)
        self.reads, self.writes = live[2], live[3]
        m.d.comb += self.busy.eq(Cat(*live).any())

    def _product(self, code: Value, change: Value) -> Value:
        if self.core.code_bits > 2:
            return code.as_signed() * change
        return Mux(code[0], Mux(code[1], -change, change), Mux(code[1], -(change << 1), 0))

    def drive(self, number: int, clear: Value, clear_address: Value, vector: Value, vector_reads: Value) -> None:
        """Ports of a bank of sums."""
        m, ram, bits = self.m, self.memories.banks[number], self.core.banks[number].bits
        total = Cat((ram.read_data.word_select(k, bits).as_signed() + p)[:bits] for k, p in enumerate(self.products))
        mine = self.field("sums_bank") == number
        m.d.comb += [
            ram.read_address.eq(Mux(self.reads, self.group, vector)),
            ram.read_enable.eq(self.reads | vector_reads),
            ram.write_address.eq(Mux(clear, clear_address, self.write_group)),
            ram.write_data.eq(Mux(clear, 0, total)),
            ram.write_enable.eq(clear | (self.writes & mine)),
        ]
