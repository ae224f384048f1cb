"""Shows a host what the memories of a processor hold, while its logic stands still.

memory, address ──► read ports of all memories ──► 32 bits of one of them ──► register
"""

from __future__ import annotations

from collections.abc import Iterator

from amaranth import Cat, Const, Module, Mux, Signal, Value

from eqcompile.toolchain.typed_json import JSON, JsonObject

from ...memory import Ram
from ..description import Description
from ..loadable import Layout, Section
from .memories import Memories

__all__ = ["Readback"]

PART_BITS = 32


class Readback:
    """While `memory` is not 0 the read ports of all memories are the host's, and whoever holds this keeps the logic in
    reset. Two clocks after `address`, `word` is part number `part` of that word of memory number `memory`; 0 of what
    there is not.

    Parts of a word are its 32 bits each, the lowest first; in a bank they are those of each entry, entry by entry.
    """

    def __init__(self, description: Description) -> None:
        self.description, self.layout = description, Layout.of(description)
        self.memory, self.part = Signal(8, name="read_memory"), Signal(16, name="read_part")
        self.address = Signal(range(max(self.layout.room) + 1), name="read_address")
        self.chosen, self.word = Signal(PART_BITS, name="read_chosen"), Signal(PART_BITS, name="read_word")

    @property
    def holds(self) -> Value:
        """The host reads."""
        return self.memory.any()

    def connect(self, m: Module, memories: Memories) -> None:
        """Take the read ports in the module of the logic; to be called when everything else that reads is there."""
        words: list[list[Value]] = []
        for ram, parts in self._memories(memories):
            words.append(parts)
            with m.If(self.holds):
                m.d.comb += ram.read_address.eq(self.address)
                if ram.holds:
                    m.d.comb += ram.read_enable.eq(1)
        forms = [self._part(parts) for parts in words]
        value: Value = Const(0, PART_BITS)
        for number, form in enumerate(forms, 1):
            value = Mux(self.memory == number, form, value)
        m.d.comb += self.chosen.eq(value)

    def _part(self, parts: list[Value]) -> Value:
        """The part at hand of a word in parts."""
        chosen: Value = Const(0, PART_BITS)
        for number, part in enumerate(parts):
            chosen = Mux(self.part == number, part, chosen)
        return chosen

    def _memories(self, memories: Memories) -> Iterator[tuple[Ram, list[Value]]]:
        """Each memory with the parts of the word that it reads, in the order of their numbers."""
        for ram in (memories.program, memories.weights, memories.columns, *memories.tables, *memories.slopes):
            yield ram, _pieces(ram.read_data)
        for number in self.description.preset:
            ram, bits = memories.banks[number], memories.core.banks[number].bits
            codes = [ram.read_data[k * bits : (k + 1) * bits] for k in range(memories.width)]
            yield ram, [piece for code in codes for piece in _pieces(code)]

    def to_json(self, memories: Memories) -> JsonObject:
        """What a host needs to compare memories with an image: for each section but the last its memories (all hold the
        same; none of weights in a memory outside) and the words of an entry; for each bank with parameters its memory,
        the words of a code, and how many entries stand in a word."""
        weights = [] if self.description.external else [2]
        copies = [[1], weights, [3], [4 + k for k in range(len(memories.tables) + len(memories.slopes))]]
        sections: list[JSON] = [
            {"memories": [*numbers], "words": self.layout.words(section)}
            for section, numbers in zip(Section, copies, strict=False)
        ]
        first = 4 + len(copies[3])
        banks: dict[str, JSON] = {
            str(number): {
                "memory": first + k,
                "words": len(_pieces(Const(0, memories.core.banks[number].bits))),
                "width": memories.width,
            }
            for k, number in enumerate(self.description.preset)
        }
        return {"sections": sections, "entry": self.layout.words(Section.PARAMETERS), "banks": banks}


def _pieces(word: Value) -> list[Value]:
    """The word in parts of 32 bits, zeros above the last."""
    starts = range(0, len(word), PART_BITS)
    return [Cat(word[at : at + PART_BITS], Const(0, max(PART_BITS - (len(word) - at), 0))) for at in starts]
