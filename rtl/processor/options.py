"""Options of the processor as an architecture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, ClassVar, Literal

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.requirements import Requirements

from ..architecture import Architecture
from ..harden.mechanisms import MECHANISMS, chosen
from ..harden.mechanisms import faults as mechanism_faults

if TYPE_CHECKING:
    from ..interface import Engine
    from .description import Description

__all__ = ["Processor"]


@dataclass(frozen=True, kw_only=True)
class Processor(Architecture):
    """A core whose net is a program of vector instructions; `lanes` weights in one clock."""

    name: ClassVar[str] = "processor"
    summary: ClassVar[str] = "runs every net as a program, tokens and frames too; larger than the serial core"
    conformance: ClassVar[tuple[str, ...]] = (
        *("plain", "unsigned", "roots", "random*", "Looped*", "Temporal*", "EqPropAttention*"),
    )
    emission_s: ClassVar[float] = 0.7
    """Words stand in a file: 14 s were measured for 19 Mbit."""

    lanes: int = option(4, bounds=Bounds(1), help="weights applied in one clock, a power of two")
    width: int = option(1, bounds=Bounds(1), help="entries of a vector in one clock, a power of two up to the lanes")
    also: str = option(
        "", metavar="FILE[,FILE]", help="core.json of other cores: this one has room and units for their nets as well"
    )
    readback: bool = option(False, help="let a host read back what program, weights, tables and parameters hold")

    harden: str = option("", metavar="NAME[,NAME]", help=f"protection against upsets, any of {', '.join(MECHANISMS)}")
    weights_in: Literal["auto", "block", "external"] = option(
        "auto",
        help="where weights lie: in block RAM, or in a memory outside that the core reads through AXI4; auto: there if "
        "no block RAM is large enough",
    )

    @property
    def external(self) -> bool:
        return self.weights_in == "external"

    @property
    def outside(self) -> Processor | None:
        return replace(self, weights_in="external") if self.weights_in == "auto" else None

    @property
    def saboteurs(self) -> bool:
        return not self.external

    @property
    def hardened(self) -> bool:
        return bool(self.harden)

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 9

    def option_faults(self, parts: Collection[str] = ()) -> Sequence[Diagnostic]:
        faults = [*super().option_faults(parts), *mechanism_faults(chosen(self.harden))]
        if self.lanes > 0 and self.lanes & (self.lanes - 1):
            what, remedy = f"lanes is {self.lanes}, must be a power of two", f"--lanes {1 << self.lanes.bit_length()}"
            faults.append(Diagnostic("rtl-lanes", what, "lanes", remedy))
        if self.width > 0 and (self.width & (self.width - 1) or self.width > max(self.lanes, 1)):
            what = f"width is {self.width}, must be a power of two, and no more than the {self.lanes} lanes"
            remedy = f"--width 1, 2, 4 and so on, up to {1 << max(self.lanes, 1).bit_length() - 1}"
            faults.append(Diagnostic("rtl-lanes", what, "width", remedy))
        try:
            _others(self.also)
        except UsageError as error:
            faults += error.diagnostics
        return faults

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        from .hardware.engine import foresee

        return foresee(needs)

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .hardware.engine import check

        others, harden = _others(self.also), chosen(self.harden)
        found = check(
            net, self.lanes, self.width, others, harden=harden, readback=self.readback, external=self.external
        )
        return list(found)

    def memory_bits(self, net: IntNet) -> int:
        if self.external:
            return 0
        from .description import Description, program_of

        core = reduce(Description.joined, _others(self.also), program_of(net, self.lanes, self.width)[1]).core
        return core.weight_words * (core.lanes * core.code_bits + core.group_bits)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .hardware import ProcessorEngine

        return ProcessorEngine(
            net,
            trace=trace,
            lanes=self.lanes,
            width=self.width,
            also=_others(self.also),
            readback=self.readback,
            external=self.external,
            harden=chosen(self.harden),
            inject=inject,
        )


def _others(files: str) -> tuple[Description, ...]:
    """The cores of `also`. Raises UsageError: a file describes none."""
    from .corefile import read_core

    return tuple(read_core(file, "also") for file in files.split(",") if file)
