"""Instructions of the relaxation processor, as values: ISA.md says what each does, `encoding` how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "CONSTANT",
    "PORT",
    "VERSION",
    "Alu",
    "Apply",
    "Begin",
    "Clear",
    "Damping",
    "Done",
    "End",
    "Events",
    "Fresh",
    "Gate",
    "Instruction",
    "Loop",
    "Old",
    "Reduction",
    "Repeats",
    "Stream",
    "Table",
    "TableKind",
    "Unit",
    "Vector",
]

VERSION = 1
"""Of the encoding."""

PORT = 14
"""Number of the bank that is the stream of codes: reading takes the next input code, writing emits an output code."""

CONSTANT = 15
"""Number of the bank whose every word is the immediate of the instruction."""


class Alu(IntEnum):
    """First stage, of operands a, b and c."""

    PASS = 0
    ADD = 1
    SUB = 2
    ABS = 3
    DISTANCE = 4
    """`|a - b|`"""
    GREATER = 5
    """1 where `a > b`, else 0"""
    SELECT = 6
    """a where c is not 0, else b"""


class Unit(IntEnum):
    """Second stage, of what the first one gives (x)."""

    NONE = 0
    SCALE = 1
    """x times the immediate"""
    MULTIPLY = 2
    """x times b"""
    DIVIDE = 3
    """`floor(((x << shift) + b // 2) / b)`; the rounding stage is idle"""
    ROOT = 4
    """the largest y with `y * y <= x`; 0 where x is negative"""


class Reduction(IntEnum):
    """Third stage: over the innermost axes."""

    NONE = 0
    SUM = 1
    MAX = 2


class TableKind(IntEnum):
    """Sixth stage."""

    NONE = 0
    LOOKUP = 1
    INTERPOLATE = 2


class Old(IntEnum):
    """Where damping takes the old code from."""

    NONE = 0
    C = 1
    D = 2
    """what the written word held"""


class Repeats(IntEnum):
    """What ends a loop."""

    COUNT = 0
    SETTLED = 1
    """an iteration in which no state moved by more than the tolerance, or the count"""
    FRAMES = 2
    """the last frame of the sample"""


class Fresh(IntEnum):
    """When a word reads as 0, whatever it holds from the sample before."""

    NEVER = 0
    TICK = 1
    """until the first tick of a sample is made"""
    ALWAYS = 2


@dataclass(frozen=True)
class Stream:
    """Words of one bank: entry `(i0, i1, ...)` of the loop nest is at `base + sum(strides[k] * ik)`."""

    bank: int
    base: int = 0
    strides: tuple[int, ...] = ()
    fresh: Fresh = Fresh.NEVER


@dataclass(frozen=True)
class Table:
    """`LOOKUP`: entries from `base` on. `INTERPOLATE`: offsets from `base` on, slopes from `slope` on, a segment of
    `2**shift` codes each."""

    kind: TableKind
    base: int
    first: int
    entries: int
    slope: int = 0
    shift: int = 0


@dataclass(frozen=True)
class Damping:
    """`old + (((new - old) * multiplier + (1 << shift - 1)) >> shift)`."""

    old: Old
    multiplier: int
    shift: int


@dataclass(frozen=True)
class Events:
    """Where a written code differs from the one before it, `(place, column, difference)` goes to the list.

    Place and column are affine in the loop nest, as addresses are.
    """

    list: int
    place: Stream
    column: Stream


@dataclass(frozen=True)
class Vector:
    """One pass of the pipeline over a loop nest of `counts`, outermost first; the last `reduced` axes are reduced.

    a, b, c are read, d is written, once for each entry of the axes that stay. `indirect` adds c to the address of a.
    `wide`: a core of some width takes that many entries of the innermost axis a clock.
    """

    counts: tuple[int, ...]
    a: Stream
    d: Stream
    b: Stream | None = None
    c: Stream | None = None
    alu: Alu = Alu.PASS
    unit: Unit = Unit.NONE
    immediate: int = 0
    reduction: Reduction = Reduction.NONE
    reduced: int = 0
    shift: int = 0
    add: bool = False
    table: Table | None = None
    damping: Damping | None = None
    indirect: bool = False
    state: bool = False
    events: Events | None = None
    wide: bool = False


@dataclass(frozen=True)
class Apply:
    """For each event `(place, column, difference)` of `list`, and each kernel offset of number k (C order): add
    difference times weights to the sums from `place + offset` on.

    The weights are those of row `columns + column + k` of the column table: a run of words of the weight memory, each
    the codes of one group of `lanes` sums and the number of the group. `drain` empties the list. `early`: it may begin
    while the pass before it runs, which writes the list and reads no sums.
    """

    list: int
    drain: bool
    sums: Stream
    columns: int
    kernel: tuple[int, ...] = ()
    early: bool = False


@dataclass(frozen=True)
class Clear:
    """Zero `words` words from `word` on."""

    word: Stream
    words: int


@dataclass(frozen=True)
class Loop:
    """Repeat what stands before the matching `End`."""

    repeats: Repeats
    count: int = 0
    tolerance: int = 0


@dataclass(frozen=True)
class End:
    """End of the innermost open loop."""


@dataclass(frozen=True)
class Gate:
    """Skip the next `skip` instructions if the word is 0."""

    word: Stream
    skip: int


@dataclass(frozen=True)
class Begin:
    """A new sample: wait for its first code, empty all lists, count no tick."""


@dataclass(frozen=True)
class Done:
    """The sample is done; go on at the first instruction."""


Instruction = Vector | Apply | Clear | Loop | End | Gate | Begin | Done
