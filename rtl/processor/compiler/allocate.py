"""Banks and addresses of buffers: what one pass reads together lies in different banks, what is dead is reused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..configuration import Bank
from ..isa import End, Loop
from .draft import Application, Draft, Item, Pass, Skip, Wipe

__all__ = ["Places", "allocate"]

MAX_BANKS = 12


@dataclass(frozen=True)
class Places:
    """`(bank, base)` of each buffer, and the banks."""

    of: Mapping[str, tuple[int, int]]
    banks: tuple[Bank, ...]


def allocate(draft: Draft, width: int) -> Places:
    """Places of every buffer of a draft, each from a multiple of `width` on."""
    lives = _lives(draft)
    together: dict[str, set[str]] = defaultdict(set)
    for item in draft.items:
        names = set(_names(item))
        for name in names:
            together[name] |= names - {name}
    banks: list[list[str]] = []
    bits: list[int] = []
    number: dict[str, int] = {}
    for name in sorted(lives, key=lambda n: -draft.buffers[n].bits):
        wide = draft.buffers[name].bits
        free = [
            k
            for k, members in enumerate(banks)
            if not together[name] & set(members) and draft.buffers[members[0]].sums == draft.buffers[name].sums
        ]
        if free:
            chosen = min(free, key=lambda k: bits[k] - wide)
        elif len(banks) < MAX_BANKS:
            chosen = len(banks)
            banks.append([])
            bits.append(wide)
        else:
            chosen = min(range(len(banks)), key=lambda k: len(together[name] & set(banks[k])))
        banks[chosen].append(name)
        number[name] = chosen
    places: dict[str, tuple[int, int]] = {}
    sizes = []
    for k, members in enumerate(banks):
        taken: list[tuple[int, int, tuple[int, int]]] = []
        for name in sorted(members, key=lambda n: -draft.buffers[n].words):
            words, (start, end) = -(-draft.buffers[name].words // width) * width, lives[name]
            base = 0
            for first, last, (born, dead) in sorted(taken):
                if start <= dead and born <= end and base < last and first < base + words:
                    base = last
            taken.append((base, base + words, (start, end)))
            places[name] = (k, base)
        sizes.append(Bank(max(last for _, last, _ in taken), bits[k], draft.buffers[members[0]].sums))
    return Places(places, tuple(sizes))


def _names(item: Item) -> tuple[str, ...]:
    match item:
        case Pass():
            views = (*item.chain.views, *([item.target] if item.target else []))
            return tuple(v.buffer for v in views if v.buffer != "constant")
        case Application():
            return (item.sums.buffer,)
        case Skip():
            return (item.word.buffer,)
        case Wipe():
            return (item.buffer,)
        case _:
            return ()


def _lives(draft: Draft) -> dict[str, tuple[int, int]]:
    """First and last item of each buffer; what a loop reads from outside lives as long as the loop."""
    path: list[int] = []
    ends: dict[int, int] = {}
    paths: list[tuple[int, ...]] = []
    for at, item in enumerate(draft.items):
        if isinstance(item, Loop):
            path.append(at)
        paths.append(tuple(path))
        if isinstance(item, End):
            ends[path.pop()] = at
    found: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(draft.items):
        for name in _names(item):
            found[name].append(at)
    return {
        name: (0, len(draft.items)) if draft.buffers[name].lives else _span(places, paths, ends)
        for name, places in found.items()
    }


def _span(places: Sequence[int], paths: Sequence[tuple[int, ...]], ends: Mapping[int, int]) -> tuple[int, int]:
    first = places[0]
    last = max(
        (
            ends[next(loop for loop in paths[at] if loop not in paths[first])]
            if set(paths[at]) - set(paths[first])
            else at
        )
        for at in places
    )
    return first, last
