"""Which engine computes a net, and how it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet, ops, walk

__all__ = ["ARCHITECTURES", "Arch", "Architecture", "Choice", "choose"]

Arch = Literal["auto", "serial", "parallel", "lattice"]


TOO_LARGE = ("rtl-spram", "rtl-capacity")
"""Codes of refusals that other options may lift; the net itself is one that the engine takes."""


@dataclass(frozen=True)
class Architecture:
    """Name of the engine's class, and the options that it takes."""

    engine: str
    options: tuple[str, ...]


ARCHITECTURES: Mapping[str, Architecture] = {
    "serial": Architecture("SerialEngine", ("harden", "lanes")),
    "parallel": Architecture("ParallelEngine", ("harden", "protect", "levels", "step_levels", "beat", "result_beat")),
    "lattice": Architecture("LatticeEngine", ("passes",)),
}


@dataclass(frozen=True)
class Choice:
    """An architecture with its options for a net, and the reasons why it cannot take it."""

    arch: str
    options: Mapping[str, Any]
    refusals: tuple[Diagnostic, ...]

    @property
    def spram(self) -> bool:
        """Whether the weights are in the UP5K's single-port RAM, which starts without contents."""
        return self.options.get("family") == "up5k"

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Any:
        """The engine; `inject` gives it saboteurs."""
        options = {**self.options, **({"inject": True} if inject else {})}
        return getattr(_module(self.arch), ARCHITECTURES[self.arch].engine)(net, trace=trace, **options)

    def describe(self, engine: Any) -> dict[str, Any]:
        """What the architecture says about the engine (JSON values)."""
        found: dict[str, Any] = _module(self.arch).describe(engine)
        return found


def choose(net: IntNet, arch: str, *, spram: bool = False, **options: Any) -> Choice:
    """The architecture asked for, built with `options`, those of its own in `ARCHITECTURES`.

    For `auto` the first that takes the net and the options: `lattice` for a net whose step holds stencils alone, then
    `serial`, then `parallel`. If none does, what `serial` says, which takes most. `spram` puts the weights of `serial`
    into the UP5K's single-port RAM; the others have no weight memory.
    """
    if arch != "auto":
        return _checked(net, arch, spram, options)
    linear = [op for op in walk(net.step) if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
    local = bool(linear) and all(isinstance(op, ops.Stencil) for op in linear)
    order = ("lattice", "serial", "parallel") if local else ("serial", "parallel", "lattice")
    candidates = [name for name in order if set(options) <= set(ARCHITECTURES[name].options)]
    choices = [_checked(net, name, spram, options) for name in candidates]
    taken = (c for c in choices if all(d.code in TOO_LARGE for d in c.refusals))
    return next(taken, next((c for c in choices if c.arch == "serial"), choices[0]))


def _checked(net: IntNet, arch: str, spram: bool, options: Mapping[str, Any]) -> Choice:
    if arch == "parallel":
        hardening = {name: options[name] for name in ("harden", "protect") if name in options}
        return Choice(arch, options, tuple(_module(arch).check(net, **hardening)))
    if arch == "lattice":
        return Choice(arch, options, tuple(_module(arch).check(net, **options)))
    chosen = {**options, **({"family": "up5k"} if spram else {})}
    return Choice(arch, chosen, tuple(_module(arch).check(net, **chosen)))


def _module(arch: str) -> Any:
    return import_module(f"eqcompile.rtl.{arch}.engine")
