"""A number of all sources that are compiled: numba's cache knows the file of a function and the variables of a closure,
but not the files that it calls."""

from __future__ import annotations

import hashlib
from importlib import resources

__all__ = ["DIGEST"]

_SOURCES = ("codes", "elements", "latches", "operations", "units", "dense", "queue", "kernel")


def _digest() -> int:
    folder = resources.files(__package__)
    sources = b"".join((folder / f"{name}.py").read_bytes() for name in _SOURCES)
    return int.from_bytes(hashlib.sha256(sources).digest()[:4], "big")


DIGEST = _digest()
