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
from ..isa import End, Loop
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

    def __init__(self, net: IntNet, *, trace: bool = False, lanes: int = 4) -> None:
        self.refuse(list(schedule_refusals(net)))
        self.program = compile_net(net, lanes=lanes)
        super().__init__(net, trace=trace, inject=False)

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
        return {"arch": self.architecture, "lanes": core.lanes, "axes": core.axes, "banks": len(core.banks)}

    def build(self) -> Module:
        return Logic(self, self.program, self.nesting).m
