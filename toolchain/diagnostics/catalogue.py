"""The catalogue of diagnostics: what each code means, and what to do about it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

__all__ = ["Entry", "catalogue", "remedy_of"]

_FILE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class Entry:
    """One code. `error`: name of the exception that carries it; `message` and `remedy` hold `…` for what differs."""

    code: str
    error: str
    message: str
    remedy: str


@cache
def catalogue() -> Mapping[str, Entry]:
    """Every entry by its code, in the order of the codes; a `*` in a code stands for a word."""
    return {code: Entry(code, **row) for code, row in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()}


def remedy_of(code: str) -> str:
    """The next step for a code where it is the same for all of its diagnostics; empty for others, and for codes of
    plug-ins."""
    known = catalogue()
    entry = known.get(code) or next((e for name, e in known.items() if "*" in name and fnmatchcase(code, name)), None)
    return "" if entry is None or "…" in entry.remedy else entry.remedy
