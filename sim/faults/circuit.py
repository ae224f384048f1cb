"""The words of a net that upsets may name, and the check that those of a table are among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic, UsageError
from ...toolchain.ir import Format, Interval, IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.ir.ranges import RangeError, op_range
from ...toolchain.passes import Analysis
from .storage import Word, boolean, param_words
from .table import FaultTable, Place

__all__ = ["Circuit", "format_ranges", "unbounded"]

Key = tuple[Place, str]


@dataclass(frozen=True)
class Circuit:
    """`words` and `sizes` (elements) of everything that an upset may name; `held`: values that may be held."""

    words: Mapping[Key, Word]
    sizes: Mapping[Key, int]
    held: frozenset[str]

    @classmethod
    def of(cls, net: IntNet) -> Circuit:
        types = Analysis.of(net).types
        words: dict[Key, Word] = {(Place.STATE, s.name): Word(net.formats[s.name]) for s in net.states}
        words |= {(Place.PARAM, name): word for name, word in param_words(net).items()}
        for op in net.all_ops():
            kind = types[op.out].kind
            words[Place.VALUE, op.out] = boolean if kind == "boolean" else Word(net.formats[op.out])
        sizes = {(place, name): prod(types[name].shape) for place, name in words}
        return cls(words, sizes, frozenset(op.out for op in net.step))

    def check(self, table: FaultTable, *, samples: int, ticks: int, core: bool = False) -> None:
        """Raise UsageError with every kind of fault in `table` that this circuit does not have; with `core` it has a
        core, whose words the caller checks."""
        faults, upsets = table.faults, table.upsets
        found = [*_bounds("sample", faults["sample"], samples)]
        inside = int((upsets["place"] == Place.CORE).sum())
        if inside and not core:
            what = f"{inside} upsets of registers or memories of an RTL core, which a net has not"
            found.append(Diagnostic("fault-core", what, "fault", "engine rtl runs such a core"))
        found += _bounds("tick", upsets["last"][upsets["place"] != Place.CORE], ticks + 1)
        for number, name in enumerate(table.names):
            named = upsets["name"] == number
            for place in (Place.STATE, Place.VALUE, Place.PARAM):
                which = np.flatnonzero(named & (upsets["place"] == place))
                rows = upsets if len(which) == len(upsets) else np.take(upsets, which)
                found += self._check(place, name, rows)
        if found:
            raise UsageError(found)

    def _check(self, place: Place, name: str, rows: NDArray[np.void]) -> Iterator[Diagnostic]:
        if not len(rows):
            return
        where = f"{place.name.lower()}:{name}"
        if (place, name) not in self.words:
            known = ", ".join(sorted(n for p, n in self.words if p is place)) or "none"
            yield Diagnostic("fault-word", f"the net has no {place.name.lower()} {name!r}", where, f"it has: {known}")
            return
        yield from _bounds(f"element of {where}", rows["index"], self.sizes[place, name])
        bits = self.words[place, name].format.bits
        reach = int(np.bitwise_or.reduce(rows["flip"] | rows["one"] | rows["zero"]))
        if reach >> bits:
            what = f"bit {reach.bit_length() - 1} is disturbed, its word has bits 0 to {bits - 1}"
            yield Diagnostic("fault-bit", what, where)
        if rows["held"].any() and not (place is Place.VALUE and name in self.held):
            yield Diagnostic("fault-held", "only a value of the step is held, outside of repeats", where)


def _bounds(what: str, value: NDArray[np.int64], count: int) -> list[Diagnostic]:
    if len(value) and (int(value.min()) < 0 or int(value.max()) >= count):
        said = f"a fault names {what} {int(value.max())}, there are 0 to {count - 1}"
        return [Diagnostic("fault-range", said, what)]
    return []


def format_ranges(net: IntNet) -> dict[str, Interval]:
    """The interval of every value in a disturbed run: its stated format, for a constant its word."""
    found = dict(Analysis.of(net).ranges)
    for name, fmt in net.formats.items():
        found[name] = _interval(fmt)
    for name, word in param_words(net).items():
        found[name] = found[name] | _interval(word.format)
    return found


def _interval(fmt: Format) -> Interval:
    return Interval(fmt.lo, fmt.hi)


def unbounded(net: IntNet) -> list[Diagnostic]:
    """Operations whose inner products may leave 63 bits once their operands are anywhere in their formats."""
    types, ranges = Analysis.of(net).types, format_ranges(net)
    shapes = {name: t.shape for name, t in types.items()}
    return [fault for op in net.all_ops() for fault in _unbounded(net, op, ranges, shapes)]


def _unbounded(
    net: IntNet, op: Op, ranges: Mapping[str, Interval], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Diagnostic]:
    if isinstance(op, ops.Greater | ops.Repeat):
        return
    if isinstance(op, ops.Divide):
        ranges = {**ranges, op.b: Interval(max(ranges[op.b].lo, 1), max(ranges[op.b].hi, 1))}
    try:
        op_range(op, ranges, shapes, net.param)
    except RangeError as error:
        hint = "state narrower formats: a disturbed value may be anywhere in its own"
        yield Diagnostic("fault-reach", str(error), f"{net.name}: {op.out}", hint)
