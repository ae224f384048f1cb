"""A file that describes an orbit and a part: spectra, and for each kind of memory cell a rate or its cross-sections.

Kinds: flip-flops, block RAM, LUT RAM and configuration memory differ in cross-section by orders of magnitude, so each
has its own; sites of a campaign are assigned to one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, get_args

from ....toolchain.diagnostics import Diagnostic, ImportFileError
from ....toolchain.typed_json import JSON, ReadError, decode_as
from .chords import Box
from .cross_sections import Bendel, CrossSection, Points, Weibull
from .folding import ion_rate, proton_rate
from .spectra import Spectrum, read_let, read_protons

__all__ = ["KIND_OF", "Kind", "KindRate", "Orbit", "Sensitivity", "SiteKind", "clusters", "read_orbit", "tornado"]

SiteKind = Literal["flip-flop", "block-ram", "lut-ram", "configuration"]
KIND_OF: Mapping[str, SiteKind] = {
    "state": "flip-flop",
    "accumulator": "flip-flop",
    "drive": "flip-flop",
    "register": "flip-flop",
    "weight": "block-ram",
    "table": "block-ram",
    "constant": "block-ram",
    "memory": "block-ram",
    "loaded": "block-ram",
}
"""Where the words of a site are, by the kind in its name, unless the file says otherwise under [sites]."""
SECONDS_PER_DAY = 86_400.0
_STEP = 0.1
_FORM = """\
title, [spectrum] let and/or proton (files) with source, and [kinds.KIND] (flip-flop, block-ram, lut-ram, \
configuration) with source and upsets_per_bit_day, or ion and/or proton cross-sections"""


@dataclass(frozen=True, kw_only=True)
class _Spectra:
    source: str
    let: str | None = None
    proton: str | None = None
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A cross-section as the file states it."""

    form: Literal["weibull", "bendel1", "bendel2", "points"]
    onset: float | None = None
    width: float | None = None
    exponent: float | None = None
    limit_cm2: float | None = None
    a: float | None = None
    b: float | None = None
    x: tuple[float, ...] | None = None
    cm2: tuple[float, ...] | None = None
    box_um: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class _Kind:
    source: str
    upsets_per_bit_day: float | None = None
    ion: _Section | None = None
    proton: _Section | None = None
    factor: float = 1.0
    bits: int | None = None
    failing: float | None = None
    clusters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _File:
    title: str
    kinds: Mapping[str, _Kind]
    spectrum: _Spectra | None = None
    sites: Mapping[str, str] = field(default_factory=dict)


class KindRate(TypedDict):
    """Upsets of a bit of one kind. `ion_per_bit_day`, `proton_per_bit_day`: its parts, where cross-sections are folded;
    `factor`: the true rate lies within this factor of it with 95 %; `clusters`: share of events by how many bits flip;
    `bits`: of the design, `failing`: share of upsets that fail, where the file states them."""

    upsets_per_bit_day: float
    ion_per_bit_day: NotRequired[float]
    proton_per_bit_day: NotRequired[float]
    source: str
    factor: float
    clusters: dict[str, float]
    bits: NotRequired[int]
    failing: NotRequired[float]


class Sensitivity(TypedDict):
    """How the rate of a kind answers to one constant: rates with it 10 % lower and higher, relative to the rate."""

    kind: str
    constant: str
    value: float
    lower: float
    higher: float


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of memory cell. `stated`: its upsets of a bit a day, None where `ion` and `proton` are folded with
    spectra."""

    source: str
    stated: float | None
    ion: CrossSection | None
    box: Box | None
    proton: CrossSection | None
    factor: float
    clusters: Mapping[int, float]
    bits: int | None
    failing: float | None


@dataclass(frozen=True, kw_only=True)
class Orbit:
    """`factor`: within which the true fluxes lie with 95 %. `sites`: the kind that holds the words of a site, by the
    site's kind or its whole name."""

    title: str
    source: str
    let: Spectrum | None
    protons: Spectrum | None
    factor: float
    kinds: Mapping[SiteKind, Kind]
    sites: Mapping[str, SiteKind]

    def rate(self, kind: Kind) -> tuple[float, float]:
        """Upsets of a bit a day by heavy ions and by protons; of a stated rate, the whole of it and 0."""
        if kind.stated is not None:
            return kind.stated, 0.0
        ions = protons = 0.0
        if kind.ion is not None and self.let is not None:
            ions = ion_rate(self.let, kind.ion.curve(), kind.box) * SECONDS_PER_DAY
        if kind.proton is not None and self.protons is not None:
            protons = proton_rate(self.protons, kind.proton.curve()) * SECONDS_PER_DAY
        return ions, protons

    def rates(self) -> dict[str, KindRate]:
        """The rate of each kind."""
        found: dict[str, KindRate] = {}
        for name, kind in self.kinds.items():
            ions, protons = self.rate(kind)
            row: KindRate = {
                "upsets_per_bit_day": ions + protons,
                "source": kind.source,
                "factor": kind.factor,
                "clusters": {str(size): share for size, share in kind.clusters.items()},
            }
            if kind.stated is None:
                row["ion_per_bit_day"], row["proton_per_bit_day"] = ions, protons
            if kind.bits is not None:
                row["bits"] = kind.bits
            if kind.failing is not None:
                row["failing"] = kind.failing
            found[name] = row
        return found


def clusters(upsets: float, shares: Mapping[str, float]) -> dict[str, float]:
    """Events by how many bits each flips, at `upsets` bits in all, where `shares` of events flip so many bits."""
    mean = sum(int(size) * share for size, share in shares.items())
    return {size: upsets / mean * share for size, share in shares.items()}


def tornado(orbit: Orbit) -> list[Sensitivity]:
    """Every constant of every kind, changed alone by 10 % down and up; the largest effect first."""
    rows: list[Sensitivity] = []
    for name, kind in orbit.kinds.items():
        rate = sum(orbit.rate(kind))
        for constant, value, change in _constants(orbit, kind):
            low, high = (sum(o.rate(k)) / rate if rate else 0.0 for o, k in (change(1 - _STEP), change(1 + _STEP)))
            rows.append({"kind": name, "constant": constant, "value": value, "lower": low, "higher": high})
    return sorted(rows, key=lambda row: -abs(row["higher"] - row["lower"]))


class _Change:
    """One constant of an orbit or a kind, times a factor."""

    def __init__(self, orbit: Orbit, kind: Kind, part: str, name: str) -> None:
        self._orbit, self._kind, self._part, self._name = orbit, kind, part, name

    @property
    def value(self) -> float:
        part = self._orbit if self._part == "orbit" else self._kind
        whole = part if self._name in ("stated", "let", "protons") else getattr(part, self._part)
        value = getattr(whole, self._name)
        return 1.0 if isinstance(value, Spectrum) else float(value)

    def __call__(self, factor: float) -> tuple[Orbit, Kind]:
        if self._part == "orbit":
            spectrum: Spectrum = getattr(self._orbit, self._name)
            return replace(self._orbit, **{self._name: spectrum.scaled(factor)}), self._kind  # type: ignore[arg-type]
        if self._name == "stated":
            return self._orbit, replace(self._kind, stated=self.value * factor)
        whole = replace(getattr(self._kind, self._part), **{self._name: self.value * factor})
        return self._orbit, replace(self._kind, **{self._part: whole})


def _constants(orbit: Orbit, kind: Kind) -> Iterator[tuple[str, float, _Change]]:
    if kind.stated is not None:
        change = _Change(orbit, kind, "kind", "stated")
        yield "upsets_per_bit_day", change.value, change
        return
    named: list[tuple[str, str, str]] = []
    if orbit.let is not None and kind.ion is not None:
        named.append(("let flux", "orbit", "let"))
        named += [(f"ion {name}", "ion", name) for name in kind.ion.constants]
        if kind.box is not None:
            named += [(f"box {axis}", "box", axis) for axis in "xyz"]
    if orbit.protons is not None and kind.proton is not None:
        named.append(("proton flux", "orbit", "protons"))
        named += [(f"proton {name}", "proton", name) for name in kind.proton.constants]
    for label, part, name in named:
        change = _Change(orbit, kind, part, name)
        if change.value:
            yield label, change.value, change


def read_orbit(tables: Mapping[str, JSON], path: Path) -> Orbit:
    """The orbit of a TOML file's tables; spectra are files beside it.

    Raises ImportFileError with every fault (code `environment-file`), or for spectra (code `spectrum-file`).
    """
    try:
        stated = decode_as(_File, tables, "file")
    except ReadError as error:
        raise ImportFileError(Diagnostic("environment-file", str(error), str(path), _FORM)) from None
    faults = [Diagnostic("environment-file", what, f"{path}:{where}", _FORM) for where, what in _faults(stated)]
    if faults:
        raise ImportFileError(faults)
    spectra = stated.spectrum
    let = read_let(path.parent / spectra.let) if spectra and spectra.let else None
    protons = read_protons(path.parent / spectra.proton) if spectra and spectra.proton else None
    return Orbit(
        title=stated.title,
        source=spectra.source if spectra else "no spectrum: every rate is stated",
        let=let,
        protons=protons,
        factor=spectra.factor if spectra else 1.0,
        kinds={_kind_name(name): _kind(kind) for name, kind in stated.kinds.items()},
        sites={**KIND_OF, **{site: _kind_name(kind) for site, kind in stated.sites.items()}},
    )


def _kind_name(name: str) -> SiteKind:
    (found,) = (kind for kind in get_args(SiteKind) if kind == name)
    kind: SiteKind = found
    return kind


def _kind(stated: _Kind) -> Kind:
    box = stated.ion.box_um if stated.ion is not None else None
    return Kind(
        source=stated.source,
        stated=stated.upsets_per_bit_day,
        ion=None if stated.ion is None else _section(stated.ion),
        box=None if box is None else Box(*box),
        proton=None if stated.proton is None else _section(stated.proton),
        factor=stated.factor,
        clusters={int(size): share for size, share in (stated.clusters or {"1": 1.0}).items()},
        bits=stated.bits,
        failing=stated.failing,
    )


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "weibull": Weibull.constants,
    "bendel1": ("a",),
    "bendel2": ("a", "b"),
    "points": ("x", "cm2"),
}


def _section(stated: _Section) -> CrossSection:
    values = {name: getattr(stated, name) for name in _FIELDS[stated.form]}
    match stated.form:
        case "weibull":
            return Weibull(**values)
        case "bendel1" | "bendel2":
            return Bendel(**values)
        case "points":
            return Points(**values)


def _faults(stated: _File) -> Iterator[tuple[str, str]]:
    """Where, and what is wrong."""
    known = get_args(SiteKind)
    for name in [*stated.kinds, *stated.sites.values()]:
        if name not in known:
            yield "[kinds]", f"there is no kind {name!r}, known: {', '.join(known)}"
    if not stated.kinds:
        yield "[kinds]", "no kind has a rate"
    spectra = stated.spectrum
    if spectra is not None and not (1 <= spectra.factor < math.inf):
        yield "[spectrum]", f"factor is {spectra.factor!r}, must be a number of at least 1"
    for name, kind in stated.kinds.items():
        where = f"[kinds.{name}]"
        rate = kind.upsets_per_bit_day
        if (rate is None) == (kind.ion is None and kind.proton is None):
            yield where, "must have either upsets_per_bit_day or cross-sections (ion, proton)"
        if rate is not None and not 0 < rate < math.inf:
            yield where, f"upsets_per_bit_day is {rate!r}, must be a number above 0"
        if not 1 <= kind.factor < math.inf:
            yield where, f"factor is {kind.factor!r}, must be a number of at least 1"
        if kind.bits is not None and kind.bits < 1:
            yield where, f"bits is {kind.bits}, must be a whole number of at least 1"
        if kind.failing is not None and not 0 <= kind.failing <= 1:
            yield where, f"failing is {kind.failing!r}, must be a number from 0 to 1"
        shares = kind.clusters
        whole = all(size.isdecimal() and int(size) > 0 for size in shares)
        if shares and not (whole and min(shares.values()) >= 0 and math.isclose(sum(shares.values()), 1.0)):
            yield where, "clusters must have shares of events by number of bits that sum up to 1, as 1 = 0.9, 2 = 0.1"
        for label, section, spectrum in (
            ("ion", kind.ion, spectra and spectra.let),
            ("proton", kind.proton, spectra and spectra.proton),
        ):
            if section is not None:
                if not spectrum:
                    yield where, f"{label} needs [spectrum] {'let' if label == 'ion' else 'proton'}"
                yield from ((f"{where} {label}", what) for what in _section_faults(section, label))


def _section_faults(stated: _Section, label: str) -> Iterator[str]:
    required = _FIELDS[stated.form]
    allowed = {*required, "form", *(("box_um",) if label == "ion" else ())}
    present = {name for name in vars(stated) if getattr(stated, name) is not None}
    if label == "ion" and stated.form.startswith("bendel"):
        yield f"form {stated.form} is one of protons"
    if missing := sorted(set(required) - present):
        yield f"form {stated.form} needs {', '.join(missing)}"
    if extra := sorted(present - allowed):
        yield f"form {stated.form} has no {', '.join(extra)}"
    for name in ("onset", "width", "exponent", "limit_cm2", "a", "b"):
        value = getattr(stated, name)
        low = 0 <= value if name == "onset" and value is not None else value is None or value > 0
        if value is not None and not (low and value < math.inf):
            yield f"{name} is {value!r}, must be a number above 0"
    if stated.box_um is not None and not all(0 < edge < math.inf for edge in stated.box_um):
        yield f"box_um is {list(stated.box_um)}, must be three lengths above 0 (depth last)"
    if stated.x is not None and stated.cm2 is not None:
        ascending = all(a < b for a, b in zip((0.0, *stated.x), stated.x, strict=False))
        rising = all(0 < a <= b < math.inf for a, b in zip(stated.cm2, (*stated.cm2[1:], 1.0), strict=True))
        if len(stated.x) != len(stated.cm2) or not stated.x or not ascending or not rising:
            yield "points need as many x as cm2, x ascending from above 0, cm2 above 0 and not falling"
