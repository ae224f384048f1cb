"""Blocks of operations as logic that reads registers which stand still while it works.

A relaxation step reads states, and they keep their codes until the step is done. So a register may be put anywhere into
the logic, with nothing beside it to balance: a wire with `stage` registers before it is right `stage` clocks after
the states changed, and stays right. Registers go where the additions in a row would exceed a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from amaranth import Module, Mux, Signal, Value

from eqcompile.rtl.datapath import Datapath, shape_of
from eqcompile.toolchain.ir import Format, Interval, IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.ranges import op_range

from .fuse import Fused, fusible
from .graph import AdderGraph
from .matrix import LinearMap, bias_of, matrix_of
from .saboteur import Upset
from .solve import solve
from .tables import BlockTables, in_logic, table_of
from .wires import Scope, Wire, Wires, composed, constant, filled, narrowed, shifted

__all__ = ["TAKEN", "Builder"]

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

BLOCK_ENTRIES = 128
"""Only tables longer than this go into block RAM: shorter ones answer sooner from LUTs."""
BLOCK_BITS = 13
"""Address bits of tables in block RAM at most: one more takes eight block RAMs for two readers."""
LEVELS: Mapping[type[Op], int] = {
    ops.Mul: 3,
    ops.Interpolate: 5,
    ops.DampFixed: 3,
    ops.Lookup: 2,
}
"""Logic levels in units of one addition; 1 for what is not named."""


class Builder:
    """Adds the logic of one net to `m`. `levels` is the most additions between two registers, None for no register.
    `latched`: elements of lookups whose entries go to a register with reset 0 and nowhere else."""

    def __init__(
        self,
        m: Module,
        net: IntNet,
        *,
        levels: int | None,
        latched: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self.m, self.net, self.levels, self.latched = m, net, levels, latched or {}
        self.logic = Datapath(net)
        self.block_tables = BlockTables()
        self.types = self.logic.types
        self.graphs: dict[str, AdderGraph] = {}
        self.registers: dict[Wire, Wire] = {}
        self.sizes = {name: t.shape for name, t in self.types.items()}

    def block(self, block: Iterable[Op], scope: Scope, upset: Upset | None = None) -> None:
        """Add the wires of every operation of `block` to `scope`. With `upset` no operation is fused with another, and
        the wires of each are what it makes of them."""
        operations = list(block)
        fused = fusible(operations, self.net) if upset is None else {}
        waiting = {name for f in fused.values() for name in f.names}
        for op in operations:
            if isinstance(op, ops.Repeat):
                inner = dict(scope)
                self.carry(op, op.init, inner, upset)
                for _ in range(op.count):
                    self.block(op.body, inner, upset)
                    self.carry(op, op.result, inner, upset)
                scope[op.out] = inner[op.carry]
            elif op.out in fused:
                self.sum(fused[op.out], scope)
            elif op.out not in waiting:
                scope[op.out] = self.apply(op, scope)
            if upset is not None:
                scope[op.out] = upset(op.out, scope[op.out])

    def carry(self, op: ops.Repeat, name: str, inner: Scope, upset: Upset | None) -> None:
        """Set what a repeat carries."""
        wires = self.get(name, inner)
        inner[op.carry] = wires if upset is None else upset(op.carry, wires)

    def sum(self, fused: Fused, scope: Scope) -> None:
        """A linear map and what is added to it as one adder graph, if that stands still from the start."""
        shape = self.sizes[fused.add.out]
        addend = np.broadcast_to(self.get(fused.addend, scope), shape).reshape(-1)
        if self.sizes[fused.linear.out] != shape or any(w.level or w.stage for w in addend):
            for op in (*fused.chain, fused.add):
                scope[op.out] = self.apply(op, scope)
            return
        operands = list(self.get(fused.linear.x, scope).reshape(-1))
        scope[fused.add.out] = filled(shape, self.weighted(fused.linear, operands, fused.factor, list(addend)))

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

    def weighted(
        self, op: LinearMap, operands: Sequence[Wire], factor: int = 1, addend: Sequence[Wire] = ()
    ) -> list[Wire]:
        """A linear map times `factor` as an adder graph, the bias and `addend` among its terms."""
        matrix = matrix_of(op, self.net, self.types) * factor
        bias = [constant(int(b) * factor) for b in bias_of(op, self.net, self.types)]
        terms, columns = list(operands), [matrix]
        for column in (bias, addend):
            # A constant 0 is no term.
            rows = [r for r, w in enumerate(column) if w.range != Interval(0, 0)]
            terms += [column[r] for r in rows]
            columns.append(np.eye(len(matrix), dtype=np.int64)[:, rows])
        graph = solve(np.hstack(columns))
        self.graphs[op.out] = graph
        return self.product(graph, terms, op.out)

    def product(self, graph: AdderGraph, operands: Sequence[Wire], name: str) -> list[Wire]:
        """The outputs of an adder graph over `operands`."""
        ranges = graph.intervals([w.range for w in operands])
        nodes = list(operands)
        for adder, interval in zip(graph.adders, ranges[graph.inputs :], strict=True):
            a, b = self.ready([nodes[adder.a], nodes[adder.b]], 1)
            a, b = shifted(a, adder.shift_a), shifted(b, adder.shift_b)
            nodes.append(self.plus(a, b, interval, f"{name}_node", subtract=adder.subtract))
        outputs = []
        for term in graph.outputs:
            if term is None:
                outputs.append(constant(0))
                continue
            output = shifted(nodes[term.node], term.shift)
            outputs.append(self.negated(output) if term.negative else output)
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
        if isinstance(op, ops.Lookup):
            return self.lookup(op, operands[op.x], row)
        cost = LEVELS.get(type(op), 1)
        names = list(operands)
        ready = dict(zip(names, self.ready(list(operands.values()), cost), strict=True))
        value = self.logic.evaluate(self.m, op, {n: w.value for n, w in ready.items()}, row=row)
        if isinstance(op, ops.Greater):
            return self._late(ready.values(), Wire(value, Interval(0, 1)), cost)
        ranges = {n: w.range for n, w in ready.items()} | {
            n: self.logic.ranges[n] for n in op.reads if n not in operands
        }
        interval = op_range(op, ranges, self.sizes, self.net.param)
        return self._late(ready.values(), Wire(narrowed(value, interval), interval), cost)

    def lookup(self, op: ops.Lookup, x: Wire, row: int) -> Wire:
        """An entry of a table, by the bits of `x` that change."""
        table = table_of(self.net.param(op.table), op.first, x)
        interval = Interval(int(table.entries.min()), int(table.entries.max()))
        if interval.lo == interval.hi:
            return constant(interval.lo)
        long = len(table.entries) > BLOCK_ENTRIES and _holding(x.core_range()).bits <= BLOCK_BITS
        if long and row in self.latched.get(op.out, ()):
            return Wire(narrowed(self.block_tables.add(self.m, table, x), interval), interval, x.stage, x.level)
        cost = LEVELS[ops.Lookup]
        (x,) = self.ready([x], cost)
        return self.wire(in_logic(self.m, table, x.core()), interval, [x], cost, op.out)

    def rescale(self, x: Wire, multiplier: int, shift: int, name: str) -> Wire:
        """`(x * multiplier + half) >> shift`: the product with a constant is an adder graph of its own."""
        graph = solve(np.array([[multiplier]], np.int64))
        (scaled,) = self.product(graph, [x], name)
        if shift == 0:
            return scaled
        rounded = self.add(scaled, constant(1 << (shift - 1)))
        interval = Interval(rounded.range.lo >> shift, rounded.range.hi >> shift)
        return self._derived(rounded, rounded.value >> shift, interval)

    def add(self, a: Wire, b: Wire) -> Wire:
        return self.plus(a, b, Interval(a.range.lo + b.range.lo, a.range.hi + b.range.hi), "sum")

    def plus(self, a: Wire, b: Wire, interval: Interval, name: str, *, subtract: bool = False) -> Wire:
        """`a + b` or `a - b`, known to be in `interval`; bits that both leave as they are take no adder."""
        zero = Interval(0, 0)
        if b.range == zero:
            return a
        if a.range == zero:
            return self.negated(b) if subtract else b
        a, b = self.ready([a, b], 1)
        low = min((w.low for w in (a, b) if not w.is_constant), default=0)
        left, right = ((w.range.lo if w.is_constant else w.offset) for w in (a, b))
        # No carry may come out of the lowest bits.
        while low and right % (1 << low) and (subtract or left % (1 << low)):
            low -= 1
        total = a.core(low) - b.core(low) if subtract else a.core(low) + b.core(low)
        return self.wire(total, interval, [a, b], 1, name, low, (left + right) % (1 << low))

    def saturated(self, x: Wire, within: Interval) -> Wire:
        """`x`, its codes beyond `within` moved to one beyond it or at its bounds."""
        span = x.core_range()
        # The last core at or below the bound, and the first one at or above.
        low, high = (within.lo - x.offset) >> x.low, -((x.offset - within.hi) >> x.low)
        low, high = (max(span.lo, min(span.hi, bound)) for bound in (low, high))
        if (low, high) == (span.lo, span.hi):
            return x
        interval = Interval((low << x.low) + x.offset, (high << x.low) + x.offset)
        (x,) = self.ready([x], 2)
        core = x.core()
        cut = Mux(core > high, high, Mux(core < low, low, core))
        return self.wire(cut, interval, [x], 2, "saturated", x.low, x.offset)

    def negated(self, x: Wire) -> Wire:
        (x,) = self.ready([x], 1)
        low = 0 if x.offset else x.low
        return self.wire(-x.core(low), Interval(-x.range.hi, -x.range.lo), [x], 1, "negated", low)

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
        """`operands` behind registers if `cost` more levels would be too many for one of them.

        Then none of them brings levels from before those registers: the cut goes through all of them.
        """
        wires = list(operands)
        late = [w for w in wires if self.levels is not None and w.level and w.level + cost > self.levels]
        if not late:
            return wires
        stage = max(w.stage for w in late) + 1
        return [self.registered(w) if w in late or w.stage < stage else w for w in wires]

    def registered(self, wire: Wire) -> Wire:
        """`wire` behind a register, the same one each time; one that a register drives already stays."""
        if wire.is_constant or wire.level == 0:
            return wire
        known = self.registers.get(wire)
        if known is None:
            # No reset: what it held before is never read.
            register = Signal(shape_of(_holding(wire.core_range())), name="held", reset_less=True)
            self.m.d.sync += register.eq(wire.core())
            value = composed(register, wire.low, wire.offset)
            known = self.registers[wire] = replace(wire, value=value, stage=wire.stage + 1, level=0)
        return known

    def wire(
        self,
        core: Value,
        interval: Interval,
        operands: Iterable[Wire],
        cost: int,
        name: str,
        low: int = 0,
        offset: int = 0,
    ) -> Wire:
        """`(core << low) + offset` in `interval`, just wide enough, `cost` levels behind `operands`."""
        # Kept, or Yosys merges chains of additions into sums of many operands and builds them from LUTs: 2,836 of them
        # in place of 2,073 for the recurrent matrix of digits_ternary (yosys 0.70, synth_ecp5, estimated).
        span = Interval(interval.lo >> low, interval.hi >> low)
        signal = Signal(shape_of(_holding(span)), name=name, attrs={"keep": 1})
        self.m.d.comb += signal.eq(core)
        return self._late(operands, Wire(composed(signal, low, offset), interval, 0, 0, low, offset), cost)

    def _late(self, operands: Iterable[Wire], result: Wire, cost: int) -> Wire:
        if result.is_constant:
            return constant(result.range.lo)
        wires = list(operands)
        return replace(
            result,
            stage=max(w.stage for w in wires),
            level=cost + max(w.level for w in wires),
        )

    def _derived(self, wire: Wire, value: Value, interval: Interval) -> Wire:
        """Other bits of the same wire, no logic."""
        if interval.lo == interval.hi:
            return constant(interval.lo)
        return replace(wire, value=narrowed(value, interval), range=interval, low=0, offset=0)


def _holding(interval: Interval) -> Format:
    return Format.holding(interval.lo, interval.hi)
