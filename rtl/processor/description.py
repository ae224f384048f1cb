"""What a core of the processor is, whatever net it holds: what its configuration file says."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import zip_longest
from math import prod
from typing import cast, get_args, get_origin, get_type_hints

from eqcompile.toolchain.ir import Format, IntNet
from eqcompile.toolchain.passes import Analysis
from eqcompile.toolchain.typed_json import JSON, ReadError, decode_as, encode

from .compiler import Program, compile_net
from .configuration import Bank, Core
from .features import Features
from .isa import CONSTANT, PORT, End, Loop, Vector

__all__ = ["BANKS", "Description", "Port", "program_of"]

Part = bool | tuple[int, ...] | frozenset[int] | dict[str, frozenset[int]]
"""What a field of `Features` holds."""
BANKS = tuple(n for n, h in get_type_hints(Features).items() if h in (frozenset[int], dict[str, frozenset[int]]))
"""Fields of `Features` that hold numbers of banks."""
FIXED = (PORT, CONSTANT)
"""Banks of every core."""


@dataclass(frozen=True)
class Port:
    """A stream of codes: their smallest and largest, how many one sample has at most, and how many a beat carries."""

    lo: int
    hi: int
    count: int
    beat: int

    def joined(self, other: Port) -> Port:
        """Raises ValueError: beats differ."""
        if self.beat != other.beat:
            raise ValueError(f"one core has {self.beat} codes a beat, the other {other.beat}")
        return Port(min(self.lo, other.lo), max(self.hi, other.hi), max(self.count, other.count), self.beat)

    @property
    def beats(self) -> int:
        """Of one sample."""
        return -(-self.count // self.beat)


@dataclass(frozen=True)
class Description:
    """`features`: what the pipeline has. `nesting`: loops that are open at once. `run_words`: of one column of weights.
    `preset`: banks with parameters. `external`: weights are read from a memory outside, `beat_bytes` for a word.
    `span`: clocks that its watchdog allows from tick to tick, 0 without one."""

    core: Core
    features: Features
    nesting: int
    run_words: int
    preset: tuple[int, ...]
    x: Port
    y: Port
    external: bool = False
    span: int = 0

    @classmethod
    def of(cls, program: Program, net: IntNet) -> Description:
        """The smallest core that runs a program."""
        image, width = program.image, program.image.core.width
        vectors = [i for i in program.instructions if isinstance(i, Vector)]
        depth = most = 0
        for i in program.instructions:
            depth += isinstance(i, Loop) - isinstance(i, End)
            most = max(most, depth)
        sizes = Analysis.of(net).sizes
        tokens = {i.name: Format.holding(*i.limits) for i in net.inputs if i.kind == "index"}
        entering = [(tokens.get(i.name) or net.formats[i.name], prod(i.shape)) for i in net.inputs]
        leaving = [(net.formats[o.value], sizes[o.value]) for o in net.outputs]
        return cls(
            image.core,
            Features.of(program.instructions, width),
            most,
            int(image.columns[:, 1].max(initial=1)),
            tuple(sorted({bank for bank, _ in image.words})),
            _port(entering, width if all(i.wide for i in vectors if i.a.bank == PORT) else 1),
            _port(leaving, width if all(i.wide for i in vectors if i.d.bank == PORT) else 1),
        )

    def joined(self, other: Description) -> Description:
        """The smallest core that runs what either runs. Raises ValueError: they differ in lanes, width or
        beats."""
        mine, other = self, other.renumbered(_matching(self.core.banks, other.core.banks))
        return Description(
            _joined_cores(mine.core, other.core),
            _features({n: _union(getattr(mine.features, n), getattr(other.features, n)) for n in _names()}),
            max(mine.nesting, other.nesting),
            max(mine.run_words, other.run_words),
            tuple(sorted({*mine.preset, *other.preset})),
            mine.x.joined(other.x),
            mine.y.joined(other.y),
            mine.external,
            max(mine.span, other.span),
        )

    def renumbered(self, places: Mapping[int, int]) -> Description:
        """With bank k as number `places[k]`; numbers between them are banks of no words."""
        banks = [Bank(0, 1)] * (max(places.values(), default=-1) + 1)
        for k, bank in enumerate(self.core.banks):
            banks[places[k]] = bank

        def moved(numbers: frozenset[int]) -> frozenset[int]:
            return frozenset(n if n in FIXED else places[n] for n in numbers)

        features: dict[str, Part] = {n: getattr(self.features, n) for n in _names()}
        for name, hint in get_type_hints(Features).items():
            if hint == dict[str, frozenset[int]]:
                features[name] = {s: moved(numbers) for s, numbers in getattr(self.features, name).items()}
            elif hint == frozenset[int]:
                features[name] = moved(getattr(self.features, name))
        core = Core(**{**vars(self.core), "banks": tuple(banks)})
        preset = tuple(sorted(places[n] for n in self.preset))
        parts = {"features": _features(features), "preset": preset}
        return replace(self, core=core, **parts)  # type: ignore[arg-type]

    @property
    def beat_bytes(self) -> int:
        """A power of two, 4 at least: one beat of the bus holds one word of weights."""
        bits = self.core.lanes * self.core.code_bits + self.core.group_bits
        return max(4, 1 << (-(-bits // 8) - 1).bit_length())

    @property
    def digest(self) -> int:
        """32 bits that two different cores hardly share: CRC-32 of the JSON."""
        return zlib.crc32(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode())

    def to_json(self) -> dict[str, JSON]:
        """As a JSON object."""
        features: dict[str, JSON] = {n: _plain(getattr(self.features, n)) for n in _names()}
        others: dict[str, JSON] = {"nesting": self.nesting, "run_words": self.run_words, "preset": list(self.preset)}
        others |= {"external": True} if self.external else {}
        others |= {"x": encode(self.x), "y": encode(self.y)} | ({"span": self.span} if self.span else {})
        return {"core": encode(self.core), "features": features, **others}

    @classmethod
    def from_json(cls, value: object, where: str) -> Description:
        """Raises ReadError: it is not what `to_json` writes."""
        parts = decode_as(Mapping[str, JSON], value, where)
        names = {f.name for f in fields(cls)}
        if set(parts) | {"external", "span"} != names:
            raise ReadError(f"{where} has the fields {', '.join(sorted(parts))}, must have {', '.join(sorted(names))}")
        known = decode_as(Mapping[str, JSON], parts["features"], f"{where}.features")
        hints = get_type_hints(Features)
        if set(known) != set(hints):
            raise ReadError(f"{where}.features has {', '.join(sorted(known))}, must have {', '.join(sorted(hints))}")
        try:
            features = _features({name: _typed(hint, known[name]) for name, hint in hints.items()})
        except (TypeError, ValueError, AttributeError) as error:
            raise ReadError(f"{where}.features: {error}") from error
        return cls(
            decode_as(Core, parts["core"], f"{where}.core"),
            features,
            decode_as(int, parts["nesting"], f"{where}.nesting"),
            decode_as(int, parts["run_words"], f"{where}.run_words"),
            tuple(decode_as(int, n, f"{where}.preset") for n in parts["preset"]),  # type: ignore[union-attr]
            decode_as(Port, parts["x"], f"{where}.x"),
            decode_as(Port, parts["y"], f"{where}.y"),
            decode_as(bool, parts.get("external", False), f"{where}.external"),
            decode_as(int, parts.get("span", 0), f"{where}.span"),
        )


@lru_cache(maxsize=4)
def program_of(net: IntNet, lanes: int, width: int) -> tuple[Program, Description]:
    """The program of a verified net, and its smallest core."""
    program = compile_net(net, lanes=lanes, width=width)
    return program, Description.of(program, net)


def _port(values: list[tuple[Format, int]], beat: int) -> Port:
    joined = Format.holding(min(f.lo for f, _ in values), max(f.hi for f, _ in values))
    count = sum(count for _, count in values)
    return Port(joined.lo, joined.hi, count, min(beat, count))


def _matching(mine: tuple[Bank, ...], others: tuple[Bank, ...]) -> dict[int, int]:
    """Which bank of `mine`, or which new one, each of the others becomes: those of codes and those of sums by width."""

    def by_width(banks: tuple[Bank, ...], sums: bool) -> list[int]:
        return sorted((k for k, b in enumerate(banks) if b.sums == sums and b.words), key=lambda k: -banks[k].bits)

    places: dict[int, int] = {}
    free = len(mine)
    for sums in (False, True):
        for k, place in zip_longest(by_width(others, sums), by_width(mine, sums)):
            if k is not None:
                places[k] = free if place is None else place
                free += place is None
    return places


def _joined_cores(a: Core, b: Core) -> Core:
    for name in ("lanes", "width"):
        if getattr(a, name) != getattr(b, name):
            raise ValueError(f"one core has {name} {getattr(a, name)}, the other {getattr(b, name)}")
    banks = tuple(_joined_banks(one, two) for one, two in zip_longest(a.banks, b.banks, fillvalue=Bank(0, 1)))
    lists = tuple(max(one, two) for one, two in zip_longest(a.lists, b.lists, fillvalue=0))
    numbers = {f.name: max(getattr(a, f.name), getattr(b, f.name)) for f in fields(Core) if f.name not in
               ("banks", "lists", "forwards")}  # fmt: skip
    # Without it single groups take a clock more, and columns of several ones are right.
    return Core(**numbers, banks=banks, lists=lists, forwards=a.forwards and b.forwards)


def _joined_banks(a: Bank, b: Bank) -> Bank:
    return Bank(max(a.words, b.words), max(a.bits, b.bits), a.sums or b.sums)


def _names() -> list[str]:
    return [f.name for f in fields(Features)]


def _features(parts: Mapping[str, Part]) -> Features:
    return Features(**parts)  # type: ignore[arg-type]  # each is of the field's type, by how it was made


def _union(a: Part, b: Part) -> Part:
    match a, b:
        case bool(), bool():
            return a or b
        case tuple(), tuple():
            return tuple(sorted({*a, *b}))
        case frozenset(), frozenset():
            return a | b
        case dict(), dict():
            return {key: a[key] | b[key] for key in a}
        case _:
            raise AssertionError(f"{a!r} and {b!r} are parts of different kinds")


def _plain(value: Part) -> JSON:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value if isinstance(value, bool) else sorted(int(n) for n in value)


def _typed(hint: object, value: JSON) -> Part:
    """A part from JSON. Raises TypeError, ValueError: it is none of the type `hint`."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind is dict and isinstance(value, dict):
        return {key: cast("frozenset[int]", _typed(arguments[1], part)) for key, part in value.items()}
    if kind in (tuple, frozenset) and isinstance(value, list):
        numbers = [arguments[0](n) for n in value]
        return tuple(numbers) if kind is tuple else frozenset(numbers)
    if hint is bool and isinstance(value, bool):
        return value
    raise TypeError(f"{value!r:.60} is not {hint}")
