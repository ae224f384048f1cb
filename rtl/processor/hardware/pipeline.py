"""The pipeline of vector instructions: one entry of the loop nest a clock, or `width` of them, a register behind each
stage."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, Value

from ...datapath import decode
from ...interface import Engine
from ..encoding import Opcode
from ..features import Features
from ..isa import CONSTANT, PORT, Alu, Fresh, Old, Reduction, Unit
from .iterative import Divider, Root
from .memories import Memories
from .nest import LoopNest
from .record import Record
from .tables import look_up
from .tokens import ZERO, Stages, Token, choose, rounded, without

__all__ = ["Pipeline"]


class Pipeline(Stages):
    """Runs the vector instruction whose record is there in a clock with `start`; `idle` when its last result is written
    and listed. `young`: no tick of the sample is made. `written`: `values` go to bank `bank` from word `write_address`
    on, those of the lanes in `write_lanes`. `moved`: a state moved by more than `tolerance`."""

    def __init__(
        self, m: Module, engine: Engine, memories: Memories, features: Features, word: Value, tolerance: Value
    ) -> None:
        register = Signal(len(word), name="vector_record")
        super().__init__(m, memories, features, Record(memories.core, register))
        self.engine = engine
        self.start, self.idle, self.young = Signal(name="vector_start"), Signal(), Signal(name="young")
        self.moved = Signal()
        self.last_result = Signal(init=1)
        self.offset_read = Signal()
        self.row = Signal(self.core.address_bits) if features.indirect else None
        self.row_shown = Signal(self.core.address_bits, name="row_shown")
        self.tolerance = tolerance
        with m.If(self.start):
            m.d.control += register.eq(word)
        self.issuing = Signal(name="issuing")
        self.waits: list[Value] = []
        self._nest(Record(self.core, word))
        a_port = self.field("a_bank") == PORT
        self.issue = Signal()
        m.d.comb += [
            self.issue.eq(self.issuing & (~a_port | engine.x.valid) & self.go),
            engine.x.ready.eq(self.issuing & a_port & self.go),
            self.nest.load.eq(self.start),
            self.nest.step.eq(self.issue),
        ]
        with m.If(self.start):
            m.d.control += self.issuing.eq(1)
        with m.Elif(self.issue & self.nest.last):
            m.d.control += self.issuing.eq(0)
        self._stages()
        m.d.comb += self.idle.eq(~Cat(self.issuing, *self.valids).any())

    @property
    def bank(self) -> Value:
        return self.field("d_bank")

    @property
    def wide(self) -> Value:
        return self.field("wide") if self.core.width > 1 else Const(0)

    def _nest(self, coming: Record) -> None:
        core, field = self.core, self.field
        names = ["a", "b", "c", "d", "column", *(["place"] if self.features.places else [])]
        starts = {n: coming.of(Opcode.VECTOR, f"{n}_base") for n in names}
        steps = {n: [field(f"{n}_step_{k}") for k in range(core.axes)] for n in names}
        counts = [field(f"count_{k}") for k in range(core.axes)]
        first = [coming.of(Opcode.VECTOR, f"count_{k}") for k in range(core.axes)]
        bits = max(core.address_bits, self.memories.column_bits)
        self.m.submodules.nest = self.nest = LoopNest(counts, starts, steps, bits, first)

    def _stages(self) -> None:
        m, nest, features = self.m, self.nest, self.features
        rank = self.core.axes
        closes = Array([Const(1), *(nest.ends[rank - 1 - k] for k in range(rank))])[self.field("reduced")]
        opens = Signal(init=1, name="opens")
        with m.If(self.issue):
            m.d.control += opens.eq(closes)
        token: Token = {"valid": self.issue, "d": nest.address["d"], "closes": closes, "opens": opens}
        token |= {n: nest.address[n] for n in ("place", "column") if n in nest.address}
        token |= {f"{n}_at": nest.address[n] for n in "abc"}
        token |= self._live()
        x, port = self.engine.x.payload, self.engine.signature.x_port
        bits = port.format.bits
        token |= {f"x.{k}": decode(x[k * bits : (k + 1) * bits], port.format) for k in self.lanes if k < port.beat}
        token = self._operands(self.later(token))
        token = self.later(self._alu(token))
        token = self.later(self._unit(token))
        if features.reductions != {Reduction.NONE}:
            token = self._reduce(token)
        for k in self.lanes:
            value = rounded(token[f"value.{k}"], self.field("shift"), features.shifts)
            if Unit.DIVIDE in features.units and k == 0:
                value = Mux(self.field("unit") == Unit.DIVIDE, token["value.0"], value)
            token[f"value.{k}"] = value
        token = self.later(token)
        if features.adds:
            for k in self.lanes:
                token[f"value.{k}"] = token[f"value.{k}"] + Mux(self.field("add"), token[f"c.{k}"], 0)
            token = self.later(token)
        if features.tables:
            token = look_up(self, token)
        if features.olds:
            token = self._damp(token)
        self._write(token)

    def _live(self) -> Token:
        """Whether lanes behind the first one have an entry; nothing where all always have one."""
        if self.core.width == 1 or not self.features.partial:
            return {}
        tail, last = self.field("tail"), self.nest.ends[self.core.axes - 1]
        return {f"live.{k}": self.wide & (~last | (tail == 0) | (tail > k)) for k in self.lanes if k}

    def read_address(self, number: int) -> Value:
        """What a bank reads for the entry at hand: no pass reads two places of one bank. Behind an offset that was read
        comes the row that it says."""
        address: Value = Const(0)
        for stream in "dcba":
            if number in self.features.reads(stream):
                mine = self.memories.word_of(number, self.nest.address[stream])
                if stream == "a" and self.row is not None:
                    mine = Mux(self.offset_read, self.memories.word_of(number, self.row), mine)
                address = Mux(self.field(f"{stream}_bank") == number, mine, address)
        return address

    def reads(self, number: int) -> Value:
        """Whether a bank gives another word in the next clock."""
        if self.row is None or number not in self.features.reads("a"):
            return self.go
        return self.go | (self.offset_read & (self.field("a_bank") == number))

    def _operands(self, token: Token) -> Token:
        operands: Token = {}
        for stream in "abcd":
            ones = {n: self._word(token, stream, n) for n in self.features.reads(stream)}
            name = "old" if stream == "d" else stream
            for k in self.lanes:
                words = {n: self._lane(stream, n, k, one) for n, one in ones.items()}
                if stream == "a" and PORT in self.features.banks[stream]:
                    words[PORT] = token.get(f"x.{k}", ZERO)
                if CONSTANT in self.features.banks[stream]:
                    words[CONSTANT] = self.field("immediate")
                if words:
                    fresh = self.field(f"{stream}_fresh")
                    zero = (fresh == Fresh.ALWAYS) | ((fresh == Fresh.TICK) & self.young)
                    operands[f"{name}.{k}"] = Mux(zero, 0, choose(self.field(f"{stream}_bank"), words))
        if self.features.indirect:
            self._row(token, operands["c.0"])
        return self.later(without(token, "a_at", "b_at", "c_at", "x") | operands)

    def _word(self, token: Token, stream: str, number: int) -> tuple[Value, list[Value]]:
        """The one word at the address, and the words of all lanes from there on."""
        place = token["d" if stream == "d" else f"{stream}_at"]
        place = place if self.row is None or stream != "a" else Mux(self.field("indirect"), self.row_shown, place)
        codes = self.memories.codes(number, place)
        one = Signal(codes[0].shape())
        self.m.d.comb += one.eq(self.memories.code(codes, place))
        return one, codes

    def _lane(self, stream: str, number: int, lane: int, words: tuple[Value, list[Value]]) -> Value:
        one, each = words
        if self.core.width == 1 or number not in self.features.spreads[stream]:
            return one
        shared = self.features.broadcasts[stream] if lane else self.features.singles[stream]
        if number not in shared:
            return each[lane]
        return Mux(self.wide if stream == "d" else self.field(f"{stream}_spread"), each[lane], one)

    def _row(self, token: Token, offset: Value) -> None:
        """An entry that is read through an offset waits a clock, in which its row is read."""
        m, shown = self.m, Signal(name="row_read")
        assert self.row is not None
        m.d.comb += self.row.eq(token["a_at"] + offset)
        m.d.comb += self.offset_read.eq(token["valid"] & self.field("indirect") & ~shown)
        m.d.control += shown.eq(self.offset_read | (shown & ~self.go))
        with m.If(self.offset_read):
            m.d.sync += self.row_shown.eq(self.row)
        self.waits.append(self.offset_read)

    def _alu(self, t: Token) -> Token:
        values: Token = {}
        for k in self.lanes:
            a, b, c = (t.get(f"{n}.{k}", ZERO) for n in "abc")
            forms: dict[int, Value] = {Alu.PASS: a, Alu.ADD: a + b, Alu.SUB: a - b, Alu.ABS: Mux(a < 0, -a, a)}
            forms |= {Alu.DISTANCE: Mux(a > b, a - b, b - a), Alu.GREATER: a > b, Alu.SELECT: Mux(c != 0, a, b)}
            used = {number: v for number, v in forms.items() if number in self.features.alus}
            values[f"value.{k}"] = choose(self.field("alu"), used)
        return without(t, "a") | values

    def _unit(self, t: Token) -> Token:
        values = {f"value.{k}": self._united(t, k) for k in self.lanes}
        return without(t, "b") | values

    def _united(self, t: Token, lane: int) -> Value:
        x, units, field = t[f"value.{lane}"], self.features.units, self.field
        forms: dict[int, Value] = {}
        if {Unit.SCALE, Unit.MULTIPLY} & units:
            # What is not scaled is multiplied by 1: a choice of factors is narrower than one of products.
            factors: dict[int, Value] = {int(Unit.MULTIPLY): t[f"b.{lane}"]} if Unit.MULTIPLY in units else {}
            factors |= {int(Unit.SCALE): field("immediate")} if Unit.SCALE in units else {}
            factors |= {int(Unit.NONE): Const(1)} if Unit.NONE in units else {}
            forms = dict.fromkeys(factors, x * choose(field("unit"), factors))
        if Unit.DIVIDE in units and lane == 0:
            dividend = choose(field("shift"), {s: x << s for s in self.features.division_shifts}) + (t["b.0"] >> 1)
            forms[int(Unit.DIVIDE)] = self._iterated(t, Unit.DIVIDE, Divider(dividend, t["b.0"], self.core.digits))
        if Unit.ROOT in units and lane == 0:
            forms[int(Unit.ROOT)] = self._iterated(t, Unit.ROOT, Root(x, self.core.digits))
        if int(Unit.NONE) not in forms and (Unit.NONE in units or not forms):
            forms[int(Unit.NONE)] = x
        return choose(field("unit"), forms)

    def _iterated(self, t: Token, unit: Unit, part: Divider | Root) -> Value:
        """The result of a unit for which the entry at hand, and all others, wait."""
        self.m.submodules[unit.name.lower()] = part
        wait = Signal(name=f"{unit.name.lower()}_waits")
        self.m.d.comb += [
            wait.eq(t["valid"] & (self.field("unit") == unit) & ~part.done),
            part.start.eq(wait & (part.left == 0)),
            part.take.eq(self.go),
        ]
        self.waits.append(wait)
        return part.result

    def _reduce(self, t: Token) -> Token:
        m, x = self.m, t["value.0"]
        total = Signal(Shape(x.shape().width + self.core.count_bits, signed=True), name="total")
        forms: dict[int, Value] = {int(Reduction.NONE): x}
        if Reduction.SUM in self.features.reductions:
            forms[int(Reduction.SUM)] = Mux(t["opens"], x, total + x)
        if Reduction.MAX in self.features.reductions:
            forms[int(Reduction.MAX)] = Mux(t["opens"] | (x > total), x, total)
        with m.If(self.go & t["valid"]):
            m.d.sync += total.eq(choose(self.field("reduction"), forms))
        rest = {n: v for n, v in t.items() if n not in ("value.0", "opens", "closes")}
        if "c.0" in rest:
            held = Signal(rest["c.0"].shape(), name="first_c")
            with m.If(self.go & t["valid"] & t["opens"]):
                m.d.sync += held.eq(t["c.0"])
            rest["c.0"] = Mux(t["opens"], t["c.0"], held)
        return self.later(rest, valid=t["valid"] & t["closes"]) | {"value.0": total}

    def _damp(self, t: Token) -> Token:
        for k in self.lanes:
            old = t.get(f"old.{k}", ZERO)
            if Old.C in self.features.olds:
                old = Mux(self.field("damping") == Old.C, t[f"c.{k}"], old)
            t |= {f"before.{k}": old, f"gap.{k}": t[f"value.{k}"] - old}
        t = self.later(t)
        t |= {f"gap.{k}": t[f"gap.{k}"] * self.field("damping_multiplier") for k in self.lanes}
        t = self.later(t)
        for k in self.lanes:
            step = rounded(t[f"gap.{k}"], self.field("damping_shift"), self.features.damping_shifts)
            damped = t[f"before.{k}"] + step
            t[f"value.{k}"] = Mux(self.field("damping") == Old.NONE, t[f"value.{k}"], damped)
        return self.later(without(t, "gap", "before"))

    def _write(self, t: Token) -> None:
        m, memories = self.m, self.memories
        values = [t[f"value.{k}"] for k in self.lanes]
        live = [Const(1), *(t.get(f"live.{k}", Const(1)) for k in self.lanes if k)]
        self._emit(t, values, live)
        self.write_address = t["d"]
        self.written, self.write_lanes = Signal(), Signal(self.core.width)
        m.d.comb += self.written.eq(t["valid"] & self.go & (self.bank != PORT))
        self.values, lanes = values, Cat(*live)
        if self.features.scalars and self.core.width > 1:
            self.values = [values[0], *(Mux(self.wide, v, values[0]) for v in values[1:])]
            lanes = Mux(self.wide, lanes, 1 << t["d"][: memories.width_bits])
        m.d.comb += self.write_lanes.eq(lanes)
        # A clock later: what changed goes to a list, and is compared with the tolerance.
        changed = Signal(name="changed")
        changes = [Signal(memories.difference, name=f"change_{k}") for k in self.lanes]
        where = [t["column"][: memories.column_bits]]
        where += [t["place"][: memories.place_bits]] if memories.place_bits else []
        held = Signal(sum(len(w) for w in where), name="change_place")
        m.d.control += changed.eq(self.written)
        m.d.sync += held.eq(Cat(*where))
        for k, change in enumerate(changes):
            m.d.sync += change.eq(Mux(live[k], values[k] - t.get(f"old.{k}", Const(0)), 0))
        self.valids.append(changed)
        number = self.field("list")
        push, flags = Signal(name="push"), Cat(change.any() for change in changes)
        m.d.comb += push.eq(changed & flags.any() & (number != 0))
        if memories.counts:
            ends = {k + 1: c + b for k, (c, b) in enumerate(zip(memories.counts, memories.bases, strict=True))}
            m.d.comb += memories.events.write_address.eq(choose(number, ends))
        m.d.comb += [
            memories.events.write_enable.eq(push),
            memories.events.write_data.eq(Cat(*changes, flags[: memories.flag_bits], held)),
        ]
        for k, count in enumerate(memories.counts):
            with m.If(push & (number == k + 1)):
                m.d.control += count.eq(count + 1)
        far = Cat((change > self.tolerance) | (change < -self.tolerance) for change in changes).any()
        m.d.comb += self.moved.eq(changed & self.field("state") & far)

    def _emit(self, t: Token, values: Sequence[Value], live: Sequence[Value]) -> None:
        """Results that go to the port; the pipeline waits while one is offered."""
        m, y, port = self.m, self.engine.y, self.engine.signature.y_port
        out = t["valid"] & (self.bank == PORT)
        self.waits.append(out & y.valid & ~y.ready)
        m.d.comb += self.go.eq(~Cat(*self.waits).any())
        last = self.engine.lasts[1]
        taken = Signal.like(last, init=0, name="results_taken")
        with m.If(y.valid & y.ready):
            m.d.control += [y.valid.eq(0), taken.eq(taken + 1)]
            with m.If(taken == last):
                m.d.control += taken.eq(0)
                with m.If(self.last_result):
                    m.d.control += self.engine.busy.eq(0)
        with m.If(out & self.go):
            m.d.control += y.valid.eq(1)
            for k in range(port.beat):
                code = y.payload[k * port.format.bits : (k + 1) * port.format.bits]
                m.d.sync += code.eq(Mux(live[k], values[k], 0))
