"""What a core needs of a part at least, as far as the manifest or the architecture tells, and what would make it fit.

Known before synthesis: memories that ask for block RAM, which are mapped to nothing else; instances of the UP5K's
single-port RAM; and the multipliers that the engine says it has, for which the tools have no other form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.verilog import BlockMemory
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JsonObject, decode_as

from .parts import PARTS, Part, Resource

__all__ = [
    "SPRAM_HINT",
    "Needs",
    "block_rams",
    "early_shortfalls",
    "hint_for",
    "known_shortfalls",
    "memory_shortfalls",
    "weight_memory",
]

SPRAM_BITS = 1 << 18
"""Of one single-port RAM of the UP5K."""
_TERNARY_BITS = 2
_SPRAM = "SB_SPRAM256KA"
_SMALLER_NET = "fewer weight bits, or a smaller net"
_SERIAL = "--arch serial, with fewer --lanes if it is that already"
_HELP = {
    "lut": _SERIAL,
    "ff": _SERIAL,
    "bram": _SMALLER_NET,
    "spram": _SMALLER_NET,
    "dsp": "--weights ternary, fewer --lanes (serial), or more --passes (lattice)",
}
"""What needs less of a resource, by its key."""
SPRAM_HINT = "--device up5k puts the weights of a serial core into single-port RAM"


@dataclass(frozen=True)
class Needs:
    """What a core tells of itself in its manifest: memories that ask for block RAM, vendor primitives by name, bits of
    a weight, multipliers, and whether a host can load its weights."""

    memories: tuple[BlockMemory, ...] = ()
    primitives: Mapping[str, int] | None = None
    weight_bits: int = 0
    multipliers: int = 0
    loads: bool = False

    @property
    def spram(self) -> int:
        """Instances of the UP5K's single-port RAM."""
        return (self.primitives or {}).get(_SPRAM, 0)

    @classmethod
    def of(cls, engine: JsonObject) -> Needs:
        """From what the engine says of itself; what it leaves out counts as nothing."""
        memories, primitives = engine.get("memories"), engine.get("primitives")
        counts = [engine.get(name) for name in ("weight_bits", "multipliers")]
        weight_bits, multipliers = (count if isinstance(count, int) else 0 for count in counts)
        rows = memories if isinstance(memories, (list, tuple)) else ()
        return cls(
            memories=tuple(decode_as(BlockMemory, row, "memories") for row in rows),
            primitives={n: c for n, c in primitives.items() if isinstance(c, int)}
            if isinstance(primitives, Mapping)
            else {},
            weight_bits=weight_bits,
            multipliers=multipliers,
            loads="weight_words" in engine,
        )


def block_rams(memory: BlockMemory, part: Part) -> int:
    """The fewest block RAMs of a part that hold the memory in one shape side by side."""
    return min(-(-memory.width // w) * -(-memory.depth // d) for w, d in part.family.block_ram)


def weight_memory(bits: int, part: Part, *, single_port: bool) -> str:
    """How many blocks of a part so many bits of weights take at least, whatever their shape, and how many it has; empty
    for a part that nobody counts. `single_port`: in the UP5K's single-port RAM."""
    each = SPRAM_BITS if single_port else max((w * d for w, d in part.family.block_ram), default=0)
    key = "spram" if single_port else "bram"
    if not each or key not in part.has:
        return ""
    label = next(r.label for r in part.family.resources if r.key == key)
    return f"{-(-bits // each)} of {part.has[key]} {label} of {part.name}"


def known_shortfalls(engine: JsonObject, part: Part) -> list[Diagnostic]:
    """What `part` cannot hold of a core: needed, available, and what would help; empty where nothing is known.

    `engine`: what is known about the core, as in the manifest.
    """
    if not part.has:
        return []
    core = Needs.of(engine)
    spram = core.spram
    needed = {"bram": sum(block_rams(m, part) for m in core.memories), "spram": spram, "dsp": core.multipliers}
    faults = []
    for r in part.family.resources:
        count, available = needed.get(r.key, 0), part.has.get(r.key, 0)
        if count <= available:
            continue
        shown, hints = "", [hint_for(part, r.key, count)]
        if r.key == "bram":
            largest = max(core.memories, key=lambda m: m.width * m.depth)
            shown = f", {block_rams(largest, part)} of them for {largest.name}"
            if core.weight_bits > _TERNARY_BITS:
                share = _TERNARY_BITS / core.weight_bits
                hints.insert(0, f"--weights ternary needs about {share:.0%} of them")
            if core.loads and not spram and "spram" in part.has:
                hints.insert(0, SPRAM_HINT)
        what = f"{r.label}: at least {count} needed{shown}, {available} available on {part.name}"
        faults.append(Diagnostic("does-not-fit", what, "core.v", "; ".join(hints)))
    return faults


def early_shortfalls(net: IntNet, architecture: Architecture, part: Part) -> list[Diagnostic]:
    """What `part` has too little of for an engine that takes `net`, before anything is built; the hint names the
    options of the nearest smaller engine that it has enough for."""

    def short(needs: Mapping[str, int]) -> list[Resource]:
        return [r for r in part.family.resources if r.key in part.has and needs.get(r.key, 0) > part.has[r.key]]

    needs = architecture.resources(net)
    missing = short(needs)
    if not missing:
        return []
    fitting = next(((a, n) for a in architecture.smaller(net) if not short(n := a.resources(net))), None)
    faults = []
    for r in missing:
        what = f"{r.label}: at least {needs[r.key]} needed, {part.has[r.key]} available on {part.name}"
        hint = "no options of the architecture make it fit; use --arch serial"
        if fitting is not None:
            smaller, fewer = fitting
            hint = f"{smaller.text} needs about {fewer[r.key]}{_larger(part, r.key, needs[r.key])}"
        faults.append(Diagnostic("does-not-fit", what, net.name, hint))
    return faults


def memory_shortfalls(
    bits: int, architecture: Architecture, parts: Collection[str], where: str
) -> Iterator[Diagnostic]:
    """Which of the parts cannot hold so many bits of weights, whatever shape their memories have; without parts,
    whether no known part can, unless the options ask for a core of any device."""
    asked = [PARTS[name] for name in sorted({*parts} & {*PARTS})]
    known = asked or ([] if architecture.any_device else [max(PARTS.values(), key=_memory)])
    for part in known:
        if part.has and bits > _memory(part):
            largest = "" if asked else ", the largest part that is known"
            what = f"the weights need at least {bits} bits of memory, {part.name} has {_memory(part)}{largest}"
            hint = "--weights ternary, fewer units, or another target"
            larger = "" if part.larger is None else f", or part {part.larger}, which has {_memory(PARTS[part.larger])}"
            other = larger if asked else "; --device generic makes a core for a device of your own"
            yield Diagnostic("does-not-fit", what, where, hint + other)


def _memory(part: Part) -> int:
    """Bits of all block RAMs and single-port RAMs."""
    each = max((width * depth for width, depth in part.family.block_ram), default=0)
    return part.has.get("bram", 0) * each + part.has.get("spram", 0) * SPRAM_BITS


def hint_for(part: Part, key: str, needed: int) -> str:
    """Options that need less of a resource, and the next larger part if it is known to have enough."""
    return _HELP[key] + _larger(part, key, needed)


def _larger(part: Part, key: str, needed: int) -> str:
    if part.larger is None:
        return ""
    larger = PARTS[part.larger]
    known = larger.has.get(key)
    # Block RAMs of another family have another size.
    if known is None or (key == "bram" and larger.family != part.family):
        return f", or part {larger.name}"
    if needed <= known:
        return f", or part {larger.name}, which has {known}"
    return f" ({larger.name} has {known}, which is too few as well)"
