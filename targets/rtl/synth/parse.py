"""What the tools print, read: Yosys' `stat -json`, nextpnr's report and its log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from eqcompile.toolchain.diagnostics import Diagnostic

from .tools import SynthesisError

__all__ = ["Timing", "cell_counts", "device_utilisation", "timing_of"]

_UTILISATION = re.compile(r"^Info:\s+(\w+):\s*(\d+)/\s*(\d+)\s+\d+%\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Timing:
    """Of one placement: the frequency reached, and its slowest path from register to register."""

    fmax_mhz: float
    logic_ns: float
    routing_ns: float
    start: str
    end: str


def cell_counts(stat: str, module: str) -> dict[str, int]:
    """Cells of one module by type, from the text of `stat -json`; SynthesisError if it cannot be read."""
    try:
        counts = json.loads(stat)["modules"]["\\" + module]["num_cells_by_type"]
        return {str(k): int(v) for k, v in counts.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable("yosys", f"stat of module {module}: {error!r}") from error


def device_utilisation(log: str) -> dict[str, tuple[int, int]]:
    """`(used, available)` of each kind of cell, from nextpnr's log; it is printed before a placement can fail."""
    return {name: (int(used), int(available)) for name, used, available in _UTILISATION.findall(log)}


def timing_of(report: str, clock: str) -> Timing:
    """Frequency and slowest path of the clock whose net is named after `clock`, from nextpnr's JSON report;
    SynthesisError if it cannot be read."""
    try:
        loaded = json.loads(report)
        nets = [n for n in loaded["fmax"] if re.fullmatch(rf"(\$glbnet\$)?(.*\.)?{re.escape(clock)}(\$.*)?", n)]
        if len(nets) != 1:
            raise _unreadable("nextpnr", f"{len(nets)} clocks named {clock} among {', '.join(loaded['fmax'])}")
        (net,) = nets
        edge = f"posedge {net}"
        path = next(p["path"] for p in loaded["critical_paths"] if p["from"] == edge and p["to"] == edge)
        routing = sum(float(s["delay"]) for s in path if s["type"] == "routing")
        total = sum(float(s["delay"]) for s in path)
        return Timing(
            fmax_mhz=float(loaded["fmax"][net]["achieved"]),
            logic_ns=total - routing,
            routing_ns=routing,
            start=path[0]["from"]["cell"],
            end=path[-1]["to"]["cell"],
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise _unreadable("nextpnr", f"its report: {error!r}") from error


def _unreadable(tool: str, what: str) -> SynthesisError:
    return SynthesisError(Diagnostic("synthesis-output", f"cannot read what {tool} wrote: {what}"))
