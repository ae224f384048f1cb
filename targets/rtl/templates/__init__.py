"""Files of the emitted folder: those of `bench/` as they stand, the rest with `$name` where the core enters."""

from __future__ import annotations

from importlib.resources import files
from string import Template

__all__ = ["fill", "text"]


def text(name: str) -> str:
    """A file that takes no values."""
    return (files(__name__) / name).read_text(encoding="utf-8")


def fill(name: str, **values: object) -> str:
    """The template file `name` with every `$key` replaced; KeyError if one has no value."""
    return Template(text(name)).substitute(values)
