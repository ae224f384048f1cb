"""What is left of the sample before: reads as 0 where that costs nothing, else cleared."""

from __future__ import annotations

from collections import defaultdict

from ..isa import End, Fresh, Loop, Repeats
from .draft import Application, Draft, Pass, Wipe

__all__ = ["freshen"]


def freshen(draft: Draft, frames: bool, every: bool) -> None:
    """Make every word 0 where a sample begins: sums by an instruction, other buffers by how they are read.

    `frames`, `every`: of the schedule. A buffer whose first write of a sample comes in the first tick reads as 0 up to
    that write; one that is first written before it, only for the comparison that lists its changes.
    """
    depth: list[Repeats] = []
    scopes: list[tuple[Repeats, ...]] = []
    for item in draft.items:
        if isinstance(item, Loop):
            depth.append(item.repeats)
        scopes.append(tuple(r for r in depth if r is not Repeats.FRAMES))
        if isinstance(item, End):
            depth.pop()
    tick = next(k for k, i in enumerate(draft.items) if isinstance(i, Loop) and i.repeats is Repeats.SETTLED)
    writers: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(draft.items):
        if isinstance(item, Pass) and item.target is not None:
            writers[item.target.buffer].append(at)
    wipes = [Wipe(i.sums.buffer) for i in draft.items if isinstance(i, Application)]
    for name, places in writers.items():
        if not draft.buffers[name].lives:
            continue
        at, scope = places[0], scopes[places[0]]
        writer = draft.items[at]
        assert isinstance(writer, Pass)
        if Repeats.COUNT in scope or (not scope and frames and every and at > tick):
            wipes.append(Wipe(name))
        elif not scope:
            writer.fresh["d"] = Fresh.TICK if frames and at < tick else Fresh.ALWAYS
        else:
            writer.fresh["d"] = Fresh.TICK
            for item in draft.items[tick : at + 1]:
                if isinstance(item, Pass):
                    _read_fresh(item, name)
    draft.items[1:1] = dict.fromkeys(wipes)


def _read_fresh(item: Pass, name: str) -> None:
    chain = item.chain
    for stream, view in (("a", chain.a), ("b", chain.b), ("c", chain.c)):
        if view is not None and view.buffer == name:
            item.fresh[stream] = Fresh.TICK
