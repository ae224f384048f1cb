"""What the compiler asks of a microarchitecture before any HDL is imported: its options, its refusals, its engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet

if TYPE_CHECKING:
    # It imports Amaranth, which a list of options must not wait for.
    from .interface import Engine

__all__ = ["Architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """The options of an architecture, which registers as entry point of `eqcompile.architectures`.

    `name`: of the entry point. Subclasses are frozen dataclasses whose fields are options with defaults.
    """

    name: ClassVar[str]

    @classmethod
    def option_names(cls) -> frozenset[str]:
        """Names of the options."""
        return frozenset(f.name for f in fields(cls))

    @classmethod
    @abstractmethod
    def rank(cls, net: IntNet) -> int:
        """Place among the architectures that are tried for a net, the lowest first."""

    @abstractmethod
    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        """Why the engine cannot take a verified net with these options; empty if it can."""

    @abstractmethod
    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        """The engine, with a trace or with saboteurs if asked for. Raises UnsupportedError with `refusals`."""
