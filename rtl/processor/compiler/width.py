"""Which vector instructions take `width` entries in a clock: those whose entries lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..isa import CONSTANT, PORT, Instruction, Reduction, Stream, Unit, Vector

__all__ = ["list_words", "widened"]


def widened(program: Sequence[Instruction], width: int) -> tuple[Instruction, ...]:
    """The program with `wide` set wherever a core of that width can take it. The ports carry `width` codes a beat if
    all passes over them are wide, and each but the last one of a frame fills its beats."""
    if width == 1:
        return tuple(program)
    inputs = [i for i in program if isinstance(i, Vector) and i.a.bank == PORT]
    outputs = [i for i in program if isinstance(i, Vector) and i.d.bank == PORT]
    ports = all(_filled(passes, width) for passes in (inputs, outputs))
    return tuple(
        replace(i, wide=True)
        if isinstance(i, Vector) and _fits(i, width) and (ports or PORT not in (i.a.bank, i.d.bank))
        else i
        for i in program
    )


def list_words(i: Vector, width: int) -> int:
    """Words of a list that the events of one instruction fill at most."""
    counts = i.counts[: len(i.counts) - i.reduced]
    words = 1
    for count in counts[:-1]:
        words *= count
    return words * (-(-counts[-1] // width) if i.wide else counts[-1]) if counts else 1


def _filled(passes: Sequence[Vector], width: int) -> bool:
    return all(_fits(i, width) for i in passes) and all(i.counts[-1] % width == 0 for i in passes[:-1])


def _fits(i: Vector, width: int) -> bool:
    if i.reduction is not Reduction.NONE or i.indirect or i.unit in (Unit.DIVIDE, Unit.ROOT) or i.counts[-1] == 1:
        return False
    reads = all(_aligned(s, i.counts, width) for s in (i.a, i.b, i.c) if s is not None)
    writes = i.d.bank == PORT or (i.d.strides[-1] == 1 and _aligned(i.d, i.counts, width))
    ports = len(i.counts) == 1 or PORT not in (i.a.bank, i.d.bank)
    if i.events is not None:
        place, column = i.events.place.strides, i.events.column.strides
        writes &= (not place or place[-1] == 0) and bool(column) and column[-1] == 1
    return reads and writes and ports


def _aligned(s: Stream, counts: Sequence[int], width: int) -> bool:
    if s.bank in (PORT, CONSTANT) or not s.strides or s.strides[-1] == 0:
        return True
    outer = all(t % width == 0 for t, n in zip(s.strides[:-1], counts, strict=False) if n > 1)
    return s.strides[-1] == 1 and s.base % width == 0 and outer
