"""What every stage asks about a net, computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import cast

from ..arrays import Codes, Numbers
from ..ir import Interval, IntNet, Net, ValueType, infer, value_ranges, walk
from ..ir.ops import Op, Repeat
from .reads import live_ops, reads

__all__ = ["Analysis"]

_ATTRIBUTE = "_analysis"


@dataclass(frozen=True, eq=False)
class Analysis:
    """Facts about one net. `Analysis.of(net)` gives the same object for the same net, each fact computed on first use.

    Names are those of inputs, parameters, states and operation values, repeat bodies included.
    """

    net: Net

    @classmethod
    def of(cls, net: Net) -> Analysis:
        """The analysis of `net`, which lives as long as the net; a net made by `dataclasses.replace` has its own."""
        cached = vars(net).get(_ATTRIBUTE)
        if cached is None:
            # A net is frozen, and an attribute that is no field leaves its meaning, text and digest alone.
            cached = vars(net)[_ATTRIBUTE] = cls(net)
        return cached

    def __reduce__(self) -> tuple[Callable[[Net], Analysis], tuple[Net]]:
        return Analysis.of, (self.net,)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the net (`Net.digest`)."""
        return self.net.digest

    @cached_property
    def types(self) -> Mapping[str, ValueType]:
        """Shape (without batch axis) and kind of every name. Raises OpError where an operation does not fit."""
        return MappingProxyType(infer(self.net))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every name, without batch axis."""
        return MappingProxyType({name: t.shape for name, t in self.types.items()})

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Entries of every name, without batch axis."""
        return MappingProxyType({name: prod(shape) for name, shape in self.shapes.items()})

    @cached_property
    def ranges(self) -> Mapping[str, Interval]:
        """Proved interval of every name but booleans and indices. Raises TypeError for an EqNet, RangeError where
        nothing bounds a value."""
        if not isinstance(self.net, IntNet):
            raise TypeError(f"{self.net.name} is a float net, only integers have proved ranges")
        return MappingProxyType(value_ranges(self.net))

    @cached_property
    def params(self) -> Mapping[str, Numbers]:
        """Array of every parameter, read-only."""
        return MappingProxyType({p.name: p.value for p in self.net.params})

    @property
    def codes(self) -> Mapping[str, Codes]:
        """`params` of an IntNet. Raises TypeError for an EqNet."""
        if not isinstance(self.net, IntNet):
            raise TypeError(f"{self.net.name} is a float net, its parameters are no codes")
        return cast("Mapping[str, Codes]", self.params)

    @cached_property
    def moving(self) -> frozenset[str]:
        """States, and every value that depends on one: what can change from tick to tick."""
        return _reached({s.name for s in self.net.states}, (*self.net.drive, *self.net.step, *self.net.readout))

    @cached_property
    def clamped(self) -> frozenset[str]:
        """Inputs, and every value and state that depends on one."""
        names = frozenset(i.name for i in self.net.inputs)
        while True:
            reached = _reached(names, (*self.net.drive, *self.net.step, *self.net.readout))
            reached |= {s.name for s in self.net.states if reached & {s.update, s.init}}
            if reached == names:
                return names
            names = reached

    @cached_property
    def live_ops(self) -> tuple[tuple[str, Op], ...]:
        """Block and operation, for every one that matters and those in the bodies of repeats that do."""
        return tuple(
            (block, op)
            for block, script in self.net.blocks
            for outer in script
            if outer.out in self.live
            for op in walk([outer])
        )

    @cached_property
    def live(self) -> frozenset[str]:
        """Values of operations, outside repeat bodies, that a state or an output depends on."""
        net = self.net
        readout = live_ops(net.readout, {o.value for o in net.outputs})
        step = live_ops(net.step, {s.update for s in net.states})
        later = {o.value for o in net.outputs} | {s.update for s in net.states}
        later |= {s.init for s in net.states if s.init is not None} | reads(readout) | reads(step)
        return frozenset(op.out for op in (*live_ops(net.drive, later), *step, *readout))

    @cached_property
    def readers(self) -> Mapping[str, int]:
        """How many operands, repeat results, state updates, initial values and outputs name each name."""
        net = self.net
        count = Counter(name for op in net.all_ops() for name in op.reads)
        count.update(op.result for op in net.all_ops() if isinstance(op, Repeat))
        count.update(o.value for o in net.outputs)
        count.update(name for s in net.states for name in (s.update, s.init) if name is not None)
        return MappingProxyType(count)

    def __str__(self) -> str:
        """A table: name, type, interval, readers and what the name depends on, a line each."""
        ranges = self.ranges if isinstance(self.net, IntNet) else {}
        rows = [f"analysis of {self.net.name} ({self.digest[:12]})"]
        for name, value in self.types.items():
            depends = [word for word, names in (("input", self.clamped), ("state", self.moving)) if name in names]
            row = [name, f"{value.kind}{list(value.shape)}", str(ranges.get(name, "-"))]
            rows.append("  ".join([*row, f"readers={self.readers.get(name, 0)}", "+".join(depends) or "constant"]))
        return "\n".join(rows)


def _reached(sources: Iterable[str], block: Iterable[Op]) -> frozenset[str]:
    """`sources` and every value of `block`, in evaluation order, that reads one of them."""
    names = set(sources)
    for op in block:
        if isinstance(op, Repeat):
            # A body can meet a moving value in its second turn only: all of it counts as soon as any of it does.
            if names & (reads([op]) - {op.carry}):
                names |= {op.carry, op.out, *(inner.out for inner in _bodies(op))}
        elif names & set(op.reads):
            names.add(op.out)
    return frozenset(names)


def _bodies(op: Repeat) -> Iterable[Op]:
    for inner in op.body:
        yield inner
        if isinstance(inner, Repeat):
            yield from _bodies(inner)
