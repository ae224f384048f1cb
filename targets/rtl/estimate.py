"""Block RAM of a core before there is one: which memories it would have, and how many blocks of a part they take."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from eqcompile.rtl.verilog import BlockMemory
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, UnsupportedError
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .emit import shell_of
from .engines import choose
from .synth.fit import Needs, block_rams
from .synth.parts import Part
from .target import RtlTarget

__all__ = ["MemoryEstimate", "memory_estimate", "memory_of_core"]


@dataclass(frozen=True)
class MemoryEstimate:
    """What the memories of a core take of a part, before synthesis: of each resource (`bram`, `spram`) what is needed
    at least, and what the part has. `memories`: those that ask for block RAM; one of up to 32 words asks for nothing,
    and tools may put it there too."""

    architecture: str
    part: str
    usage: Mapping[str, tuple[int, int]]
    memories: tuple[BlockMemory, ...]

    def to_json(self) -> dict[str, JSON]:
        """Plain JSON values."""
        return {
            "kind": "estimated",
            "architecture": self.architecture,
            "part": self.part,
            "usage": {key: {"needed": need, "available": has} for key, (need, has) in self.usage.items()},
            "memories": [{"name": m.name, "width": m.width, "depth": m.depth} for m in self.memories],
        }


def memory_of_core(details: JsonObject, architecture: str, part: Part) -> MemoryEstimate:
    """Of a core that says of itself what `details` hold, as `engine` in a manifest."""
    needs = Needs.of(details)
    needed = {"bram": sum(block_rams(m, part) for m in needs.memories), "spram": needs.spram}
    usage = {key: (count, part.has[key]) for key, count in needed.items() if key in part.has}
    return MemoryEstimate(architecture, part.name, usage, needs.memories)


def memory_estimate(net: IntNet, part: Part) -> MemoryEstimate:
    """Of the core that `auto` chooses for a verified net and the part: it is elaborated, and nothing is synthesised.

    Raises UnsupportedError where no architecture takes the net, MissingToolError without Amaranth.
    """
    if importlib.util.find_spec("amaranth") is None:
        raise MissingToolError(Diagnostic("missing-tool", "amaranth is not installed", "rtl", RtlTarget.install))
    found = choose(net, (), {part.name})
    if found.refusals:
        raise UnsupportedError(found.refusals)
    from eqcompile.rtl.memory import ContentFiles
    from eqcompile.rtl.verilog import convert

    verilog = convert(shell_of(net, found.architecture, trace=False), name="core", platform=ContentFiles())
    details: JsonObject = {
        "memories": [{"name": m.name, "width": m.width, "depth": m.depth} for m in verilog.memories],
        "primitives": dict(verilog.primitives),
    }
    return memory_of_core(details, found.architecture.name, part)
