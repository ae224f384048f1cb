"""The two levels of the IR: `EqNet` (float64 semantics of the source model) and `IntNet` (the hardware's integers).

A net is a synchronous circuit. `drive` is evaluated when an input is clamped (once a frame), `step` once a tick; then
all states latch their `update` value together. A Jacobi update reads states; a Gauss-Seidel sweep reads values defined
earlier in the same step; nothing else distinguishes them. A step index is a state that counts, an input memory a state
that copies: the step is always autonomous in its states, so "no state moved" is always a valid proof of settling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ..arrays import Codes
from .parts import Circuit, Format
from .text import digest, render

__all__ = ["EqNet", "IntNet", "Net"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Net(Circuit):
    """Abstract: build an `EqNet` or an `IntNet`. Equality is equality of meaning (`digest`)."""

    @property
    def _stated_formats(self) -> Mapping[str, Format] | None:
        """None where the level has none."""
        return None

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical text with every parameter's content; names of files do not enter."""
        return digest(self, self._stated_formats)

    def __str__(self) -> str:
        return render(self, self._stated_formats)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Net) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EqNet(Net):
    """Float level: exact float64 semantics of the source model in evaluation mode."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class IntNet(Net):
    """Integer level: the specification of the hardware.

    `formats` states the format of every input, state and operation value (booleans excepted); the verifier proves by
    interval arithmetic on the actual codes that each holds every value that can occur.
    """

    formats: Mapping[str, Format] = field(default_factory=dict)

    def param(self, name: str) -> Codes:
        """The (read-only) array of a parameter, int64 (the verifier demands it); KeyError if there is none."""
        return cast("Codes", super().param(name))

    @property
    def _stated_formats(self) -> Mapping[str, Format]:
        return self.formats

    def __repr__(self) -> str:
        return str(self)
