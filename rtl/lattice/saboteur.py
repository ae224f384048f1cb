"""Saboteurs of the lattice engine: the words that a fault of a net may name, disturbed on their way through the units.

| word | disturbed | so that it is wrong for |
|---|---|---|
| `state:NAME` | before the memories of units and cells, in ticks `first - 1` to `last - 1` | ticks `first` to `last` |
| `value:NAME` of step or readout | behind the register of its operation, or its sum | ticks `first` to `last` |
| `value:NAME` of the drive, `first` 0 | the same | the inference |
| `value:NAME` of the drive, later | behind the units' memory of it | ticks `first` to the end |

A value that is another one in another shape has no place of its own, and no saboteur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth import Module, Mux, Signal, Value

from eqcompile.rtl.datapath import shape_of
from eqcompile.toolchain.ir import Format, ops

from ..saboteur import disturbed, numbered, within
from .plan import Plan

if TYPE_CHECKING:
    from .engine import LatticeEngine
    from .unit import Pipe

__all__ = ["Saboteur", "words_of"]


def words_of(plan: Plan) -> dict[str, int]:
    """States, and the value of every operation but reshapes."""
    values = (op.out for op in plan.net.all_ops() if not isinstance(op, ops.Reshape))
    return numbered((s.name for s in plan.net.states), values)


class Saboteur:
    """Disturbs words of the engine `ports`, whose logic is in `m`."""

    def __init__(self, m: Module, ports: LatticeEngine) -> None:
        self.m, self.ports, self.words = m, ports, words_of(ports.plan)
        self.places: dict[tuple[int | None, ...], tuple[Signal, Signal]] = {}

    def stored(self, pipe: Pipe, name: str, code: Value, index: Value, driving: Value) -> Value:
        """The code of a state that the element at `index` of a pipe stores; `driving`: for tick 0."""
        coming = Mux(driving, 0, self.ports.made + 1)
        return self._upset(f"state:{name}", code, within(self.ports, coming) & self._here(pipe, index))

    def computed(self, pipe: Pipe, name: str, value: Value, time: int) -> Value:
        """The value of an operation, or of a map, `time` clocks after its index."""
        ports = self.ports
        drive = any(op.out == name for op in ports.net.drive)
        now = ports.inject_first == 0 if drive else within(ports, ports.made)
        return self._upset(f"value:{name}", value, now & self._here(pipe, pipe.at("", time)))

    def kept(self, pipe: Pipe, name: str, value: Value, time: int) -> Value:
        """A value of the drive as a step reads it from memory."""
        first = self.ports.inject_first
        now = (first != 0) & (first <= self.ports.made)
        return self._upset(f"value:{name}", value, now & self._here(pipe, pipe.at("", time)))

    def kept_moving(self, moved: Value) -> Value:
        """A sample whose words may be disturbed never settles: it makes all its steps."""
        return moved | self.ports.inject_enable

    def _here(self, pipe: Pipe, index: Value) -> Value:
        """Whether the element at `index` of a pipe is the one that the port names."""
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
        return known & (index == place)

    def _upset(self, word: str, value: Value, here: Value) -> Value:
        name = word.partition(":")[2]
        shape = shape_of(self.ports.net.formats.get(name, Format(1, False)))
        cut, found = Signal(shape, name=name), Signal(shape, name=f"{name}_disturbed")
        self.m.d.comb += [cut.eq(value), found.eq(disturbed(self.ports, self.words[word], cut, here))]
        return found
