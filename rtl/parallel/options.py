"""Options of the parallel architecture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.requirements import Requirements

from ..architecture import Architecture
from ..harden.mechanisms import chosen, faults
from .protect import named_units, ranked_units, written_units

if TYPE_CHECKING:
    from ..interface import Engine

__all__ = ["Parallel"]

PROTECT_SHARE = 0.25
"""Of the units, where none is asked for."""


@dataclass(frozen=True, kw_only=True)
class Parallel(Architecture):
    """Every weight is logic of its own; the engine knows None where the options say 0 levels of registers."""

    name: ClassVar[str] = "parallel"
    summary: ClassVar[str] = "every weight as logic of its own; one clock a step, needs the most logic"
    conformance: ClassVar[tuple[str, ...]] = ("plain", "unsigned", "Looped*", "Ternary*")

    levels: int = option(
        4, bounds=Bounds(0), help="additions between two registers of drive and readout at most; 0: no register"
    )
    step_levels: int = option(0, bounds=Bounds(0), help="the same within a step; 0: a step is one clock")
    beat: int = option(1, bounds=Bounds(1), help="codes that a beat of the input stream carries")
    result_beat: int | None = option(None, bounds=Bounds(1), help="the same of the output stream (default: as --beat)")
    harden: str = option("", metavar="NAME", help="protection against upsets: tmr")
    protect: str | None = option(
        None,
        metavar="CAMPAIGN",
        help="with --harden tmr: folder or report.json of a campaign, or of eqfault exhaust; the states of the units "
        "that it ranks highest are triplicated; or the units themselves, as h=3,17",
    )
    protect_share: float | None = option(
        None,
        metavar="SHARE",
        bounds=Bounds(0, 1, above=True),
        help=f"of the units, for --protect CAMPAIGN (default: {PROTECT_SHARE:g})",
    )
    protect_silent: float | None = option(
        None,
        metavar="SHARE",
        bounds=Bounds(0, 1, above=True),
        help="instead of --protect-share, with a folder of eqfault exhaust: the fewest units that carry this share of "
        "the silent corruption of states",
    )

    @classmethod
    def rank(cls, net: IntNet) -> int:
        return 2

    def option_faults(self, parts: Collection[str] = ()) -> Sequence[Diagnostic]:
        diagnostics = [*super().option_faults(parts), *faults(chosen(self.harden))]
        for name, value, what in (
            ("protect_share", self.protect_share, "a share of the units"),
            ("protect_silent", self.protect_silent, "a share of silent corruption"),
        ):
            if value is not None and (self.protect is None or named_units(self.protect)):
                text = f"{what} is to be protected, and no campaign ranks the units"
                diagnostics.append(Diagnostic("rtl-option", text, name, "add --protect CAMPAIGN"))
        if self.protect_share is not None and self.protect_silent is not None:
            text = f"{self.protect_share:g} of the units and {self.protect_silent:g} of silent corruption are asked for"
            diagnostics.append(Diagnostic("rtl-option", text, "protect_silent", "give one of the two shares"))
        if self.protect is not None and "tmr" not in chosen(self.harden):
            what = "units are to be protected, and no mechanism does it"
            diagnostics.append(Diagnostic("rtl-option", what, "protect", "add --harden tmr"))
        return diagnostics

    def resolved(self, net: IntNet, parts: Collection[str]) -> Parallel:
        """The units themselves where a campaign ranks them."""
        named = replace(self, harden=",".join(chosen(self.harden)))
        if self.protect is None or named_units(self.protect):
            return named
        share = self.protect_share or PROTECT_SHARE
        units = ranked_units(Path(self.protect), net, share, silent=self.protect_silent)
        return replace(named, protect=written_units(units), protect_share=None, protect_silent=None)

    @property
    def hardened(self) -> bool:
        return bool(self.harden)

    @property
    def units(self) -> dict[str, tuple[int, ...]]:
        """Protected units by state, once the options are resolved."""
        return named_units(self.protect or "") or {}

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        from .engine import foresee

        return foresee(needs)

    def refusals(self, net: IntNet) -> Sequence[Diagnostic]:
        from .engine import check

        return check(net, harden=chosen(self.harden), protect=self.units)

    def engine(self, net: IntNet, *, trace: bool, inject: bool = False) -> Engine:
        from .engine import ParallelEngine

        return ParallelEngine(
            net,
            trace=trace,
            inject=inject,
            levels=self.levels or None,
            step_levels=self.step_levels or None,
            beat=self.beat,
            result_beat=self.result_beat,
            harden=chosen(self.harden),
            protect=self.units,
        )
