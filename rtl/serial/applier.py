"""Adds a weight column times a change to the accumulators, `lanes` rows a clock.

event (map, unit, change) ──► weight word ──► products ──► accumulator word += products
     clock 0                    1, 2             3             4
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..memory import Ram
from .plan import Plan

__all__ = ["Applier"]

SHORTEST = 2
"""Clocks that an event takes at least: an accumulator word may be read again when its sum is written."""


class Applier(wiring.Component):
    """Accumulators of all maps in banks, and the adders in front of them.

    An event is taken in a clock with `valid` and `ready`; `busy` until its last sum is written. One with `wipe` forgets
    what the sums of its map were. When not busy, `read` gives the address for all banks, `sums` their words one clock
    later.
    """

    def __init__(self, plan: Plan, *, unit_bits: int, change: Shape) -> None:
        self.plan, self.change_shape = plan, change
        words = max(depth for depth, _ in plan.banks)
        self.word_bits = max((words - 1).bit_length(), 1)
        self.address_bits = max((plan.weight_words - 1).bit_length(), 1)
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "map": In(range(max(len(plan.maps), 2))),
                "unit": In(unit_bits),
                "change": In(change),
                "wipe": In(1),
                "busy": Out(1),
                "weight_address": Out(self.address_bits),
                "weight_data": In(plan.lanes * plan.code_bits),
                "read": In(self.word_bits),
                "sums": Out(
                    data.StructLayout(
                        {f"bank{i}": unsigned(plan.lanes * bits) for i, (_, bits) in enumerate(plan.banks)}
                    )
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan = self.plan
        active, word, last = Signal(), Signal(range(1 << self.word_bits)), Signal(range(1 << self.word_bits))
        longest = max(SHORTEST, *(x.words for x in plan.maps))
        left = Signal(range(longest))
        bank = Signal(len(plan.banks))
        change, wipe = Signal(self.change_shape), Signal()
        # An event waits in a register of its own, so that its address is not computed on the way from the stream.
        waiting, kind, unit = Signal(), Signal.like(self.map), Signal.like(self.unit)
        coming, forgets, taken = Signal(self.change_shape), Signal(), Signal()
        m.d.comb += [taken.eq(waiting & (~active | (left == 0))), self.ready.eq(~waiting | taken)]
        with m.If(self.ready):
            m.d.sync += [waiting.eq(self.valid), kind.eq(self.map), unit.eq(self.unit)]
            m.d.sync += [coming.eq(self.change), forgets.eq(self.wipe)]
        with m.If(active):
            m.d.sync += [self.weight_address.eq(self.weight_address + 1), word.eq(word + 1), left.eq(left - 1)]
            with m.If(word == last):
                m.d.sync += bank.eq(0)
            with m.If(left == 0):
                m.d.sync += active.eq(0)
        with m.If(taken):
            m.d.sync += [active.eq(1), word.eq(0), change.eq(coming), wipe.eq(forgets)]
            with m.Switch(kind):
                for number, x in enumerate(plan.maps):
                    with m.Case(number):
                        m.d.sync += [
                            self.weight_address.eq(x.base + unit * x.words),
                            last.eq(x.words - 1),
                            left.eq(max(x.words, SHORTEST) - 1),
                            bank.eq(1 << x.bank),
                        ]
        writes = [Value.cast(bank)]  # by clock: which banks take the word
        words, wipes, changes = [Value.cast(word)], [Value.cast(wipe)], [Value.cast(change)]
        for _ in range(3):
            for chain in (writes, words, wipes):
                chain.append(self._next(m, chain[-1]))
        changes.append(self._next(m, change))
        m.d.comb += self.busy.eq(waiting | active | Cat(*writes).any())
        codes = self._next(m, self.weight_data)
        products = self._products(m, codes, changes[1])
        for number, (depth, bits) in enumerate(plan.banks):
            m.submodules[f"bank{number}"] = ram = Ram(width=plan.lanes * bits, depth=depth, wipes=True)
            held = ram.read_data
            sums = [(held.word_select(i, bits) + product)[:bits] for i, product in enumerate(products)]
            m.d.comb += [
                ram.read_address.eq(Mux(self.busy, words[2], self.read)),
                ram.read_zero.eq(wipes[2] & writes[2][number]),
                ram.write_address.eq(words[3]),
                ram.write_data.eq(Cat(*sums)),
                ram.write_enable.eq(writes[3][number]),
                self.sums[f"bank{number}"].eq(held),
            ]
        return m

    def _next(self, m: Module, value: Value) -> Value:
        held = Signal(value.shape())
        m.d.sync += held.eq(value)
        return held

    def _products(self, m: Module, codes: Value, change: Value) -> list[Value]:
        """Weight times change for each lane, a clock after both."""
        bits = self.plan.code_bits
        lanes = [codes.word_select(i, bits) for i in range(self.plan.lanes)]
        change = self._next(m, change)
        if bits > 2:
            return [self._next(m, code.as_signed() * change) for code in lanes]
        # The negative is formed once for all lanes.
        width = change.shape().width + 1
        plus, minus = Signal(Shape(width, signed=True)), Signal(Shape(width, signed=True))
        m.d.comb += [plus.eq(change), minus.eq(-change)]
        return [self._next(m, Mux(code[0], Mux(code[1], minus, plus), Const(0))) for code in lanes]
