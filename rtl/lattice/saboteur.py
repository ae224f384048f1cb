"""Saboteurs of the lattice engine: the words that a fault of a net may name, disturbed on their way through the units.

| word | disturbed | by the row of tick |
|---|---|---|
| `state:NAME` | before the memories of units and cells | that comes next |
| `value:NAME` of step or readout | behind the register of its operation, or its sum | that is made |
| `value:NAME` of the drive | the same | 0 |
| | behind the units' memory of it | that is made, but 0 |

A value that is another one in another shape has no place of its own, and no saboteur.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from amaranth import Const, Module, Mux, Signal, Value

from eqcompile.rtl.datapath import shape_of
from eqcompile.toolchain.ir import Format, ops

from ..interface import Engine
from ..saboteur import Elements, Tables, numbered
from .plan import Plan

__all__ = ["Saboteur", "words_of"]


def words_of(plan: Plan) -> dict[str, int]:
    """States, and the value of every operation but reshapes."""
    values = (op.out for op in plan.net.all_ops() if not isinstance(op, ops.Reshape))
    return numbered((s.name for s in plan.net.states), values)


class Elementwise(Protocol):
    """A pipeline that takes one element after another, by number: `elements[i]` is the row that number i computes."""

    elements: Sequence[int | None]

    def at(self, name: str, time: int) -> Value:
        """A value `time` clocks after the number of its element; the number itself without a name."""


class Saboteur:
    """Disturbs words of the engine `ports`, whose logic is in `m`."""

    def __init__(self, m: Module, ports: Engine, plan: Plan) -> None:
        self.m, self.ports, self.words = m, ports, words_of(plan)
        self.tables = Tables(ports)
        self.places: dict[tuple[int | None, ...], tuple[Signal, Signal]] = {}

    def stored(self, pipe: Elementwise, name: str, code: Value, index: Value, driving: Value) -> Value:
        """The code of a state that the element at `index` of a pipe stores; `driving`: for tick 0."""
        coming = Signal(16, name=f"inject_{name}_tick")
        self.m.d.comb += coming.eq(Mux(driving, 0, self.ports.made + 1))
        return self._upset(f"state:{name}", code, self._elements(pipe, index), coming)

    def computed(self, pipe: Elementwise, name: str, value: Value, time: int) -> Value:
        """The value of an operation, or of a map, `time` clocks after its index."""
        drive = any(op.out == name for op in self.ports.net.drive)
        tick = Const(0, 1) if drive else self.ports.made
        return self._upset(f"value:{name}", value, self._elements(pipe, pipe.at("", time)), tick)

    def kept(self, pipe: Elementwise, name: str, value: Value, time: int) -> Value:
        """A value of the drive as a step reads it from memory."""
        tick = self.ports.made
        disturbed = self._upset(f"value:{name}", value, self._elements(pipe, pipe.at("", time)), tick)
        # What tick 0 reads was disturbed as it was computed.
        return Mux(tick == 0, value, disturbed)

    def _elements(self, pipe: Elementwise, index: Value) -> Elements:
        """Those of a pipe, of which that at `index` is at hand."""
        elements = tuple(pipe.elements)
        if elements not in self.places:
            place, known = Signal(range(max(len(elements), 2)), name="inject_place"), Signal(name="inject_known")
            with self.m.Switch(self.ports.inject_unit):
                for number, element in enumerate(elements):
                    if element is not None:
                        with self.m.Case(element):
                            self.m.d.comb += [place.eq(number), known.eq(1)]
            self.places[elements] = place, known
        place, known = self.places[elements]
        return Elements(len(elements), index, known, place)

    def _upset(self, word: str, value: Value, elements: Elements, tick: Value) -> Value:
        place, _, name = word.partition(":")
        formats = self.ports.net.formats
        cut = Signal(shape_of(formats.get(name, Format(1, False))), name=name)
        self.m.d.comb += cut.eq(value)
        clamp = formats[name] if place == "state" else None
        return self.tables.disturbed(self.m, self.words[word], cut, elements, tick, clamp=clamp)
