"""What the parallel engine triplicates: registers of the control, and the states of chosen units.

The register of a state is written in every tick, so what a vote masks there never lived longer than one; a unit has two
of them where the states run ahead. Its sums and its drive are not protected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet

from ..harden.mechanisms import faults as faults_of

__all__ = ["Protected", "check_hardening"]

Protected = Mapping[str, Collection[int]]
"""Units of each state, by number in C order."""


def check_hardening(names: Collection[str], protect: Protected, net: IntNet) -> list[Diagnostic]:
    """Why the engine cannot be hardened so."""
    diagnostics = faults_of(tuple(names))
    others = sorted({*names} - {"tmr"})
    if others and not diagnostics:
        what = f"the parallel engine has no {', '.join(others)}"
        diagnostics.append(Diagnostic("rtl-harden", what, net.name, "it has tmr; the serial engine has all mechanisms"))
    if protect and "tmr" not in names:
        what = "registers of chosen units are to be protected, and no mechanism does it"
        diagnostics.append(Diagnostic("rtl-harden", what, net.name, "add tmr to --harden"))
    sizes = {s.name: prod(s.shape) for s in net.states}
    for name, units in protect.items():
        wrong = [unit for unit in units if not 0 <= unit < sizes.get(name, 0)]
        if wrong:
            what = f"units {', '.join(map(str, wrong))} of state {name}, the net has {sizes.get(name, 0)} of them"
            diagnostics.append(Diagnostic("rtl-harden", what, net.name))
    return diagnostics
