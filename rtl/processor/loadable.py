"""An image as the 32-bit words that a core loads: header, contents of its memories, CRC-32.

| words | hold |
|---|---|
| 0 | `EQPI` |
| 1 | version of the encoding |
| 2 | digest of the core's description |
| 3 | steps in the lower half, tolerance in the upper one |
| 4, 5 | beats of a sample that enter, and that leave |
| 6 to 10 | how many entries follow of program, weights, column table, tables and parameters |
| then | these entries, each in whole words, the lowest first |
| last | CRC-32 (as in zlib, of little-endian words) of all before it |

An entry of a parameter begins with a word of its own: the bank in the upper 8 bits, the address in the others.

A core with weights in a memory outside has one entry of weights, the CRC-32 of what that memory holds (`memory_of`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from eqcompile.toolchain.ir import Schedule

from .description import Description
from .encoding import record_bits
from .image import Image
from .isa import VERSION

__all__ = ["MAGIC", "Fault", "Header", "Layout", "Section", "image_of", "memory_of", "words_of"]

MAGIC = 0x45515049
BANK_SHIFT = 24


class Fault(IntEnum):
    """Why a core refuses an image; a core that holds what it refuses part of stays idle."""

    NONE = 0
    MAGIC = 1
    """it is no image"""
    VERSION = 2
    """its encoding is of another version"""
    CORE = 3
    """it is for another core"""
    LENGTH = 4
    """a memory has no room"""
    CRC = 5
    """words are damaged: the core holds no image now"""


class Header(IntEnum):
    """Number of each word of the header; that of `PROGRAM` and those behind it are counts of entries."""

    MAGIC = 0
    VERSION = 1
    DIGEST = 2
    SCHEDULE = 3
    INPUTS = 4
    OUTPUTS = 5
    PROGRAM = 6
    WEIGHTS = 7
    COLUMNS = 8
    TABLES = 9
    PARAMETERS = 10


class Section(IntEnum):
    """Contents, in their order."""

    PROGRAM = 0
    WEIGHTS = 1
    COLUMNS = 2
    TABLES = 3
    PARAMETERS = 4


@dataclass(frozen=True)
class Layout:
    """How the entries of a core lie in words: `bits` of an entry and `room` for entries, by section."""

    bits: tuple[int, ...]
    room: tuple[int, ...]
    weight_bits: int

    @classmethod
    def of(cls, description: Description) -> Layout:
        core = description.core
        weight_bits = max((core.weight_words - 1).bit_length(), 1)
        run_bits = max(description.run_words - 1, 1).bit_length()
        preset = [core.banks[n] for n in description.preset]
        bits = (
            record_bits(core),
            32 if description.external else core.lanes * core.code_bits + core.group_bits,
            weight_bits + run_bits,
            core.table_bits,
            max((b.bits for b in preset), default=1),
        )
        weights = 1 if description.external else core.weight_words
        room = core.program_words, weights, core.column_words, core.table_words, sum(b.words for b in preset)
        return cls(bits, room, weight_bits)

    def words(self, section: Section) -> int:
        """Of an entry."""
        return -(-self.bits[section] // 32) + (section is Section.PARAMETERS)

    @property
    def most(self) -> int:
        """Words of the longest image."""
        return len(Header) + sum(self.words(s) * self.room[s] for s in Section) + 1


def words_of(image: Image, description: Description, schedule: Schedule, inputs: int, outputs: int) -> list[int]:
    """The words of an image for the core of a description. `inputs`, `outputs`: beats of a sample."""
    layout = Layout.of(description)
    sections = _sections(image, layout, description)
    head = [MAGIC, VERSION, description.digest, schedule.steps | schedule.tolerance << 16, inputs, outputs]
    head += [len(entries) for entries in sections]
    body = b"".join(
        entry.to_bytes(4 * layout.words(section), "little")
        for section, entries in zip(Section, sections, strict=True)
        for entry in entries
    )
    words = head + np.frombuffer(body, "<u4").tolist()
    return [*words, crc_of(words)]


def memory_of(image: Image, description: Description) -> bytes:
    """What the memory outside holds from its base on: the weight words of an image, each in a beat, little-endian."""
    size = description.beat_bytes
    return b"".join(word.to_bytes(size, "little") for word in image.weights)


def crc_of(words: Sequence[int]) -> int:
    """CRC-32 of words."""
    return zlib.crc32(np.array(words, "<u4").tobytes())


def _sections(image: Image, layout: Layout, description: Description) -> list[list[int]]:
    tables = [int(code) & (1 << layout.bits[Section.TABLES]) - 1 for code in image.tables]
    rows = [int(first) | int(count) - 1 << layout.weight_bits for first, count in image.columns]
    weights = [zlib.crc32(memory_of(image, description))] if description.external else list(image.weights)
    return [list(image.program), weights, rows, tables, list(_parameters(image))]


def _parameters(image: Image) -> Iterator[int]:
    """Bank and address in the lowest word, the code above it."""
    for (bank, base), codes in image.words.items():
        mask = (1 << image.core.banks[bank].bits) - 1
        for k, code in enumerate(codes):
            yield bank << BANK_SHIFT | base + k | (int(code) & mask) << 32


def image_of(words: Sequence[int], description: Description, memory: bytes = b"") -> Image:
    """The image that words hold, as a core reads them, with the contents of a `memory` outside. Raises ValueError: they
    are no image for it, or the memory is another one's."""
    layout, core = Layout.of(description), description.core
    head = [int(w) for w in words[: len(Header)]]
    if head[:3] != [MAGIC, VERSION, description.digest] or crc_of(words[:-1]) != words[-1]:
        raise ValueError("no image of this core")
    at = len(Header)
    entries: list[list[int]] = []
    for section in Section:
        step, count = layout.words(section), head[Header.PROGRAM + section]
        runs = [words[at + k * step : at + (k + 1) * step] for k in range(count)]
        entries.append([sum(int(w) << 32 * k for k, w in enumerate(run)) for run in runs])
        at += step * count
    if description.external:
        if entries[Section.WEIGHTS] != [zlib.crc32(memory)]:
            raise ValueError("the memory does not hold the weights of the image")
        size, mask = description.beat_bytes, (1 << core.lanes * core.code_bits + core.group_bits) - 1
        beats = (memory[k : k + size] for k in range(0, len(memory), size))
        entries[Section.WEIGHTS] = [int.from_bytes(beat, "little") & mask for beat in beats]
    columns = [(row & (1 << layout.weight_bits) - 1, (row >> layout.weight_bits) + 1) for row in entries[2]]
    held = {}
    for entry in entries[4]:
        bank, address = entry >> BANK_SHIFT & 0xFF, entry & (1 << BANK_SHIFT) - 1
        held[bank, address] = np.array([_signed(entry >> 32, core.banks[bank].bits)], np.int64)
    tables = [_signed(entry, core.table_bits) for entry in entries[3]]
    return Image(
        core, tuple(entries[0]), tuple(entries[1]), np.array(columns, np.int64).reshape(-1, 2),
        np.array(tables, np.int64), held,
    )  # fmt: skip


def _signed(word: int, bits: int) -> int:
    return word - (word >> bits - 1 << bits) if bits else word
