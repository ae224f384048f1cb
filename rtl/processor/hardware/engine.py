"""The processor behind the ports of an engine, with the program of one net in its memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from amaranth import Module

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.ir.ops import IntegerOp, SharedOp
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON

from ...interface import Engine, foreseen_refusals, refusals, schedule_refusals
from ..compiler import compile_net
from ..isa import PORT, End, Loop, Vector
from .core import Logic

__all__ = ["ProcessorEngine", "check", "foresee"]


def check(net: IntNet) -> Iterator[Diagnostic]:
    """What stands against a net behind the bus shell, which passes on no frames and no tokens."""
    yield from refusals(net)


def foresee(needs: Requirements) -> list[Diagnostic]:
    """What is certain of `check` before quantization."""
    return list(foreseen_refusals(needs, get_args(SharedOp | IntegerOp), "processor"))


class ProcessorEngine(Engine):
    """One net on a processor that is sized for it."""

    architecture = "processor"

    def __init__(self, net: IntNet, *, trace: bool = False, lanes: int = 4, width: int = 1) -> None:
        self.refuse(list(schedule_refusals(net)))
        self.program = compile_net(net, lanes=lanes, width=width)
        vectors = [i for i in self.program.instructions if isinstance(i, Vector)]
        x = width if all(i.wide for i in vectors if i.a.bank == PORT) else 1
        y = width if all(i.wide for i in vectors if i.d.bank == PORT) else 1
        super().__init__(net, beat=x, result_beat=y, trace=trace, inject=False)

    @property
    def nesting(self) -> int:
        """Loops that are open at once, at most."""
        depth = most = 0
        for i in self.program.instructions:
            depth += isinstance(i, Loop) - isinstance(i, End)
            most = max(most, depth)
        return most

    def describe(self) -> dict[str, JSON]:
        core = self.program.image.core
        sizes: dict[str, JSON] = {"lanes": core.lanes, "width": core.width, "axes": core.axes, "banks": len(core.banks)}
        return {"arch": self.architecture, **sizes}

    def build(self) -> Module:
        return Logic(self, self.program, self.nesting).m
