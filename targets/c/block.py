"""Statements of a block of operations: what follows elementwise becomes one loop, linear maps add columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from ...toolchain.ir import Interval, ops
from ...toolchain.ir.ops import Op, Operation
from ...toolchain.passes import live_ops, reads
from ..clike import contiguous
from .layout import narrowest, signed
from .maps import EACH, MAPS, RUN, in_runs, write_map
from .region import Region
from .scalar import Scalar, expression, lookup_index
from .values import Value, loops

__all__ = ["Block", "copy"]

Index = Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Biased(Operation):
    """The bias of a linear map, as an addition of two views."""

    view: Value
    bias: Value


_Scalar = ops.ElementwiseOp | _Biased
"""What stands in one loop with others of its shape."""


@dataclass
class Block(Region):
    """Writes a block of operations."""

    def write(self, block: Sequence[Op], results: Iterable[str] = (), pad: str = "    ") -> list[str]:
        """Lines of the block; afterwards `program.values` has what it defines. `results` are read after it."""
        lines: list[str] = []
        waiting: list[_Scalar] = []
        after = {*results, *self.lasting}
        block = live_ops(block, after)

        def flush(position: int) -> None:
            if waiting:
                lines.extend(self._fused(waiting, after | reads(block[position:]), pad))
                waiting.clear()

        for position, op in enumerate(block):
            fits = waiting and self.program.shapes[waiting[0].out] == self.program.shapes[op.out]
            if not (isinstance(op, ops.ElementwiseOp) and fits):
                flush(position)
            if isinstance(op, ops.ElementwiseOp):
                waiting.append(op)
                continue
            lines += [f"{pad}/* {op.mnemonic} {op.out} */", *self._other(op, pad)]
            if isinstance(op, MAPS) and op.bias is not None:
                waiting.append(self._bias(op, op.bias))
        flush(len(block))
        return lines

    # Elementwise

    def _bias(self, op: ops.Linear | ops.Stencil | ops.Conv, bias: str) -> _Biased:
        view, value = self.program.values[op.out], self.program.value(bias)
        if isinstance(op, ops.Conv) and value.strides is not None:
            ones = (1,) * (len(view.shape) - 1)
            value = replace(value, shape=(*value.shape, *ones), strides=(*value.strides, *(0 for _ in ones)))
        return _Biased(out=op.out, view=view, bias=value)

    def _operands(self, op: _Scalar, inside: set[str]) -> list[str | Value]:
        """Operands of an elementwise operation: a view, or a name that is a table or defined in the same loop."""
        if isinstance(op, _Biased):
            return [op.view, op.bias]
        tables = 1 if isinstance(op, (ops.Lookup, ops.Interpolate)) else len(op.reads)
        return [n if n in inside or k >= tables else self.program.value(n) for k, n in enumerate(op.reads)]

    def _fused(self, group: Sequence[_Scalar], read_later: set[str], pad: str) -> list[str]:
        program, shape = self.program, self.program.shapes[group[0].out]
        operands: list[list[str | Value]] = []
        inside: set[str] = set()
        for op in group:
            found = self._operands(op, inside)
            operands.append([v.aligned(shape) if isinstance(v, Value) else v for v in found])
            inside.add(op.out)
        flat = all(v.even for found in operands for v in found if isinstance(v, Value))
        stored = {op.out: self.new(op.out, shape, program.interval(op.out)) for op in group if op.out in read_later}

        local: dict[str, Scalar] = {}

        def scalar(v: str | Value, index: Index) -> Scalar:
            if isinstance(v, Value):
                return Scalar(v.flat(index[0]) if flat else v.at(index), v.interval)
            return local[v] if v in local else Scalar("", program.ranges[v], program.table(v))

        def length(param: str) -> int:
            return len(program.params[param])

        def statements(positions: Iterable[int], index: Index, entry: str = "") -> list[str]:
            """Of operations of the group; `entry` is the table index of the first of them, where that was found."""
            lines: list[str] = []
            for k in positions:
                op, result = group[k], program.interval(group[k].out)
                given = [scalar(v, index) for v in operands[k]]
                if entry and not lines:
                    word, text = _word(result), f"{given[1].table}[{entry}]"
                else:
                    plain = ops.Add(out=op.out, a="", b="") if isinstance(op, _Biased) else op
                    word, text = expression(plain, given, result, length, program.need)
                name = program.locals.free(op.out)
                lines.append(f"const {word} {name} = {text};")
                local[op.out] = Scalar(name, result)
                if op.out in stored:
                    to = stored[op.out]
                    at = to.flat(index[0]) if flat else to.at(index)
                    lines.append(f"{at} = ({narrowest(result)}){name};")
            return lines

        count, every = math.prod(shape), range(len(group))
        cut = _first_lookup(group, operands) if flat and count % RUN == 0 else None
        if cut is None:
            lines = loops(shape, lambda index: statements(every, index), pad, flat=flat)
        else:
            # A compiler works out the entries of a run side by side in vector registers, then reads them one by one.
            op, run = group[cut], ["i0"]
            assert isinstance(op, ops.Lookup)
            kind = narrowest(Interval(0, length(op.table) - 1))
            before = statements(every[:cut], run)
            entry = lookup_index(op, scalar(operands[cut][0], run), length(op.table), program.need)
            before.append(f"at[i0 - run] = ({kind})({entry});")
            after = statements(every[cut:], run, "at[i0 - run]")
            each = [[EACH, *(f"    {line}" for line in part), "}"] for part in (before, after)]
            lines = in_runs(count, [f"{kind} at[{RUN}];", *each[0], *each[1]], pad)
        program.values |= stored
        return lines

    # The others

    def _other(self, op: Op, pad: str) -> list[str]:
        program = self.program
        if isinstance(op, MAPS):
            return write_map(self, op, pad)
        match op:
            case ops.Reshape(x=x, shape=shape):
                value, lines = program.value(x), []
                if value.strides is not None and not value.plain:
                    whole = self.new(op.out, value.shape, value.interval)
                    lines, value = copy(value, whole, pad), whole
                program.values[op.out] = value.reshaped(shape)
                return lines
            case ops.Transpose(x=x, axes=axes):
                program.values[op.out] = program.value(x).transposed(axes)
                return []
            case ops.Embedding(x=x, table=table):
                return self._gathered(op, program.value(x), table, pad)
            case ops.MatMul(a=a, b=b):
                return self._product(op, program.value(a), program.value(b), pad)
            case ops.Reduce(x=x):
                return self._reduced(op, program.value(x), pad)
            case ops.Repeat():
                return self._repeated(op, pad)
            case _ if isinstance(op, ops.FloatOp | ops.ElementwiseOp):
                raise TypeError(f"{op.mnemonic} is not an integer operation")
            case _:
                assert_never(op)

    def _gathered(self, op: Op, x: Value, table: str, pad: str) -> list[str]:
        program = self.program
        width = program.params[table].shape[1]
        to = self.new(op.out, (*x.shape, width), program.interval(op.out))
        array = program.table(table)

        def body(index: Index) -> list[str]:
            row = f"(size_t){x.at(index[:-1])}"
            return [f"{to.at(index)} = ({narrowest(to.interval)}){array}[{row} * {width} + {index[-1]}];"]

        program.values[op.out] = to
        return loops(to.shape, body, pad)

    def _product(self, op: Op, a: Value, b: Value, pad: str) -> list[str]:
        program = self.program
        to = self.new(op.out, program.shapes[op.out], program.interval(op.out))
        inner = a.shape[-1]
        bound = inner * max(abs(u * v) for u in _ends(a.interval) for v in _ends(b.interval))
        word = _word(Interval(-bound, bound))

        def body(index: Index) -> list[str]:
            *lead, row, column = index

            def term(k: Index) -> list[str]:
                return [f"total += ({word}){a.at([*lead, row, k[0]])} * ({word}){b.at([*lead, k[0], column])};"]

            return [
                f"{word} total = 0;",
                *loops((inner,), term, "", letter="k"),
                f"{to.at(index)} = ({narrowest(to.interval)})total;",
            ]

        program.values[op.out] = to
        return loops(to.shape, body, pad)

    def _reduced(self, op: ops.Reduce, x: Value, pad: str) -> list[str]:
        program = self.program
        to = self.new(op.out, program.shapes[op.out], program.interval(op.out))
        rank = len(x.shape)
        dropped = {rank + a for a in op.axes}
        # The result's axes in x, those of size 1 that `keep` leaves included.
        whole = tuple(1 if axis in dropped else n for axis, n in enumerate(x.shape))
        view = replace(to, shape=whole, strides=contiguous(whole))
        inner = tuple(n if axis in dropped else 1 for axis, n in enumerate(x.shape))
        bound = max(map(abs, _ends(x.interval))) * math.prod(inner)
        word = _word(Interval(-bound, bound))

        def body(index: Index) -> list[str]:
            def step(reduced: Index) -> list[str]:
                at = [reduced[axis] if axis in dropped else i for axis, i in enumerate(index)]
                entry = f"({word}){x.at(at)}"
                return [f"total += {entry};" if op.kind == "sum" else f"total = {entry} > total ? {entry} : total;"]

            first = x.at(["0" if axis in dropped else i for axis, i in enumerate(index)])
            start = "0" if op.kind == "sum" else f"({word}){first}"
            return [
                f"{word} total = {start};",
                *loops(inner, step, "", letter="k"),
                f"{view.at(index)} = ({narrowest(to.interval)})total;",
            ]

        program.values[op.out] = to
        return loops(whole, body, pad)

    def _repeated(self, op: ops.Repeat, pad: str) -> list[str]:
        program = self.program
        init = program.value(op.init)
        carry = self.new(op.out, program.shapes[op.out], program.interval(op.out), wanted=op.carry)
        lines = copy(init, carry, pad)
        program.values[op.carry] = program.values[op.out] = carry
        counter = program.locals.free(f"{op.out}_count")
        lines.append(f"{pad}for (int {counter} = 0; {counter} < {op.count}; {counter}++) {{")
        lines += self.write(op.body, [op.result], pad + "    ")
        result = program.value(op.result)
        if result.roots & carry.roots and not result.plain:
            whole = self.new(op.result, carry.shape, carry.interval, wanted=f"{op.out}_next")
            lines += copy(result, whole, pad + "    ")
            result = whole
        return [*lines, *copy(result, carry, pad + "    "), f"{pad}}}"]


def copy(value: Value, to: Value, pad: str) -> list[str]:
    """Lines that set the whole array `to` to `value`, broadcast."""
    whole = value.aligned(to.shape)
    flat = whole.even and to.plain
    name = narrowest(to.interval)

    def body(index: Index) -> list[str]:
        if flat:
            return [f"{to.flat(index[0])} = ({name}){whole.flat(index[0])};"]
        return [f"{to.at(index)} = ({name}){whole.at(index)};"]

    return loops(to.shape, body, pad, flat=flat)


def _first_lookup(group: Sequence[_Scalar], operands: Sequence[Sequence[str | Value]]) -> int | None:
    """Position of the first lookup of a loop, if what follows reads nothing that was defined before it."""
    for k, op in enumerate(group):
        if isinstance(op, ops.Lookup):
            earlier = {o.out for o in group[:k]}
            later = {v for found in operands[k + 1 :] for v in found if isinstance(v, str)}
            return None if earlier & later else k
    return None


def _ends(x: Interval) -> tuple[int, int]:
    return x.lo, x.hi


def _word(x: Interval) -> str:
    return "int32_t" if signed(x).bits <= 32 else "int64_t"
