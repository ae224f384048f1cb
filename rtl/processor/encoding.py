"""Instructions as words of the program memory: records of equal length, whose fields are as wide as the core needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, assert_never

from .configuration import Core
from .isa import (
    PORT,
    Alu,
    Apply,
    Begin,
    Clear,
    Damping,
    Done,
    End,
    Events,
    Fresh,
    Gate,
    Instruction,
    Loop,
    Old,
    Reduction,
    Repeats,
    Stream,
    Table,
    TableKind,
    Unit,
    Vector,
)

__all__ = ["Field", "Opcode", "decode", "encode", "layout", "record_bits"]

SPREAD = ("a", "b", "c")
"""Streams that may give each entry of a wide instruction a word of its own, or all the same one."""
ABSENT = 13
"""Number of a bank that is not read."""


class Opcode(IntEnum):
    """First field of each record."""

    DONE = 0
    BEGIN = 1
    VECTOR = 2
    APPLY = 3
    LOOP = 4
    END = 5
    GATE = 6
    CLEAR = 7


@dataclass(frozen=True)
class Field:
    """`bits` of a record, two's complement if `signed`; the first field stands in the lowest bits."""

    name: str
    bits: int
    signed: bool = False


def layout(core: Core, opcode: Opcode) -> tuple[Field, ...]:
    """Fields of a record behind its opcode."""
    address, count, data = core.address_bits, core.count_bits, core.data_bits
    table = max(core.table_words - 1, 1).bit_length() + 1
    column = max(core.column_words - 1, 1).bit_length()
    number = len(core.lists).bit_length()
    axes = range(core.axes)

    def counts(name: str) -> list[Field]:
        return [Field(f"{name}_{k}", count) for k in axes]

    def steps(name: str) -> list[Field]:
        return [Field(f"{name}_step_{k}", address + 1, True) for k in axes]

    def stream(name: str) -> list[Field]:
        return [
            Field(f"{name}_bank", 4), Field(f"{name}_base", address + 1, True), Field(f"{name}_fresh", 2), *steps(name),
        ]  # fmt: skip

    match opcode:
        case Opcode.DONE | Opcode.BEGIN | Opcode.END:
            return ()
        case Opcode.LOOP:
            return Field("repeats", 2), Field("count", count), Field("tolerance", data)
        case Opcode.GATE:
            return Field("word_bank", 4), Field("word_base", address + 1, True), Field("skip", count)
        case Opcode.APPLY:
            return (
                Field("list", number),
                Field("drain", 1),
                Field("early", 1),
                *stream("sums"),
                Field("columns", column),
                *counts("kernel"),
            )
        case Opcode.CLEAR:
            return Field("word_bank", 4), Field("word_base", address + 1, True), Field("words", count)
        case Opcode.VECTOR:
            streams = [f for name in ("a", "b", "c", "d") for f in stream(name)]
            stages = [Field("alu", 3), Field("unit", 3), Field("immediate", data, True), Field("reduction", 2)]
            stages += [
                Field("reduced", 4),
                Field("shift", 6),
                Field("add", 1),
                Field("table", 2),
                Field("table_base", table),
            ]
            stages += [Field("table_first", data, True), Field("table_entries", table), Field("table_slope", table)]
            stages += [Field("table_shift", 6), Field("damping", 2), Field("damping_multiplier", data, True)]
            stages += [Field("damping_shift", 6), Field("indirect", 1), Field("state", 1), Field("list", number)]
            if core.width > 1:
                stages += [Field("wide", 1), Field("tail", (core.width - 1).bit_length())]
                stages += [Field(f"{name}_spread", 1) for name in SPREAD]
            events = [Field("place_base", address + 1, True), *steps("place")]
            events += [Field("column_base", address + 1, True), *steps("column")]
            return (*counts("count"), *streams, *stages, *events)
        case _:
            assert_never(opcode)


def record_bits(core: Core) -> int:
    """Length of a record, a multiple of 32."""
    longest = max(4 + sum(f.bits for f in layout(core, opcode)) for opcode in Opcode)
    return -(-longest // 32) * 32


def encode(core: Core, instruction: Instruction) -> int:
    """The record of an instruction; raises ValueError with every field that the core cannot hold."""
    opcode, values = _fields(core, instruction)
    faults = []
    record, place = int(opcode), 4
    if core.width == 1 and isinstance(instruction, Vector) and instruction.wide:
        raise ValueError("a wide instruction, the core takes one entry a clock")
    for field in layout(core, opcode):
        value = values[field.name]
        lo, hi = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
        if not lo <= value <= hi:
            faults.append(f"{field.name} is {value}, the core holds {lo} to {hi}")
        record |= (value & (1 << field.bits) - 1) << place
        place += field.bits
    if faults:
        raise ValueError("; ".join(faults))
    return record


def decode(core: Core, record: int) -> Instruction:
    """The instruction of a record; raises ValueError if there is none."""
    opcode = Opcode(record & 15)
    values, place = {}, 4
    for field in layout(core, opcode):
        value = record >> place & (1 << field.bits) - 1
        values[field.name] = value - (value >> field.bits - 1 << field.bits) if field.signed else value
        place += field.bits
    if record >> place:
        raise ValueError(f"bits above bit {place} of a record of {opcode.name} are not 0")
    return _instruction(core, opcode, values)


def _fields(core: Core, i: Instruction) -> tuple[Opcode, dict[str, int]]:
    match i:
        case Done():
            return Opcode.DONE, {}
        case Begin():
            return Opcode.BEGIN, {}
        case End():
            return Opcode.END, {}
        case Loop():
            return Opcode.LOOP, {"repeats": i.repeats, "count": i.count, "tolerance": i.tolerance}
        case Gate():
            return Opcode.GATE, {"word_bank": i.word.bank, "word_base": i.word.base, "skip": i.skip}
        case Apply():
            values = {"list": i.list, "drain": i.drain, "early": i.early, "columns": i.columns}
            return Opcode.APPLY, values | _stream(core, "sums", i.sums, i.kernel) | _axes(core, "kernel_", i.kernel, 1)
        case Clear():
            return Opcode.CLEAR, {"word_bank": i.word.bank, "word_base": i.word.base, "words": i.words}
        case Vector():
            return Opcode.VECTOR, _vector(core, i)
        case _:
            assert_never(i)


def _vector(core: Core, i: Vector) -> dict[str, int]:
    if not i.wide:
        return _narrow(core, i)
    width = core.width
    words, spread = replace(i, **_by_words(i, width)), {}
    for name, stream in (("a", i.a), ("b", i.b), ("c", i.c)):
        spread[f"{name}_spread"] = int(stream is not None and (stream.bank == PORT or stream.strides[-1:] == (1,)))
    return _narrow(core, words) | {"wide": 1, "tail": i.counts[-1] % width} | spread


def _by_words(i: Vector, width: int) -> dict[str, Any]:
    """Counts and strides of a wide instruction, `width` entries of the innermost axis being one."""

    def stream(s: Stream | None) -> Stream | None:
        return None if s is None else replace(s, strides=_inner(s.strides, width))

    streams: dict[str, Any] = {name: stream(getattr(i, name)) for name in "abcd"}
    if i.events is not None:
        place, column = (replace(s, strides=_inner(s.strides, width)) for s in (i.events.place, i.events.column))
        streams["events"] = Events(i.events.list, place, column)
    return streams | {"counts": (*i.counts[:-1], -(-i.counts[-1] // width))}


def _inner(strides: tuple[int, ...], width: int) -> tuple[int, ...]:
    return (*strides[:-1], strides[-1] * width) if strides else ()


def _narrow(core: Core, i: Vector) -> dict[str, int]:
    table = i.table or Table(TableKind.NONE, 0, 0, 0)
    damping = i.damping or Damping(Old.NONE, 0, 0)
    events = i.events or Events(0, Stream(0), Stream(0))
    values = _axes(core, "count_", i.counts, 1)
    for name, stream in (("a", i.a), ("b", i.b), ("c", i.c), ("d", i.d)):
        values |= _stream(core, name, stream or Stream(ABSENT), i.counts)
    values |= {"alu": i.alu, "unit": i.unit, "immediate": i.immediate, "reduction": i.reduction, "reduced": i.reduced}
    values |= {"shift": i.shift, "add": i.add, "table": table.kind, "table_base": table.base}
    values |= {"table_first": table.first, "table_entries": table.entries, "table_slope": table.slope}
    values |= {"table_shift": table.shift, "damping": damping.old, "damping_multiplier": damping.multiplier}
    values |= {"damping_shift": damping.shift, "indirect": i.indirect, "state": i.state}
    values |= {"list": events.list + 1 if i.events else 0, "wide": 0, "tail": 0}
    values |= {f"{name}_spread": 0 for name in SPREAD}
    for name, affine in (("place", events.place), ("column", events.column)):
        values |= {f"{name}_base": affine.base} | _axes(
            core, f"{name}_step_", _steps(affine.strides or tuple([0] * len(i.counts)), i.counts), 0
        )
    return values


def _steps(strides: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """What is added to an address when an axis goes on and those inside it start over."""
    back = [s * (n - 1) for s, n in zip(strides, counts, strict=True)]
    return tuple(stride - sum(back[k + 1 :]) for k, stride in enumerate(strides))


def _strides(steps: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """The inverse of `_steps`."""
    strides: list[int] = []
    back = 0
    for step, count in zip(reversed(steps), reversed(counts), strict=True):
        strides.append(step + back)
        back += strides[-1] * (count - 1)
    return tuple(reversed(strides))


def _stream(core: Core, name: str, stream: Stream, counts: Sequence[int]) -> dict[str, int]:
    fields = {f"{name}_bank": stream.bank, f"{name}_base": stream.base, f"{name}_fresh": stream.fresh}
    strides = stream.strides or tuple([0] * len(counts))
    return fields | _axes(core, f"{name}_step_", _steps(strides, counts), 0)


def _axes(core: Core, name: str, values: Sequence[int], missing: int) -> dict[str, int]:
    """Innermost axis last: axes that an instruction does not have stand in front."""
    if len(values) > core.axes:
        raise ValueError(f"a loop nest of {len(values)} axes, the core has {core.axes}")
    padded = (*[missing] * (core.axes - len(values)), *values)
    return {f"{name}{k}": v for k, v in enumerate(padded)}


def _entries(core: Core, v: Mapping[str, int], i: Vector) -> Vector:
    """An instruction that counts entries, of one that counts words if it is wide."""
    if not v.get("wide"):
        return i
    width = core.width
    count = i.counts[-1] * width - (width - v["tail"] if v["tail"] else 0)

    def stream(s: Stream) -> Stream:
        return replace(s, strides=(*s.strides[:-1], s.strides[-1] // width))

    events = None if i.events is None else Events(i.events.list, stream(i.events.place), stream(i.events.column))
    b, c = i.b and stream(i.b), i.c and stream(i.c)
    counts = (*i.counts[:-1], count)
    return replace(i, counts=counts, a=stream(i.a), b=b, c=c, d=stream(i.d), events=events, wide=True)


def _instruction(core: Core, opcode: Opcode, v: Mapping[str, int]) -> Instruction:
    def axes(name: str) -> tuple[int, ...]:
        return tuple(v[f"{name}_{k}"] for k in range(core.axes))

    counts = axes("kernel" if opcode is Opcode.APPLY else "count") if opcode in (Opcode.APPLY, Opcode.VECTOR) else ()

    def stream(name: str) -> Stream:
        strides = _strides(axes(f"{name}_step"), counts)
        return Stream(v[f"{name}_bank"], v[f"{name}_base"], strides, Fresh(v[f"{name}_fresh"]))

    def read(name: str) -> Stream | None:
        return None if v[f"{name}_bank"] == ABSENT else stream(name)

    match opcode:
        case Opcode.DONE:
            return Done()
        case Opcode.BEGIN:
            return Begin()
        case Opcode.END:
            return End()
        case Opcode.LOOP:
            return Loop(Repeats(v["repeats"]), v["count"], v["tolerance"])
        case Opcode.GATE:
            return Gate(Stream(v["word_bank"], v["word_base"]), v["skip"])
        case Opcode.APPLY:
            return Apply(v["list"], bool(v["drain"]), stream("sums"), v["columns"], axes("kernel"), bool(v["early"]))
        case Opcode.CLEAR:
            return Clear(Stream(v["word_bank"], v["word_base"]), v["words"])
        case Opcode.VECTOR:
            table = Table(
                TableKind(v["table"]), v["table_base"], v["table_first"], v["table_entries"], v["table_slope"],
                v["table_shift"],
            )  # fmt: skip
            damping = Damping(Old(v["damping"]), v["damping_multiplier"], v["damping_shift"])
            place = Stream(0, v["place_base"], _strides(axes("place_step"), counts))
            column = Stream(0, v["column_base"], _strides(axes("column_step"), counts))
            return _entries(core, v, Vector(
                counts=axes("count"), a=stream("a"), b=read("b"), c=read("c"), d=stream("d"), alu=Alu(v["alu"]),
                unit=Unit(v["unit"]), immediate=v["immediate"], reduction=Reduction(v["reduction"]),
                reduced=v["reduced"], shift=v["shift"], add=bool(v["add"]),
                table=None if table.kind is TableKind.NONE else table,
                damping=None if damping.old is Old.NONE else damping, indirect=bool(v["indirect"]),
                state=bool(v["state"]), events=Events(v["list"] - 1, place, column) if v["list"] else None,
            ))  # fmt: skip
        case _:
            assert_never(opcode)
