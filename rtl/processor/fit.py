"""A program on a core that was made for others: banks in other places, records and weights in wider fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import zip_longest

import numpy as np

from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError

from .bounds import clock_bound
from .compiler import Program
from .configuration import Bank, Core
from .description import BANKS, Description
from .encoding import encode
from .features import Features
from .isa import CONSTANT, PORT, Apply, Clear, Gate, Instruction, Stream, Vector

__all__ = ["fit"]

WORDS: Mapping[str, str] = {
    "axes": "axes of a loop nest",
    "address_bits": "bits of an address",
    "count_bits": "bits of a count",
    "data_bits": "bits of an immediate",
    "code_bits": "bits of a weight",
    "group_bits": "bits of the number of a group",
    "weight_words": "words of weights",
    "column_words": "rows of the column table",
    "table_words": "entries of tables",
    "table_bits": "bits of an entry of a table",
    "program_words": "instructions",
    "difference_bits": "bits of a difference",
}
HINT = "take a core with more, or build one for both nets: --also CORE"


def fit(program: Program, needs: Description, core: Description, where: str) -> Program:
    """The program, whose own core is `needs`, for another core.

    Raises UnsupportedError with everything that the core has too little of, both numbers in each diagnostic. `where`:
    what they name.
    """
    faults = [Diagnostic("rtl-core", what, where, HINT) for what in _misfits(needs, core)]
    # Of a core that has too little there is none.
    bound = 0 if faults or not core.span else clock_bound(program.instructions, core.core, core.run_words)
    if bound > core.span:
        what = f"it may take {bound} clocks from tick to tick, the watchdog of the core allows {core.span}"
        faults.append(Diagnostic("rtl-core", what, where, HINT))
    places = _places(needs, core)
    if faults or places is None:
        banks = Diagnostic("rtl-core", "its banks are not those of the core in any order", where, HINT)
        raise UnsupportedError(faults or [banks])
    instructions = tuple(_moved(i, places) for i in program.instructions)
    old, new = program.image.core, core.core
    bits = old.lanes * old.code_bits
    image = replace(
        program.image,
        core=new,
        program=tuple(encode(new, i) for i in instructions),
        weights=program.image.weights
        if old.code_bits == new.code_bits
        else tuple(_word(word, old, new, bits) for word in program.image.weights),
        words={(places[bank], base): codes for (bank, base), codes in program.image.words.items()},
    )
    states = {name: (places[bank], *rest) for name, (bank, *rest) in program.states.items()}
    return replace(program, image=image, instructions=instructions, states=states)  # type: ignore[arg-type]


def _misfits(needs: Description, core: Description) -> Iterator[str]:
    mine, its = needs.core, core.core
    for name in ("lanes", "width"):
        if getattr(mine, name) != getattr(its, name):
            yield f"the program is for {name} {getattr(mine, name)}, the core has {getattr(its, name)}"
    for name, words in WORDS.items():
        if getattr(mine, name) > getattr(its, name):
            yield f"it needs {getattr(mine, name)} {words}, the core has {getattr(its, name)}"
    if mine.lowest and not its.lowest and mine.code_bits == its.code_bits:
        yield f"it has the weight code {-(1 << mine.code_bits - 1)}, the core has those above it"
    for k, (a, b) in enumerate(zip_longest(mine.lists, its.lists, fillvalue=0)):
        if a > b:
            yield f"list {k} needs {a} events, the core has {b}"
    for sums, what in ((False, "codes"), (True, "sums")):
        yield from _bank_misfits([b for b in mine.banks if b.sums == sums and b.words],
                                 [b for b in its.banks if b.sums == sums], what)  # fmt: skip
    for name, a, b in (
        ("loops inside each other", needs.nesting, core.nesting),
        ("words of a column", needs.run_words, core.run_words),
        ("input codes", needs.x.count, core.x.count),
        ("output codes", needs.y.count, core.y.count),
    ):
        if a > b:
            yield f"it needs {a} {name}, the core has {b}"
    for name, p, q in (("input", needs.x, core.x), ("output", needs.y, core.y)):
        if p.lo < q.lo or p.hi > q.hi:
            yield f"its {name} codes are {p.lo} to {p.hi}, the port of the core holds {q.lo} to {q.hi}"
        if p.beat != q.beat:
            yield f"its {name} has {p.beat} codes a beat, the core has {q.beat}"
    yield from _missing_units(needs.features, core.features)


def _bank_misfits(mine: list[Bank], its: list[Bank], what: str) -> Iterator[str]:
    if len(mine) > len(its):
        yield f"it needs {len(mine)} banks of {what}, the core has {len(its)}"
    for attribute in ("words", "bits"):
        a, b = (sorted((getattr(bank, attribute) for bank in banks), reverse=True) for banks in (mine, its))
        for rank, (x, y) in enumerate(zip(a, b, strict=False), 1):
            if x > y:
                yield f"bank {rank} of {what} by {attribute} needs {x} {attribute}, the core has {y}"
                break


def _missing_units(mine: Features, its: Features) -> Iterator[str]:
    """Parts of the pipeline that a program uses and the core has not; banks, which have other numbers, left out."""
    for f in fields(Features):
        a, b = getattr(mine, f.name), getattr(its, f.name)
        if f.name in BANKS:
            continue
        if isinstance(a, bool):
            if a and not b:
                yield f"it uses {f.name}, which the core has not"
        elif {*a} - {*b}:
            names = sorted(getattr(n, "name", str(n)).lower() for n in {*a} - {*b})
            others = sorted(getattr(n, "name", str(n)).lower() for n in b)
            yield f"it uses {f.name} {', '.join(names)}, the core has {', '.join(others) or 'none'}"


def _places(needs: Description, core: Description) -> dict[int, int] | None:
    """A bank of the core for each bank, none twice; None where there is no such choice. A matching by augmenting paths
    (Kuhn 1955); each begins with the same number."""
    mine, its = needs.core.banks, core.core.banks
    choices = {
        k: sorted((n for n in range(len(its)) if _takes(needs, core, k, n)), key=lambda n, k=k: (n != k, n))  # type: ignore[misc]
        for k, bank in enumerate(mine)
        if bank.words
    }
    holder: dict[int, int] = {}

    def place(k: int, tried: set[int]) -> bool:
        for n in choices[k]:
            if n not in tried:
                tried.add(n)
                if n not in holder or place(holder[n], tried):
                    holder[n] = k
                    return True
        return False

    if not all(place(k, set()) for k in choices):
        return None
    return {k: n for n, k in holder.items()}


def _takes(needs: Description, core: Description, k: int, n: int) -> bool:
    """Whether bank k of a program may be bank n of the core."""
    a, b = needs.core.banks[k], core.core.banks[n]
    mine, its = needs.features, core.features
    used = k not in needs.preset or n in core.preset
    for field in BANKS:
        ours, theirs = getattr(mine, field), getattr(its, field)
        pairs = [(ours[s], theirs[s]) for s in ours] if isinstance(ours, dict) else [(ours, theirs)]
        used &= all(k not in x or n in y for x, y in pairs)
    return used and a.sums == b.sums and a.words <= b.words and a.bits <= b.bits


def _moved(i: Instruction, places: Mapping[int, int]) -> Instruction:
    """With banks in their places."""

    def moved(stream: Stream) -> Stream:
        return stream if stream.bank in (PORT, CONSTANT) else replace(stream, bank=places[stream.bank])

    match i:
        case Vector():
            b, c = (None if s is None else moved(s) for s in (i.b, i.c))
            return replace(i, a=moved(i.a), b=b, c=c, d=moved(i.d))
        case Apply():
            return replace(i, sums=moved(i.sums))
        case Clear() | Gate():
            return replace(i, word=moved(i.word))
        case _:
            return i


def _word(word: int, old: Core, new: Core, bits: int) -> int:
    """A word of weights in the fields of another core."""
    codes = np.array([word >> k * old.code_bits & (1 << old.code_bits) - 1 for k in range(old.lanes)], object)
    signed = [int(c) - (int(c) >> old.code_bits - 1 << old.code_bits) for c in codes]
    packed = sum((c & (1 << new.code_bits) - 1) << k * new.code_bits for k, c in enumerate(signed))
    return packed | word >> bits << new.lanes * new.code_bits
