"""What the core is told for a fault of the table: the word that its saboteur disturbs, and the weights to load.

| upset | in the core |
|---|---|
| state | its code as it is stored, or as it is read: everything that reads it is told |
| value | the result, behind its operation or its sum; one of the drive, from its register or memory on |
| value, a sum with a check | what the accumulator reads as, off by the difference, before the check |
| param, a weight | the weight memory, loaded before the inference and put back after it; with a code, flipped in it |
| core | any register, or a word of any memory, in clocks |

One fault has one upset of a core, or any number of states, values and weights. Those of states and values become rows
of the tables of their saboteurs, one for each element and tick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet, ops, walk
from ..circuit import Circuit
from ..storage import changed, weight_names
from ..table import Fault, Place, Upset
from .masks import Masks, Told
from .weights import Flip, Load, Memory, NoRoomError

__all__ = ["Cell", "Row", "Translator", "write_faults"]

Codes = NDArray[np.int64]


_SHOWN = 120
"""Characters of a fault in a message."""


@dataclass(frozen=True)
class Row:
    """A fault as `bench/native.py` takes it. `every`: all ticks are made, settled or not; `event`: linear maps are told
    of an upset state. `flip`, `one` and `zero` act on word `unit` of the `site` in its `clocks`."""

    sample: int
    every: bool = True
    event: bool = True
    upsets: tuple[Told, ...] = ()
    site: int = -1
    unit: int = 0
    clocks: tuple[int, int] = (0, 0)
    flip: int = 0
    one: int = 0
    zero: int = 0
    loads: tuple[Load, ...] = ()
    flips: tuple[Flip, ...] = ()

    def codes(self, limit: int) -> list[int]:
        """As native.cpp lists them. No result after `limit` clocks is a hang."""
        site = (self.site, self.unit, *self.clocks, self.flip, self.one, self.zero)
        return [int(self.every), int(self.event), *site, limit if self.site >= 0 else 0]


def write_faults(path: Path, rows: Sequence[Row], samples: Codes, limit: int) -> None:
    """The file of `bench/native.py --faults`: by row the number of its sample in the inputs, `samples` `[rows]` int64,
    and what disturbs it. No result after `limit` clocks is a hang."""
    lists = {
        "upsets": [(i, *told.codes()) for i, row in enumerate(rows) for told in row.upsets],
        "loads": [(i, *load) for i, row in enumerate(rows) for load in row.loads],
        "flips": [(i, *flip) for i, row in enumerate(rows) for flip in row.flips],
    }
    arrays = {
        name: np.array(numbers, np.int64).reshape(-1, 8 if name == "upsets" else 4) for name, numbers in lists.items()
    }
    arrays |= {"samples": samples, "faults": np.array([row.codes(limit) for row in rows], np.int64)}
    with path.open("wb") as file:
        np.savez(file, **arrays)


@dataclass(frozen=True)
class Cell:
    """A register or memory of the core: its number, and what core.json says of it (`inject.sites`)."""

    number: int
    kind: str
    bits: int
    rows: int


@dataclass(frozen=True)
class Translator:
    """`words`: the number of each word with a saboteur, by `PLACE:NAME`; `cells`: by name. `value` gives the fault-free
    code of a state that a tick reads, or of a value that it computes: of place, name, index, sample, tick. `memory`: of
    the weights; None if they are constants of a core whose linear maps are computed anew in every tick, or, with
    `image`, words of one that a processor holds."""

    net: IntNet
    circuit: Circuit
    ticks: int
    words: Mapping[str, int]
    cells: Mapping[str, Cell]
    memory: Memory | None
    value: Callable[[Place, str, int, int, int], int]
    image: bool = False

    def rows(self, faults: Sequence[Fault], *, event: bool = True) -> list[Row]:
        """A row for each fault. Raises UsageError that names every kind of fault that the core cannot be given."""
        found: list[Row] = []
        refused: dict[str, tuple[int, Fault, str]] = {}
        for fault in faults:
            try:
                found.append(replace(self._row(fault), event=event))
            except _Refused as e:
                count, first, hint = refused.get(e.what, (0, fault, e.hint))
                refused[e.what] = (count + 1, first, hint)
        if refused:
            raise UsageError(
                Diagnostic("fault-rtl", f"{what} ({count} faults, the first is named)", _short(first), hint)
                for what, (count, first, hint) in refused.items()
            )
        return found

    def _row(self, fault: Fault) -> Row:
        hardware = [u for u in fault.upsets if u.place is Place.CORE]
        if hardware and len(fault.upsets) > 1:
            raise _Refused("an upset of the hardware is one of one word in one window, this fault has several")
        loads, flips = self._stored([u for u in fault.upsets if u.place is Place.PARAM])
        row = Row(fault.sample, loads=tuple(loads), flips=tuple(flips))
        if hardware:
            return self._cell(row, hardware[0])
        found: dict[tuple[int, int, int], Masks] = {}
        words: dict[tuple[Place, str, int], list[Upset]] = {}
        for u in fault.upsets:
            if u.place is not Place.PARAM:
                words.setdefault((u.place, u.name, u.index), []).append(u)
        for (place, _, index), upsets in words.items():
            told = self._state(upsets) if place is Place.STATE else self._value(fault, upsets)
            for key, tick, masks in told:
                self._add(found, (self._number(key), index, tick), masks, saturate=place is Place.STATE)
        ordered = sorted((at, masks) for at, masks in found.items() if masks != Masks())
        return replace(row, upsets=tuple(Told(*at, masks) for at, masks in ordered))

    def _number(self, key: str) -> int:
        if key not in self.words:
            known = ", ".join(self.words)
            raise _Refused(f"{key} is no word of the core that has a saboteur", f"these have: {known}")
        return self.words[key]

    def _add(
        self, found: dict[tuple[int, int, int], Masks], at: tuple[int, int, int], masks: Masks, *, saturate: bool
    ) -> None:
        """What is done to a word in a tick, after what is done to it already."""
        both = found.get(at, Masks()).then(masks, saturate=saturate)
        if both is None:
            raise _Refused("a word is added to, and changed again in the same tick: no table of the core says that")
        found[at] = both

    def _cell(self, row: Row, u: Upset) -> Row:
        if u.name not in self.cells:
            near = ", ".join(get_close_matches(u.name, self.cells, 5)) or "see inject.sites in core.json"
            raise _Refused(f"the core has no register or memory {u.name}", f"close to it: {near}")
        cell = self.cells[u.name]
        if u.index >= cell.rows:
            raise _Refused(f"{u.name} has words 0 to {cell.rows - 1}, the fault names {u.index}")
        if (u.flip | u.one | u.zero) >> cell.bits or u.add or u.held:
            raise _Refused(f"{u.name} has bits 0 to {cell.bits - 1}, and these alone can be disturbed")
        masks = {name: getattr(u, name) for name in ("flip", "one", "zero")}
        return replace(row, site=cell.number, unit=u.index, clocks=(u.first, u.last), **masks)

    def _stored(self, upsets: Sequence[Upset]) -> tuple[list[Load], list[Flip]]:
        known = weight_names(self.net)
        for u in upsets:
            if self.image:
                what = f"{u.name} lies in memories of a processor, whose words are disturbed as words of the core"
                raise _Refused(what, f"--model core disturbs them; {_ELSE}")
            if self.memory is None:
                what = f"{u.name} is wired into the core, and so are all its constants, weights among them"
                raise _Refused(what, f"--arch serial has a memory of weights; {_ELSE}")
            if u.name not in known:
                what = f"{u.name} is wired into the core, its weights alone are in a memory that is loaded"
                raise _Refused(what, "leave it out, as --sites state,accumulator,drive,weight does")
            if u.first or u.last < self.ticks:
                what = f"{u.name} is disturbed in ticks {u.first} to {u.last}, weights are for the whole inference"
                raise _Refused(f"{what}, 0 to {self.ticks}")
        try:
            if self.memory is None or not upsets:
                return [], []
            if self.memory.coded:
                return self.memory.flips(upsets, self.circuit)
            return self.memory.loads(upsets, self.circuit), []
        except NoRoomError as e:
            raise _Refused(f"the weight memory cannot hold this fault: {e}") from None

    def _state(self, upsets: Sequence[Upset]) -> Iterator[tuple[str, int, Masks]]:
        for u in upsets:
            # More than this saturates as well.
            most = (1 << self.circuit.words[u.place, u.name].format.bits) - 1
            masks = replace(Masks.of(u), add=min(max(u.add, -most), most))
            for tick in range(u.first, min(u.last, self.ticks) + 1):
                yield f"state:{u.name}", tick, masks

    def _value(self, fault: Fault, upsets: Sequence[Upset]) -> Iterator[tuple[str, int, Masks]]:
        name = upsets[0].name
        block = next(b for b, script in self.net.blocks if any(op.out == name for op in walk(script)))
        if block == "drive":
            yield from self._drive(name, upsets)
            return
        key = f"sum:{name}" if f"sum:{name}" in self.words else f"value:{name}"
        self._number(key)
        for u in upsets:
            first, last = (u.first, min(u.last, self.ticks - 1)) if block == "step" else (self.ticks, self.ticks)
            if not u.first <= last <= u.last:
                continue
            masks = Masks.of(u)
            if key.startswith("sum:") or (u.held and masks.bits):
                masks = self._difference(fault, u, first, last)
            for tick in range(max(first, u.first), last + 1):
                yield key, tick, masks

    def _difference(self, fault: Fault, u: Upset, first: int, last: int) -> Masks:
        """What an accumulator that is only incremented, or one that has a check, is off by from tick `first` on."""
        if not u.held and first != last:
            what = f"of a sum that has a check one tick is disturbed, or all from one on, not ticks {first} to {last}"
            raise _Refused(what)
        # Sums of one map in one tick do not know of each other.
        apart = [(o.place, o.name, o.first) == (u.place, u.name, first) and o.index != u.index for o in fault.upsets]
        if any(o is not u and o.first <= first and not a for o, a in zip(fault.upsets, apart, strict=True)):
            what = "an accumulator is off by a known difference: beside what is disturbed before, it is not known"
            raise _Refused(what)
        word = self.circuit.words[u.place, u.name]
        code = self.value(u.place, u.name, u.index, fault.sample, first)
        return Masks(add=changed(code, u, word, saturate=False) - code)

    def _drive(self, name: str, upsets: Sequence[Upset]) -> Iterator[tuple[str, int, Masks]]:
        """Computed in tick 0; what later ticks read of it stands in a memory, and stays as it was disturbed."""
        # A bit that is stuck from the start stays so in memory by itself.
        key, late = f"value:{name}", any(u.last > 0 and (u.first > 0 or u.flip or u.add) for u in upsets)
        self._number(key)
        for u in upsets:
            if u.first == 0:
                yield key, 0, Masks.of(u)
        read = {n for _, script in self.net.blocks[1:] for op in walk(script) for n in op.reads}
        read |= {s.update for s in self.net.states} | {o.value for o in self.net.outputs}
        if name not in read or not late:
            return
        shapes = [op.out for op in self.net.drive if isinstance(op, ops.Reshape) and op.x == name]
        alike = [n for n in shapes if n in read and f"value:{n}" not in self.words]
        if alike:
            raise _Refused(f"value {name} of the drive and {alike[0]} are one word of the core: both would be upset")
        mapped = {op.x for _, s in self.net.blocks[1:] for op in s if isinstance(op, ops.Linear | ops.Stencil)}
        if name in mapped and self.memory is not None:
            raise _Refused(f"linear maps read value {name} of the drive, and are not told of its upsets after tick 0")
        held: dict[tuple[int, int, int], Masks] = {}
        for tick in range(1, self.ticks + 1):
            for u in upsets:
                if u.first <= tick <= u.last:
                    self._add(held, (0, 0, 0), Masks.of(u), saturate=False)
            yield key, tick, held.get((0, 0, 0), Masks())


def _short(fault: Fault) -> str:
    text = str(fault)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_ELSE = "the engines `fast` and `golden` take every fault"


class _Refused(Exception):
    def __init__(self, what: str, hint: str = _ELSE) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint
