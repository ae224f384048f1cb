"""The parts that designs are synthesised for: cells, tool arguments, and what to try when a design does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["PARTS", "Family", "Part", "Resource", "part_named"]

Family = Literal["ecp5", "ice40", "xilinx"]


@dataclass(frozen=True)
class Resource:
    """One kind of thing that a part has: `cell` is nextpnr's name, `cells` are Yosys' names and `weight` of each."""

    key: str
    label: str
    cell: str
    cells: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Part:
    """A device. `arguments`: of nextpnr; `freq_mhz`: asked of the placer, more than designs reach, so that it tries."""

    name: str
    device: str
    family: Family
    arguments: tuple[str, ...]
    freq_mhz: int
    resources: tuple[Resource, ...]


_ECP5 = (
    Resource("lut", "LUT4", "TRELLIS_COMB", (("LUT4", 1), ("CCU2C", 2), ("TRELLIS_DPR16X4", 4))),
    Resource("ff", "flip-flops", "TRELLIS_FF", (("TRELLIS_FF", 1),)),
    Resource("bram", "block RAMs (18 kbit)", "DP16KD", (("DP16KD", 1), ("PDPW16KD", 1))),
    Resource("dsp", "multipliers (18x18)", "MULT18X18D", (("MULT18X18D", 1),)),
)
_UP5K = (
    Resource("lut", "logic cells (LUT4, carry, flip-flop)", "ICESTORM_LC", (("SB_LUT4", 1),)),
    Resource("bram", "block RAMs (4 kbit)", "ICESTORM_RAM", (("SB_RAM40_4K", 1),)),
    Resource("spram", "single-port RAMs (256 kbit)", "ICESTORM_SPRAM", (("SB_SPRAM256KA", 1),)),
    Resource("dsp", "multipliers (16x16)", "ICESTORM_DSP", (("SB_MAC16", 1),)),
)
# Where a design fills a third of this part, nextpnr's own choice of router needs hours. This one mostly needs minutes,
# but may not end for some seeds: the time limit ends it.
_85K = ("--85k", "--package", "CABGA381", "--speed", "6", "--router", "router2")
# Speed grade 6 is the slowest, and what the ULX3S carries.
PARTS: dict[str, Part] = {
    p.name: p
    for p in (
        Part("ecp5-25k", "LFE5U-25F, grade 6", "ecp5", ("--25k", "--package", "CABGA381", "--speed", "6"), 200, _ECP5),
        Part("ecp5-85k", "LFE5U-85F, grade 6", "ecp5", _85K, 200, _ECP5),
        Part("up5k", "iCE40UP5K, SG48", "ice40", ("--up5k", "--package", "sg48"), 48, _UP5K),
        Part("xilinx", "7-series", "xilinx", (), 0, ()),
    )
}


def part_named(name: str) -> Part:
    """The part of that name; UsageError lists the known ones."""
    if name not in PARTS:
        raise UsageError(
            Diagnostic("unknown-part", f"there is no part {name!r}", "--part", f"known: {', '.join(PARTS)}")
        )
    return PARTS[name]
