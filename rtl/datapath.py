"""Elementwise operations of an IntNet as Amaranth expressions, exact to the bit.

Amaranth's arithmetic never overflows, and the verifier has proved that the value of every operation fits its stated
format; so an expression is written as in the specification and cut to the format at the end. Where clocks go is the
business of a `Fabric`: `Combinational` spends none, `Clocked` registers products and reads tables from block RAM.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np
from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory

from eqcompile.toolchain.ir import Format, IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import Analysis

__all__ = [
    "ELEMENTWISE",
    "Clocked",
    "Combinational",
    "Datapath",
    "Fabric",
    "decode",
    "shape_of",
    "weight_format",
    "weighted",
]

ELEMENTWISE = (
    ops.Add,
    ops.Sub,
    ops.Mul,
    ops.Abs,
    ops.Greater,
    ops.Select,
    ops.Rescale,
    ops.Lookup,
    ops.Interpolate,
    ops.DampFixed,
)
"""What `Datapath.evaluate` takes."""

SMALL = 512
"""Bits of a table that are logic rather than a block RAM."""

_OTHERS = (ops.FloatOp | ops.WeightedOp | ops.Embedding | ops.MatMul) | (
    ops.Reduce | ops.Reshape | ops.Transpose | ops.Repeat | ops.Divide | ops.Isqrt
)
"""Operations that are no datapath of one element, and the division and the root, which none has."""


def shape_of(fmt: Format) -> Shape:
    """The Amaranth shape of codes of a format."""
    return signed(fmt.bits) if fmt.signed else unsigned(fmt.bits)


def decode(bits: Value, fmt: Format) -> Value:
    """The code that the lowest bits of a word hold."""
    field = bits[: fmt.bits]
    return field.as_signed() if fmt.signed else field.as_unsigned()


def weight_format(lowest: int, highest: int) -> Format:
    """The format of weights in a range, as `weighted` reads them: two bits where all are -1, 0 or 1, else more."""
    return Format.holding(min(lowest, -1), max(highest, 1 if lowest >= -1 else 2))


def weighted(weight: Value, code: Value, minus: Value) -> Value:
    """`weight * code`; a weight of two bits is ternary and chooses from the code, `minus` (the code negated) and 0."""
    if len(weight) > 2:
        return weight * code
    return Mux(weight[1], minus, Mux(weight[0], code, Const(0)))


class Fabric(ABC):
    """Where clocks are spent inside one operation. Latencies are in clocks; nothing stalls."""

    cut_latency: int
    table_latency: int

    @abstractmethod
    def cut(self, m: Module, value: Value) -> Value:
        """`value`, `cut_latency` clocks later."""

    @abstractmethod
    def table(self, m: Module, entries: Sequence[int], shape: Shape, index: Value) -> Value:
        """`entries[index]`, `table_latency` clocks later; an index past the end is never given."""


class Combinational(Fabric):
    """No clock anywhere: a table is logic."""

    cut_latency = 0
    table_latency = 0

    def cut(self, m: Module, value: Value) -> Value:
        return value

    def table(self, m: Module, entries: Sequence[int], shape: Shape, index: Value) -> Value:
        m.submodules += (rom := Memory(shape=shape, depth=len(entries), init=entries))
        port = rom.read_port(domain="comb")
        m.d.comb += port.addr.eq(index)
        return Value.cast(port.data)


class Clocked(Fabric):
    """A register after each product; tables in synchronous memory with a register behind (block RAM is slow to its
    pins)."""

    cut_latency = 1
    table_latency = 2

    def cut(self, m: Module, value: Value) -> Value:
        register = Signal(value.shape())
        m.d.sync += register.eq(value)
        return register

    def table(self, m: Module, entries: Sequence[int], shape: Shape, index: Value) -> Value:
        attrs = {"rom_style": "block"} if len(entries) * shape.width > SMALL else {}
        m.submodules += (rom := Memory(shape=shape, depth=len(entries), init=entries, attrs=attrs))
        port = rom.read_port()
        m.d.comb += port.addr.eq(index)
        return self.cut(m, Value.cast(port.data))


class Datapath:
    """Elementwise operations of one net on one fabric."""

    def __init__(self, net: IntNet, fabric: Fabric | None = None) -> None:
        self.net = net
        self.fabric = Combinational() if fabric is None else fabric
        self.types = Analysis.of(net).types
        self.ranges = Analysis.of(net).ranges

    def shape(self, name: str) -> Shape:
        """Shape of the codes of an input, a state, a parameter or an operation's value; one bit for a comparison."""
        if name in self.net.param_names:
            interval = self.ranges[name]
            return shape_of(Format.holding(interval.lo, interval.hi))
        if self.types[name].kind == "boolean":
            return unsigned(1)
        return shape_of(self.net.formats[name])

    def rows(self, name: str, out: str) -> list[int]:
        """Entry of parameter `name` for each element, in C order, of the value `out`."""
        value = np.broadcast_to(self.net.param(name), self.types[out].shape)
        return [int(v) for v in value.reshape(-1)]

    def constant(self, name: str, out: str) -> int | None:
        """The entry of a parameter if it is the same for every element of `out`."""
        entries = set(self.rows(name, out))
        return entries.pop() if len(entries) == 1 else None

    def latency(self, op: Op) -> int:
        """Clocks from the operands of `op` to its value."""
        match op:
            case ops.Lookup():
                return self.fabric.table_latency
            case ops.Interpolate():
                return self.fabric.table_latency + self.fabric.cut_latency
            case ops.Mul() | ops.DampFixed():
                return self.fabric.cut_latency
            case ops.Rescale(out=out, multiplier=name):
                return 0 if _is_power(self.constant(name, out)) else self.fabric.cut_latency
            case _:
                return 0

    def evaluate(self, m: Module, op: Op, operands: Mapping[str, Value], *, row: Value | int | None = None) -> Value:
        """The value of `op` for one element, `latency(op)` clocks after its operands, in the stated format.

        `operands` holds a value for each name that `op` reads. A parameter may be left out if it is the same for all
        elements or if `row`, the element's index in C order, is given: a number makes a constant, a signal (on a fabric
        without clocks only) a table. Raises TypeError for operations outside `ELEMENTWISE`.
        """
        values = {name: self._operand(m, op, name, operands, row) for name in self.operands(op)}
        result = Signal(self.shape(op.out), name=op.out if not isinstance(row, int) else f"{op.out}_{row}")
        m.d.comb += result.eq(self._expression(m, op, values))
        return result

    def operands(self, op: Op) -> list[str]:
        """Names that `op` reads, tables left out."""
        tables = {"table", "base", "slope"}
        return [getattr(op, field) for field, _ in op.reference_fields() if field not in tables]

    def _operand(self, m: Module, op: Op, name: str, operands: Mapping[str, Value], row: Value | int | None) -> Value:
        if name in operands:
            return Value.cast(operands[name])
        constant = self.constant(name, op.out)
        if constant is None and isinstance(row, int):
            constant = self.rows(name, op.out)[row]
        if constant is not None:
            return Const(constant, shape_of(Format.holding(constant, constant)))
        if row is None or self.fabric.table_latency:
            raise TypeError(f"{op.mnemonic} {op.out}: parameter {name} differs by element and no row says which")
        return self.fabric.table(m, self.rows(name, op.out), self.shape(name), Value.cast(row))

    def _expression(self, m: Module, op: Op, v: Mapping[str, Value]) -> Value:
        match op:
            case ops.Add(a=a, b=b):
                return v[a] + v[b]
            case ops.Sub(a=a, b=b):
                return v[a] - v[b]
            case ops.Mul(a=a, b=b):
                return self.fabric.cut(m, v[a] * v[b])
            case ops.Abs(x=x):
                return Mux(v[x] < 0, -v[x], v[x])
            case ops.Greater(a=a, b=b):
                return v[a] > v[b]
            case ops.Select(condition=condition, a=a, b=b):
                return Mux(v[condition], v[a], v[b])
            case ops.Rescale(x=x, multiplier=multiplier, shift=shift):
                constant = self.constant(multiplier, op.out)
                if constant is not None and _is_power(constant):
                    return _half_up(v[x] << (constant.bit_length() - 1), shift)
                return _half_up(self.fabric.cut(m, v[x] * v[multiplier]), shift)
            case ops.Lookup(x=x, table=table, first=first):
                entries = [int(e) for e in self.net.param(table)]
                index = self._index(m, v[x], first, len(entries))
                return self.fabric.table(m, entries, self.shape(op.out), index)
            case ops.Interpolate():
                return self._interpolate(m, op, v[op.x])
            case ops.DampFixed(old=old, new=new, multiplier=factor, shift=shift):
                step = self.fabric.cut(m, (v[new] - v[old]) * factor)
                return self.fabric.cut(m, v[old]) + _half_up(step, shift)
            case _ if isinstance(op, _OTHERS):
                raise TypeError(f"{op.mnemonic} {op.out} is no elementwise operation of a datapath")
            case _:
                assert_never(op)

    def _index(self, m: Module, x: Value, first: int, size: int) -> Value:
        """`clamp(x, first, first + size - 1) - first`, in as many bits as it needs.

        Comparisons that the format of `x` decides are left out; its proved interval would not survive other weights.
        """
        fmt = Format(max(x.shape().width, 1), x.shape().signed)
        bits = max((size - 1).bit_length(), 1)
        distance = Signal(shape_of(Format.holding(min(fmt.lo - first, 0), max(fmt.hi - first, 0))))
        m.d.comb += distance.eq(x - first)
        index = distance[:bits]
        if fmt.hi > first + size - 1:
            # With a power of two the comparison is an OR of the bits above.
            above = distance[bits:].any() if size == 1 << bits else distance.as_unsigned() > size - 1
            index = Mux(above, size - 1, index)
        if fmt.lo < first:
            index = Mux(distance < 0, 0, index)
        result = Signal(bits)
        m.d.comb += result.eq(index)
        return result

    def _interpolate(self, m: Module, op: ops.Interpolate, x: Value) -> Value:
        base, slope = ([int(e) for e in self.net.param(name)] for name in (op.base, op.slope))
        u = self._index(m, x, op.first, len(base) << op.shift)
        segment = u[op.shift :] if len(base) > 1 else Const(0, 1)
        fraction: Value = u[: op.shift] if op.shift else Const(0, 1)
        for _ in range(self.fabric.table_latency):
            fraction = Clocked().cut(m, fraction)
        start = self.fabric.table(m, base, self.shape(op.base), segment)
        grade = self.fabric.table(m, slope, self.shape(op.slope), segment)
        return self.fabric.cut(m, start) + _half_up(self.fabric.cut(m, grade * fraction), op.shift)


def _is_power(multiplier: int | None) -> bool:
    return multiplier is not None and multiplier > 0 and multiplier & (multiplier - 1) == 0


def _half_up(x: Value, shift: int) -> Value:
    """`x / 2**shift` to the nearest integer, ties up. Sign-extended slices are arithmetic shifts."""
    rounded = x + ((1 << shift) >> 1)
    shape = rounded.shape()
    if shift == 0:
        return rounded
    if shift >= shape.width:
        return Cat(rounded[-1]).as_signed() if shape.signed else Const(0, 1)
    kept = rounded[shift:]
    return kept.as_signed() if shape.signed else kept
