"""What the core is told for a fault of the table: the word that its saboteur disturbs, and the weights to load.

| upset | in the core |
|---|---|
| state | its code as it is stored, or as it is read: everything that reads it is told |
| value | the result, behind its operation or its sum; one of the drive, from its register or memory on |
| param, a weight | the weight memory, loaded before the inference and put back after it; refused where there is none |
| core | any register, or a word of any memory, in clocks |

One fault has one upset of a state, a value or a core, in one window, and any number of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet, ops, walk
from ..circuit import Circuit
from ..storage import changed, weight_names
from ..table import Fault, Place, Upset
from .weights import Load, Memory, NoRoomError

__all__ = ["Cell", "Row", "Translator"]

Codes = NDArray[np.int64]


_NO_WORD = 0xFFFF
"""Masks of a register go to the port that words of the net share: none of these may be named."""
_SHOWN = 120
"""Characters of a fault in a message."""


@dataclass(frozen=True)
class Row:
    """A fault as `bench/native.py` takes it. `every`: all ticks are made, settled or not; `event`: linear maps are told
    of an upset state."""

    sample: int
    every: bool = True
    event: bool = True
    word: int = 0
    unit: int = 0
    first: int = 0
    last: int = 0
    flip: int = 0
    one: int = 0
    zero: int = 0
    add: int = 0
    site: int = -1
    clocks: tuple[int, int] = (0, 0)
    loads: tuple[Load, ...] = ()

    def codes(self, limit: int) -> list[int]:
        """As native.cpp lists them. No result after `limit` clocks is a hang."""
        masks = (self.flip, self.one, self.zero, self.add)
        word = (int(self.event), self.word, self.unit, self.first, self.last)
        return [int(self.every), *word, *masks, self.site, *self.clocks, limit if self.site >= 0 else 0]


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
    the weights; None if they are constants of a core whose linear maps are computed anew in every tick."""

    net: IntNet
    circuit: Circuit
    ticks: int
    words: Mapping[str, int]
    cells: Mapping[str, Cell]
    memory: Memory | None
    value: Callable[[Place, str, int, int, int], int]

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
        weights = [u for u in fault.upsets if u.place is Place.PARAM]
        others = [u for u in fault.upsets if u.place is not Place.PARAM]
        if len(others) > 1:
            raise _Refused("the core disturbs one word in an inference, this fault has several")
        row = Row(fault.sample, loads=tuple(self._loads(weights)))
        if not others:
            return row
        upset = others[0]
        if upset.add and weights:
            raise _Refused("an addition is made to a known code, beside disturbed weights it is not known")
        match upset.place:
            case Place.CORE:
                return self._cell(row, upset)
            case Place.STATE:
                return self._state(row, upset)
            case _:
                return self._value(row, upset)

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
        return replace(row, word=_NO_WORD, site=cell.number, unit=u.index, clocks=(u.first, u.last), **masks)

    def _loads(self, upsets: Sequence[Upset]) -> list[Load]:
        known = weight_names(self.net)
        for u in upsets:
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
            return [] if self.memory is None or not upsets else self.memory.loads(upsets, self.circuit)
        except NoRoomError as e:
            raise _Refused(f"the weight memory cannot hold this fault: {e}") from None

    def _state(self, row: Row, u: Upset) -> Row:
        if u.add:
            if u.first != u.last:
                raise _Refused("an addition to a state saturates: the core can do it in one tick only")
            word = self.circuit.words[u.place, u.name]
            code = self.value(u.place, u.name, u.index, row.sample, u.first)
            mask = (code ^ changed(code, u, word, saturate=True)) & ((1 << word.format.bits) - 1)
            return self._told(row, replace(u, flip=mask, one=0, zero=0, add=0) if mask else None, u)
        return self._told(row, u, u)

    def _value(self, row: Row, u: Upset) -> Row:
        block = next(name for name, script in self.net.blocks if any(op.out == u.name for op in walk(script)))
        if block == "drive":
            return self._drive(row, u)
        if not u.held:
            return self._told(row, u, u)
        if u.first >= self.ticks:
            return self._told(row, None, u)
        if row.loads:
            raise _Refused("an accumulator is off by a known difference, beside disturbed weights it is not known")
        # What an accumulator that is only incremented is off by, from the first tick on.
        word = self.circuit.words[u.place, u.name]
        code = self.value(u.place, u.name, u.index, row.sample, u.first)
        difference = changed(code, u, word, saturate=False) - code
        return self._told(row, replace(u, flip=0, one=0, zero=0, add=difference) if difference else None, u)

    def _drive(self, row: Row, u: Upset) -> Row:
        """Computed in tick 0; what later ticks read of it stands in a memory, and stays as it was disturbed."""
        read = {name for _, script in self.net.blocks[1:] for op in walk(script) for name in op.reads}
        read |= {s.update for s in self.net.states} | {o.value for o in self.net.outputs}
        if u.name not in read:
            return self._told(row, u if u.first == 0 else None, u)
        if u.last > u.first and (u.flip or u.add):
            raise _Refused(
                f"value {u.name} of the drive is in a memory: the core changes it once, not in several ticks"
            )
        shapes = [op.out for op in self.net.drive if isinstance(op, ops.Reshape) and op.x == u.name]
        alike = [name for name in shapes if name in read and f"value:{name}" not in self.words]
        if alike and u.first:
            raise _Refused(f"value {u.name} of the drive and {alike[0]} are one word of the core: both would be upset")
        mapped = {op.x for _, s in self.net.blocks[1:] for op in s if isinstance(op, ops.Linear | ops.Stencil)}
        if u.name in mapped and u.first and self.memory is not None:
            raise _Refused(f"linear maps read value {u.name} of the drive, and are not told of its upsets after tick 0")
        return self._told(row, u, u)

    def _told(self, row: Row, u: Upset | None, named: Upset) -> Row:
        key = f"{named.place.name.lower()}:{named.name}"
        if key not in self.words:
            known = ", ".join(self.words)
            raise _Refused(f"{key} is no word of the core that has a saboteur", f"these have: {known}")
        if u is None:
            return row
        masks = {name: getattr(u, name) for name in ("flip", "one", "zero", "add")}
        return replace(row, word=self.words[key], unit=u.index, first=u.first, last=u.last, **masks)


def _short(fault: Fault) -> str:
    text = str(fault)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_ELSE = "the engines `fast` and `golden` take every fault"


class _Refused(Exception):
    def __init__(self, what: str, hint: str = _ELSE) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint
