"""Operations as stages of chains."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.ir.ops import Op

from ..isa import Alu, Reduction, Table, TableKind, Unit
from .chain import Chain, Stage
from .draft import Pass
from .values import Values
from .views import View, contiguous

__all__ = ["Operations"]


class Operations(Values):
    """Every operation but linear maps and repeats: it goes on with a chain where its stage allows that, else it begins
    one."""

    def one(self, op: ops.Abs | ops.Reduce | ops.Rescale | ops.Lookup | ops.Interpolate | ops.Isqrt) -> Chain:
        """An operation of one value."""
        longer = self.extend(self.chain(op.x), op)
        if longer is None:
            longer = self.extend(Chain.of(self.read(op.x)), op)
        assert longer is not None
        return longer

    def extend(
        self, chain: Chain, op: ops.Abs | ops.Reduce | ops.Rescale | ops.Lookup | ops.Interpolate | ops.Isqrt
    ) -> Chain | None:
        match op:
            case ops.Abs():
                return chain.absolute()
            case ops.Reduce():
                kind = Reduction.SUM if op.kind == "sum" else Reduction.MAX
                return chain.reduced(kind, op.axes, op.keep)
            case ops.Rescale():
                multiplier = self.params[op.multiplier]
                if multiplier.size == 1:
                    return chain.scaled(int(multiplier.ravel()[0]), op.shift)
                return chain.times(self.read(op.multiplier), op.shift)
            case ops.Lookup():
                entries = len(self.params[op.table])
                return chain.through(Table(TableKind.LOOKUP, self.table(op.table), op.first, entries))
            case ops.Interpolate():
                base, slope = self.table(op.base), self.table(op.slope)
                entries = len(self.params[op.base])
                return chain.through(Table(TableKind.INTERPOLATE, base, op.first, entries, slope, op.shift))
            case ops.Isqrt():
                return chain.root()
            case _:
                assert_never(op)

    def table(self, name: str) -> int:
        """Its first word."""
        tables = self.draft.tables
        tables.setdefault(name, self.params[name])
        before = list(tables)[: list(tables).index(name)]
        return sum(tables[n].size for n in before)

    def two(self, op: ops.Add | ops.Sub | ops.Mul | ops.Greater | ops.Divide) -> Chain:
        """An operation of two values: it goes on with the longer chain."""
        both = [(self.chain(n), n) for n in (op.a, op.b)]
        order = sorted((0, 1), key=lambda k: -both[k][0].stage)
        for k in order:
            chain, other = both[k][0], (op.b, op.a)[k]
            longer = self.joined(op, chain, self.read(other), swapped=k == 1)
            if longer is not None:
                return longer
        longer = self.joined(op, Chain.of(self.read(op.a)), self.read(op.b), swapped=False)
        assert longer is not None
        return longer

    def joined(self, op: Op, chain: Chain, other: View, *, swapped: bool) -> Chain | None:
        match op:
            case ops.Add():
                return chain.two(Alu.ADD, other) or chain.plus(other)
            case ops.Sub():
                return chain.two(Alu.SUB, other, swapped=swapped)
            case ops.Greater():
                return chain.two(Alu.GREATER, other, swapped=swapped)
            case ops.Mul():
                return chain.times(other, 0)
            case ops.Divide():
                return None if swapped else chain.divided(other, op.shift)
            case _:
                raise AssertionError(op.mnemonic)

    def damped(self, op: ops.DampFixed) -> Chain:
        state = self.updates.get(op.out)
        in_place = op.old if state is not None and state.name == op.old else None
        old = self.read(op.old)
        shape = self.types[op.out].shape
        for chain in (self.chain(op.new), Chain.of(self.read(op.new).broadcast(shape))):
            if chain.result == shape:
                longer = chain.damped(in_place, old, op.multiplier, op.shift)
                if longer is not None:
                    return longer
        raise AssertionError(f"{op.out} cannot be damped")

    def product(self, op: ops.MatMul) -> None:
        a, b = self.read(op.a), self.read(op.b)
        *lead, rows, inner = a.shape
        columns = b.shape[-1]
        rank = len(lead)
        shape = (*lead, rows, columns, inner)
        wide_a = View(a.buffer, shape, (*a.strides[:rank], a.strides[-2], 0, a.strides[-1]), a.offset)
        wide_b = View(b.buffer, shape, (*b.strides[:rank], 0, b.strides[-1], b.strides[-2]), b.offset)
        chain = Chain(shape, shape, wide_a, wide_b, stage=Stage.UNIT, unit=Unit.MULTIPLY)
        summed = chain.reduced(Reduction.SUM, (-1,), False)
        assert summed is not None
        self.define(op.out, summed)

    def embedded(self, op: ops.Embedding) -> None:
        table = self.read(op.table)
        rows, width = table.shape
        offset = Chain.of(self.read(op.x)).scaled(width, 0)
        assert offset is not None
        name = f"{op.out} rows"
        view = self.buffer(name, offset.result, bits=(rows * width).bit_length() + 1)
        self.draft.items.append(Pass(offset, view, name))
        shape = (*view.shape, width)
        wide = replace(view, shape=shape, strides=(*view.strides, 0))
        a = View(table.buffer, shape, (*[0] * len(view.shape), 1))
        self.define(op.out, Chain(shape, shape, a, c=wide, indirect=True))

    def reshaped(self, op: ops.Reshape) -> None:
        view = self.read(op.x).reshape(op.shape)
        if view is None:
            self.write(op.out, Chain.of(self.read(op.x)))
            view = contiguous(op.out, op.shape)
        self.values[op.out] = view
