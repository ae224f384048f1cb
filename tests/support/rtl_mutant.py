"""What a mutation of the core is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mutant", "of"]


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `eqcompile.rtl.<module>`. `equivalent`: why no bench can notice it; `same`: because the
    Verilog is the same. `judge`: the engine on which a module that engines share is judged."""

    name: str
    module: str
    old: str
    new: str
    equivalent: str = ""
    same: bool = False
    judge: str = ""

    @property
    def arch(self) -> str:
        """The engine on which it is judged: its own, or for what all share the serial one, which uses most of it."""
        first = self.module.split(".")[0]
        return self.judge or (first if first in ("parallel", "lattice") else "serial")


def of(module: str, *rows: tuple[str, str, str], judge: str = "") -> list[Mutant]:
    """Mutations of one module: name, line, and what becomes of it."""
    return [Mutant(name, module, old, new, judge=judge) for name, old, new in rows]
