"""What all operations have in common: the names that one reads, and the value that it defines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, cast

__all__ = ["Operation", "optional_param", "param", "value"]


def value() -> str:
    """A field that names an operand: an input, a state, an earlier `out`, or a parameter (a constant)."""
    return cast("str", field(metadata={"ref": "value"}))


def param() -> str:
    """A field that names a parameter."""
    return cast("str", field(metadata={"ref": "param"}))


def optional_param() -> str | None:
    """A field that names a parameter or nothing."""
    return field(default=None, metadata={"ref": "param"})


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Abstract base of the operations; `out` names the value it defines. `Op` is the union of those that there are."""

    out: str
    mnemonic: ClassVar[str] = ""

    @classmethod
    def reference_fields(cls) -> tuple[tuple[str, str], ...]:
        """`(field name, "value" | "param")` for every field that names something."""
        return tuple((f.name, f.metadata["ref"]) for f in fields(cls) if "ref" in f.metadata)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names this operation reads, values and parameters, in field order (absent ones left out)."""
        names = (getattr(self, name) for name, _ in self.reference_fields())
        return tuple(name for name in names if name is not None)
