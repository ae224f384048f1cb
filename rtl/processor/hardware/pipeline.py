"""The pipeline of vector instructions: an entry of the loop nest a clock, a register behind each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, Value

from ...datapath import decode
from ...interface import Engine
from ..encoding import Opcode
from ..features import Features
from ..isa import CONSTANT, PORT, Alu, Fresh, Old, Reduction, TableKind, Unit
from .iterative import Divider, Root
from .memories import Memories
from .nest import LoopNest
from .record import Record

__all__ = ["Pipeline", "choose"]

Token = dict[str, Value]


def choose(selector: Value, forms: Mapping[int, Value]) -> Value:
    """The form whose number the selector has; the last one otherwise."""
    *others, (_, value) = forms.items()
    for number, form in reversed(others):
        value = Mux(selector == number, form, value)
    return value


class Pipeline:
    """Runs the vector instruction whose record is there in a clock with `start`; `idle` when its last result is written
    and listed. `young`: no tick of the sample is made. `written`: `value` goes to word `write_address` of bank `bank`.
    `moved`: a state moved by more than `tolerance`."""

    def __init__(
        self, m: Module, engine: Engine, memories: Memories, features: Features, word: Value, tolerance: Value
    ) -> None:
        self.m, self.engine, self.memories, self.features = m, engine, memories, features
        self.core = memories.core
        self.start, self.idle, self.young = Signal(name="vector_start"), Signal(), Signal(name="young")
        self.moved = Signal()
        self.last_result = Signal(init=1)
        self.offset_read = Signal()
        self.row = Signal(self.core.address_bits) if features.indirect else None
        self.tolerance = tolerance
        register = Signal(len(word), name="vector_record")
        with m.If(self.start):
            m.d.control += register.eq(word)
        self.record = Record(self.core, register)
        self.go, self.issuing = Signal(), Signal(name="issuing")
        self.waits: list[Value] = []
        self.stage = 0
        self.valids: list[Value] = []
        loaded = Signal(name="loading")
        m.d.control += loaded.eq(self.start)
        self._nest(loaded)
        a_port = self.field("a_bank") == PORT
        self.issue = Signal()
        m.d.comb += [
            self.issue.eq(self.issuing & (~a_port | engine.x.valid) & self.go),
            engine.x.ready.eq(self.issuing & a_port & self.go),
            self.nest.step.eq(self.issue),
        ]
        with m.If(loaded):
            m.d.control += self.issuing.eq(1)
        with m.Elif(self.issue & self.nest.last):
            m.d.control += self.issuing.eq(0)
        self._stages()
        m.d.comb += self.idle.eq(~Cat(self.issuing, loaded, *self.valids).any())

    def field(self, name: str) -> Value:
        return self.record.of(Opcode.VECTOR, name)

    @property
    def bank(self) -> Value:
        return self.field("d_bank")

    def _nest(self, load: Value) -> None:
        core, field = self.core, self.field
        names = ["a", "b", "c", "d", "column", *(["place"] if self.features.places else [])]
        starts = {n: field(f"{n}_base") for n in names}
        steps = {n: [field(f"{n}_step_{k}") for k in range(core.axes)] for n in names}
        counts = [field(f"count_{k}") for k in range(core.axes)]
        bits = max(core.address_bits, self.memories.column_bits)
        self.m.submodules.nest = self.nest = LoopNest(counts, starts, steps, bits)
        self.m.d.comb += self.nest.load.eq(load)

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
        token["x"] = decode(self.engine.x.payload, self.engine.signature.x_port.format)
        token = self._operands(self._next(token))
        token = self._next(self._alu(token))
        token = self._next(self._unit(token))
        if features.reductions != {Reduction.NONE}:
            token = self._reduce(token)
        rounded = self._rounded(token["value"], self.field("shift"), features.shifts)
        if Unit.DIVIDE in features.units:
            rounded = Mux(self.field("unit") == Unit.DIVIDE, token["value"], rounded)
        token = self._next(token | {"value": rounded})
        if features.adds:
            token["value"] = token["value"] + Mux(self.field("add"), token["c"], 0)
            token = self._next(token)
        if features.tables:
            token = self._table(token)
        if features.olds:
            token = self._damp(token)
        self._write(token)

    def _next(self, token: Token, *, valid: Value | None = None) -> Token:
        """All values of a token a clock later, while nothing waits."""
        later: Token = {}
        with self.m.If(self.go):
            for name, value in token.items():
                register = Signal(value.shape(), name=f"{name}_{self.stage}")
                if name == "valid":
                    self.m.d.control += register.eq(value if valid is None else valid)
                else:
                    self.m.d.sync += register.eq(value)
                later[name] = register
        self.stage += 1
        self.valids.append(later["valid"])
        return later

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
            place = token.get(f"{stream}_at", Const(0))
            words = {n: self.memories.code(n, place) for n in self.features.reads(stream)}
            if stream == "a" and PORT in self.features.banks[stream]:
                words[PORT] = token["x"]
            if CONSTANT in self.features.banks[stream]:
                words[CONSTANT] = self.field("immediate")
            if words:
                fresh = self.field(f"{stream}_fresh")
                zero = (fresh == Fresh.ALWAYS) | ((fresh == Fresh.TICK) & self.young)
                chosen = choose(self.field(f"{stream}_bank"), words)
                operands["old" if stream == "d" else stream] = Mux(zero, 0, chosen)
        if self.features.indirect:
            self._row(token, operands["c"])
        kept = {n: v for n, v in token.items() if not n.endswith("_at") and n != "x"}
        return self._next(kept | operands)

    def _row(self, token: Token, offset: Value) -> None:
        """An entry that is read through an offset waits a clock, in which its row is read."""
        m, shown = self.m, Signal(name="row_read")
        assert self.row is not None
        m.d.comb += [
            self.row.eq(token["a_at"] + offset),
            self.offset_read.eq(token["valid"] & self.field("indirect") & ~shown),
        ]
        m.d.control += shown.eq(self.offset_read | (shown & ~self.go))
        self.waits.append(self.offset_read)

    def _alu(self, t: Token) -> Token:
        zero = Const(0, Shape(2, signed=True))
        a, b, c = (t.get(n, zero) for n in "abc")
        forms: dict[int, Value] = {Alu.PASS: a, Alu.ADD: a + b, Alu.SUB: a - b, Alu.ABS: Mux(a < 0, -a, a)}
        forms |= {Alu.DISTANCE: Mux(a > b, a - b, b - a), Alu.GREATER: a > b, Alu.SELECT: Mux(c != 0, a, b)}
        used = {k: v for k, v in forms.items() if k in self.features.alus}
        return {n: v for n, v in t.items() if n != "a"} | {"value": choose(self.field("alu"), used)}

    def _unit(self, t: Token) -> Token:
        x = t["value"]
        forms: dict[int, Value] = {}
        if {Unit.SCALE, Unit.MULTIPLY} & self.features.units:
            factor: Value = self.field("immediate")
            if Unit.MULTIPLY in self.features.units:
                factor = Mux(self.field("unit") == Unit.MULTIPLY, t["b"], factor)
            forms = dict.fromkeys((int(Unit.SCALE), int(Unit.MULTIPLY)), x * factor)
        if Unit.DIVIDE in self.features.units:
            dividend = choose(self.field("shift"), {s: x << s for s in self.features.division_shifts}) + (t["b"] >> 1)
            forms[int(Unit.DIVIDE)] = self._iterated(t, Unit.DIVIDE, Divider(dividend, t["b"]))
        if Unit.ROOT in self.features.units:
            forms[int(Unit.ROOT)] = self._iterated(t, Unit.ROOT, Root(x))
        forms[int(Unit.NONE)] = x
        return {n: v for n, v in t.items() if n != "b"} | {"value": choose(self.field("unit"), forms)}

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
        m, x = self.m, t["value"]
        total = Signal(Shape(x.shape().width + self.core.count_bits, signed=True), name="total")
        forms: dict[int, Value] = {int(Reduction.NONE): x}
        if Reduction.SUM in self.features.reductions:
            forms[int(Reduction.SUM)] = Mux(t["opens"], x, total + x)
        if Reduction.MAX in self.features.reductions:
            forms[int(Reduction.MAX)] = Mux(t["opens"] | (x > total), x, total)
        with m.If(self.go & t["valid"]):
            m.d.sync += total.eq(choose(self.field("reduction"), forms))
        rest = {n: v for n, v in t.items() if n not in ("value", "opens", "closes")}
        if "c" in rest:
            held = Signal(rest["c"].shape(), name="first_c")
            with m.If(self.go & t["valid"] & t["opens"]):
                m.d.sync += held.eq(t["c"])
            rest["c"] = Mux(t["opens"], t["c"], held)
        return self._next(rest, valid=t["valid"] & t["closes"]) | {"value": total}

    def _rounded(self, x: Value, shift: Value, shifts: Sequence[int]) -> Value:
        """`(x + (1 << shift - 1)) >> shift`, for the shifts that occur."""
        return choose(shift, {s: (x + (1 << s - 1)) >> s if s else x for s in shifts})

    def _table(self, t: Token) -> Token:
        m, memories, field = self.m, self.memories, self.field
        shifts, interpolates = self.features.table_shifts, self.features.slopes
        between = field("table") == TableKind.INTERPOLATE
        entries = field("table_entries")
        if interpolates:
            entries = Mux(between, choose(field("table_shift"), {s: entries << s for s in shifts}), entries)
        top = Signal(entries.shape(), name="table_top")
        m.d.sync += top.eq(entries - 1)
        distance = t["value"] - field("table_first")
        index = Signal(entries.shape(), name="index")
        m.d.comb += index.eq(Mux(distance < 0, 0, Mux(distance > top, top, distance)))
        t = self._next(t | {"index": index})
        segment = t["index"]
        if interpolates:
            t["fraction"] = choose(field("table_shift"), {s: t["index"] & (1 << s) - 1 for s in shifts})
            segment = Mux(between, choose(field("table_shift"), {s: t["index"] >> s for s in shifts}), segment)
        assert memories.table is not None
        m.d.comb += memories.table.read_address.eq(field("table_base") + segment)
        m.d.comb += memories.table.read_enable.eq(self.go)
        if memories.slopes is not None:
            m.d.comb += memories.slopes.read_address.eq(field("table_slope") + segment)
            m.d.comb += memories.slopes.read_enable.eq(self.go)
        t = self._next({n: v for n, v in t.items() if n != "index"})
        t["entry"] = memories.table.read_data.as_signed()
        if memories.slopes is not None:
            t["slope"] = memories.slopes.read_data.as_signed()
        t = self._next(t)
        if interpolates:
            step = {"step": t["slope"] * t["fraction"]}
            t = self._next({n: v for n, v in t.items() if n not in ("slope", "fraction")} | step)
            rise = self._rounded(t.pop("step"), field("table_shift"), shifts)
            t["entry"] = Mux(between, t["entry"] + rise, t["entry"])
        value = Mux(field("table") == TableKind.NONE, t["value"], t["entry"])
        return self._next({n: v for n, v in t.items() if n != "entry"} | {"value": value})

    def _damp(self, t: Token) -> Token:
        old = t["old"]
        if Old.C in self.features.olds:
            old = Mux(self.field("damping") == Old.C, t["c"], old)
        t = self._next(t | {"before": old, "gap": t["value"] - old})
        t = self._next(t | {"gap": t["gap"] * self.field("damping_multiplier")})
        step = self._rounded(t["gap"], self.field("damping_shift"), self.features.damping_shifts)
        value = Mux(self.field("damping") == Old.NONE, t["value"], t["before"] + step)
        return self._next({n: v for n, v in t.items() if n not in ("gap", "before")} | {"value": value})

    def _write(self, t: Token) -> None:
        m, y, memories = self.m, self.engine.y, self.memories
        out = self.bank == PORT
        self.waits.append(t["valid"] & out & y.valid & ~y.ready)
        m.d.comb += self.go.eq(~Cat(*self.waits).any())
        last = self.engine.lasts[1]
        taken = Signal.like(last, init=0, name="results_taken")
        with m.If(y.valid & y.ready):
            m.d.control += [y.valid.eq(0), taken.eq(taken + 1)]
            with m.If(taken == last):
                m.d.control += taken.eq(0)
                with m.If(self.last_result):
                    m.d.control += self.engine.busy.eq(0)
        with m.If(t["valid"] & out & self.go):
            m.d.control += y.valid.eq(1)
            m.d.sync += y.payload.eq(t["value"])
        self.written, self.value, self.write_address = Signal(), t["value"], t["d"]
        m.d.comb += self.written.eq(t["valid"] & self.go & ~out)
        # A clock later: what changed goes to a list, and is compared with the tolerance.
        changed = Signal(name="changed")
        change = Signal(memories.difference, name="change")
        where = [t["column"][: memories.column_bits]]
        where += [t["place"][: memories.place_bits]] if memories.place_bits else []
        held = Signal(sum(len(w) for w in where), name="change_place")
        m.d.control += changed.eq(self.written)
        m.d.sync += [change.eq(t["value"] - t.get("old", Const(0))), held.eq(Cat(*where))]
        self.valids.append(changed)
        number = self.field("list")
        push = Signal(name="push")
        m.d.comb += push.eq(changed & (change != 0) & (number != 0))
        if memories.counts:
            ends = {k + 1: c + b for k, (c, b) in enumerate(zip(memories.counts, memories.bases, strict=True))}
            m.d.comb += memories.events.write_address.eq(choose(number, ends))
        m.d.comb += [memories.events.write_enable.eq(push), memories.events.write_data.eq(Cat(change, held))]
        for k, count in enumerate(memories.counts):
            with m.If(push & (number == k + 1)):
                m.d.control += count.eq(count + 1)
        far = (change > self.tolerance) | (change < -self.tolerance)
        m.d.comb += self.moved.eq(changed & self.field("state") & far)
