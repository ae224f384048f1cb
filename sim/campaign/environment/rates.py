"""From a cross-section and a flux to upsets, failures in time, and missions.

    upsets of a bit per hour = cross-section [cm2] * flux [1 / (cm2 h)]
    failures per hour        = sum over sites of bits * upsets of a bit per hour * P(failure | upset of that site)
    FIT = failures in 10^9 device hours; MTTF [h] = 1 / failures per hour

Sources: JEDEC JESD89A (2006), section 2 for FIT and cross-section.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np

from ....toolchain.diagnostics import Diagnostic, ImportFileError, UsageError
from ....toolchain.typed_json import JsonObject
from ..notes import Environment, Flux, Part, Rate
from .orbit import Orbit, read_orbit

__all__ = ["Failures", "Missions", "accumulated", "failures", "kind_of", "mission", "read", "unassigned"]

NAMES = ("sealevel", "avionics", "leo", "geo")
HOURS_PER_DAY, SECONDS_PER_HOUR, HOURS_PER_FIT = 24.0, 3600.0, 1e9
_DEFAULT_MISSION_S = 365.25 * 86_400
_MOST_BYTES = 1 << 16
_WHY = """\
heavy ions and protons of a whole spectrum upset a bit, no single flux stands for them: the rate of a part comes from \
its measured cross-section curves and a model of the orbit (CREME96, SPENVIS, OMERE), or was counted in flight"""
_KEYS: Mapping[str, Mapping[str, type]] = {
    "flux": {"particle": str, "per_cm2_hour": float, "source": str},
    "part": {"title": str, "cm2_per_bit": float, "source": str, "note": str},
    "rate": {"upsets_per_bit_day": float, "source": str},
}
_FILE = """\
title, then [rate] upsets_per_bit_day, source; or [flux] particle, per_cm2_hour, source with [part] title, \
cm2_per_bit, source; or [kinds.KIND] with rates or cross-sections (examples/orbit_kinds.toml)"""


class OrbitalRate(Rate):
    """The rate of a class of parts in an orbit."""

    title: str


class EnvironmentFile(TypedDict):
    """A TOML file; `rates`, of a built-in orbit alone, by class of parts."""

    title: str
    flux: NotRequired[Flux]
    part: NotRequired[Part]
    rate: NotRequired[Rate]
    rates: NotRequired[dict[str, OrbitalRate]]


class Failures(TypedDict):
    """Rates in 1 / hour, failures in 10^9 device hours, and the mean time to a failure if there is any."""

    upsets_per_hour: float
    failures_per_hour: float
    fit: float
    mttf_hours: NotRequired[float]


class Missions(TypedDict):
    """Means and 95 % quantiles over so many runs, and the fraction of them without a failure."""

    runs: int
    upsets_mean: float
    failures_mean: float
    upsets_95: float
    failures_95: float
    without_failure: float


def read(name: str, *, part: str | None, scrub_s: float | None, mission_s: float | None, devices: int) -> Environment:
    """An environment as JSON values: `upsets_per_bit_hour`, and the constants it comes from, each with its source; of a
    file with [kinds] (`orbit.py`) the rate of each kind of memory cell in its place.

    `name` is a built-in environment or a TOML file, which holds the part's cross-section too or leaves it to `part`. In
    an orbit no flux stands for the particles: there the rate of each class of parts is cited as a whole.
    Raises UsageError where a constant is missing, with what is missing and why nothing is assumed; ImportFileError for
    a file that is not as it must be.
    """
    if name not in NAMES:
        tables = _tables(Path(name))
        if "kinds" in tables:
            return _by_kind(read_orbit(tables, Path(name)), name, scrub_s, mission_s, devices)
        held = _file(tables, Path(name))
    else:
        held = cast("EnvironmentFile", _built_in(f"{name}.toml"))
    classes = cast("dict[str, Part]", _built_in("parts.toml"))
    if "rates" in held:
        held["part"], held["rate"] = _orbital(held["rates"], part, name, held["title"])
    elif part is not None:
        if part not in classes:
            what = f"there is no class of parts {part!r}"
            hint = f"known: {', '.join(classes)}; or [part] in FILE.toml"
            raise UsageError(Diagnostic("unknown-part", what, "--part", hint))
        held["part"] = classes[part]
    if "rate" in held:
        per_hour = held["rate"]["upsets_per_bit_day"] / HOURS_PER_DAY
    elif "flux" in held and "part" in held:
        per_hour = held["flux"]["per_cm2_hour"] * held["part"]["cm2_per_bit"]
    else:
        absent = "[part]" if "flux" in held else "[flux] or [rate]"
        hint = f"--part {'|'.join(classes)}, or a FILE.toml with {_FILE}"
        what = f"the rate of upsets of a bit needs {absent}"
        raise UsageError(Diagnostic("environment-part", what, name, hint))
    found: Environment = {
        "name": Path(name).name,
        "title": held["title"],
        "upsets_per_bit_hour": per_hour,
        "scrub_s": scrub_s,
        "mission_s": mission_s or _DEFAULT_MISSION_S,
        "devices": devices,
        "kind": "estimated",
    }
    if "flux" in held:
        found["flux"] = held["flux"]
    if "part" in held:
        found["part"] = held["part"]
    if "rate" in held:
        found["rate"] = held["rate"]
    return found


def _orbital(rates: Mapping[str, OrbitalRate], part: str | None, name: str, title: str) -> tuple[Part, Rate]:
    """Title of the part in an orbit, and its rate."""
    if part is None or part not in rates:
        of = "no class of parts is named" if part is None else f"no rate of {part!r} is cited"
        what = f"{title}: {of}; {_WHY}"
        hint = f"--part {'|'.join(rates)}, or --env FILE.toml with {_FILE}"
        raise UsageError(Diagnostic("environment-rate", what, name, hint))
    cited = rates[part]
    return {"title": cited["title"]}, {"upsets_per_bit_day": cited["upsets_per_bit_day"], "source": cited["source"]}


def _built_in(name: str) -> JsonObject:
    return tomllib.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _by_kind(orbit: Orbit, name: str, scrub_s: float | None, mission_s: float | None, devices: int) -> Environment:
    return {
        "name": Path(name).name,
        "title": orbit.title,
        "kinds": orbit.rates(),
        "held_by": {site: kind for site, kind in orbit.sites.items() if kind in orbit.kinds},
        "factor": orbit.factor,
        "spectra": orbit.source,
        "scrub_s": scrub_s,
        "mission_s": mission_s or _DEFAULT_MISSION_S,
        "devices": devices,
        "kind": "estimated",
    }


def kind_of(stated: Environment, site: str) -> str | None:
    """The kind of memory cell that holds the words of a site `KIND:NAME`, None if the environment has no rate of it."""
    held_by = stated.get("held_by", {})
    return held_by.get(site) or held_by.get(site.partition(":")[0])


def unassigned(stated: Environment, sites: Sequence[str]) -> list[Diagnostic]:
    """One diagnostic (code `environment-kind`) for each site without a rate of the cells that hold it."""
    if "kinds" not in stated:
        return []
    known = ", ".join(stated["kinds"])
    hint = f"add [kinds.KIND] for it, or assign it under [sites] to one of {known}"
    return [
        Diagnostic("environment-kind", f"no rate of the memory cells that hold site {site}", stated["name"], hint)
        for site in sites
        if kind_of(stated, site) is None
    ]


def _tables(path: Path) -> JsonObject:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise ImportFileError(
                Diagnostic("environment-file", f"the file has {size} bytes, at most {_MOST_BYTES}", str(path))
            )
        tables: JsonObject = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = f"one of {', '.join(NAMES)}, or a TOML file"
        raise UsageError(
            Diagnostic("unknown-environment", f"cannot read {str(path)!r}: {error.strerror}", "--env", hint)
        ) from error
    except ValueError as error:
        raise ImportFileError(Diagnostic("environment-file", f"not TOML: {error}", str(path), _FILE)) from error
    return tables


def _file(tables: JsonObject, path: Path) -> EnvironmentFile:
    faults = _faults(tables, str(path))
    if faults:
        raise ImportFileError(faults)
    return cast("EnvironmentFile", tables)


def _faults(tables: JsonObject, where: str) -> list[Diagnostic]:
    found = []
    unknown = sorted(set(tables) - {"title", *_KEYS})
    if unknown or not isinstance(tables.get("title"), str):
        what = f"unknown keys: {', '.join(unknown)}" if unknown else "there is no title"
        found.append(Diagnostic("environment-file", what, where, _FILE))
    for name, keys in _KEYS.items():
        if name not in tables:
            continue
        held = tables[name]
        table: JsonObject = held if isinstance(held, Mapping) else {}
        for key, kind in keys.items():
            value = table.get(key)
            if value is None and key == "note":
                continue
            if kind is str:
                good = isinstance(value, str)
            else:
                good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
            if not good:
                wanted = "a text" if kind is str else "a number above 0"
                what = f"{key} is {value!r}, must be {wanted}" if value is not None else f"{key} is missing: {wanted}"
                found.append(Diagnostic("environment-file", what, f"{where}:[{name}]", _FILE))
        found += [
            Diagnostic("environment-file", f"unknown key {key!r}", f"{where}:[{name}]", _FILE)
            for key in sorted(set(table) - set(keys))
        ]
    return found


def failures(upsets_per_bit_hour: float, bits: int, failing: float) -> Failures:
    """Rates of `bits` bits of which an upset fails with probability `failing`; no `mttf_hours` where none does."""
    upsets = upsets_per_bit_hour * bits
    failing_per_hour = upsets * failing
    found: Failures = {
        "upsets_per_hour": upsets,
        "failures_per_hour": failing_per_hour,
        "fit": failing_per_hour * HOURS_PER_FIT,
    }
    if failing_per_hour > 0:
        found["mttf_hours"] = 1 / failing_per_hour
    return found


def accumulated(upsets_per_hour: float, scrub_s: float) -> float:
    """Mean number of upsets that stand at a time in what is scrubbed every `scrub_s` seconds: `rate * period / 2`.

    A campaign of single faults speaks for the device while this is far below 1.
    """
    return upsets_per_hour * scrub_s / SECONDS_PER_HOUR / 2


def mission(
    upsets_per_hour: float,
    failing: float,
    *,
    mission_s: float,
    devices: int,
    runs: int,
    generator: np.random.Generator,
) -> Missions:
    """Missions of `devices` devices drawn `runs` times: upsets arrive as a Poisson process, each fails for itself.

    Returns the mean number of upsets and failures of a mission, their 95 % quantiles, and the fraction of missions
    without a failure. Upsets that meet in one inference are not more than the sum of each here.
    """
    mean = upsets_per_hour * mission_s / SECONDS_PER_HOUR * devices
    upsets = generator.poisson(mean, size=runs)
    failed = generator.binomial(upsets, failing)
    return {
        "runs": runs,
        "upsets_mean": float(upsets.mean()),
        "failures_mean": float(failed.mean()),
        "upsets_95": float(np.quantile(upsets, 0.95)),
        "failures_95": float(np.quantile(failed, 0.95)),
        "without_failure": float((failed == 0).mean()),
    }
