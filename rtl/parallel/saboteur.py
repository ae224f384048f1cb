"""Saboteurs of the parallel engine: the words that a fault of a net may name, each in logic of its own.

| word | disturbed | by the row of tick |
|---|---|---|
| `state:NAME` | behind its register, for step and readout | that reads it |
| `value:NAME` of step or readout | behind the logic of its operation | that computes it |
| `value:NAME` of the drive | the same, before its register | 0 |
| | behind its register, for step and readout | that reads it, but 0 |

A core with them computes every operation by itself, in its stated format, since a word that is added up with others, or
cut to what the codes of an undisturbed run need, could not be disturbed as the net's would be. So it has the registers
of states, inputs, buses and control that the core without them has, but others within drive and readout. An operation
in a repeat is disturbed in each of its evaluations.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth import Const, Module, Mux, Signal, Value

from eqcompile.rtl.datapath import shape_of
from eqcompile.toolchain.ir import Format, Interval, IntNet

from ..interface import Engine
from ..saboteur import Elements, Tables, numbered
from .wires import Scope, Wire, Wires, filled

__all__ = ["Saboteur", "Upset", "words_of"]

Upset = Callable[[str, Wires], Wires]
"""The wires of a value in its stated format, disturbed if it is a word; from a name and the wires as computed."""

BOOLEAN = Format(1, False)


def words_of(net: IntNet) -> dict[str, int]:
    """States, and the value of every operation."""
    return numbered((s.name for s in net.states), (op.out for op in net.all_ops()))


class Saboteur:
    """Disturbs words of the engine `ports`, whose logic is in `m`. `tick`: the number of the tick that the step's logic
    computes, once it is told to `count`."""

    def __init__(self, m: Module, ports: Engine) -> None:
        self.m, self.ports, self.words = m, ports, words_of(ports.net)
        self.tables = Tables(ports)
        self.tick = Signal(16, name="inject_tick")

    def count(self, take: Value, *, ahead: bool) -> None:
        """Number the ticks from that clock on in which a sample is taken; `ahead`: states run on in every clock."""
        if not ahead:
            self.m.d.comb += self.tick.eq(self.ports.made)
            return
        with self.m.If(take):
            self.m.d.sync += self.tick.eq(0)
        with self.m.Else():
            self.m.d.sync += self.tick.eq(self.tick + 1)

    def computed(self, block: str) -> Upset:
        """For the operations of drive, step or readout."""
        tick = {"drive": Const(0, 1), "step": self.tick, "readout": self.ports.made}[block]
        return lambda name, wires: self._upset(f"value:{name}", wires, tick)

    def added_up(self, scope: Scope) -> Scope:
        """Inputs, and values of the drive that accumulators hold."""
        upset = self.computed("drive")
        return {name: upset(name, wires) if f"value:{name}" in self.words else wires for name, wires in scope.items()}

    def states(self, scope: Scope, tick: Value) -> Scope:
        """Registers of states, as tick `tick` reads them."""
        return {name: self._upset(f"state:{name}", wires, tick) for name, wires in scope.items()}

    def clamped(self, scope: Scope, tick: Value) -> Scope:
        """Registers of inputs and of values of the drive, as tick `tick` reads them."""
        return {
            n: self._upset(f"value:{n}", w, tick, held=True) if f"value:{n}" in self.words else w
            for n, w in scope.items()
        }

    def _upset(self, word: str, wires: Wires, tick: Value, *, held: bool = False) -> Wires:
        """`held`: what tick 0 reads was disturbed as it was computed."""
        name = word.partition(":")[2]
        fmt = self.ports.net.formats.get(name, BOOLEAN)
        disturbed = []
        for unit, wire in enumerate(wires.reshape(-1)):
            cut, found = Signal(shape_of(fmt), name=f"{name}_{unit}"), Signal(shape_of(fmt), name=f"{name}_disturbed")
            self.m.d.comb += [cut.eq(wire.value), found.eq(self._word(word, cut, unit, tick, held=held))]
            disturbed.append(Wire(found, Interval(fmt.lo, fmt.hi), wire.stage, wire.level))
        return filled(wires.shape, disturbed)

    def _word(self, word: str, cut: Signal, unit: int, tick: Value, *, held: bool) -> Value:
        if word not in self.words:
            # What a repeat carries is no word, but has a format.
            return cut
        place, _, name = word.partition(":")
        clamp = self.ports.net.formats[name] if place == "state" else None
        mine = Elements.one(self.ports.inject_unit == unit)
        disturbed = self.tables.disturbed(self.m, self.words[word], cut, mine, tick, clamp=clamp)
        return Mux(tick == 0, cut, disturbed) if held else disturbed
