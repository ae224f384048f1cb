"""Which units of a net are protected: those named, or those that a campaign or a run over every fault ranks highest."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

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


def ranked_units(
    path: Path, net: IntNet, share: float = 1.0, *, silent: float | None = None
) -> dict[str, tuple[int, ...]]:
    """Units of states of `net` that are worth protecting most, by state, ascending.

    Args:
        path: folder or report.json of a campaign, or of a run over every fault (`eqfault exhaust`).
        net: the net that is compiled.
        share: at least this share of all units of all states.
        silent: instead of it, the fewest units whose faults are this share of all silent corruption of states; it takes
            the exact counts of a run over every fault.

    Units of a campaign go by their rank in the measures of its report, one after the other (wrong labels, where the net
    tells any; what does not heal); those of a run over every fault by their count of silent corruption. Those without a
    hit come last, and those with the same count go by number.
    Raises UsageError if there is no such report, or it is of another net, or unfinished, or ranks no unit of a state.
    """
    file = path / REPORT if path.is_dir() else path
    sizes = {s.name: prod(s.shape) for s in net.states}
    ranked = _ranked(file, net, sizes)
    if silent is None:
        every = list(dict.fromkeys([*ranked, *((name, unit) for name, size in sizes.items() for unit in range(size))]))
        chosen = every[: math.ceil(round(share * len(every), 9))]
    else:
        chosen = list(ranked)[: _fewest(list(ranked.values()), silent, file)]
    return {
        n: tuple(sorted(u for name, u in chosen if name == n)) for n in sizes if any(n == name for name, _ in chosen)
    }


Ranking = dict[tuple[str, int], int | None]
"""Site or state, and number, of units, the first rank first, and the exact count of what their faults corrupt silently,
where it is known."""


def _ranked(file: Path, net: IntNet, sizes: Mapping[str, int]) -> Ranking:
    """Units of states that a report ranks, if it is of this net."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what, hint = f"cannot read: {error.strerror}", "eqfault report FOLDER writes the report of a campaign"
        raise _refusal(what, file, hint) from error
    except ValueError as error:
        raise _refusal(f"is no JSON: {error}", file, f"give {REPORT}") from error
    try:
        digest, units = _counted(report, file) if "silent_ids" in report else _sampled(report)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        what = f"is no report of a campaign: {type(error).__name__} {error}"
        raise _refusal(what, file, "give the report.json of eqfault report, or of eqfault exhaust") from error
    if digest != net.digest:
        what = f"the campaign is of the net {digest}, this one is {net.digest}"
        raise _refusal(what, file, "run the campaign on the net that is compiled")
    split = {(site.partition(":"), unit): count for (site, unit), count in units.items()}
    states = {(n, u): c for ((kind, _, n), u), c in split.items() if kind == "state" and 0 <= u < sizes.get(n, 0)}
    if not states:
        what = f"ranks {len(units)} units, and none of a state"
        hint = "eqfault run --model seu --sites state ranks them, with enough faults"
        raise _refusal(what, file, hint)
    return states


def _sampled(report: Any) -> tuple[str, Ranking]:
    """Digest of the net of a campaign, and its units, ranked by rates that have intervals."""
    rows = [row for measure in report["units"] for row in measure["rows"]]
    return report["campaign"]["ir_digest"], {(str(row["site"]), int(row["number"])): None for row in rows}


def _counted(report: Any, file: Path) -> tuple[str, Ranking]:
    """Digest of the net of a run over every fault, and the units that have silent corruption, most of it first."""
    if not report["finished"]:
        what = f"{int(report['faults']):,} of {int(report['population']):,} faults are there"
        raise _refusal(what, file, "the command that began the run goes on with it")
    if report["options"].get("across") == "neighbours":
        what = "counts faults of two words each: votes over one of them do not mask such a fault"
        raise _refusal(what, file, "eqfault exhaust --model seu --sites state counts those of one")
    counts = {
        (str(site["site"]), unit): sum(map(int, bits))
        for site in report["sites"]
        for unit, bits in enumerate(site["silent_map"])
    }
    return report["ir_digest"], {
        unit: counts[unit] for unit in sorted(counts, key=lambda u: -counts[u]) if counts[unit]
    }


def _fewest(counts: Sequence[int | None], share: float, file: Path) -> int:
    """How many of the first counts are at least a share of them all."""
    exact = [count for count in counts if count is not None]
    if len(exact) < len(counts):
        hint = "eqfault exhaust counts every fault; with a campaign take --protect-share"
        raise _refusal("ranks units by a sample: which share each carries is not known exactly", file, hint)
    sums = list(itertools.accumulate(exact))
    return next(number for number, total in enumerate(sums, 1) if total >= round(share * sums[-1], 9))


def _refusal(what: str, file: Path, hint: str) -> UsageError:
    return UsageError(Diagnostic("rtl-protect", what, str(file), hint))
