"""No address lies past the end of a memory: each memory is as deep as its address reaches.

Verilog leaves open what is read past the end; simulators say X, another number, or stop. A counter may stand there for
a clock in which nobody reads the word, and an upset may bring it there at any time. Block and distributed RAM come in
such depths anyway. Words of a table that were not there are what synthesis makes of them when it may choose: those at
the address without a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .rtlil import Chunk, Module, bits_of, memory_of

__all__ = ["deepen"]


def deepen(module: Module) -> None:
    """Add the words, in place: zeros to what is written, copies to tables, and zeros that were left out behind the
    first words (`rtl.memory`)."""
    ports = [c for c in module.cells if c.kind in ("$memrd_v2", "$memwr_v2")]
    for cell in module.cells:
        if cell.kind == "$meminit_v2":
            memory, (chunk,) = module.memories[memory_of(cell)], cell.ports["DATA"]
            bits = chunk.bits.rjust(memory.width * memory.depth, "0")
            cell.ports["DATA"] = (Chunk("", 0, len(bits), bits),)
    written = {memory_of(c) for c in ports if c.kind == "$memwr_v2"}
    for name, memory in module.memories.items():
        reach = max((1 << bits_of(c.ports["ADDR"]) for c in ports if memory_of(c) == name), default=0)
        if reach <= memory.depth:
            continue
        module.memories[name] = replace(memory, depth=reach)
        for cell in module.cells:
            if cell.kind == "$meminit_v2" and memory_of(cell) == name:
                (chunk,) = cell.ports["DATA"]
                at = range(len(chunk.bits), 0, -memory.width)
                words = [chunk.bits[i - memory.width : i] for i in at]
                empty = ["0" * memory.width] * (reach - len(words))
                deeper = [*words, *empty] if name in written else _filled(words, reach)
                bits = "".join(reversed(deeper))
                cell.ports["DATA"] = (Chunk("", 0, len(bits), bits),)


def _filled(words: Sequence[str], depth: int) -> list[str]:
    if depth == 1:
        return list(words)
    half = depth // 2
    low = _filled(words[:half], half)
    return low + (_filled(words[half:], half) if len(words) > half else low)
