"""What nextpnr is doing, from the log that it writes while it runs."""

from __future__ import annotations

import re

__all__ = ["advance"]

_PLACING = "Running main analytical placer"
_REFINING = "Running simulated annealing placer"
_ARCS = re.compile(r"^Info: Routing (\d+) arcs\.$", re.MULTILINE)
_LEFT = re.compile(r"^Info:\s+\d+ \|[^|]*\|[^|]*\|\s*(\d+)\s*\|", re.MULTILINE)


def advance(log: str) -> tuple[str, int, int]:
    """What is under way, and how much of how much of it is done: connections while it routes, else 0 of 0."""
    if arcs := _ARCS.search(log):
        total = int(arcs[1])
        left = _LEFT.findall(log, arcs.end())
        # Routing rips up connections, so what is left can grow, and can be more than there was.
        return "routing", max(0, total - int(left[-1])) if left else 0, total
    if _REFINING in log:
        return "refining the placement", 0, 0
    return ("placing" if _PLACING in log else "packing"), 0, 0
