"""Which engine computes a net, and how it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet, ops, walk

__all__ = ["ARCHITECTURES", "Arch", "Choice", "choose"]

Arch = Literal["auto", "serial", "parallel", "lattice"]
ARCHITECTURES: Mapping[str, str] = {"serial": "SerialEngine", "parallel": "ParallelEngine", "lattice": "LatticeEngine"}


@dataclass(frozen=True)
class Choice:
    """An architecture with its options for a net, and the reasons why it cannot take it."""

    arch: str
    options: Mapping[str, Any]
    refusals: tuple[Diagnostic, ...]

    def engine(self, net: IntNet, *, trace: bool) -> Any:
        """The engine."""
        return getattr(_module(self.arch), ARCHITECTURES[self.arch])(net, trace=trace, **self.options)

    def describe(self, engine: Any) -> dict[str, Any]:
        """What the architecture says about the engine (JSON values)."""
        found: dict[str, Any] = _module(self.arch).describe(engine)
        return found


def choose(net: IntNet, arch: str, *, lanes: int | None = None) -> Choice:
    """The architecture asked for; `lanes` goes to `serial` alone.

    For `auto` the first that takes the net: `lattice` for a net whose step holds stencils alone, then `serial`, then
    `parallel`. If none does, what `serial` says, which takes most.
    """
    if arch != "auto":
        return _checked(net, arch, lanes)
    linear = [op for op in walk(net.step) if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
    local = bool(linear) and all(isinstance(op, ops.Stencil) for op in linear)
    candidates: Sequence[str] = ("lattice", "serial", "parallel") if local else ("serial", "parallel")
    choices = [_checked(net, name, lanes) for name in candidates]
    return next((c for c in choices if not c.refusals), next(c for c in choices if c.arch == "serial"))


def _checked(net: IntNet, arch: str, lanes: int | None) -> Choice:
    options = {"lanes": lanes} if lanes is not None and arch == "serial" else {}
    return Choice(arch, options, tuple(_module(arch).check(net, **options)))


def _module(arch: str) -> Any:
    return import_module(f"eqcompile.rtl.{arch}.engine")
