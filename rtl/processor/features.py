"""Which parts of the pipeline a program uses: the others are not built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .isa import (
    CONSTANT,
    PORT,
    Alu,
    Apply,
    Clear,
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

__all__ = ["Features"]


@dataclass(frozen=True)
class Features:
    """Sets of what occurs; `banks`: of each stream a, b, c, d. `held`: banks of which it matters what a word held that
    is written.

    `partial`, `scalars`: some instruction leaves lanes idle, or takes one entry a clock and writes a bank. `spreads`:
    banks of each stream of which an instruction takes a word for each lane; `broadcasts`: one word for all; `singles`:
    that, or one for the first lane.
    """

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
    held: frozenset[int]
    cleared: frozenset[int]
    gated: frozenset[int]
    repeats: frozenset[Repeats]
    partial: bool
    scalars: bool
    spreads: dict[str, frozenset[int]]
    broadcasts: dict[str, frozenset[int]]
    singles: dict[str, frozenset[int]]

    @classmethod
    def of(cls, program: Sequence[Instruction], width: int) -> Features:
        """Of a decoded program, on a core of that width."""
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
            held=banks([i.d for i in v if _asks(i)]),
            cleared=frozenset(i.word.bank for i in program if isinstance(i, Clear)),
            gated=frozenset(i.word.bank for i in program if isinstance(i, Gate)),
            partial=any(not i.wide or i.counts[-1] % width for i in v),
            scalars=any(not i.wide and i.d.bank < PORT for i in v),
            spreads={n: banks([getattr(i, n) for i in v if i.wide and not _one_word(i, n)]) for n in "abcd"},
            broadcasts={n: banks([getattr(i, n) for i in v if i.wide and _one_word(i, n)]) for n in "abcd"},
            singles={n: banks([getattr(i, n) for i in v if _one_word(i, n)]) for n in "abcd"},
            repeats=frozenset(i.repeats for i in program if isinstance(i, Loop)),
        )

    @property
    def slopes(self) -> bool:
        """Whether a table is read at two places in one clock."""
        return TableKind.INTERPOLATE in self.tables

    @property
    def depth(self) -> int:
        """Registers that an entry goes through in the pipeline."""
        tables = (5 if self.slopes else 4) if self.tables else 0
        return 5 + (self.reductions != {Reduction.NONE}) + self.adds + tables + (3 if self.olds else 0)

    def reads(self, stream: str) -> tuple[int, ...]:
        """Banks of memory that a stream reads."""
        banks = self.held if stream == "d" else self.banks[stream]
        return tuple(sorted(b for b in banks if b < CONSTANT - 1))


def _one_word(i: Vector, name: str) -> bool:
    """Whether the entries that an instruction takes in a clock share a word of a stream. What a written word held does
    not matter where it reads as 0, or where nothing asks."""
    stream: Stream | None = getattr(i, name)
    if stream is None or stream.bank >= PORT:
        return False
    if name == "d":
        return not i.wide and _asks(i)
    return not i.wide or stream.strides[-1] == 0


def _asks(i: Vector) -> bool:
    """Whether it matters what a written word held."""
    asks = i.state or i.events is not None or (i.damping is not None and i.damping.old is Old.D)
    return asks and i.d.bank < PORT and i.d.fresh is not Fresh.ALWAYS
