"""What the parts have, what a core needs at least as far as the manifest tells, and what would make it fit.

Known before synthesis: memories that ask for block RAM, which are mapped to nothing else; instances of the UP5K's
single-port RAM; and the multipliers that the engine says it has, for which the tools have no other form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.verilog import BlockMemory
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet

from .parts import PARTS, Part, Resource

__all__ = [
    "CAPACITY",
    "block_rams",
    "hint_for",
    "known_shortfalls",
    "early_shortfalls",
]

CAPACITY: Mapping[str, Mapping[str, int]] = {
    "ecp5-25k": {"lut": 24288, "ff": 24288, "bram": 56, "dsp": 28},
    "ecp5-85k": {"lut": 83640, "ff": 83640, "bram": 208, "dsp": 156},
    "up5k": {"lut": 5280, "bram": 30, "spram": 4, "dsp": 8},
}
"""What each part has of each resource, as nextpnr counts it."""

_LARGER = {"ecp5-25k": "ecp5-85k", "up5k": "ecp5-25k"}
_SHAPES = {
    "ecp5": ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384)),
    "ice40": ((16, 256), (8, 512), (4, 1024), (2, 2048)),
}
"""Widths and depths that one block RAM can have."""

_TERNARY_BITS = 2
_OPTIONS = {
    "lut": "--arch serial, with fewer --lanes if it is that already",
    "ff": "--arch serial, with fewer --lanes if it is that already",
    "bram": "fewer weight bits, or a smaller net",
    "spram": "fewer weight bits, or a smaller net",
    "dsp": "--weights ternary, fewer --lanes (serial), or more --passes (lattice)",
}


def block_rams(memory: BlockMemory, family: str) -> int:
    """The fewest block RAMs of a family (`ecp5`, `ice40`) that hold the memory in one shape side by side."""
    return min(-(-memory.width // w) * -(-memory.depth // d) for w, d in _SHAPES[family])


def known_shortfalls(engine: Mapping[str, Any], part: Part) -> list[Diagnostic]:
    """What `part` cannot hold of a core: needed, available, and what would help; empty where nothing is known.

    `engine`: what is known about the core, as in the manifest (`memories`, `primitives`, `weight_bits`, `multipliers`).
    """
    if part.name not in CAPACITY:
        return []
    memories = [BlockMemory(**memory) for memory in engine.get("memories", ())]
    bits = int(engine.get("weight_bits", 0))
    needed = {
        "bram": sum(block_rams(m, part.family) for m in memories),
        "spram": int(engine.get("primitives", {}).get("SB_SPRAM256KA", 0)),
        "dsp": int(engine.get("multipliers", 0)),
    }
    faults = []
    for r in part.resources:
        count, has = needed.get(r.key, 0), CAPACITY[part.name].get(r.key, 0)
        if count <= has:
            continue
        shown, hint = "", hint_for(part, r.key, count)
        if r.key == "bram":
            largest = max(memories, key=lambda m: m.width * m.depth)
            shown = f", {block_rams(largest, part.family)} of them for {largest.name}"
            if bits > _TERNARY_BITS:
                hint = f"--weights ternary needs about {_TERNARY_BITS / bits:.0%} of them; {hint}"
            if not needed["spram"] and "spram" in CAPACITY[part.name] and "weight_words" in engine:
                hint = f"--device up5k puts the weights into single-port RAM; {hint}"
        what = f"{r.label}: at least {count} needed{shown}, {has} available on {part.name}"
        faults.append(Diagnostic("does-not-fit", what, "core.v", hint))
    return faults


def early_shortfalls(net: IntNet, architecture: Architecture, part: Part) -> list[Diagnostic]:
    """What `part` has too little of for an engine that takes `net`, before anything is built; the hint names the
    options of the nearest smaller engine that it has enough for."""
    capacity = CAPACITY.get(part.name, {})

    def short(needs: Mapping[str, int]) -> list[Resource]:
        return [r for r in part.resources if needs.get(r.key, 0) > capacity.get(r.key, needs.get(r.key, 0))]

    needs = architecture.resources(net)
    missing = short(needs)
    if not missing:
        return []
    fitting = next(((a, n) for a in architecture.smaller(net) if not short(n := a.resources(net))), None)
    faults = []
    for r in missing:
        what = f"{r.label}: at least {needs[r.key]} needed, {capacity[r.key]} available on {part.name}"
        hint = "no options of the architecture make it fit; use --arch serial"
        if fitting is not None:
            smaller, fewer = fitting
            hint = f"{smaller.text} needs about {fewer[r.key]}{_larger(part, r.key, needs[r.key])}"
        faults.append(Diagnostic("does-not-fit", what, net.name, hint))
    return faults


def hint_for(part: Part, key: str, needed: int) -> str:
    """Options that need less of a resource, and the next larger part if it is known to have enough."""
    return _OPTIONS[key] + _larger(part, key, needed)


def _larger(part: Part, key: str, needed: int) -> str:
    larger = _LARGER.get(part.name)
    if larger is None:
        return ""
    known = CAPACITY[larger].get(key)
    # Block RAMs of another family have another size.
    if known is None or (key == "bram" and PARTS[larger].family != part.family):
        return f", or part {larger}"
    if needed <= known:
        return f", or part {larger}, which has {known}"
    return f" ({larger} has {known}, which is too few as well)"
