"""The operations after the maps, for one element after another: a pipeline that takes one a clock.

sum ──► + bias ──► operations in order, a register behind each ──► results, `latency` clocks after the sum
index ──► tables of what differs by element (bias, multipliers, parameters)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from amaranth import Const, Module, Mux, Shape, Signal, Value
from amaranth.lib.memory import Memory

from eqcompile.rtl.datapath import Clocked, Datapath, decode, shape_of
from eqcompile.rtl.parallel.matrix import LinearMap, bias_of
from eqcompile.toolchain.ir import Format, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import Analysis

from .plan import WEIGHTED, Plan
from .saboteur import Saboteur

__all__ = ["DSP_BITS", "TABLE_CLOCKS", "Pipe", "is_product"]

DSP_BITS = 18
"""Operands of a multiplier block, signed."""
TABLE_CLOCKS = 2
"""A table has a register behind it: block RAM is slow to its pins."""


class Pipe:
    """Elements come with their number `index`; `elements[i]` is the row, in C order, of the value that number i
    computes, None where it computes nothing. Operands are `put` with their time, in clocks after `index`. `saboteur`
    disturbs what is computed."""

    def __init__(
        self,
        m: Module,
        plan: Plan,
        index: Value,
        elements: Sequence[int | None],
        saboteur: Saboteur | None = None,
    ) -> None:
        self.m, self.plan, self.elements, self.saboteur = m, plan, elements, saboteur
        self.path = Datapath(plan.net, Clocked())
        self.held: dict[str, list[Value]] = {}
        self.start: dict[str, int] = {}
        self.put("", index, 0)

    def put(self, name: str, value: Value, time: int) -> None:
        self.held[name], self.start[name] = [value], time

    def at(self, name: str, time: int, like: str = "") -> Value:
        """A value at a time, behind as many registers as that takes; a parameter in the shape of the value `like`."""
        if name in self.plan.net.param_names:
            return self.rows(self.path.rows(name, like), self.path.shape(name), time)
        name = self.plan.name(name)
        chain, first = self.held[name], self.start[name]
        while len(chain) <= time - first:
            later = Signal.like(chain[-1], name=f"{name or 'index'}_later", init=0, reset_less=True)
            self.m.d.sync += later.eq(chain[-1])
            chain.append(later)
        return chain[time - first]

    def rows(self, by_row: Sequence[int], shape: Shape, time: int) -> Value:
        """The entry of each element's row."""
        entries = [0 if e is None else by_row[e] for e in self.elements]
        known = {entries[i] for i, e in enumerate(self.elements) if e is not None}
        if len(known) == 1:
            return Const(known.pop(), shape)
        self.m.submodules += (rom := Memory(shape=shape, depth=len(entries), init=entries))
        port = rom.read_port()
        self.m.d.comb += port.addr.eq(self.at("", time - TABLE_CLOCKS))
        entry = Signal(shape, reset_less=True)
        self.m.d.sync += entry.eq(port.data)
        return entry

    def bias(self, op: LinearMap, total: Value) -> None:
        """Start with the result of a map, `total` without its bias, at time 0."""
        bias = [int(b) for b in bias_of(op, self.plan.net, Analysis.of(self.plan.net).types)]
        name, shape = self.plan.name(op.out), self.path.shape(op.out)
        # The sums of several maps share their adders, so this one may be narrower.
        needed = self.plan.net.formats[op.out]
        total = decode(total, needed) if len(total) >= needed.bits else total
        if not any(bias):
            self.put(name, self._disturbed(name, total, 0), 0)
            return
        self.put(name, total, 0)
        fmt = Format.holding(min(bias), max(bias))
        biased = Signal(shape, name=name, reset_less=True)
        self.m.d.sync += biased.eq(self.at(name, TABLE_CLOCKS) + self.rows(bias, shape_of(fmt), TABLE_CLOCKS))
        self.put(name, self._disturbed(name, biased, TABLE_CLOCKS + 1), TABLE_CLOCKS + 1)

    def run(self, block: Iterable[Op]) -> None:
        """Add the operations of a block that follow its map."""
        for op in block:
            if not isinstance(op, (*WEIGHTED, ops.Reshape)):
                self._add(op)

    def results(self, names: Mapping[str, str]) -> tuple[list[Value], int]:
        """Values or parameters, all at the same time, and that time; to each the value whose shape it takes."""
        params = self.plan.net.param_names
        time = max([TABLE_CLOCKS, *(self.start[self.plan.name(n)] for n in names if n not in params)])
        return [self.at(n, time, like) for n, like in names.items()], time

    def real(self, time: int) -> Value:
        """Whether the element at that time is one."""
        if None not in self.elements:
            return Const(1)
        flags = [int(e is not None) for e in self.elements]
        self.m.submodules += (rom := Memory(shape=1, depth=len(flags), init=flags))
        port = rom.read_port()
        self.m.d.comb += port.addr.eq(self.at("", time - 1))
        return Value.cast(port.data)

    def _add(self, op: Op) -> None:
        names = self.path.operands(op)
        read = [n for n in names if n not in self.plan.net.param_names or self.path.constant(n, op.out) is None]
        values, time = self.results(dict.fromkeys(read, op.out))
        operands = dict(zip(read, values, strict=True))
        if isinstance(op, ops.Rescale) and is_product(self.path, op):
            value, latency = self._rescaled(op, operands)
        else:
            value, latency = self.path.evaluate(self.m, op, operands), self.path.latency(op)
        result = Signal(self.path.shape(op.out), name=op.out, reset_less=True)
        self.m.d.sync += result.eq(value)
        self.put(op.out, self._disturbed(op.out, result, time + latency + 1), time + latency + 1)

    def _disturbed(self, name: str, value: Value, time: int) -> Value:
        return value if self.saboteur is None else self.saboteur.computed(self, name, value, time)

    def _rescaled(self, op: ops.Rescale, operands: dict[str, Value]) -> tuple[Value, int]:
        """`(x * multiplier + half) >> shift`: one multiplier block, what exceeds its operand by additions."""
        x = operands[op.x]
        factor = operands[op.multiplier] if op.multiplier in operands else self._constant(op)
        low, rest = _parts(x)
        lower = Signal((low * factor).shape(), reset_less=True)
        self.m.d.sync += lower.eq(low * factor)
        product: Value = lower
        if rest is not None:
            terms: Value = Const(0)
            for i, bit in enumerate(rest):
                term = Mux(bit, factor << i, 0)
                is_sign = i == len(rest) - 1 and rest.shape().signed
                terms = terms - term if is_sign else terms + term
            upper = Signal(terms.shape(), reset_less=True)
            self.m.d.sync += upper.eq(terms)
            product = lower + (upper << (DSP_BITS - 1))
        rounded = product + ((1 << op.shift) >> 1)
        return rounded >> op.shift, 1

    def _constant(self, op: ops.Rescale) -> Value:
        code = self.path.constant(op.multiplier, op.out)
        if code is None:
            raise AssertionError(f"{op.multiplier} differs by element and was not given")
        return Const(code, shape_of(Format.holding(code, code)))


def _parts(x: Value) -> tuple[Value, Value | None]:
    """The bits of `x` that a multiplier block takes and, if there are more, those above."""
    keep = DSP_BITS - 1
    if x.shape().width <= keep + x.shape().signed:
        return x, None
    above = x[keep:]
    return x[:keep], above.as_signed() if x.shape().signed else above


def is_product(path: Datapath, op: Op) -> bool:
    """Whether a rescale multiplies rather than shifts."""
    return bool(path.latency(op))
