"""Linear maps: a loop over the entries of the operand, each of which adds its column of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ...toolchain.ir import Interval, ops
from ..clike import Shape, contiguous
from .layout import CType, Field, narrowest, signed
from .program import Program
from .region import Region
from .values import Value, loops

__all__ = ["EACH", "MAPS", "RUN", "in_runs", "write_map"]

RUN = 32
"""Entries that a compiler takes together, in a vector register or two."""

EACH = f"for (size_t i0 = run; i0 < run + {RUN}; i0++) {{"
"""Head of a loop over the entries of a run."""

FEW = 32
"""Outputs below which a column is too short for a vector register, and a product of rows is faster."""

MAPS = (ops.Linear, ops.Stencil, ops.Conv)


def write_map(block: Region, op: ops.Linear | ops.Stencil | ops.Conv, pad: str) -> list[str]:
    """Lines that bring the accumulators of `op` up to its operand; its value, without bias, is a view of them."""
    program = block.program
    x = program.value(op.x)
    few = not (block.events or block.dense) and program.shapes[op.out][-1] < FEW
    if few and isinstance(op, ops.Linear) and len(x.shape) == 1 and x.plain:
        dotter = program.dotter(op, narrowest(x.interval))
        if dotter is not None:
            return _dots(block, op, x, dotter[0], pad)
    storage = program.storage(op)
    total, _, _ = program.accumulator(op)
    acc_type = signed(total)
    rows, view, outputs = _places(op, program.shapes[op.out], storage.padded)
    size = rows * storage.padded
    stays = block.events or (op.bias is None and op.out in block.lasting)
    group, prefix = (program.kept, "s->") if stays else (block.group, block.base)
    sums = Field(group.names.free(f"{op.out}_sum"), acc_type, size, "" if not stays else f"accumulators of {op.out}")
    group.add(sums)
    if block.events:
        program.clears.append(sums)
    base = f"{prefix}{sums.name}"
    program.values[op.out] = Value(base, outputs, view, total, frozenset({sums.name}))
    lines = []
    if not block.events:
        lines += loops((size,), lambda i: [f"{base}[{i[0]}] = 0;"], pad)
    seen = _seen(block, op, x) if block.events else None

    if isinstance(op, ops.Linear) and len(x.shape) == 1 and x.plain:
        types = narrowest(x.interval), None if seen is None else narrowest(seen.interval)
        update = program.updater(op, *types, every=block.dense)
        if update is not None:
            taken = "" if seen is None else f", &{seen.ref}[0]"
            return [*lines, f"{pad}{update}(&{base}[0], &{x.ref}[0]{taken});"]
    function, factor = program.adder(op)
    word = "int64_t" if factor.bits == 64 else "int32_t"

    def body(index: Sequence[str]) -> list[str]:
        entry = f"({word}){x.at(index)}"
        call = f"{function}(&{base}"
        added = _added(op, program, index, call, storage.padded, str(factor))
        if seen is not None:
            kind = narrowest(seen.interval)
            return [
                f"const {word} now = {entry};",
                f"const {word} delta = now - ({word}){seen.at(index)};",
                "if (delta != 0) {",
                f"    {seen.at(index)} = ({kind})now;",
                *(f"    {line}" for line in added),
                "}",
            ]
        test = [] if block.dense else ["if (delta != 0) {"]
        inner = added if block.dense else [*(f"    {line}" for line in added), "}"]
        return [f"const {word} delta = {entry};", *test, *inner]

    if seen is not None and len(x.shape) == 1 and x.plain and x.shape[0] % RUN == 0:
        return lines + _runs(x, seen, body, pad)
    return lines + loops(x.shape, body, pad)


def _dots(block: Region, op: ops.Linear, x: Value, function: str, pad: str) -> list[str]:
    """Lines that multiply each row of the weights with the whole operand."""
    program = block.program
    total, _, _ = program.accumulator(op)
    lasting = op.bias is None and op.out in block.lasting
    group, prefix = (program.kept, "s->") if lasting else (block.group, block.base)
    to = program.array(group, f"{op.out}_sum", program.shapes[op.out], total, prefix)
    program.values[op.out] = to
    return loops(to.shape, lambda i: [f"{to.at(i)} = ({narrowest(total)}){function}(&{x.ref}[0], {i[0]});"], pad)


def in_runs(count: int, lines: Sequence[str], pad: str) -> list[str]:
    """`lines` once for each run of `RUN` of `count` entries, the first of them `run`."""
    return [f"{pad}for (size_t run = 0; run < {count}; run += {RUN}) {{", *(f"{pad}    {n}" for n in lines), f"{pad}}}"]


def _runs(x: Value, seen: Value, body: Callable[[Sequence[str]], list[str]], pad: str) -> list[str]:
    """The loop of `body` over runs of entries, those without a change left out: a compiler compares a run at once, in
    the width of the entries."""
    bits = CType(narrowest(x.interval | seen.interval).bits, False)
    lines = [
        f"{bits} changed = 0;",
        EACH,
        f"    changed = ({bits})(changed | ({bits})({x.at(['i0'])} ^ {seen.at(['i0'])}));",
        "}",
        "if (changed != 0) {",
        f"    {EACH}",
        *(f"        {line}" for line in body(["i0"])),
        "    }",
        "}",
    ]
    return in_runs(x.shape[0], lines, pad)


def _seen(block: Region, op: ops.Linear | ops.Stencil | ops.Conv, x: Value) -> Value:
    """The operand as the accumulators have it; they start from the operand 0."""
    program = block.program
    interval = x.interval | Interval(0, 0)
    made = Field(
        program.kept.names.free(f"{op.out}_seen"), narrowest(interval), math.prod(x.shape), f"operand of {op.out}"
    )
    program.kept.add(made)
    program.clears.append(made)
    return Value(f"s->{made.name}", x.shape, contiguous(x.shape), interval)


def _places(op: ops.Linear | ops.Stencil | ops.Conv, shape: Shape, padded: int) -> tuple[int, Shape, Shape]:
    """Number of accumulator rows, and the strides and shape of the map's value on them."""
    if isinstance(op, ops.Conv):
        space = shape[1:]
        return math.prod(space), (1, *(padded * k for k in contiguous(space))), shape
    lead = shape[:-1]
    return math.prod(lead), (*(padded * k for k in contiguous(lead)), 1), shape


def _added(
    op: ops.Linear | ops.Stencil | ops.Conv, program: Program, index: Sequence[str], call: str, padded: int, factor: str
) -> list[str]:
    """Lines that add what one operand entry, `delta`, gives to the accumulators."""
    if not isinstance(op, ops.Conv):
        row = _row(program.shapes[op.x][:-1], index[:-1], padded)
        return [f"{call}[{row}], {index[-1]}, ({factor})delta);"]
    space, kernel = program.shapes[op.out][1:], program.params[op.weight].shape[2:]
    column = f"{index[0]} * {math.prod(kernel)}"

    def tap(k: Sequence[str]) -> list[str]:
        lines, tests, at = [], [], []
        for axis, (i, offset, size) in enumerate(zip(index[1:], k, space, strict=True)):
            # The output position whose tap `offset` reads entry i, if there is one: position * stride + offset = t.
            lines.append(f"const size_t t{axis} = {i} + {op.padding} - {offset};")
            tests.append(f"{i} + {op.padding} >= {offset} && " if offset != "0" else "")
            tests[-1] += f"t{axis} % {op.stride} == 0 && t{axis} / {op.stride} < {size}"
            at.append(f"(t{axis} / {op.stride})")
        added = f"{call}[{_row(space, at, padded)}], {column} + {_flat(kernel, k)}, ({factor})delta);"
        return [*lines, f"if ({' && '.join(tests)}) {{", f"    {added}", "}"]

    return loops(kernel, tap, "", letter="k")


def _row(shape: Shape, index: Sequence[str], padded: int) -> str:
    """C expression of the first accumulator of a row."""
    terms = [f"{i} * {k * padded}" for i, k in zip(index, contiguous(shape), strict=True) if i != "0"]
    return " + ".join(terms) or "0"


def _flat(shape: Shape, index: Sequence[str]) -> str:
    """C expression of the running index, plain numbers left in place."""
    terms = [i if k == 1 else f"{i} * {k}" for i, k in zip(index, contiguous(shape), strict=True) if i != "0"]
    return " + ".join(terms) or "0"
