"""Instructions as lines that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from .isa import (
    CONSTANT,
    PORT,
    Alu,
    Apply,
    Begin,
    Clear,
    Done,
    End,
    Fresh,
    Gate,
    Instruction,
    Loop,
    Old,
    Reduction,
    Repeats,
    Stream,
    TableKind,
    Unit,
    Vector,
)

__all__ = ["listing", "text"]

SIGNS: Mapping[Alu, str] = {Alu.ADD: "+", Alu.SUB: "-", Alu.GREATER: ">"}


def listing(program: Sequence[Instruction], values: Sequence[str]) -> str:
    """A program, an instruction a line: its number, the text, and the value that it computes."""
    lines, depth = [], 0
    for at, (instruction, value) in enumerate(zip(program, values, strict=True)):
        depth -= isinstance(instruction, End)
        line = f"{at:4}  {'  ' * depth}{text(instruction)}"
        lines.append(f"{line:100}  ; {value}" if value else line)
        depth += isinstance(instruction, Loop)
    return "\n".join(lines)


def text(i: Instruction) -> str:
    """One instruction."""
    match i:
        case Vector():
            return _vector(i)
        case Apply():
            kernel = f" offsets {_shape(i.kernel)}" if any(n > 1 for n in i.kernel) else ""
            flags = " drain" * i.drain + " early" * i.early
            return f"apply  {_stream(i.sums)} += columns {i.columns} of list {i.list}{kernel}{flags}"
        case Clear():
            return f"clear  {_stream(i.word)} for {i.words}"
        case Loop(repeats=Repeats.SETTLED):
            return f"loop   until settled within {i.tolerance}, at most {i.count} times"
        case Loop(repeats=Repeats.FRAMES):
            return "loop   for each frame"
        case Loop():
            return f"loop   {i.count} times"
        case End():
            return "end"
        case Gate():
            return f"gate   {_stream(i.word)} or skip {i.skip}"
        case Begin():
            return "begin"
        case Done():
            return "done"
        case _:
            assert_never(i)


def _shape(counts: Sequence[int]) -> str:
    return " x ".join(map(str, counts))


def _stream(s: Stream | None, immediate: int = 0) -> str:
    if s is None:
        return "-"
    if s.bank == CONSTANT:
        return str(immediate)
    fresh = {Fresh.NEVER: "", Fresh.TICK: " fresh", Fresh.ALWAYS: " new"}[s.fresh]
    if s.bank == PORT:
        return "port"
    strides = [t for t in s.strides if t]
    return f"b{s.bank}[{s.base}{''.join(f'+{t}' for t in strides)}]{fresh}"


def _vector(i: Vector) -> str:
    a, b, c = _stream(i.a, i.immediate), _stream(i.b, i.immediate), _stream(i.c, i.immediate)
    if i.indirect:
        a = f"{a}@{c}"
    match i.alu:
        case Alu.PASS:
            value = a
        case Alu.ABS:
            value = f"|{a}|"
        case Alu.DISTANCE:
            value = f"|{a} - {b}|"
        case Alu.SELECT:
            value = f"({c} ? {a} : {b})"
        case _:
            value = f"({a} {SIGNS[i.alu]} {b})"
    match i.unit:
        case Unit.SCALE:
            value = f"{value} * {i.immediate}"
        case Unit.MULTIPLY:
            value = f"{value} * {b}"
        case Unit.DIVIDE:
            value = f"({value} << {i.shift}) / {b}"
        case Unit.ROOT:
            value = f"root({value})"
    if i.reduction is not Reduction.NONE:
        value = f"{i.reduction.name.lower()}({value})"
    if i.shift and i.unit is not Unit.DIVIDE:
        value = f"{value} >> {i.shift}"
    if i.add:
        value = f"{value} + {c}"
    if i.table is not None:
        name = "table" if i.table.kind is TableKind.LOOKUP else "line"
        value = f"{name}{i.table.base}({value})"
    if i.damping is not None:
        old = c if i.damping.old is Old.C else "old"
        value = f"damp({old}, {value}, {i.damping.multiplier} / 2^{i.damping.shift})"
    flags = " state" * i.state + (f" list {i.events.list}" if i.events else "")
    return f"vector {_stream(i.d)} = {value}  for {_shape(i.counts)}{flags}"
