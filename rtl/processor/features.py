"""Which parts of the pipeline a program uses: the others are not built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .isa import (
    CONSTANT,
    Alu,
    Apply,
    Clear,
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

__all__ = ["Features"]


@dataclass(frozen=True)
class Features:
    """Sets of what occurs; `banks`: of each stream a, b, c, d."""

    alus: frozenset[Alu]
    units: frozenset[Unit]
    reductions: frozenset[Reduction]
    shifts: tuple[int, ...]
    division_shifts: tuple[int, ...]
    adds: bool
    tables: frozenset[TableKind]
    table_shifts: tuple[int, ...]
    olds: frozenset[Old]
    damping_shifts: tuple[int, ...]
    indirect: bool
    kernels: bool
    places: bool
    banks: dict[str, frozenset[int]]
    cleared: frozenset[int]
    gated: frozenset[int]
    repeats: frozenset[Repeats]

    @classmethod
    def of(cls, program: Sequence[Instruction]) -> Features:
        """Of a decoded program."""
        v = [i for i in program if isinstance(i, Vector)]
        applies = [i for i in program if isinstance(i, Apply)]

        def banks(streams: Sequence[Stream | None]) -> frozenset[int]:
            return frozenset(s.bank for s in streams if s is not None)

        return cls(
            alus=frozenset(i.alu for i in v),
            units=frozenset(i.unit for i in v),
            reductions=frozenset(i.reduction for i in v),
            shifts=tuple(sorted({i.shift for i in v if i.unit is not Unit.DIVIDE})),
            division_shifts=tuple(sorted({i.shift for i in v if i.unit is Unit.DIVIDE})),
            adds=any(i.add for i in v),
            tables=frozenset(i.table.kind for i in v if i.table),
            table_shifts=tuple(sorted({i.table.shift for i in v if i.table and i.table.kind is TableKind.INTERPOLATE})),
            olds=frozenset(i.damping.old for i in v if i.damping),
            damping_shifts=tuple(sorted({i.damping.shift for i in v if i.damping})),
            indirect=any(i.indirect for i in v),
            kernels=any(n > 1 for i in applies for n in i.kernel),
            places=any(i.events and (i.events.place.base or any(i.events.place.strides)) for i in v),
            banks={
                "a": banks([i.a for i in v]),
                "b": banks([i.b for i in v]),
                "c": banks([i.c for i in v]),
                "d": banks([i.d for i in v]),
            },  # fmt: skip
            cleared=frozenset(i.word.bank for i in program if isinstance(i, Clear)),
            gated=frozenset(i.word.bank for i in program if isinstance(i, Gate)),
            repeats=frozenset(i.repeats for i in program if isinstance(i, Loop)),
        )

    @property
    def slopes(self) -> bool:
        """Whether a table is read at two places in one clock."""
        return TableKind.INTERPOLATE in self.tables

    def reads(self, stream: str) -> tuple[int, ...]:
        """Banks of memory that a stream reads."""
        return tuple(sorted(b for b in self.banks[stream] if b < CONSTANT - 1))
