"""Which units of a net are protected: those that the report of a campaign ranks highest, or that are named."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.ir import IntNet

__all__ = ["named_units", "ranked_units", "written_units"]

REPORT = "report.json"


_NAMED = re.compile(r"[^=;]+=\d+(,\d+)*(;[^=;]+=\d+(,\d+)*)*")


def named_units(text: str) -> dict[str, tuple[int, ...]] | None:
    """Units by state of a text as `h=3,17;g=0`; None if it is no such text."""
    if not _NAMED.fullmatch(text):
        return None
    parts = (part.split("=") for part in text.split(";"))
    return {name: tuple(sorted({int(unit) for unit in units.split(",")})) for name, units in parts}


def written_units(units: Mapping[str, Sequence[int]]) -> str:
    """The text that `named_units` reads."""
    return ";".join(f"{name}={','.join(map(str, numbers))}" for name, numbers in units.items())


def ranked_units(path: Path, net: IntNet, share: float) -> dict[str, tuple[int, ...]]:
    """At least `share` of all units of all states of `net`, by state, ascending.

    `path`: of a campaign's folder, or of its report. Units go by their rank in the measures of the report, one after
    the other (wrong labels, where the net tells any; what does not heal); those without a hit come last, by number.
    Raises UsageError if there is no such report, or it is of another net, or ranks no unit of a state.
    """
    file = path / REPORT if path.is_dir() else path
    sizes = {s.name: prod(s.shape) for s in net.states}
    ranked = list(dict.fromkeys(_ranked(file, net, sizes)))
    rest = [(name, unit) for name, size in sizes.items() for unit in range(size)]
    every = list(dict.fromkeys([*ranked, *rest]))
    chosen = every[: math.ceil(round(share * len(every), 9))]
    return {
        n: tuple(sorted(u for name, u in chosen if name == n)) for n in sizes if any(n == name for name, _ in chosen)
    }


def _units(file: Path) -> tuple[str, list[tuple[str, int]]]:
    """Digest of the net of a campaign, and site and number of each unit that its report ranks, the first rank first."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what, hint = f"cannot read: {error.strerror}", "eqfault report FOLDER writes the report of a campaign"
        raise UsageError(Diagnostic("rtl-protect", what, str(file), hint)) from error
    except ValueError as error:
        raise UsageError(Diagnostic("rtl-protect", f"is no JSON: {error}", str(file), f"give {REPORT}")) from error
    try:
        digest = report["campaign"]["ir_digest"]
        rows = [row for measure in report["units"] for row in measure["rows"]]
        return digest, [(str(row["site"]), int(row["number"])) for row in rows]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"is no report of a campaign: {type(error).__name__} {error}"
        raise UsageError(
            Diagnostic("rtl-protect", what, str(file), "give the report.json of eqfault report")
        ) from error


def _ranked(file: Path, net: IntNet, sizes: dict[str, int]) -> Iterator[tuple[str, int]]:
    """State and number of each ranked unit of a state."""
    digest, units = _units(file)
    if digest != net.digest:
        what = f"the campaign is of the net {digest}, this one is {net.digest}"
        raise UsageError(Diagnostic("rtl-protect", what, str(file), "run the campaign on the net that is compiled"))
    sites = [(site.partition(":"), unit) for site, unit in units]
    states = [(name, unit) for (kind, _, name), unit in sites if kind == "state" and 0 <= unit < sizes.get(name, 0)]
    if not states:
        what = f"ranks {len(units)} units, and none of a state"
        hint = "eqfault run --model seu --sites state ranks them, with enough faults"
        raise UsageError(Diagnostic("rtl-protect", what, str(file), hint))
    yield from states
