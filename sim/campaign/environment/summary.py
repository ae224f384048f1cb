"""Rates of an orbit, kind by kind and in all, and what becomes of them in a mission."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import NotRequired, TypedDict

from ....toolchain.diagnostics import Diagnostic, ImportFileError, UsageError
from .orbit import SECONDS_PER_DAY, KindRate, Orbit, Sensitivity, clusters, read_orbit, tornado

__all__ = ["KindSummary", "MissionSummary", "RateDocument", "load_orbit", "summary"]

_MOST_BYTES = 1 << 16


class KindSummary(TypedDict):
    """A kind's rate; `upsets_per_day`: of all bits of the design, `events_per_day`: by how many bits an event flips."""

    rate: KindRate
    upsets_per_day: NotRequired[float]
    events_per_day: NotRequired[dict[str, float]]


class MissionSummary(TypedDict):
    """`upsets`: expected in all devices; `without_upset`: probability of none."""

    seconds: float
    devices: int
    upsets: float
    without_upset: float


class RateDocument(TypedDict):
    """`total_per_day`: upsets of all bits that the file states, None if it states none; `uncounted`: kinds without
    bits; `factor`: within which the true fluxes lie with 95 %."""

    title: str
    source: str
    factor: float
    kinds: dict[str, KindSummary]
    total_per_day: float | None
    uncounted: list[str]
    mission: MissionSummary | None
    sensitivity: list[Sensitivity]
    kind: str


def load_orbit(path: Path) -> Orbit:
    """The orbit of a TOML file. Raises UsageError if it cannot be read, else as `read_orbit`."""
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            what = f"the file has {size} bytes, at most {_MOST_BYTES}"
            raise ImportFileError(Diagnostic("environment-file", what, str(path)))
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what, hint = f"cannot read {str(path)!r}: {error.strerror}", "a TOML file: examples/orbit_kinds.toml is one"
        raise UsageError(Diagnostic("unknown-environment", what, "FILE.toml", hint)) from error
    except ValueError as error:
        raise ImportFileError(Diagnostic("environment-file", f"not TOML: {error}", str(path))) from error
    return read_orbit(tables, path)


def summary(orbit: Orbit, *, mission_s: float | None, devices: int) -> RateDocument:
    """Rates of an orbit as JSON values; of a mission of `mission_s` seconds in `devices` devices where it has a
    length."""
    kinds: dict[str, KindSummary] = {}
    for name, rate in orbit.rates().items():
        row: KindSummary = {"rate": rate}
        if "bits" in rate:
            row["upsets_per_day"] = upsets = rate["upsets_per_bit_day"] * rate["bits"]
            row["events_per_day"] = clusters(upsets, rate["clusters"])
        kinds[name] = row
    counted = [row["upsets_per_day"] for row in kinds.values() if "upsets_per_day" in row]
    total = sum(counted) if counted else None
    mission: MissionSummary | None = None
    if total is not None and mission_s is not None:
        upsets = total * mission_s / SECONDS_PER_DAY * devices
        mission = {"seconds": mission_s, "devices": devices, "upsets": upsets, "without_upset": math.exp(-upsets)}
    return {
        "title": orbit.title,
        "source": orbit.source,
        "factor": orbit.factor,
        "kinds": kinds,
        "total_per_day": total,
        "uncounted": [name for name, row in kinds.items() if "bits" not in row["rate"]],
        "mission": mission,
        "sensitivity": tornado(orbit),
        "kind": "estimated",
    }
