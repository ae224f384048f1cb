"""A draft as an image: loop nests, weights and tables, then records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from eqcompile.toolchain.ir import Format, IntNet

from ..assembly import listing
from ..configuration import Bank, Core
from ..encoding import encode
from ..image import Image
from ..isa import (
    CONSTANT,
    PORT,
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
    Reduction,
    Stream,
    Unit,
    Vector,
)
from .allocate import Places, allocate
from .draft import Application, Column, Draft, Item, Pass, Skip, Wipe
from .lower import make_draft
from .views import View
from .width import list_words, widened

__all__ = ["Program", "compile_net"]


@dataclass(frozen=True, eq=False)
class Program:
    """An image, and what is known of it: instructions, the IR value of each, and where each state lies."""

    image: Image
    instructions: tuple[Instruction, ...]
    values: tuple[str, ...]
    states: Mapping[str, tuple[int, int, int]]

    def __str__(self) -> str:
        return listing(self.instructions, self.values)


def compile_net(net: IntNet, *, lanes: int = 4, width: int = 1) -> Program:
    """The program of a verified net, on a core of `lanes` and `width` (no more than `lanes`) that is sized for it."""
    draft = make_draft(net, lanes)
    places = allocate(draft, width)
    lists = {name: k for k, name in enumerate(dict.fromkeys(i.list for i in draft.items if isinstance(i, Application)))}
    packed = _Packed(draft, lanes)
    made = _Assembly(draft, places, lists, packed)
    instructions = widened([made.instruction(item) for item in draft.items], width)
    held = {name: 0 for name in lists}
    # A difference of two words of one buffer, each proved to fit its bits, or of one word and 0.
    bits = [
        draft.buffers[i.target.buffer].bits + 1
        for i in draft.items
        if isinstance(i, Pass) and i.listing is not None and i.target is not None
    ]
    for item, instruction in zip(draft.items, instructions, strict=True):
        if isinstance(item, Pass) and item.listing is not None and isinstance(instruction, Vector):
            held[item.listing.list] = max(held[item.listing.list], list_words(instruction, width))
    core = _core(instructions, places.banks, packed, tuple(held.values()), (lanes, width), max(bits, default=2))
    records = tuple(encode(core, i) for i in instructions)
    words = {places.of[name]: codes for name, codes in draft.params.items() if name in places.of}
    image = Image(core, records, tuple(packed.weights), packed.columns, packed.tables, words)
    states = {s.name: (*places.of[s.name], draft.buffers[s.name].words) for s in net.states}
    values = tuple(i.value if isinstance(i, Pass | Application) else "" for i in draft.items)
    return Program(image, instructions, values, states)


def _core(
    instructions: Sequence[Instruction],
    banks: tuple[Bank, ...],
    packed: _Packed,
    lists: tuple[int, ...],
    sizes: tuple[int, int],
    difference_bits: int,
) -> Core:
    """The smallest core that runs a program."""
    vectors = [i for i in instructions if isinstance(i, Vector)]
    lanes, width = sizes
    applies = [i for i in instructions if isinstance(i, Apply)]
    loops = [i for i in instructions if isinstance(i, Loop)]
    numbers = [i.immediate for i in vectors] + [i.tolerance for i in loops]
    numbers += [i.table.first for i in vectors if i.table] + [i.damping.multiplier for i in vectors if i.damping]
    counts = [n for i in vectors for n in i.counts] + [n for i in applies for n in i.kernel] + [i.count for i in loops]
    counts += [i.words for i in instructions if isinstance(i, Clear)]
    counts += [i.skip for i in instructions if isinstance(i, Gate)]
    reach = [abs(s * (n - 1)) for i in vectors if i.events for e in (i.events.place, i.events.column)
             for s, n in zip(e.strides, i.counts, strict=True)]  # fmt: skip
    return Core(
        axes=max([len(i.counts) for i in vectors] + [len(i.kernel) for i in applies]),
        address_bits=max([b.words for b in banks] + reach).bit_length(),
        count_bits=max(counts).bit_length(),
        data_bits=Format.holding(min(-1, *numbers), max(numbers)).bits,
        banks=banks,
        lanes=lanes,
        code_bits=packed.code_bits,
        group_bits=packed.group_bits,
        weight_words=len(packed.weights),
        column_words=len(packed.columns),
        table_words=len(packed.tables),
        table_bits=Format.holding(int(packed.tables.min(initial=-1)), int(packed.tables.max(initial=0))).bits,
        lists=lists,
        program_words=len(instructions),
        width=width,
        forwards=packed.single,
        digits=max([2, *(_digits(i, banks) for i in vectors)]),
        difference_bits=difference_bits,
        lowest=packed.lowest,
    )


def _digits(i: Vector, banks: Sequence[Bank]) -> int:
    """Bits of what an instruction divides, or takes the root of."""
    if i.unit not in (Unit.DIVIDE, Unit.ROOT):
        return 0
    numbers = [i.immediate.bit_length() + 1]
    bits = max([*(banks[s.bank].bits for s in (i.a, i.b) if s is not None and s.bank < PORT), *numbers])
    return bits + 2 + (i.shift if i.unit is Unit.DIVIDE else 0)


class _Packed:
    """Weight memory, column table and tables, and the first row of each map. `single`: every column is one group."""

    def __init__(self, draft: Draft, lanes: int) -> None:
        maps = {i.weights.name: i.weights for i in draft.items if isinstance(i, Application)}
        codes = [c for w in maps.values() for column in w.columns for group in column.values() for c in group]
        self.code_bits = Format.holding(min([-1, *codes]), max([1, *codes])).bits
        self.lowest = min(codes, default=0) == -(1 << self.code_bits - 1)
        groups = max((g for w in maps.values() for column in w.columns for g in column), default=0)
        self.single = groups == 0
        self.group_bits = max(groups.bit_length(), 1)
        self.starts: dict[str, int] = {}
        self.weights: list[int] = []
        known: dict[tuple[int, ...], int] = {}
        rows: list[tuple[int, int]] = []
        for name, weights in maps.items():
            self.starts[name] = len(rows)
            for column in weights.columns:
                words = tuple(self.word(g, codes, lanes) for g, codes in ordered(column, lanes, single=self.single))
                if words not in known:
                    known[words] = len(self.weights)
                    self.weights.extend(words)
                rows.append((known[words], len(words)))
        self.columns = np.array(rows, np.int64).reshape(-1, 2)
        tables = [t.ravel() for t in draft.tables.values()]
        self.tables = np.concatenate([*tables, np.zeros(0, np.int64)])

    def word(self, group: int, codes: Sequence[int], lanes: int) -> int:
        mask = (1 << self.code_bits) - 1
        packed = sum((code & mask) << lane * self.code_bits for lane, code in enumerate(codes))
        return packed | group << lanes * self.code_bits


def ordered(column: Column, lanes: int, *, single: bool) -> list[tuple[int, tuple[int, ...]]]:
    """Groups in the order of the weight memory: even ones first. A sum is not read in the clock after it was read to be
    changed, so every column begins with an even group, and one of several, which the next may follow at once, ends with
    an odd one; a group of zeros stands where there is none. A core whose columns are all one group forwards sums."""
    zeros = (0,) * lanes
    full = dict(column)
    if single:
        return [(0, full.get(0, zeros))]
    if not any(group % 2 == 0 for group in full):
        full[0] = zeros
    if len(full) > 1 and not any(group % 2 for group in full):
        full[1] = zeros
    return sorted(full.items(), key=lambda entry: (entry[0] % 2, entry[0]))


class _Assembly:
    def __init__(self, draft: Draft, places: Places, lists: Mapping[str, int], packed: _Packed) -> None:
        self.draft, self.places, self.lists, self.packed = draft, places, lists, packed

    def instruction(self, item: Item) -> Instruction:
        match item:
            case Loop() | End() | Begin() | Done():
                return item
            case Skip():
                return Gate(self.stream(item.word, ()), item.count)
            case Application():
                return self.application(item)
            case Wipe():
                return Clear(Stream(*self.places.of[item.buffer]), self.draft.buffers[item.buffer].words)
            case Pass():
                return self.vector(item)
            case _:
                assert_never(item)

    def stream(self, view: View, strides: tuple[int, ...], fresh: Fresh = Fresh.NEVER) -> Stream:
        if view.buffer == "constant":
            return Stream(CONSTANT, 0, strides)
        bank, base = self.places.of[view.buffer]
        return Stream(bank, base + view.offset, strides, fresh)

    def application(self, item: Application) -> Apply:
        columns = self.packed.starts[item.weights.name]
        sums = self.stream(item.sums, item.sums.strides)
        return Apply(self.lists[item.list], item.drain, sums, columns, item.sums.shape, item.early)

    def vector(self, item: Pass) -> Vector:
        nest = _Nest(item)
        a, b, c, d, place, column = nest.strides
        chain = item.chain

        def fresh(stream: str) -> Fresh:
            return item.fresh.get(stream, Fresh.NEVER)

        events = None
        if item.listing is not None:
            listing = item.listing
            events = Events(
                self.lists[listing.list], Stream(0, listing.place[0], place), Stream(0, listing.column[0], column)
            )
        return Vector(
            counts=nest.counts,
            a=Stream(PORT) if item.reads_port else self.stream(chain.a, a, fresh("a")),
            b=self.stream(chain.b, b, fresh("b")) if chain.b is not None else None,
            c=self.stream(chain.c, c, fresh("c")) if chain.c is not None else None,
            d=Stream(PORT) if item.target is None else self.stream(item.target, d, fresh("d")),
            alu=chain.alu, unit=chain.unit, immediate=chain.immediate, reduction=chain.reduction,
            reduced=nest.reduced, shift=chain.shift, add=chain.add, table=chain.table,
            damping=Damping(*chain.damp) if chain.damp is not None else None, indirect=chain.indirect,
            state=item.state, events=events,
        )  # fmt: skip


class _Nest:
    """The loop nest of a pass: kept axes, then reduced ones; axes of one entry are left out, and axes that all streams
    run through without a jump are one."""

    def __init__(self, item: Pass) -> None:
        chain = item.chain
        rank = len(chain.shape)
        kept = [k for k in range(rank) if k not in chain.axes]
        gone = list(chain.axes)
        keeps = len(chain.result) == rank
        zero = tuple([0] * len(chain.result))
        late = chain.c is not None and len(chain.axes) > 0 and (chain.add or chain.damp is not None)

        def full(strides: Sequence[int]) -> list[int]:
            return [strides[k] for k in (*kept, *gone)]

        def outer(strides: Sequence[int]) -> list[int]:
            mine = [strides[k] for k in kept] if keeps else list(strides)
            return [*mine, *[0] * len(gone)]

        c = chain.c.strides if chain.c is not None else tuple([0] * (len(zero) if late else rank))
        streams = [
            full(chain.a.strides),
            full(chain.b.strides if chain.b is not None else tuple([0] * rank)),
            outer(c) if late else full(c),
            outer(item.target.strides if item.target is not None else zero),
            outer(item.listing.place[1:] if item.listing is not None else zero),
            outer(item.listing.column[1:] if item.listing is not None else zero),
        ]
        axes = [(chain.shape[k], k in chain.axes, [s[n] for s in streams]) for n, k in enumerate((*kept, *gone))]
        merged: list[tuple[int, bool, list[int]]] = []
        for count, reduced, strides in axes:
            if count == 1:
                continue
            if merged:
                before, other, steps = merged[-1]
                if other == reduced and all(s == t * count for s, t in zip(steps, strides, strict=True)):
                    merged[-1] = (before * count, reduced, strides)
                    continue
            merged.append((count, reduced, strides))
        if chain.reduction is not Reduction.NONE and not any(r for _, r, _ in merged):
            merged.append((1, True, [0] * 6))
        merged = merged or [(1, False, [0] * 6)]
        self.counts = tuple(count for count, _, _ in merged)
        self.reduced = sum(reduced for _, reduced, _ in merged)
        self.strides = tuple(tuple(s[k] for _, _, s in merged) for k in range(6))
