"""Faults that last, as the columns of the kernel `hold`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..storage import param_words, read_back
from ..table import FaultTable, Place
from .hold_source import SLOTS
from .reached import Reached

__all__ = ["Wounds", "lasting", "takes", "wounds_of"]

Column = NDArray[np.int32]
UPSETS = ("element", "flip", "one", "zero")


@dataclass(frozen=True, eq=False)
class Wounds:
    """Columns `[faults]` int32 but those of `UPSETS`, which are `[faults, slots]`; element -1 is none, weight 0 too."""

    sample: Column
    first: Column
    last: Column
    weight: Column
    row: Column
    column: Column
    delta: Column
    upsets: Mapping[str, Column]

    @property
    def slots(self) -> int:
        """Upsets of states of a fault, at most."""
        return int(self.upsets["element"].shape[1])


def takes(table: FaultTable, reached: Reached, ticks: int) -> NDArray[np.bool_]:
    """Which faults `[faults]` the kernel takes: a weight that is wrong in the whole run, bits of a sum or of a value of
    the drive, or bits of states in the same ticks. The faults must be of the net."""
    faults, upsets = table.faults, table.upsets
    weights = reached.weights
    owner = np.repeat(np.arange(len(faults)), faults["count"])
    known = np.array([name in weights for name in table.names], bool)
    state = (upsets["place"] == Place.STATE) & (upsets["add"] == 0)
    weight = (upsets["place"] == Place.PARAM) & (known[upsets["name"]] if len(known) else False)
    weight &= (upsets["first"] == 0) & (upsets["last"] == ticks)
    summed, driven = (_named(table, numbers) for numbers in (reached.sums, reached.drive))
    # A value of the drive stays as it is upset, so that a flip that lasts flips it back.
    driven &= (upsets["first"] == upsets["last"]) | (upsets["flip"] == 0)
    single = (weight | ((summed | driven) & (upsets["add"] == 0))) & (faults["count"][owner] == 1)
    alike = upsets["first"] == faults["tick"][owner]
    start = np.minimum(faults["start"], max(len(upsets) - 1, 0))
    if len(upsets):
        alike &= upsets["last"] == upsets["last"][start][owner]
    good = np.ones(len(faults), bool)
    np.logical_and.at(good, owner, (state | single) & alike & ~upsets["held"])
    return good & (faults["count"] >= 1) & (faults["count"] <= SLOTS)


def _named(table: FaultTable, numbers: Mapping[str, int]) -> NDArray[np.bool_]:
    """Which upsets are of the values that have a number."""
    known = np.array([False, *(name in numbers for name in table.names)])
    found: NDArray[np.bool_] = (table.upsets["place"] == Place.VALUE) & known[table.upsets["name"].astype(np.intp) + 1]
    return found


def lasting(table: FaultTable) -> NDArray[np.bool_]:
    """Which faults `[faults]` are more than upsets of states in one tick."""
    found = np.zeros(len(table), bool)
    owner = np.repeat(np.arange(len(table)), table.faults["count"])
    more = (table.upsets["place"] != Place.STATE) | (table.upsets["first"] != table.upsets["last"])
    np.logical_or.at(found, owner, more)
    return found


def wounds_of(table: FaultTable, reached: Reached, ticks: int) -> Wounds:
    """The columns of faults that the kernel takes."""
    faults, upsets = table.faults, table.upsets
    plan, weights = reached.plan, reached.weights
    count = len(faults)
    slots = int(faults["count"].max(initial=1))
    owner = np.repeat(np.arange(count), faults["count"])
    slot = np.arange(len(upsets)) - np.repeat(faults["start"], faults["count"])
    starts = np.cumsum([0, *(plan.sizes[s.name] for s in plan.net.states)])
    first = {s.name: start for s, start in zip(plan.net.states, starts[:-1], strict=True)}
    base = np.array([first.get(n, 0) for n in table.names], np.int64)[upsets["name"]]
    state = upsets["place"] == Place.STATE
    columns = {"element": np.where(state, base + upsets["index"], -1)} | {n: upsets[n] for n in UPSETS[1:]}
    made = {n: np.full((count, slots), -1 if n == "element" else 0, np.int32) for n in UPSETS}
    for name, column in columns.items():
        made[name][owner, slot] = column
    single = {n: np.zeros(count, np.int64) for n in ("weight", "row", "column", "delta")}
    words = param_words(plan.net)
    for number, name in enumerate(table.names):
        here = np.flatnonzero((upsets["place"] == Place.PARAM) & (upsets["name"] == number))
        if not len(here):
            continue
        value, rows, word = plan.params[name], upsets[here], words[name]
        codes = value[rows["index"]]
        bits = ((codes & ((1 << word.format.bits) - 1)) ^ rows["flip"] | rows["one"]) & ~rows["zero"]
        changes = (rows["flip"] | rows["one"] | rows["zero"]) != 0
        inputs = plan.net.param(name).shape[1]
        at = owner[here]
        single["weight"][at] = weights[name]
        single["row"][at], single["column"][at] = np.divmod(rows["index"].astype(np.int64), inputs)
        single["delta"][at] = np.where(changes, read_back(bits, word), codes) + rows["add"] - codes
    last = np.zeros(count, np.int64)
    last[owner] = upsets["last"]
    for number, name in enumerate(table.names):
        here = np.flatnonzero((upsets["place"] == Place.VALUE) & (upsets["name"] == number))
        at = owner[here]
        single["weight"][at] = reached.values.get(name, 0)
        single["row"][at], single["delta"][at] = upsets["index"][here], 1
        if name in reached.drive:
            last[at] = ticks
    return Wounds(
        sample=faults["sample"].astype(np.int32),
        first=faults["tick"].astype(np.int32),
        last=last.astype(np.int32),
        **{n: c.astype(np.int32) for n, c in single.items()},
        upsets=made,
    )
