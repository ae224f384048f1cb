"""Which architecture computes a net, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from eqcompile.rtl.architecture import Architecture
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.registry import load_classes

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.interface import Engine

__all__ = ["Choice", "architectures", "choose"]

TOO_LARGE = ("rtl-spram", "rtl-capacity")
"""Codes of refusals that other options may lift; the net itself is one that the engine takes."""


@cache
def architectures() -> Mapping[str, type[Architecture]]:
    """Every architecture that can be loaded, by name."""
    return load_classes("architectures", Architecture).entries


@dataclass(frozen=True)
class Choice:
    """An architecture with its options for a net, and the reasons why it cannot take it."""

    arch: str
    options: Mapping[str, Any]
    refusals: tuple[Diagnostic, ...]

    @cached_property
    def architecture(self) -> Architecture:
        return architectures()[self.arch](**self.options)

    @property
    def spram(self) -> bool:
        """Whether the weights are in the UP5K's single-port RAM, which starts without contents."""
        return self.options.get("family") == "up5k"

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        """The engine; `inject` gives it saboteurs."""
        return self.architecture.engine(net, trace=trace, inject=inject)


def choose(net: IntNet, arch: str, *, spram: bool = False, **options: Any) -> Choice:
    """The architecture asked for, with its own `options`.

    For `auto` the first by rank that has the options and takes the net. If none does, what `serial` says, which takes
    most. `spram` puts the weights of `serial` into the UP5K's single-port RAM; the others have no weight memory.
    """
    if arch != "auto":
        return _checked(net, arch, spram, options)
    known = architectures()
    order = sorted(known, key=lambda name: known[name].rank(net))
    choices = [_checked(net, name, spram, options) for name in order if set(options) <= known[name].option_names()]
    taken = (c for c in choices if all(d.code in TOO_LARGE for d in c.refusals))
    return next(taken, next((c for c in choices if c.arch == "serial"), choices[0]))


def _checked(net: IntNet, arch: str, spram: bool, options: Mapping[str, Any]) -> Choice:
    placed = {"family": "up5k"} if spram and "family" in architectures()[arch].option_names() else {}
    chosen = {**options, **placed}
    return Choice(arch, chosen, tuple(architectures()[arch](**chosen).refusals(net)))
