"""Saboteurs of the serial engine: the words that a fault of a net may name, disturbed where they are computed.

| word | disturbed | so that it is wrong for |
|---|---|---|
| `state:NAME` | before the memory of codes, in ticks `first - 1` to `last - 1` | ticks `first` to `last` |
| `value:NAME` of step or readout | behind the register of its operation, or its sum | ticks `first` to `last` |
| `value:NAME` of the drive, `first` 0 | the same | the inference |
| `value:NAME` of the drive, later | behind the memory of codes | ticks `first` to the end |
| `sum:NAME`, with a residue check | sums of a linear map, before their check: `add` alone | ticks `first` to `last` |

The trace shows codes as they were latched, before a state's saboteur. An operation that several sweeps compute, or all
lanes, is disturbed in each.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from amaranth import Cat, Const, Mux, Signal, Value

from eqcompile.toolchain.ir import infer

from ..saboteur import disturbed, numbered, within
from .plan import Plan, Sweep

if TYPE_CHECKING:
    from .engine import SerialEngine

__all__ = ["Saboteur", "words_of"]


BLOCKS = ("step", "readout")
"""Whose sums can be disturbed before their check."""


def words_of(plan: Plan, *, checked: bool = False) -> dict[str, int]:
    """States, sums, and what the sweeps compute; `checked`: sums before their check as well."""
    computed = [op.out for sweep in plan.sweeps for op in sweep.script]
    found = numbered((s.name for s in plan.net.states), [*(m.out for m in plan.maps), *computed])
    sums = [f"sum:{m.out}" for m in plan.maps if m.block in BLOCKS and checked]
    return found | {name: len(found) + number for number, name in enumerate(sums)}


class Saboteur:
    """Disturbs words of the engine `ports`; `coming`: the number of the tick that reads what a step's sweep stores."""

    def __init__(self, ports: SerialEngine, coming: Value) -> None:
        self.ports, self.coming, self.words = ports, coming, ports.inject_words
        # Whose sums the word is that comes out of the accumulators, where that can be disturbed.
        self.reading = {b: Signal(name=f"inject_reads_{b}") for b in BLOCKS if "residue" in ports.harden}
        self.drive = {op.out for op in ports.net.drive}
        self.lane_bits = (ports.plan.width - 1).bit_length()
        self.sizes = {name: prod(found.shape) for name, found in infer(ports.net).items()}

    def stored(self, sweep: Sweep, name: str, code: Value, lane: int, group: Value, *, event: bool) -> Value:
        """The code of a vector that a sweep stores; `event`: as the change of it sees it."""
        number = self.words.get(f"state:{name}")
        if number is None or sweep.block == "readout":
            return code
        ports, tick = self.ports, self.coming if sweep.block == "step" else Const(0, 1)
        here = within(ports, tick) & self._unit(lane, group)
        return disturbed(ports, number, code, here & ports.inject_event if event else here)

    def value(self, sweep: Sweep, name: str, value: Value, lane: int, group: Value) -> Value:
        """The value of an operation, or a sum, in a sweep."""
        ports, unit = self.ports, self._unit(lane, group)
        now = ports.inject_first == 0 if sweep.block == "drive" else within(ports, ports.made)
        # A single number is computed beside every unit.
        here = now & unit if self.sizes[name] == sweep.units else now
        return disturbed(ports, self.words[f"value:{name}"], value, here)

    def summed(self, bank: int, word: Value, at: Value) -> Value:
        """A word of a bank of accumulators, read at the address `at` of the clock before."""
        ports, plan = self.ports, self.ports.plan
        maps = [m for m in plan.maps if m.bank == bank and f"sum:{m.out}" in self.words]
        if not maps:
            return word
        bits, lane_bits = plan.banks[bank][1], (plan.lanes - 1).bit_length()
        mine = [self.reading[m.block] & (ports.inject_word == self.words[f"sum:{m.out}"]) for m in maps]
        here = ports.inject_enable & Cat(mine).any() & (ports.inject_unit[lane_bits:] == at)
        here &= (ports.inject_first <= ports.made) & (ports.made <= ports.inject_last)
        lanes = []
        for lane in range(plan.lanes):
            held = word.word_select(lane, bits)
            chosen = here & (ports.inject_unit[:lane_bits] == lane) if lane_bits else here
            lanes.append(Mux(chosen, (held + ports.inject_add)[:bits], held))
        return Cat(lanes)

    def held(self, sweep: Sweep, name: str, code: Value, lane: int, group: Value) -> Value:
        """The code of a vector that a sweep reads from memory."""
        if name not in self.drive or sweep.block == "drive":
            return code
        ports = self.ports
        now = (ports.inject_first != 0) & (ports.inject_first <= ports.made)
        return disturbed(ports, self.words[f"value:{name}"], code, now & self._unit(lane, group))

    def _unit(self, lane: int, group: Value) -> Value:
        return self.ports.inject_unit == Cat(Const(lane, self.lane_bits), group)
