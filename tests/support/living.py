"""Processes that should be gone."""

from __future__ import annotations

from pathlib import Path

__all__ = ["alive"]


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return False
    return not any(line.startswith("State:") and "Z" in line for line in status.read_text().splitlines())
