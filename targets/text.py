"""Text of emitted files: the files of a target's `templates` package, with `$name` where the net enters."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from string import Template

__all__ = ["Templates"]


@dataclass(frozen=True)
class Templates:
    """The files of one package."""

    package: str

    def text(self, name: str) -> str:
        """A file as it stands. Raises FileNotFoundError if there is none of this name."""
        return (files(self.package) / name).read_text(encoding="utf-8")

    def fill(self, name: str, **values: object) -> str:
        """A file with every `$key` replaced. Raises KeyError if one has no value."""
        return Template(self.text(name)).substitute(values)
