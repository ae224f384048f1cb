"""Adds weight columns times differences to sums: a word of all lanes a clock.

word of a list ──► event ──► row of the column table ──► words of the column ──► word of the sums += products
                                                         └──► (a memory outside) ──┘
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value

from ...memory import Ram
from ..encoding import Opcode
from ..outside import RUNS
from .memories import Memories
from .nest import LoopNest
from .pipeline import Pipeline
from .reader import Reader
from .record import Record
from .tokens import choose

__all__ = ["Applier"]

STAGES = 3
"""Clocks from the address of a weight to its sum, from a memory that gives it in one."""


class Applier:
    """Runs the apply instruction whose record is there in a clock with `start`; `idle` when its last sum is written. An
    event that the pipeline lists meanwhile counts. `reader`: of weights in a memory outside."""

    def __init__(
        self,
        m: Module,
        memories: Memories,
        pipeline: Pipeline,
        word: Value,
        kernels: bool,
        reader: Reader | None = None,
    ) -> None:
        self.m, self.memories, self.core = m, memories, memories.core
        self.start, self.idle, self.busy = Signal(name="apply_start"), Signal(), Signal()
        register = Signal(len(word), name="apply_record")
        with m.If(self.start):
            m.d.control += register.eq(word)
        self.record = Record(self.core, register)
        self.ready, self.taken = Signal(name="ready"), Signal()
        self.next_base = Signal(self.core.address_bits, name="next_base")
        self.next_change = Signal(memories.difference, name="next_change")
        self._fetch(pipeline, Record(self.core, word).of(Opcode.APPLY, "list"), kernels)
        self._add(*(self._resident() if reader is None else self._streamed(reader)))

    def field(self, name: str) -> Value:
        return self.record.of(Opcode.APPLY, name)

    def _fetch(self, pipeline: Pipeline, coming: Value, kernels: bool) -> None:
        """Words of the list, in each of them the entries that changed, and for each of these and each kernel offset the
        run of weights: one of them a clock, while the run before is at hand."""
        m, core, memories = self.m, self.core, self.memories
        running, entry = Signal(name="applying"), Signal(range(sum(core.lists) + 1), name="entry")
        held, gone = Signal(name="event_held"), Signal(core.width, name="entries_done")
        bases = {k: Const(b) for k, b in enumerate(memories.bases)}
        end = choose(self.field("list"), {k: c + memories.bases[k] for k, c in enumerate(memories.counts)})
        word, bits = memories.events.read_data, memories.difference.width
        changes = [word[k * bits : (k + 1) * bits].as_signed() for k in range(core.width)]
        # That an entry changed is told by a bit of its own: the address of its column waits for nothing else.
        flags, where = word[bits * core.width :][: memories.flag_bits], word[bits * core.width + memories.flag_bits :]
        column, place = where[: memories.column_bits], where[memories.column_bits :]
        waiting = flags & ~gone if core.width > 1 else Const(1)
        chosen, lane = waiting & ~(waiting - 1)[: core.width], Const(0)
        change = changes[-1]
        for k in reversed(range(core.width - 1)):
            change = Mux(waiting[k], changes[k], change)
        if core.width > 1:
            lane = Cat(
                Cat(chosen[k] for k in range(core.width) if k >> b & 1).any() for b in range(memories.width_bits)
            )
        free, step, done = Signal(), Signal(name="event_step"), Signal()
        offset, known, last = self._offsets(kernels, step)
        m.d.comb += [
            free.eq(~self.ready | self.taken),
            step.eq(held & free & known),
            done.eq(step & last & (waiting == chosen)),
            memories.events.read_address.eq(entry),
            memories.events.read_enable.eq(~held | done),
            memories.columns.read_address.eq(self.field("columns") + column + lane + offset),
            memories.columns.read_enable.eq(free),
        ]
        more = running & (entry != end)
        with m.If(self.start):
            m.d.control += [running.eq(1), entry.eq(choose(coming, bases))]
        with m.Elif(~held | done):
            m.d.control += [held.eq(more), gone.eq(0), entry.eq(entry + more)]
        with m.Elif(step & last):
            m.d.control += gone.eq(gone | chosen)
        with m.If(free):
            m.d.control += [self.ready.eq(step), self.next_change.eq(change)]
            m.d.control += self.next_base.eq(self.kernel_base + (place if memories.place_bits else 0))
        with m.If(running & ~held & ~more & pipeline.idle & ~self.ready & ~self.busy):
            m.d.control += running.eq(0)
            for k, count in enumerate(memories.counts):
                with m.If(self.field("drain") & (self.field("list") == k)):
                    m.d.control += count.eq(0)
        m.d.comb += self.idle.eq(~running)

    def _offsets(self, kernels: bool, step: Value) -> tuple[Value, Value, Value]:
        """Number of the kernel offset at hand, whether its sums are known, and whether it is the last one."""
        m, core = self.m, self.core
        self.kernel_base: Value = self.field("sums_base")
        if not kernels:
            return Const(0), Const(1), Const(1)
        axes = range(core.axes)
        counts = [self.field(f"kernel_{k}") for k in axes]
        steps = [self.field(f"sums_step_{k}") for k in axes]
        m.submodules.kernel = kernel = LoopNest(counts, {"sums": self.kernel_base}, {"sums": steps}, core.address_bits)
        self.kernel_base = kernel.address["sums"]
        offset, known = Signal(self.memories.column_bits, name="offset"), Signal(name="offset_known")
        m.d.comb += [kernel.step.eq(step), kernel.load.eq(~known)]
        with m.If(self.start):
            m.d.control += known.eq(0)
        with m.Elif(~known):
            m.d.control += [known.eq(1), offset.eq(0)]
        with m.Elif(step):
            m.d.control += [offset.eq(offset + 1), known.eq(~kernel.last)]
        return offset, known, kernel.last

    def _resident(self) -> tuple[Value, Value, Value, Value | None]:
        """Words of the runs from the weight memory: whether there is one, the sums and the difference that it is for,
        and whether more may come."""
        m, core, memories = self.m, self.core, self.memories
        active = Signal(name="active")
        address, more = Signal(memories.weight_bits, name="weight"), Signal(memories.run_bits, name="more")
        base, change = Signal(core.address_bits, name="base"), Signal(memories.difference, name="difference")
        ended: Value = more == 0
        if not core.forwards:
            # A run of one word ends with the group that the next one begins with.
            fresh = Signal(name="run_fresh")
            m.d.control += fresh.eq(self.taken)
            ended = ended & ~fresh
        m.d.comb += [self.taken.eq(self.ready & (~active | ended)), memories.weights.read_address.eq(address)]
        with m.If(active):
            m.d.control += [address.eq(address + 1), more.eq(more - 1), active.eq(more != 0)]
        memories.used(memories.columns, self.taken)
        with m.If(self.taken):
            row = memories.columns.read_data
            m.d.control += [active.eq(1), address.eq(row[: memories.weight_bits]), more.eq(row[memories.weight_bits :])]
            m.d.control += [base.eq(self.next_base), change.eq(self.next_change)]
        return active, base, change, None

    def _streamed(self, reader: Reader) -> tuple[Value, Value, Value, Value]:
        """The same from a memory outside: runs are asked for as long as there is room, and wait in a queue until their
        words come."""
        m, core, memories = self.m, self.core, self.memories
        bits = len(self.next_change)
        queue = Ram(width=memories.run_bits + core.address_bits + bits, depth=RUNS, holds=True)
        m.submodules.runs = queue
        waiting, head, active = (
            Signal(range(RUNS + 1), name="runs_waiting"),
            Signal(name="run_next"),
            Signal(name="active"),
        )
        come, gone = Signal(range(RUNS), name="run_in"), Signal(range(RUNS), name="run_out")
        more, single = Signal(memories.run_bits, name="more"), Signal(name="run_single")
        base, change = Signal(core.address_bits, name="base"), Signal(memories.difference, name="difference")
        row, word = memories.columns.read_data, Signal(name="word_goes")
        first, length = row[: memories.weight_bits], row[memories.weight_bits :]
        begins, moves, ended = Signal(), Signal(), word & (more == 0)
        if not core.forwards:
            # A run of one word ends with the group that the next one begins with.
            ended = ended & ~single
        m.d.comb += [
            self.taken.eq(self.ready & reader.free & (waiting != RUNS)),
            reader.start.eq(self.taken),
            reader.first.eq(first),
            reader.more.eq(length),
            queue.write_enable.eq(self.taken),
            queue.write_address.eq(come),
            queue.write_data.eq(Cat(length, self.next_base, self.next_change)),
            begins.eq(head & (~active | ended)),
            moves.eq((waiting != 0) & (~head | begins)),
            queue.read_address.eq(gone),
            queue.read_enable.eq(moves),
            word.eq(active & reader.available),
            reader.take.eq(word),
            memories.weights.read_address.eq(reader.read_address),
            memories.weights.write_address.eq(reader.write_address),
            memories.weights.write_data.eq(reader.write_data),
            memories.weights.write_enable.eq(reader.write_enable),
        ]
        m.d.control += [
            waiting.eq(waiting + self.taken - moves),
            come.eq(come + self.taken),
            gone.eq(gone + moves),
            head.eq(moves | (head & ~begins)),
        ]
        with m.If(word):
            m.d.control += [more.eq(more - 1), active.eq(more != 0)]
        with m.If(begins):
            run = queue.read_data
            count, place = run[: memories.run_bits], run[memories.run_bits : memories.run_bits + core.address_bits]
            m.d.control += [active.eq(1), more.eq(count), single.eq(count == 0), base.eq(place)]
            m.d.control += change.eq(run[memories.run_bits + core.address_bits :].as_signed())
        return word, base, change, active | head | (waiting != 0) | reader.going

    def _add(self, active: Value, base: Value, change: Value, coming: Value | None) -> None:
        m, core, memories = self.m, self.core, self.memories
        live, bases, changes = [Value.cast(active)], [Value.cast(base)], [Value.cast(change)]
        lag = memories.lag
        for k in range(STAGES + lag):
            flag, later = Signal(name=f"applies_{k}"), Signal(core.address_bits, name=f"base_{k}")
            before = Signal(memories.difference, name=f"difference_{k}")
            m.d.control += flag.eq(live[-1])
            m.d.sync += [later.eq(bases[-1]), before.eq(changes[-1])]
            live.append(flag)
            bases.append(later)
            changes.append(before)
        # Its negative has a register of its own: both go to every lane, and nothing else is on the way.
        minus = Signal(Shape(memories.difference.width + 1, signed=True), name="difference_negated")
        m.d.sync += minus.eq(-changes[1 + lag])
        word = memories.weights.read_data
        memories.used(memories.weights, live[1 + lag])
        self.group = Signal(core.address_bits, name="group")
        codes = Signal(core.lanes * core.code_bits, name="codes")
        m.d.sync += self.group.eq((bases[1 + lag] >> memories.lane_bits) + word[core.lanes * core.code_bits :])
        m.d.sync += codes.eq(word[: core.lanes * core.code_bits])
        self.products = []
        width = core.code_bits + memories.difference.width
        for lane in range(core.lanes):
            product = Signal(Shape(width, signed=True), name=f"product_{lane}")
            m.d.sync += product.eq(self._product(codes.word_select(lane, core.code_bits), changes[2 + lag], minus))
            self.products.append(product)
        self.write_group = Signal(core.address_bits, name="write_group")
        m.d.sync += self.write_group.eq(self.group)
        self.reads, self.writes = live[2 + lag], live[3 + lag]
        self.follows = Signal(name="group_follows")
        if core.forwards:
            m.d.control += self.follows.eq(self.reads & self.writes & (self.group == self.write_group))
        m.d.comb += self.busy.eq(Cat(*live, *([] if coming is None else [coming])).any())

    def _product(self, code: Value, change: Value, minus: Value) -> Value:
        if self.core.code_bits > 2:
            return code.as_signed() * change
        twice: Value = Mux(code[1], minus << 1, 0) if self.core.lowest else Const(0)
        return Mux(code[0], Mux(code[1], minus, change), twice)

    def drive(self, number: int, clear: Value, clear_address: Value, vector: Value, vector_reads: Value) -> None:
        """Ports of a bank of sums."""
        m, ram, bits = self.m, self.memories.banks[number], self.core.banks[number].bits
        before: Value = ram.read_data
        if self.core.forwards:
            last = Signal(ram.width, name=f"bank{number}_written")
            before = Signal(ram.width, name=f"bank{number}_before")
            m.d.comb += before.eq(Mux(self.follows, last, ram.read_data))
        total = Cat((before.word_select(k, bits).as_signed() + p)[:bits] for k, p in enumerate(self.products))
        if self.core.forwards:
            m.d.sync += last.eq(total)
        mine = self.field("sums_bank") == number
        m.d.comb += [
            ram.read_address.eq(Mux(self.reads, self.group, vector)),
            ram.read_enable.eq(self.reads | vector_reads),
            ram.write_address.eq(Mux(clear, clear_address, self.write_group)),
            ram.write_data.eq(Mux(clear, 0, total)),
            ram.write_enable.eq(clear | (self.writes & mine)),
        ]
