"""Blocks of operations as logic that reads registers which stand still while it works.

A relaxation step reads states, and they keep their codes until the step is done. So a register may be put anywhere into
the logic, with nothing beside it to balance: a wire with `stage` registers before it is right `stage` clocks after
the states changed, and stays right. Registers go where the additions in a row would exceed a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib.memory import Memory
from numpy.typing import NDArray

from eqcompile.rtl.datapath import Combinational, Datapath, decode, shape_of
from eqcompile.toolchain.ir import Format, Interval, IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.ranges import op_range

from .graph import AdderGraph
from .matrix import LinearMap, bias_of, matrix_of
from .solve import Solver, solve

__all__ = ["TAKEN", "Builder", "Scope", "Wire", "Wires", "constant", "filled", "source"]

TAKEN = (
    ops.Linear,
    ops.Stencil,
    ops.Conv,
    ops.Add,
    ops.Sub,
    ops.Mul,
    ops.Abs,
    ops.Greater,
    ops.Select,
    ops.Reduce,
    ops.Reshape,
    ops.Transpose,
    ops.Repeat,
    ops.Rescale,
    ops.Lookup,
    ops.Interpolate,
    ops.DampFixed,
)
"""Operations that `Builder.block` takes."""

BLOCK_ENTRIES = 256
"""Tables longer than this go into block RAM where a clock may be spent on them."""
BLOCK_LEVELS = 3
"""A block RAM answers as late after its clock as two additions in a row; one more adds the pattern."""
LEVELS: Mapping[type[Op], int] = {
    ops.Mul: 3,
    ops.Interpolate: 5,
    ops.DampFixed: 3,
    ops.Lookup: 3,
}
"""Logic levels in units of one addition; 1 for what is not named."""


@dataclass(frozen=True, eq=False)
class Wire:
    """One code: its interval, the registers before it (`stage`) and the additions since the last one (`level`)."""

    value: Value
    range: Interval
    stage: int = 0
    level: int = 0

    @property
    def is_constant(self) -> bool:
        return self.range.lo == self.range.hi


Wires = NDArray[Any]
"""Array of `Wire`, shaped as the value."""
Scope = dict[str, Wires]


def constant(code: int) -> Wire:
    return Wire(Const(code, shape_of(Format.holding(code, code))), Interval(code, code))


def source(value: Value, fmt: Format) -> Wire:
    """A register that stands still, with codes of `fmt`."""
    return Wire(value, Interval(fmt.lo, fmt.hi))


class _BlockTables(Combinational):
    """Tables in block RAM, one clock; two readers share one, as its two ports allow.

    A table of an activation is smooth: a block of neighbouring entries is its first entry plus one of a few patterns.
    So the RAM holds first entry and pattern of each block, and the lowest bits of the index, which stand still as the
    rest does, choose within the pattern.
    """

    table_latency = 1

    def __init__(self) -> None:
        self.free: dict[tuple[int, ...], Memory] = {}
        self.count = 0

    def table(self, m: Module, entries: Sequence[int], shape: Shape, index: Value) -> Value:
        low, first, pattern, patterns = _blocks(np.array(entries, np.int64))
        starts = Format.holding(int(first.min()), int(first.max()))
        kinds = max(len(patterns) - 1, 1).bit_length()
        words = [
            (int(f) & ((1 << starts.bits) - 1)) | int(p) << starts.bits for f, p in zip(first, pattern, strict=True)
        ]
        key = tuple(words)
        rom = self.free.pop(key, None)
        if rom is None:
            rom = self.free[key] = Memory(shape=starts.bits + kinds, depth=len(words), init=words)
            m.submodules += rom
            self.count += 1
        port = rom.read_port()
        m.d.comb += port.addr.eq(index[low:])
        if low == 0:
            return decode(port.data, starts)
        span = Format.holding(int(patterns.min()), int(patterns.max()))
        rest = [int(d) for d in patterns.reshape(-1)]
        chosen = super().table(m, rest, shape_of(span), Cat(index[:low], port.data[starts.bits :]))
        return decode(port.data, starts) + chosen


def _blocks(entries: NDArray[np.int64]) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """`entries[i] = first[i >> low] + patterns[pattern[i >> low], i % 2**low]` with the fewest bits in all."""
    best, found = 0, None
    for low in range(7):
        size = 1 << low
        rows = np.pad(entries, (0, -len(entries) % size), mode="edge").reshape(-1, size)
        patterns, pattern = np.unique(rows - rows[:, :1], axis=0, return_inverse=True)
        word = Format.holding(int(rows.min()), int(rows.max())).bits + (len(patterns) - 1).bit_length()
        # A pattern is logic in every reader.
        bits = len(rows) * word + 8 * patterns.size
        if found is None or bits < best:
            best, found = bits, (low, rows[:, 0], pattern.reshape(-1), patterns)
    if found is None:
        raise AssertionError("no block size was tried")
    return found


class Builder:
    """Adds the logic of one net to `m`. `levels` is the most additions between two registers, None for no register."""

    def __init__(self, m: Module, net: IntNet, *, levels: int | None, solver: Solver) -> None:
        self.m, self.net, self.levels, self.solver = m, net, levels, solver
        self.logic = Datapath(net)
        self.block_tables = _BlockTables()
        self.clocked = Datapath(net, self.block_tables)
        self.types = self.logic.types
        self.graphs: dict[str, AdderGraph] = {}
        self.registers: dict[Wire, Wire] = {}
        self.sizes = {name: t.shape for name, t in self.types.items()}

    def block(self, block: Iterable[Op], scope: Scope) -> None:
        """Add the wires of every operation of `block` to `scope`."""
        for op in block:
            if isinstance(op, ops.Repeat):
                inner = {**scope, op.carry: self.get(op.init, scope)}
                for _ in range(op.count):
                    self.block(op.body, inner)
                    inner[op.carry] = self.get(op.result, inner)
                scope[op.out] = inner[op.carry]
            else:
                scope[op.out] = self.apply(op, scope)

    def get(self, name: str, scope: Scope) -> Wires:
        """The wires of a value or, as constants, of a parameter."""
        if name in scope:
            return scope[name]
        return filled(self.net.param(name).shape, [constant(int(v)) for v in self.net.param(name).reshape(-1)])

    def apply(self, op: Op, scope: Scope) -> Wires:
        shape = self.sizes[op.out]
        match op:
            case ops.Linear(x=x) | ops.Stencil(x=x) | ops.Conv(x=x):
                return filled(shape, self.weighted(op, list(self.get(x, scope).reshape(-1))))
            case ops.Reshape(x=x):
                return self.get(x, scope).reshape(shape)
            case ops.Transpose(x=x, axes=axes):
                return self.get(x, scope).transpose(axes)
            case ops.Reduce(x=x, axes=axes, kind=kind):
                x_wires = self.get(x, scope)
                kept = [a for a in range(x_wires.ndim) if a - x_wires.ndim not in axes]
                rows = x_wires.transpose(*kept, *axes).reshape(prod(shape), -1)
                combine = self.largest if kind == "max" else self.add
                return filled(shape, [self.tree(list(row), combine) for row in rows])
            case ops.Rescale(x=x, multiplier=multiplier, shift=shift):
                codes = np.broadcast_to(self.net.param(multiplier), shape).reshape(-1)
                x_wires = self.get(x, scope).reshape(-1)
                return filled(
                    shape, [self.rescale(w, int(c), shift, op.out) for w, c in zip(x_wires, codes, strict=True)]
                )
            case _:
                return self.elementwise(op, scope)

    def weighted(self, op: LinearMap, operands: Sequence[Wire]) -> list[Wire]:
        """A linear map as its adder graph, the bias added last."""
        matrix = matrix_of(op, self.net, self.types)
        graph = solve(matrix, [w.range for w in operands], self.solver)
        self.graphs[op.out] = graph
        sums = self.product(graph, operands, op.out)
        return [self.add(y, constant(int(b))) for y, b in zip(sums, bias_of(op, self.net, self.types), strict=True)]

    def product(self, graph: AdderGraph, operands: Sequence[Wire], name: str) -> list[Wire]:
        """The outputs of an adder graph over `operands`."""
        ranges = graph.intervals([w.range for w in operands])
        nodes = list(operands)
        for adder, interval in zip(graph.adders, ranges[graph.inputs :], strict=True):
            a, b = self.ready([nodes[adder.a], nodes[adder.b]], 1)
            left, right = a.value << adder.shift_a, b.value << adder.shift_b
            total = left - right if adder.subtract else left + right
            nodes.append(self.wire(total, interval, [a, b], 1, f"{name}_node"))
        outputs = []
        for term in graph.outputs:
            if term is None:
                outputs.append(constant(0))
                continue
            node = nodes[term.node]
            shifted = self._derived(
                node, node.value << term.shift, Interval(node.range.lo << term.shift, node.range.hi << term.shift)
            )
            outputs.append(self.negated(shifted) if term.negative else shifted)
        return outputs

    def elementwise(self, op: Op, scope: Scope) -> Wires:
        shape = self.sizes[op.out]
        tables = {"table", "base", "slope"}
        names = [getattr(op, f) for f, _ in op.reference_fields() if f not in tables]
        columns = {n: np.broadcast_to(self.get(n, scope), shape).reshape(-1) for n in names}
        return filled(
            shape, [self.element(op, {n: c[row] for n, c in columns.items()}, row) for row in range(prod(shape))]
        )

    def element(self, op: Op, operands: Mapping[str, Wire], row: int) -> Wire:
        """One element of an elementwise operation, by the datapath."""
        if isinstance(op, ops.Add):
            return self.add(operands[op.a], operands[op.b])
        is_block = (
            self.levels is not None and isinstance(op, ops.Lookup) and len(self.net.param(op.table)) > BLOCK_ENTRIES
        )
        cost = 1 if is_block else LEVELS.get(type(op), 1)
        names = list(operands)
        found = dict(zip(names, self.ready(list(operands.values()), cost), strict=True))
        path = self.clocked if is_block else self.logic
        value = path.evaluate(self.m, op, {n: w.value for n, w in found.items()}, row=row)
        if isinstance(op, ops.Greater):
            return self._late(found.values(), Wire(value, Interval(0, 1)), cost)
        ranges = {n: w.range for n, w in found.items()} | {
            n: self.logic.ranges[n] for n in op.reads if n not in operands
        }
        interval = op_range(op, ranges, self.sizes, self.net.param)
        result = self._late(found.values(), Wire(_narrowed(value, interval), interval), cost)
        return replace(result, stage=result.stage + 1, level=BLOCK_LEVELS) if is_block else result

    def rescale(self, x: Wire, multiplier: int, shift: int, name: str) -> Wire:
        """`(x * multiplier + half) >> shift`: the product with a constant is an adder graph of its own."""
        graph = solve(np.array([[multiplier]], np.int64), [x.range], "pairs")
        (scaled,) = self.product(graph, [x], name)
        if shift == 0:
            return scaled
        rounded = self.add(scaled, constant(1 << (shift - 1)))
        interval = Interval(rounded.range.lo >> shift, rounded.range.hi >> shift)
        return self._derived(rounded, rounded.value >> shift, interval)

    def add(self, a: Wire, b: Wire) -> Wire:
        for one, other in ((a, b), (b, a)):
            if one.range == Interval(0, 0):
                return other
        a, b = self.ready([a, b], 1)
        interval = Interval(a.range.lo + b.range.lo, a.range.hi + b.range.hi)
        return self.wire(a.value + b.value, interval, [a, b], 1, "sum")

    def negated(self, x: Wire) -> Wire:
        (x,) = self.ready([x], 1)
        return self.wire(-x.value, Interval(-x.range.hi, -x.range.lo), [x], 1, "negated")

    def largest(self, a: Wire, b: Wire) -> Wire:
        a, b = self.ready([a, b], 2)
        interval = Interval(max(a.range.lo, b.range.lo), max(a.range.hi, b.range.hi))
        return self.wire(Mux(a.value > b.value, a.value, b.value), interval, [a, b], 2, "largest")

    def tree(self, wires: list[Wire], combine: Callable[[Wire, Wire], Wire]) -> Wire:
        """All of `wires` combined pairwise, neighbours first."""
        while len(wires) > 1:
            pairs = [combine(a, b) for a, b in zip(wires[::2], wires[1::2], strict=False)]
            wires = pairs + wires[2 * len(pairs) :]
        return wires[0]

    def ready(self, operands: Sequence[Wire], cost: int) -> list[Wire]:
        """`operands`, those registered after which `cost` more levels would be too many."""
        if self.levels is None:
            return list(operands)
        limit = self.levels
        return [self.registered(w) if w.level and w.level + cost > limit else w for w in operands]

    def registered(self, wire: Wire) -> Wire:
        """`wire` behind a register, the same one each time; one that a register drives already stays."""
        if wire.is_constant or wire.level == 0:
            return wire
        found = self.registers.get(wire)
        if found is None:
            held = Signal(wire.value.shape(), name="held")
            self.m.d.sync += held.eq(wire.value)
            found = self.registers[wire] = Wire(held, wire.range, wire.stage + 1, 0)
        return found

    def wire(self, value: Value, interval: Interval, operands: Iterable[Wire], cost: int, name: str) -> Wire:
        """A signal just wide enough for `interval`, `cost` levels behind `operands`."""
        # Kept, or Yosys merges chains of additions into sums of many operands and builds them from LUTs: 2,836 of them
        # in place of 2,073 for the recurrent matrix of digits_ternary (yosys 0.70, synth_ecp5, estimated).
        signal = Signal(shape_of(Format.holding(interval.lo, interval.hi)), name=name, attrs={"keep": 1})
        self.m.d.comb += signal.eq(value)
        return self._late(operands, Wire(signal, interval), cost)

    def _late(self, operands: Iterable[Wire], made: Wire, cost: int) -> Wire:
        if made.is_constant:
            return constant(made.range.lo)
        given = list(operands)
        return replace(
            made,
            stage=max((w.stage for w in given), default=0),
            level=cost + max((w.level for w in given), default=0),
        )

    def _derived(self, wire: Wire, value: Value, interval: Interval) -> Wire:
        """Other bits of the same wire, no logic."""
        if interval.lo == interval.hi:
            return constant(interval.lo)
        return replace(wire, value=_narrowed(value, interval), range=interval)


def _narrowed(value: Value, interval: Interval) -> Value:
    """The lowest bits of `value` that hold every code of `interval`."""
    fmt = Format.holding(interval.lo, interval.hi)
    return decode(value, fmt) if fmt.bits <= len(value) else value


def filled(shape: tuple[int, ...], wires: Sequence[Wire]) -> Wires:
    """`wires`, in C order, as an array."""
    made = np.empty(len(wires), object)
    made[:] = wires
    return made.reshape(shape)
