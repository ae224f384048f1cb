"""Fields of an instruction record as slices of a register."""

from __future__ import annotations

from amaranth import Value

from ..configuration import Core
from ..encoding import Opcode, layout

__all__ = ["Record"]


class Record:
    """The fields of `word`; a field of an opcode means nothing while the record is another one."""

    def __init__(self, core: Core, word: Value) -> None:
        self.core, self.word = core, word
        self.opcode = word[:4]
        self._places: dict[tuple[Opcode, str], tuple[int, int, bool]] = {}
        for opcode in Opcode:
            place = 4
            for field in layout(core, opcode):
                self._places[opcode, field.name] = place, place + field.bits, field.signed
                place += field.bits

    def of(self, opcode: Opcode, name: str) -> Value:
        """One field."""
        start, end, signed = self._places[opcode, name]
        bits = self.word[start:end]
        return bits.as_signed() if signed else bits.as_unsigned()
