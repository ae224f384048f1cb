"""Adds a weight column times a change to the accumulators, a word of `lanes` rows a clock.

event (row of the table, change) ──► place of the column ──► entry ──► products ──► accumulator word += products
     clock 0                              1                   3, 4        5             6
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..harden.memory import LATENCY
from ..harden.residue import plus, residue, times
from ..memory import Ram
from .plan import Plan

__all__ = ["Applier", "reading_clocks"]


def reading_clocks(harden: Collection[str]) -> int:
    """Clocks from an address of the weight memory to its data. An event takes one more at least."""
    return LATENCY if {"parity", "secded"} & set(harden) else 1


class Applier(wiring.Component):
    """Accumulators of all maps in banks, and the adders in front of them.

    An event is taken in a clock with `valid` and `ready`; `busy` until its last sum is written. `row` of the table says
    where its column is; with `wipe` it forgets what the sums were. Both memories answer a clock after their address,
    with a code on them after `reading_clocks`. When not busy, `read` gives the address for all banks, `sums` their
    words one clock later.

    With a code on the weight memory, `table_used` and `entry_used` say in which clocks its data counts; with `residue`,
    each sum is kept modulo 3 as well, computed apart, and `residues` are those of `sums`. `upset`, of this
    module, the number of a bank, its word and the address that it was read at, is what becomes of it on its way to
    `sums`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        change: Shape,
        harden: Collection[str] = (),
        upset: Callable[[Module, int, Value, Value], Value] | None = None,
    ) -> None:
        self.plan, self.change_shape, self.upset = plan, change, upset
        self.reading, self.residue = reading_clocks(harden), "residue" in harden
        self.checked, self.foresees = self.reading > 1, bool(harden)
        words = max(depth for depth, _ in plan.banks)
        self.word_bits = max((words - 1).bit_length(), 1)
        weights = plan.weights
        self.banks: list[Ram] = []
        more: dict[str, In | Out] = {"table_used": Out(1), "entry_used": Out(1)} if self.checked else {}
        if self.residue:
            kept = {f"bank{i}": unsigned(plan.lanes * 2) for i in range(len(plan.banks))}
            more["residues"] = Out(data.StructLayout(kept))
        super().__init__(
            {
                "valid": In(1),
                "ready": Out(1),
                "row": In(range(weights.depth)),
                "bank": In(range(max(len(plan.banks), 2))),
                "change": In(change),
                "wipe": In(1),
                "busy": Out(1),
                "table_address": Out(range(weights.depth)),
                "table_data": In(weights.table_bits),
                "entry_address": Out(weights.address_bits),
                "entry_data": In(weights.entry_bits),
                "read": In(self.word_bits),
                "sums": Out(
                    data.StructLayout(
                        {f"bank{i}": unsigned(plan.lanes * bits) for i, (_, bits) in enumerate(plan.banks)}
                    )
                ),
                **more,
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan, weights = self.plan, self.plan.weights
        active = Signal(name="active")
        # No control: a vote on the path of the handshake costs a fifth of the frequency (decision 0007).
        left = Signal(weights.index_bits, name="left")
        bank = Signal(len(plan.banks), name="bank")
        change = Signal(self.change_shape, name="change")
        wipe = Signal(name="wipe")
        waiting = Signal(name="waiting")
        fetched = Signal(name="fetched")
        kind = Signal.like(self.bank, name="kind")
        coming = Signal(self.change_shape, name="coming")
        forgets = Signal(name="forgets")
        taken = Signal()
        ends = left == 0
        if self.foresees:
            # What `left == 0` will say, so that the stream's handshake need not wait for it.
            foreseen = Signal(name="foreseen")
            with m.If(active):
                m.d.sync += foreseen.eq(left == 1)
            with m.If(taken):
                m.d.sync += foreseen.eq(self.table_data[weights.address_bits :] == 0)
            ends = foreseen
        m.d.comb += [taken.eq(fetched & (~active | ends)), self.ready.eq(~waiting | taken)]
        standing: Value = waiting
        for _ in range(self.reading - 1):
            standing = self._next(m, standing & ~taken)
        m.d.control += fetched.eq(standing & ~taken)
        with m.If(self.ready):
            m.d.control += [waiting.eq(self.valid), self.table_address.eq(self.row), kind.eq(self.bank)]
            m.d.control += [coming.eq(self.change), forgets.eq(self.wipe)]
        with m.If(active):
            m.d.control += self.entry_address.eq(self.entry_address + 1)
            m.d.sync += left.eq(left - 1)
            with m.If(ends):
                m.d.control += [active.eq(0), bank.eq(0)]
        with m.If(taken):
            start, more = self.table_data[: weights.address_bits], self.table_data[weights.address_bits :]
            m.d.control += [active.eq(1), self.entry_address.eq(start)]
            m.d.sync += left.eq(more)
            m.d.control += [bank.eq(1 << kind), change.eq(coming), wipe.eq(forgets)]
        # By clock: which banks take the word, and whether they forget.
        writes, wipes = [Value.cast(bank)], [Value.cast(wipe)]
        for _ in range(self.reading + 2):
            writes.append(self._next(m, writes[-1]))
        for _ in range(self.reading + 1):
            wipes.append(self._next(m, wipes[-1]))
        m.d.comb += self.busy.eq(waiting | Cat(*writes).any())
        if self.checked:
            m.d.comb += [self.table_used.eq(taken), self.entry_used.eq(writes[self.reading].any())]
        entry = self._next(m, self.entry_data)
        word = entry[weights.codes_bits :][: self.word_bits]
        written = self._next(m, word)
        changes = [Value.cast(change)]
        for _ in range(self.reading + 1):
            changes.append(self._next(m, changes[-1]))
        products = self._products(m, entry[: weights.codes_bits], changes[-1])
        read = Signal.like(self.read, name="inject_read")
        if self.upset is not None:
            m.d.sync += read.eq(self.read)
        for number, (depth, bits) in enumerate(plan.banks):
            m.submodules[f"bank{number}"] = ram = Ram(width=plan.lanes * bits, depth=depth, wipes=True)
            self.banks.append(ram)
            sums_word = ram.read_data
            sums = [(sums_word.word_select(i, bits) + product)[:bits] for i, product in enumerate(products)]
            m.d.comb += [
                ram.read_address.eq(Mux(self.busy, word, self.read)),
                ram.read_zero.eq(wipes[-1] & writes[-2][number]),
                ram.write_address.eq(written),
                ram.write_data.eq(Cat(*sums)),
                ram.write_enable.eq(writes[-1][number]),
                self.sums[f"bank{number}"].eq(
                    sums_word if self.upset is None else self.upset(m, number, sums_word, read)
                ),
            ]
        if self.residue:
            factor = self._next(m, residue(m, changes[-2]))
            self._residues(m, self._products_modulo_3(m, entry[: weights.codes_bits], factor))
        return m

    def _residues(self, m: Module, products: list[Value]) -> None:
        """A memory beside each bank, driven as the bank is."""
        for number, bank in enumerate(self.banks):
            depth, residues = self.plan.banks[number][0], self.residues[f"bank{number}"]
            m.submodules[f"residues{number}"] = ram = Ram(width=len(residues), depth=depth, wipes=True)
            word = ram.read_data
            m.d.comb += [
                ram.read_address.eq(bank.read_address),
                ram.read_zero.eq(bank.read_zero),
                ram.write_address.eq(bank.write_address),
                ram.write_data.eq(Cat(plus(m, word.word_select(i, 2), product) for i, product in enumerate(products))),
                ram.write_enable.eq(bank.write_enable),
                residues.eq(word),
            ]

    def _products_modulo_3(self, m: Module, codes: Value, factor: Value) -> list[Value]:
        """`_products` modulo 3; `factor`: the change, modulo 3."""
        bits = self.plan.weights.code_bits
        lanes = [codes.word_select(i, bits)[:bits] for i in range(self.plan.lanes)]
        if bits > 2:
            return [self._next(m, times(residue(m, code.as_signed()), factor)) for code in lanes]
        # The low bit of a code says that there is a weight, the high one its sign; 2 is -1.
        return [self._next(m, times(Cat(code[0] & ~code[1], code[0] & code[1]), factor)) for code in lanes]

    def _next(self, m: Module, value: Value) -> Value:
        register = Signal(value.shape())
        m.d.sync += register.eq(value)
        return register

    def _products(self, m: Module, codes: Value, change: Value) -> list[Value]:
        """Weight times change for each lane, a clock later."""
        bits = self.plan.weights.code_bits
        lanes = [codes.word_select(i, bits) for i in range(self.plan.lanes)]
        if bits > 2:
            return [self._next(m, code.as_signed() * change) for code in lanes]
        # The negative is formed once for all lanes.
        width = change.shape().width + 1
        plus, minus = Signal(Shape(width, signed=True)), Signal(Shape(width, signed=True))
        m.d.comb += [plus.eq(change), minus.eq(-change)]
        return [self._next(m, Mux(code[0], Mux(code[1], minus, plus), Const(0))) for code in lanes]
