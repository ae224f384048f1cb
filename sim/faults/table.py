"""Faults as a table: what every fault model makes, every engine runs and every campaign stores.

A fault is a list of upsets of words of the circuit, injected into the inference of one sample; it may be empty, as
noise is whose every code rounds to 0. Ticks count from 0 to `T = frames * steps`; index T is the readout after the last
tick. An upset acts in the ticks `first..last`:

| place | the word | acts in tick t on |
|---|---|---|
| state | register `name[index]` | what tick t reads (t = T: what the readout reads); the change stays in the register |
| value | operation `name`, element `index` | the result computed in tick t; a value of the drive is held |
| param | constant `name[index]` | what tick t reads (the drive reads at t = 0, the readout at t = T) |
| core | word `index` of a register or memory of an RTL core | what it holds from clock t on: here ticks are clocks |

and changes it to `((((word ^ flip) | one) & ~zero)) + add`: bits of the two's complement word of the stated format (a
boolean has one bit; for a constant, of its storage, see `storage`), read back as a code. Then `add` is added: it
saturates in a register (noise), wraps on a value (wires), and is exact on a constant, whose packings hold codes that
its own word does not. With `held` (values of the step alone), the difference made in tick `first` is added in the later
ticks instead: an upset of an accumulator that is only ever incremented. Upsets of one word act in their order in the
fault.

A core's clocks count from the edge that takes the first input, its words have bits alone (`add` is 0), and only the
engine that runs such a core takes them.

Index t in full: upsets of values of the drive that are held, and of states; the readout, where a frame has ended; where
one begins, its drive is evaluated (a value of the drive is disturbed as it is computed), before the first also the
initial states and their upsets; the tick. So with frames the drive of frame f reads at t = f * steps, and the readout
after it at t = (f + 1) * steps. An operation in the body of a repeat is disturbed at each of its evaluations.

In a disturbed run no width is proved any more: a value that leaves its stated format wraps in two's complement, as the
wires of that width do, and a divisor below 1 counts as 1. A run makes all its ticks, whatever the schedule's tolerance
(the fault-free run too); ending it once settled and undisturbed changes no bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["FAULT", "PLACES", "UPSET", "Fault", "FaultTable", "Place", "Upset", "parse_fault"]


class Place(IntEnum):
    """What kind of word an upset is in."""

    STATE = 0
    VALUE = 1
    PARAM = 2
    CORE = 3


PLACES: Final = {place.name.lower(): place for place in Place}

UPSET: Final = np.dtype(
    [
        *[("place", np.uint8), ("name", np.uint16), ("index", np.int32), ("first", np.int32), ("last", np.int32)],
        *[("flip", np.int64), ("one", np.int64), ("zero", np.int64), ("add", np.int64), ("held", np.bool_)],
    ]
)
"""A row of `FaultTable.upsets`; `name` counts in `FaultTable.names`. Bits are below 2**63: no format is wider."""
FAULT: Final = np.dtype(
    [
        *[("sample", np.int32), ("site", np.uint16), ("unit", np.int32), ("bit", np.int16), ("tick", np.int32)],
        *[("start", np.int64), ("count", np.int32)],
    ]
)
"""A row of `FaultTable.faults`: the sample, its stratum (`site` counts in `FaultTable.sites`; unit; lowest bit, -1 if
there is none; first tick, of a core the first clock) and its upsets, `upsets[start : start + count]`."""


@dataclass(frozen=True)
class Upset:
    """One row of the upsets, by name. Raises UsageError where it does nothing, or its window is empty."""

    place: Place
    name: str
    index: int
    first: int
    last: int
    flip: int = 0
    one: int = 0
    zero: int = 0
    add: int = 0
    held: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last or self.index < 0:
            what = f"window {self.first}-{self.last} of element {self.index} is empty or below 0"
            raise UsageError(Diagnostic("fault-window", what, self.name, "ticks rise from 0"))
        if not (self.flip or self.one or self.zero or self.add):
            raise UsageError(Diagnostic("fault-nothing", "the upset changes no bit", self.name))

    def __str__(self) -> str:
        window = f"@{self.first}" if self.first == self.last else f"@{self.first}-{self.last}"
        bits = [f"{sign}{value:x}" for sign, value in (("^", self.flip), ("|", self.one), ("~", self.zero)) if value]
        change = "".join(bits) + (f"{self.add:+d}" if self.add else "")
        return f"{self.place.name.lower()}:{self.name}[{self.index}]{change}{window}{'!' if self.held else ''}"


@dataclass(frozen=True)
class Fault:
    """One fault, by name: its upsets, the sample they are injected into, and the stratum that it counts for."""

    sample: int
    site: str
    unit: int
    bit: int
    upsets: tuple[Upset, ...]

    def __str__(self) -> str:
        """The id: the same text is the same fault on every engine; `parse_fault` reads it."""
        return f"{self.sample}/{self.site}.{self.unit}.{self.bit}/{';'.join(map(str, self.upsets))}"


_UPSET = re.compile(
    r"(?P<place>state|value|param|core):(?P<name>[^\[\]]+)\[(?P<index>\d+)\]"
    r"(\^(?P<flip>[0-9a-f]+))?(\|(?P<one>[0-9a-f]+))?(~(?P<zero>[0-9a-f]+))?(?P<add>[+-]\d+)?"
    r"@(?P<first>\d+)(-(?P<last>\d+))?(?P<held>!)?"
)
_FAULT = re.compile(r"(?P<sample>\d+)/(?P<site>[^/]+)\.(?P<unit>-?\d+)\.(?P<bit>-?\d+)/(?P<upsets>.*)")


def parse_fault(text: str) -> Fault:
    """The fault of an id; UsageError says what cannot be read."""
    found = _FAULT.fullmatch(text)
    parts = found["upsets"].split(";") if found and found["upsets"] else []
    read = [_UPSET.fullmatch(part) for part in parts]
    wrong = [part for part, match in zip(parts, read, strict=True) if match is None]
    if found is None or wrong:
        shown = ", ".join(map(repr, wrong)) or repr(text)
        hint = "as 3/state:h.12.6/state:h[12]^40@5: sample/site.unit.bit/place:name[index]change@ticks"
        raise UsageError(Diagnostic("fault-id", f"{shown} is no fault", "fault", hint))
    return Fault(
        sample=int(found["sample"]),
        site=found["site"],
        unit=int(found["unit"]),
        bit=int(found["bit"]),
        upsets=tuple(_upset(match) for match in read if match),
    )


def _upset(match: re.Match[str]) -> Upset:
    first = int(match["first"])
    return Upset(
        place=PLACES[match["place"]],
        name=match["name"],
        index=int(match["index"]),
        first=first,
        last=int(match["last"] or first),
        **{key: int(match[key] or "0", 16) for key in ("flip", "one", "zero")},
        add=int(match["add"] or 0),
        held=match["held"] is not None,
    )


@dataclass(frozen=True, eq=False)
class FaultTable:
    """Many faults, by column: `faults` of dtype `FAULT`, `upsets` of dtype `UPSET`, and the names they count in."""

    names: tuple[str, ...]
    sites: tuple[str, ...]
    faults: NDArray[np.void]
    upsets: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.faults)

    def __getitem__(self, number: int) -> Fault:
        row = self.faults[number]
        start, count = int(row["start"]), int(row["count"])
        return Fault(
            sample=int(row["sample"]),
            site=self.sites[row["site"]],
            unit=int(row["unit"]),
            bit=int(row["bit"]),
            upsets=tuple(self._upset(u) for u in self.upsets[start : start + count]),
        )

    def __iter__(self) -> Iterator[Fault]:
        return (self[i] for i in range(len(self)))

    def _upset(self, row: np.void) -> Upset:
        numbers = {key: int(row[key]) for key in ("index", "first", "last", "flip", "one", "zero", "add")}
        return Upset(place=Place(int(row["place"])), name=self.names[row["name"]], held=bool(row["held"]), **numbers)

    def take(self, which: NDArray[np.intp] | slice) -> FaultTable:
        """The faults of `which`, in its order, with their upsets alone."""
        # `np.take` copies records seven times as fast as an index does.
        faults = self.faults[which].copy() if isinstance(which, slice) else np.take(self.faults, which)
        counts = faults["count"].astype(np.int64)
        starts = np.cumsum(counts) - counts
        rows = np.repeat(faults["start"] - starts, counts) + np.arange(int(counts.sum()))
        faults["start"] = starts
        return FaultTable(self.names, self.sites, faults, np.take(self.upsets, rows))

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> FaultTable:
        """The table of faults given by name, in their order."""
        held: Sequence[Fault] = tuple(faults)
        names = tuple(dict.fromkeys(u.name for f in held for u in f.upsets))
        sites = tuple(dict.fromkeys(f.site for f in held))
        name_of, site_of = {n: i for i, n in enumerate(names)}, {s: i for i, s in enumerate(sites)}
        upsets = [
            (u.place, name_of[u.name], u.index, u.first, u.last, u.flip, u.one, u.zero, u.add, u.held)
            for f in held
            for u in f.upsets
        ]
        rows, start = [], 0
        for f in held:
            tick = min((u.first for u in f.upsets), default=0)
            rows.append((f.sample, site_of[f.site], f.unit, f.bit, tick, start, len(f.upsets)))
            start += len(f.upsets)
        return cls(names, sites, np.array(rows, FAULT), np.array(upsets, UPSET))
