"""Architecture `one-clock`: its options, and what it takes. Imports no HDL, which help must not wait for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eqcompile.rtl.architecture import Architecture
from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.passes import Analysis

if TYPE_CHECKING:
    from eqcompile.rtl.interface import Engine

__all__ = ["OneClock"]

OPERATIONS = (ops.Linear, ops.Add, ops.Sub, ops.Reshape, ops.Rescale, ops.Lookup, ops.DampFixed)


@dataclass(frozen=True, kw_only=True)
class OneClock(Architecture):
    """A tick is one clock, and all that a tick computes is combinational. Fields are options of the command line."""

    name: ClassVar[str] = "one-clock"
    summary: ClassVar[str] = "a tick in one clock (example of a plug-in)"
    conformance: ClassVar[tuple[str, ...]] = ("plain",)

    entries: int = option(4096, bounds=Bounds(1), help="largest activation table that becomes logic, in entries")

    @classmethod
    def rank(cls, net: IntNet) -> int:
        """Behind all others: nobody gets it who does not ask for it."""
        return 99

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from eqcompile.rtl.interface import refusals

        faults = [*refusals(net)]
        shapes = Analysis.of(net).shapes
        for op in net.all_ops():
            if not isinstance(op, OPERATIONS):
                faults.append(Diagnostic("one-clock-operation", f"{op.mnemonic} is none of the core's", op.out))
            elif isinstance(op, ops.Linear) and len(shapes[op.x]) != 1:
                faults.append(Diagnostic("one-clock-shape", f"{op.x} is no vector", op.out))
            elif isinstance(op, ops.Lookup) and net.param(op.table).size > self.entries:
                faults.append(Diagnostic("one-clock-table", f"{op.table} is too large", op.out, "more --entries"))
        return faults

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .one_clock import OneClockEngine

        faults = list(self.refusals(net))
        if inject:
            faults.append(Diagnostic("rtl-saboteurs", "the architecture one-clock has no saboteurs", net.name))
        if faults:
            raise UnsupportedError(faults)
        return OneClockEngine(net, trace=trace, inject=False)
