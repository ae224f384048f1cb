"""The engine of architecture `one-clock`, in Amaranth: registers for codes and states, and expressions between them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, TypeAlias

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, Value

from eqcompile.rtl.control import CONTROL
from eqcompile.rtl.interface import Engine
from eqcompile.rtl.relaxation import Schedule
from eqcompile.toolchain.ir import Format, ops

__all__ = ["OneClockEngine"]

Entry: TypeAlias = Any
"""An integer, or a value of Amaranth, which has no types."""
Scope = dict[str, list[Entry]]


class OneClockEngine(Engine):
    """Codes come in one a clock and go out one a clock; between them a tick takes one clock."""

    architecture: ClassVar[str] = "one-clock"

    def describe(self) -> dict[str, Any]:
        return {"arch": self.architecture, "step_clocks": 1}

    def build(self) -> Module:
        m, net = Module(), self.net
        codes = signals("code", self.signature.x_port.format, self.signature.x_port.count)
        inputs, at = {}, 0
        for i in net.inputs:
            inputs[i.name], at = codes[at : at + prod(i.shape)], at + prod(i.shape)
        states = {s.name: signals(s.name, net.formats[s.name], prod(s.shape)) for s in net.states}
        driven = self.evaluate(m, net.drive, inputs)
        stepped = self.evaluate(m, net.step, driven | states)
        read = self.evaluate(m, net.readout, driven | states)
        results = Array(Value.cast(entry) for o in net.outputs for entry in read[o.value])
        number = Signal(range(max(len(codes), len(results))), name="number")
        schedule = Schedule(m, self, first=self.x.valid & self.x.ready & (number == 0))
        moved = Cat(
            magnitude(new - old) > schedule.tolerance
            for s in net.states
            for new, old in zip(stepped[s.update], states[s.name], strict=True)
        ).any()
        ticked = Signal(name="ticked")
        with m.FSM(domain=CONTROL, name="fsm") as fsm:
            with m.State("take"):
                m.d.comb += self.x.ready.eq(1)
                with m.If(self.x.valid):
                    m.d.sync += [into.eq(code) for into, code in zip(codes, [*codes[1:], self.x.payload], strict=True)]
                    m.d.control += number.eq(number + 1)
                    with m.If(number == len(codes) - 1):
                        m.d.control += number.eq(0)
                        m.next = "begin"
            with m.State("begin"):
                for s in net.states:
                    first = driven[s.init] if s.init is not None else [0] * len(states[s.name])
                    m.d.sync += [h.eq(code) for h, code in zip(states[s.name], first, strict=True)]
                schedule.start()
                m.next = "tick"
            with m.State("tick"):
                for s in net.states:
                    m.d.sync += [h.eq(code) for h, code in zip(states[s.name], stepped[s.update], strict=True)]
                schedule.advance()
                with m.If(~moved | (schedule.left == 1)):
                    m.next = "give"
            with m.State("give"):
                m.d.comb += [self.y.valid.eq(1), self.y.payload.eq(results[number])]
                with m.If(self.y.ready):
                    m.d.control += number.eq(number + 1)
                    with m.If(number == len(results) - 1):
                        m.d.control += number.eq(0)
                        m.next = "take"
            m.d.control += ticked.eq(fsm.ongoing("tick"))
        m.d.comb += self.busy.eq(~fsm.ongoing("take") | (number != 0))
        if self.signature.traced:
            m.d.comb += self.trace_end.eq(ticked)
            for name, registers_of in states.items():
                self.show(m, name, registers_of)
        return m

    def evaluate(self, m: Module, block: Sequence[ops.Op], scope: Scope) -> Scope:
        """`scope` and the entries of every value of a block, in C order, each a wire of its own."""
        values = dict(scope) | {p.name: [int(code) for code in p.value.reshape(-1)] for p in self.net.params}
        for op in block:
            entries = self.apply(op, values)
            values[op.out] = signals(op.out, self.net.formats[op.out], len(entries))
            m.d.comb += [wire.eq(entry) for wire, entry in zip(values[op.out], entries, strict=True)]
        return values

    def apply(self, op: ops.Op, values: Scope) -> list[Entry]:
        """The equation of one operation (`toolchain/ir/SPEC.md`)."""
        match op:
            case ops.Linear():
                rows = self.net.param(op.weight)
                start = [0] * len(rows) if op.bias is None else values[op.bias]
                terms = [[int(w) * x for w, x in zip(row, values[op.x], strict=True) if w] for row in rows]
                return [sum(products, b) for products, b in zip(terms, start, strict=True)]
            case ops.Add():
                return [a + b for a, b in paired(values[op.a], values[op.b])]
            case ops.Sub():
                return [a - b for a, b in paired(values[op.a], values[op.b])]
            case ops.Reshape():
                return values[op.x]
            case ops.Rescale():
                return [half_up(x * by, op.shift) for x, by in paired(values[op.x], values[op.multiplier])]
            case ops.Lookup():
                return [entry_of(values[op.table], x - op.first) for x in values[op.x]]
            case ops.DampFixed():
                pairs = paired(values[op.new], values[op.old])
                return [old + half_up((new - old) * op.multiplier, op.shift) for new, old in pairs]
        raise ValueError(f"a refused net was built: {op.mnemonic}")


def signals(name: str, fmt: Format, count: int) -> list[Signal]:
    """A signal for each entry of a value."""
    return [Signal(Shape(fmt.bits, fmt.signed), name=f"{name}_{i}") for i in range(count)]


def paired(a: list[Entry], b: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Entries of two values, one of a single entry with each of the other's."""
    size = max(len(a), len(b))
    return list(zip(a * (size // len(a)), b * (size // len(b)), strict=True))


def half_up(value: Entry, shift: int) -> Entry:
    """`value / 2**shift`, rounded half up."""
    return (value + ((1 << shift) >> 1)) >> shift


def magnitude(value: Entry) -> Value:
    """The absolute value."""
    return abs(Value.cast(value))


def entry_of(table: list[int], index: Entry) -> Value:
    """The entry at an index, the first or the last one beyond the ends."""
    last, at = len(table) - 1, Value.cast(index)
    shape = Shape.cast(range(min(table), max(table) + 1))
    inside = Mux(at < 0, 0, Mux(at > last, last, at))[: max(1, last.bit_length())]
    return Array(Const(code, shape) for code in table)[inside]
