"""Text of the emitted files, with `$name` where the net enters."""

from __future__ import annotations

from importlib.resources import files
from string import Template

__all__ = ["fill"]


def fill(name: str, **values: object) -> str:
    """The template file `name` with every `$key` replaced; KeyError if one has no value."""
    return Template((files(__name__) / name).read_text(encoding="utf-8")).substitute(values)
