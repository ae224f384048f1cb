"""Saboteurs of the serial engine: the words that a fault of a net may name, disturbed where they are computed.

| word | disturbed | by the row of tick |
|---|---|---|
| `state:NAME` | before the memory of codes | that comes next |
| `value:NAME` of step or readout | behind the register of its operation, or its sum | that is made |
| `value:NAME` of the drive | the same | 0 |
| | behind the memory of codes, as a step or the readout reads it | that is made, but 0 |
| `sum:NAME`, with a residue check | sums of a linear map, before their check | that is made |

The trace shows codes as they were latched, before a state's saboteur. An operation that several sweeps compute, or all
lanes, is disturbed in each.
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value

from eqcompile.toolchain.passes import Analysis

from ..interface import Engine
from ..saboteur import Elements, Tables, numbered
from .plan import Plan, Sweep
from .program import Design

__all__ = ["Saboteur", "words_of"]


BLOCKS = ("step", "readout")
"""Whose sums can be disturbed before their check."""


def words_of(plan: Plan, *, checked: bool = False) -> dict[str, int]:
    """States, sums, and what the sweeps compute; `checked`: sums before their check as well."""
    computed = [op.out for sweep in plan.sweeps for op in sweep.script]
    numbers = numbered((s.name for s in plan.net.states), [*(m.out for m in plan.maps), *computed])
    sums = [f"sum:{m.out}" for m in plan.maps if m.block in BLOCKS and checked]
    return numbers | {name: len(numbers) + number for number, name in enumerate(sums)}


class Saboteur:
    """Disturbs words of the engine `ports`, whose logic is in `m`."""

    def __init__(self, m: Module, ports: Engine, design: Design) -> None:
        self.ports, self.plan, self.words = ports, design.plan, ports.inject_words
        # The number of the tick that reads what a step's sweep stores.
        self.coming = Signal(16, name="inject_coming")
        m.d.comb += self.coming.eq(ports.made + 1)
        self.tables = Tables(ports)
        # Whose sums the word is that comes out of the accumulators, where that can be disturbed.
        self.reading = {b: Signal(name=f"inject_reads_{b}") for b in BLOCKS if "residue" in design.harden}
        self.drive = {op.out for op in ports.net.drive}
        self.lane_bits = (self.plan.width - 1).bit_length()
        self.sizes = Analysis.of(ports.net).sizes

    def stored(self, m: Module, sweep: Sweep, name: str, code: Value, lane: int, group: Value, *, event: bool) -> Value:
        """The code of a vector that a sweep stores; `event`: as the change of it sees it."""
        number = self.words.get(f"state:{name}")
        if number is None or sweep.block == "readout":
            return code
        tick = self.coming if sweep.block == "step" else Const(0, 1)
        clamp = self.ports.net.formats[name]
        disturbed = self.tables.disturbed(m, number, code, self._elements(sweep, lane, group), tick, clamp=clamp)
        return Mux(self.ports.inject_event, disturbed, code) if event else disturbed

    def value(self, m: Module, sweep: Sweep, name: str, value: Value, lane: int, group: Value) -> Value:
        """The value of an operation, or a sum, in a sweep."""
        tick = Const(0, 1) if sweep.block == "drive" else self.ports.made
        # A single number is computed beside every unit.
        single = self.sizes[name] != sweep.units
        elements = Elements.one(Const(1)) if single else self._elements(sweep, lane, group)
        return self.tables.disturbed(m, self.words[f"value:{name}"], value, elements, tick)

    def summed(self, m: Module, bank: int, word: Value, at: Value) -> Value:
        """A word of a bank of accumulators, read at the address `at` of the clock before."""
        plan, unit = self.plan, self.ports.inject_unit
        depth, bits = plan.banks[bank]
        lane_bits = (plan.lanes - 1).bit_length()
        lanes = [word.word_select(lane, bits) for lane in range(plan.lanes)]
        for x in plan.maps:
            number = self.words.get(f"sum:{x.out}")
            if x.bank != bank or number is None:
                continue
            for lane, held in enumerate(lanes):
                elements = Elements(depth, at, unit[:lane_bits] == lane if lane_bits else Const(1), unit[lane_bits:])
                disturbed = self.tables.disturbed(m, number, held, elements, self.ports.made)
                lanes[lane] = Mux(self.reading[x.block], disturbed, held)
        return Cat(lanes)

    def held(self, m: Module, sweep: Sweep, name: str, code: Value, lane: int, group: Value) -> Value:
        """The code of a vector that a sweep reads from memory."""
        if name not in self.drive or sweep.block == "drive":
            return code
        tick = self.ports.made
        disturbed = self.tables.disturbed(
            m, self.words[f"value:{name}"], code, self._elements(sweep, lane, group), tick
        )
        # What tick 0 reads was disturbed as it was computed.
        return Mux(tick == 0, code, disturbed)

    def _elements(self, sweep: Sweep, lane: int, group: Value) -> Elements:
        unit, bits = self.ports.inject_unit, self.lane_bits
        mine = unit[:bits] == lane if bits else Const(1)
        return Elements(-(-sweep.units // self.plan.width), group, mine, unit[bits:])
