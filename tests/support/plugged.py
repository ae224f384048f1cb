"""What tests/conformance runs on: every installed plug-in, or those of one package alone.

CONFORMANCE_OF=my-package python -m pytest tests/conformance
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points

__all__ = ["PACKAGE", "under_test"]

PACKAGE = os.environ.get("CONFORMANCE_OF")


def under_test(group: str) -> tuple[str, ...]:
    """Names of the entries of a group that are tested, sorted."""
    entries = entry_points(group=f"eqcompile.{group}")
    return tuple(sorted(e.name for e in entries if PACKAGE is None or (e.dist is not None and e.dist.name == PACKAGE)))
