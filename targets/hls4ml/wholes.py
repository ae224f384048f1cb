"""Operations on whole arrays: linear maps with their turns, products, reductions, changes of shape."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

import numpy as np

from ...toolchain.ir import ops
from ...toolchain.ir.ops import Op
from ..clike import contiguous
from .maps import ordered, turns
from .scope import Index, Lines, Scope, nest
from .values import View, ctype

__all__ = ["write_whole"]


def write_whole(scope: Scope, op: Op, pad: str) -> Lines:
    """Lines of an operation that is neither elementwise nor a repeat; afterwards `scope.views` has its value.

    Raises TypeError for any other operation.
    """
    match op:
        case ops.Reshape(x=x, shape=shape):
            value, lines = _plain(scope, op.out, scope.value(x), pad)
            scope.views[op.out] = value.reshaped(shape)
            return lines
        case ops.Transpose(x=x, axes=axes):
            scope.views[op.out] = scope.value(x).transposed(axes)
            return []
    to, lines = scope.array(op.out, scope.shapes[op.out], scope.format(op.out), pad)
    match op:
        case ops.Linear():
            lines += _linear(scope, op, to, pad)
        case ops.Stencil():
            lines += _stencil(scope, op, to, pad)
        case ops.Conv():
            lines += _conv(scope, op, to, pad)
        case ops.Embedding():
            lines += _embedding(scope, op, to, pad)
        case ops.MatMul():
            lines += _matmul(scope, op, to, pad)
        case ops.Reduce():
            lines += _reduce(scope, op, to, pad)
        case _ if isinstance(op, ops.FloatOp | ops.ElementwiseOp | ops.Repeat):
            raise TypeError(f"{op.mnemonic} is not an operation on whole arrays")
        case _:
            assert_never(op)
    scope.views[op.out] = to
    return lines


def _plain(scope: Scope, name: str, value: View, pad: str) -> tuple[View, Lines]:
    """The value in C order, copied if it is neither that nor a constant."""
    if value.plain or value.strides is None:
        return value, []
    whole, lines = scope.array(f"{name}_x", value.shape, value.format, pad)
    return whole, [*lines, *scope.copy(value, whole, pad)]


def _operand(scope: Scope, op: ops.Linear | ops.Stencil, pad: str) -> tuple[View, Lines]:
    """The operand of a map as an array of its own."""
    value = scope.value(op.x)
    if value.plain:
        return value, []
    whole, lines = scope.array(f"{op.out}_x", value.shape, value.format, pad)
    return whole, [*lines, *scope.copy(value, whole, pad)]


def _bias(scope: Scope, op: ops.Linear | ops.Stencil | ops.Conv) -> str:
    return "eq::no_bias()" if op.bias is None else scope.table(op.bias).ref


def _config(scope: Scope, op: ops.Linear | ops.Stencil, sizes: dict[str, int]) -> str:
    name = scope.names.free("config", op.out)
    signs = bool(np.abs(scope.params[op.weight]).max(initial=0) <= 1)
    fields = [f"    static const unsigned {key} = {size};" for key, size in sizes.items()]
    product = f"    typedef eq::{'ternary' if signs else 'multiply'} product;"
    scope.configs += [f"struct {name} {{", *fields, product, "};"]
    return name


def _linear(scope: Scope, op: ops.Linear, to: View, pad: str) -> Lines:
    x, lines = _operand(scope, op, pad)
    weight = scope.params[op.weight]
    n_out, n_in = weight.shape
    found = scope.maps[op.out] = turns(n_out, n_in, scope.reuse)
    sizes = {"n_in": n_in, "n_out": n_out, "turns_in": found.inputs, "turns_out": found.outputs}
    config, stored = _config(scope, op, sizes), scope.store(op.weight, ordered(weight, found))
    lead = math.prod(x.shape[:-1])
    if lead == 1:
        return [*lines, f"{pad}eq::linear<{config}>({x.ref}, {stored}, {_bias(scope, op)}, {to.ref});"]
    # Rows of their own: a pointer into registers is no hardware.
    row_x, declared_x = scope.array(f"{op.out}_row_x", (n_in,), x.format, "")
    row_y, declared_y = scope.array(f"{op.out}_row", (n_out,), to.format, "")
    inner = [
        *declared_x,
        *scope.loop((n_in,), lambda i: [f"{row_x.ref}[{i[0]}] = {x.ref}[i0 * {n_in} + {i[0]}];"], "", flat=True),
        f"eq::linear<{config}>({row_x.ref}, {stored}, {_bias(scope, op)}, {row_y.ref});",
        *scope.loop((n_out,), lambda i: [f"{to.ref}[i0 * {n_out} + {i[0]}] = {row_y.ref}[{i[0]}];"], "", flat=True),
    ]
    return [*lines, *nest((lead,), (), lambda _: [*declared_y, *inner], pad)]


def _stencil(scope: Scope, op: ops.Stencil, to: View, pad: str) -> Lines:
    x, lines = _operand(scope, op, pad)
    index = scope.params[op.index]
    weight = np.where(index >= 0, scope.params[op.weight], 0)
    sites, taps = weight.shape
    found = turns(sites, taps, scope.reuse, along_inputs=False)
    scope.maps[op.out] = found
    sizes = {"n_in": x.shape[0], "n_out": sites, "taps": taps, "turns_out": found.outputs}
    config = _config(scope, op, sizes)
    stored = scope.store(op.weight, weight.reshape(-1))
    places = scope.store(op.index, np.maximum(index, 0).reshape(-1))
    call = f"eq::stencil<{config}>({x.ref}, {stored}, {places}, {_bias(scope, op)}, {to.ref});"
    return [*lines, f"{pad}{call}"]


def _conv(scope: Scope, op: ops.Conv, to: View, pad: str) -> Lines:
    x, weight = scope.value(op.x), scope.table(op.weight)
    y, kernel = ctype(to.format), weight.shape[2:]

    def body(index: Index) -> Lines:
        channel, *place = index

        def tap(k: Index) -> Lines:
            at = [f"a{axis}" for axis in range(len(place))]
            lines = [
                f"const int {a} = int({p}) * {op.stride} + int({t}) - {op.padding};"
                for a, p, t in zip(at, place, k[1:], strict=True)
            ]
            tests = [f"{a} >= 0 && {a} < {n}" for a, n in zip(at, x.shape[1:], strict=True)]
            term = f"total += {y}({x.at([k[0], *at])} * {weight.at([channel, *k])});"
            return [*lines, f"if ({' && '.join(tests)}) {{", f"    {term}", "}"]

        start = "0" if op.bias is None else scope.table(op.bias).at([channel])
        inner = nest((x.shape[0], *kernel), ["#pragma HLS PIPELINE II=1"], tap, letter="k")
        return [f"{y} total = {y}({start});", *inner, f"{to.at(index)} = total;"]

    return nest(to.shape, (), body, pad)


def _embedding(scope: Scope, op: ops.Embedding, to: View, pad: str) -> Lines:
    x, table = scope.value(op.x), scope.table(op.table)

    def body(index: Index) -> Lines:
        *lead, column = index
        row = f"{x.at(lead)}.to_uint()"
        return [f"{to.at(index)} = {ctype(to.format)}({table.at([row, column])});"]

    return scope.loop(to.shape, body, pad, flat=False)


def _matmul(scope: Scope, op: ops.MatMul, to: View, pad: str) -> Lines:
    a, b, y = scope.value(op.a), scope.value(op.b), ctype(to.format)

    def body(index: Index) -> Lines:
        *lead, row, column = index

        def term(k: Index) -> Lines:
            return [f"total += {y}({a.at([*lead, row, k[0]])} * {b.at([*lead, k[0], column])});"]

        inner = nest((a.shape[-1],), ["#pragma HLS PIPELINE II=1"], term, letter="k")
        return [f"{y} total = 0;", *inner, f"{to.at(index)} = total;"]

    return nest(to.shape, (), body, pad)


def _reduce(scope: Scope, op: ops.Reduce, to: View, pad: str) -> Lines:
    x, y = scope.value(op.x), ctype(to.format)
    dropped = {len(x.shape) + axis for axis in op.axes}
    # The result on the axes of x, those of size 1 that `keep` leaves included.
    kept = tuple(1 if axis in dropped else n for axis, n in enumerate(x.shape))
    view = replace(to, shape=kept, strides=contiguous(kept))
    inner = tuple(n if axis in dropped else 1 for axis, n in enumerate(x.shape))

    def body(index: Index) -> Lines:
        def step(k: Index) -> Lines:
            entry = f"{y}({x.at([k[axis] if axis in dropped else i for axis, i in enumerate(index)])})"
            return [f"total += {entry};" if op.kind == "sum" else f"total = {entry} > total ? {entry} : total;"]

        first = x.at(["0" if axis in dropped else i for axis, i in enumerate(index)])
        start = "0" if op.kind == "sum" else first
        loop = nest(inner, ["#pragma HLS PIPELINE II=1"], step, letter="k")
        return [f"{y} total = {y}({start});", *loop, f"{view.at(index)} = total;"]

    return nest(kept, (), body, pad)
