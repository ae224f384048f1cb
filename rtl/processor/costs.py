"""What each instruction of a program reads and costs, as a listing that a person reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from .assembly import text
from .compiler import Program
from .encoding import record_bits
from .isa import CONSTANT, PORT, Apply, Clear, End, Gate, Instruction, Loop, Stream, TableKind, Vector

__all__ = ["Cost", "costs", "listing"]

HEAD = """\
; {program} instructions of {record} bytes, {weights} words of weights, {tables} entries of tables
; clocks: in which an instruction takes entries or words, each time it runs, of an apply for each event [computed]. Left
; out is: filling the pipeline, clocks between instructions, and those in which a division or a root holds it up.
; bytes: of its record, and of the weights and tables that it reads.
"""


@dataclass(frozen=True)
class Cost:
    """`clocks`: the least and the most, of an apply for one event. `stored`: bytes of weights and tables."""

    clocks: tuple[int, int]
    stored: int


def costs(program: Program) -> Iterator[Cost]:
    """The cost of each instruction, computed from the program alone."""
    core, starts = program.image.core, _starts(program)
    word = core.lanes * core.code_bits + core.group_bits
    for i in program.instructions:
        match i:
            case Vector():
                clocks = prod(i.counts[:-1]) * (-(-i.counts[-1] // core.width) if i.wide else i.counts[-1])
                clocks *= 2 if i.indirect else 1
                entries = 0
                if i.table is not None:
                    entries = i.table.entries * (2 if i.table.kind is TableKind.INTERPOLATE else 1)
                yield Cost((clocks, clocks), -(-entries * core.table_bits // 8))
            case Apply():
                runs = program.image.columns[i.columns : starts[i.columns]]
                offsets = prod(i.kernel)
                lengths = [int(n) for n in runs[:, 1]]
                total = sum(n for _, n in {(int(first), int(n)) for first, n in runs})
                yield Cost((min(lengths) * offsets, max(lengths) * offsets), -(-total * word // 8))
            case Clear():
                side = core.lanes if core.banks[i.word.bank].sums else core.width
                clocks = -(-i.words // side)
                yield Cost((clocks, clocks), 0)
            case _:
                yield Cost((1, 1), 0)


def _starts(program: Program) -> dict[int, int]:
    """Of the first row of each map, that of the next one."""
    firsts = sorted({i.columns for i in program.instructions if isinstance(i, Apply)})
    return dict(itertools.pairwise([*firsts, len(program.image.columns)]))


def listing(program: Program) -> str:
    """The program as assembly: of each instruction its number, the text, the value of the net that it computes from
    which others, its clocks and its bytes."""
    image = program.image
    record = record_bits(image.core) // 8
    lines, depth = [], 0
    for at, (i, cost) in enumerate(zip(program.instructions, costs(program), strict=True)):
        depth -= isinstance(i, End)
        least, most = cost.clocks
        clocks = f"{least}" if least == most else f"{least} to {most}"
        per = " an event" if isinstance(i, Apply) else ""
        line = f"{at:4}  {'  ' * depth}{text(i)}"
        notes = [_values(program, at), f"clocks {clocks}{per}", f"bytes {record + cost.stored}"]
        lines.append(f"{line:96}  ; {'; '.join(filter(None, notes))}")
        depth += isinstance(i, Loop)
    head = HEAD.format(program=len(image.program), record=record, weights=len(image.weights), tables=len(image.tables))
    return head + "\n".join(lines) + "\n"


def _values(program: Program, at: int) -> str:
    """`v3 = b0: v1, b2: parameter`"""
    i = program.instructions[at]
    reads = {s.bank: _value_of(program, at, s) for s in _operands(i)}
    names = ", ".join(f"b{bank}: {name}" for bank, name in reads.items())
    value = program.values[at]
    return f"{value} = {names}" if value and names else value or names


def _operands(i: Instruction) -> list[Stream]:
    match i:
        case Vector():
            return [s for s in (i.a, i.b, i.c) if s is not None and s.bank not in (PORT, CONSTANT)]
        case Gate():
            return [i.word]
        case _:
            return []


def _value_of(program: Program, at: int, stream: Stream) -> str:
    """The value that an operand holds: that of the last instruction before which writes there; in a loop, of the last
    one at all."""
    everyone = range(len(program.instructions))
    for other in (*reversed(everyone[:at]), *reversed(everyone[at:])):
        if _writes(program, other, stream):
            return program.values[other]
    return "parameter"


def _writes(program: Program, at: int, stream: Stream) -> bool:
    match program.instructions[at]:
        case Vector() as i if i.d.bank == stream.bank:
            outer = len(i.counts) - i.reduced
            reach = sum(s * (n - 1) for s, n in zip(i.d.strides, i.counts[:outer], strict=False))
            return i.d.base <= stream.base <= i.d.base + reach
        case Apply(sums=sums) if sums.bank == stream.bank:
            cleared = [i for i in program.instructions if isinstance(i, Clear) and i.word.bank == sums.bank]
            return any(
                i.word.base <= sums.base < i.word.base + i.words and i.word.base <= stream.base < i.word.base + i.words
                for i in cleared
            )
        case _:
            return False
