"""What is shared by all code of one net: names, fields in RAM, constants in flash, functions and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...toolchain.arrays import largest, row_reach
from ...toolchain.ir import Interval, IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import Analysis, linear_taps
from ...toolchain.passes import narrowest as compact
from ..clike import Shape, contiguous
from .lanes import Update
from .layout import CType, Field, Group, narrowest, signed
from .matrix import Pack, matrix_of, rows_of
from .scalar import HELPERS
from .storage import Constant, Entries, Integers, Matrix, lists_of
from .values import Names, Value, literal

__all__ = ["DATA", "SCRATCH", "Kernel", "Program", "columns_of"]

Kernel = Literal["dense", "event"]
Codes = NDArray[np.int64]
DATA = "data"
SCRATCH = "u"
BOOLEAN = Interval(0, 1)
HALF_WORD = Interval(-(1 << 31), (1 << 31) - 1)


@dataclass
class Program:
    """Grows while blocks are written. `scratch` holds the fields of each block, which share memory between blocks."""

    net: IntNet
    kernel: Kernel
    pack: Pack
    names: Names = field(default_factory=Names)
    locals: Names = field(default_factory=lambda: Names(local=True))
    kept: Group = field(default_factory=Group)
    constants: dict[str, Constant] = field(default_factory=dict)
    storages: dict[str, Matrix] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    values: dict[str, Value] = field(default_factory=dict)
    widths: list[int] = field(default_factory=list)
    """Lanes at most of the matrices whose columns are added many at a time."""
    clears: list[Field] = field(default_factory=list)
    """Fields that a new sample starts with zeros: accumulators of events and what they have seen."""

    def __post_init__(self) -> None:
        # The union of scratch arrays stands beside the kept fields.
        scratch = self.kept.names.free(SCRATCH)
        assert scratch == SCRATCH, "the first name that is taken is free"
        self.ranges: Mapping[str, Interval] = Analysis.of(self.net).ranges
        self.shapes: Mapping[str, Shape] = Analysis.of(self.net).shapes
        self.params: Mapping[str, Codes] = Analysis.of(self.net).codes
        self._globals: dict[str, str] = {}
        self._reaches: dict[str, int] = {}
        self.kept.add(
            Field(self.kept.names.free("started"), CType(8, False), 1, "whether the states hold their initial codes")
        )
        for s in self.net.states:
            self.values[s.name] = self.array(self.kept, s.name, s.shape, self.ranges[s.name], "s->", comment="state")

    def name(self, wanted: str) -> str:
        """The C name of a constant or a function, always the same."""
        if wanted not in self._globals:
            self._globals[wanted] = self.names.free(wanted)
        return self._globals[wanted]

    def interval(self, name: str) -> Interval:
        """Interval of a value; that of tokens and booleans too."""
        for i in self.net.inputs:
            if i.name == name and i.encoding is None:
                return Interval(*i.limits)
        return self.ranges.get(name, BOOLEAN)

    # Storage

    def array(
        self, group: Group, wanted: str, shape: Shape, x: Interval, base: str, *, comment: str = "", entries: int = 0
    ) -> Value:
        """A new array in `group` as a value in C order; `entries` if it has more of them than the value."""
        name = group.names.free(wanted)
        group.add(Field(name, narrowest(x), entries or math.prod(shape), comment))
        return Value(f"{base}{name}", shape, contiguous(shape), x, frozenset({name}))

    def table(self, param: str) -> str:
        """A parameter as an array in flash."""
        name = self.name(param)
        self.constants.setdefault(name, Constant.of(name, self.params[param]))
        return f"{DATA}.{name}"

    def value(self, name: str) -> Value:
        """A value that was written before, or a parameter: one code stands in the code itself."""
        if name in self.values:
            return self.values[name]
        codes = self.params[name]
        interval = self.ranges[name]
        if codes.size == 1:
            return Value(literal(int(codes.reshape(-1)[0])), codes.shape, None, interval)
        return Value(self.table(name), codes.shape, contiguous(codes.shape), interval)

    def need(self, helper: str) -> None:
        assert helper in HELPERS, helper
        self.helpers.add(helper)

    # Weights

    def accumulator(self, op: Op) -> tuple[Interval, Interval, Interval]:
        """Intervals of any partial sum of a linear map, of an operand or the difference of two, and of a product."""
        assert isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))
        if op.out not in self._reaches:
            self._reaches[op.out] = _reach(op, self.net)
        reach, top = self._reaches[op.out], int(largest(self.params[op.weight]))
        x = self.ranges[op.x]
        bound = reach * x.magnitude
        span = max(x.hi, 0) - min(x.lo, 0)
        return Interval(-bound, bound), Interval(-span, span), Interval(-span * top, span * top)

    def storage(self, op: Op) -> Matrix:
        """How the columns of the weights of `op` are stored."""
        assert isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))
        key = op.weight if not isinstance(op, ops.Stencil) else f"{op.weight}.{op.index}"
        if key not in self.storages:
            if isinstance(op, ops.Stencil):
                made = lists_of(self.name(key), Entries.of_taps(linear_taps(self.net, op)), DATA)
            else:
                made = matrix_of(self.name(key), columns_of(op, self.net), self.pack, DATA)
            self._store(key, made)
        return self.storages[key]

    def adder(self, op: Op) -> tuple[str, CType]:
        """The C function that adds a column of the weights of `op`, and the type of the factor."""
        assert isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))
        total, delta, product = self.accumulator(op)
        acc = signed(total)
        factor = acc
        if not (delta.within(acc.interval) and product.within(acc.interval)):
            wide = Interval(-max(found.magnitude for found in (total, delta, product)), 0)
            factor = signed(Interval(min(wide.lo, -(1 << 15) - 1), 0))
        key = op.weight if not isinstance(op, ops.Stencil) else f"{op.weight}.{op.index}"
        function = self.name(f"{key}.add.{acc.bits}.{factor.bits}")
        if function not in self.functions:
            self.functions[function] = [
                f"static void {function}({acc} *acc, size_t column, {factor} delta)",
                "{",
                *self.storage(op).body(acc, str(factor)),
                "}",
            ]
        return function, factor

    def updater(self, op: ops.Linear, x: CType, seen: CType | None, *, every: bool) -> str | None:
        """The C function that brings the accumulators of `op` up to an operand of type `x`, many columns at a time;
        `seen`: the type of the operand that they have, None if they are zeros; `every`: entries that are 0 too. None
        where columns are not stored for it."""
        lanes = self.storage(op).lanes
        if lanes is None or seen not in (None, x):
            return None
        total, delta, product = self.accumulator(op)
        acc, entries = signed(total), math.prod(self.shapes[op.x])
        listed = lanes.listed(total, delta, product, x, entries)
        if not listed:
            return None
        adder = self.name(f"{op.weight}.add_all.{acc.bits}")
        if adder not in self.functions:
            self.widths.append(lanes.width)
            self.functions[adder] = lanes.functions(adder, acc)
        update = Update(adder, acc, x, entries, listed, events=seen is not None, every=every)
        kind = "update" if update.events else "start_all" if every else "start"
        function = self.name(f"{op.weight}.{kind}.{acc.bits}.{x}.{listed}")
        if function not in self.functions:
            self.functions[function] = update.function(function)
        return function

    def dotter(self, op: ops.Linear, x: CType) -> tuple[str, Matrix] | None:
        """The C function that multiplies one row of the weights of `op` with a vector, if they are stored so."""
        total = signed(self.accumulator(op)[0] | HALF_WORD)
        key = f"{op.weight}.rows"
        if key not in self.storages:
            made = rows_of(self.name(key), columns_of(op, self.net), self.pack, DATA)
            if made is None:
                return None
            self._store(key, made)
        function = self.name(f"{key}.times.{x}")
        if function not in self.functions:
            self.functions[function] = [
                f"static {total} {function}(const {x} *x, size_t row)",
                "{",
                *self.storages[key].body(total, str(x)),
                "}",
            ]
        return function, self.storages[key]

    def _store(self, key: str, made: Matrix) -> None:
        self.storages[key] = made
        for constant in made.constants:
            assert constant.name not in self.constants, constant.name
            self.constants[constant.name] = constant


def columns_of(op: ops.Linear | ops.Conv, net: IntNet) -> Integers:
    """The weights that one operand entry meets, `[entries, outputs]`; of a conv `[channel * tap, channel out]`."""
    weight = compact(net.param(op.weight))
    return np.ascontiguousarray(weight.reshape(len(weight), -1).T)


def _reach(op: ops.Linear | ops.Stencil | ops.Conv, net: IntNet) -> int:
    """The largest sum of magnitudes of the weights of one entry of the result."""
    if not isinstance(op, ops.Stencil):
        return row_reach(net.param(op.weight))
    taps = linear_taps(net, op)
    sums = np.zeros(taps.shape[0], object)
    np.add.at(sums, taps.row, np.abs(taps.weight.astype(object)))
    return int(sums.max(initial=0))
