"""Text of the emitted files, with `$name` where the net enters; `eq_ops.h` is copied as it stands."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

__all__ = ["HEADER", "fill"]

HEADER = Path(__file__).with_name("eq_ops.h")


def fill(name: str, **values: object) -> str:
    """The template file `name` with every `$key` replaced; KeyError if one has no value."""
    return Template((files(__name__) / name).read_text(encoding="utf-8")).substitute(values)
