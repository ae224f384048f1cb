"""What is settled when all items of a draft are there: copies, and when lists end and begin."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from .chain import Chain
from .draft import Application, Draft, Pass
from .views import Buffer, View, contiguous

__all__ = ["drain", "hurry", "separate"]


def separate(draft: Draft) -> None:
    """A bank gives one word in a clock: what a pass reads at two places of one buffer is copied."""
    items = draft.items
    for item in [i for i in items if isinstance(i, Pass)]:
        chain = item.chain
        seen = {chain.a.buffer: chain.a}
        for stream in ("b", "c"):
            view: View | None = getattr(chain, stream)
            if view is None or seen.setdefault(view.buffer, view) == view or view.buffer == "constant":
                continue
            name = f"{item.value} {stream}"
            whole = draft.buffers[view.buffer]
            draft.buffers[name] = Buffer(name, whole.words, whole.bits)
            copy = Pass(Chain.of(contiguous(view.buffer, (whole.words,))), contiguous(name, (whole.words,)), name)
            items.insert(items.index(item), copy)
            moved = replace(view, buffer=name)
            chain = replace(chain, b=moved) if stream == "b" else replace(chain, c=moved)
        item.chain = chain


def drain(draft: Draft) -> None:
    """The last application of a list empties it."""
    last = {i.list: i for i in draft.items if isinstance(i, Application)}
    for item in last.values():
        item.drain = True


def hurry(draft: Draft) -> None:
    """An application behind the pass that lists its events may begin with it, if that reads no sums."""
    sums = {n for n, b in draft.buffers.items() if b.sums}
    for before, item in pairwise(draft.items):
        if isinstance(item, Application) and isinstance(before, Pass) and before.listing is not None:
            reads = {v.buffer for v in before.chain.views}
            item.early = before.listing.list == item.list and not reads & sums
