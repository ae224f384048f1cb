"""The registers of a core, and what they say in words: the one source of README, C header and core.json of a folder
with a core. The shell is built from the same addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["EXTERNAL", "HARDENED", "ID", "IMAGES", "LOADING", "READING", "SEQUENCES", "Register", "Row", "rows"]

ID = 0x45514331
"""`EQC1`, what register ID reads."""


class Register(IntEnum):
    """AXI4-Lite byte addresses; all registers have 32 bits.

    CONTROL bit 0: soft reset (the engine drops the sample at hand; reads 1 until a result that was cut off has ended).
    STATUS bit 0: busy; bit 1: at least one result was written. STEPS and TOLERANCE: read and write, reset to the net's
    schedule, sampled when a sample starts. MADE: ticks made for the last result. RESULTS: results written. STALLS:
    clocks in which a result waited for the reader. ERRORS: input frames whose TLAST came early or late. LOAD_ADDRESS:
    of the next weight word; LOAD_DATA: writing it stores the word and adds one to the address.

    Cores with hardening have FAULTS: a bit for each of `harden.mechanisms.FLAGS` that was found, cleared by writing
    it as 1; CORRECTED: clocks in which a word of the weight memory was repaired; DETECTED: clocks in which an error was
    found that is not repaired. A soft reset leaves them alone.

    Cores that hold images have IMAGE: bit 0: it holds one and runs; bit 1: one is being loaded; bits 8 to 10: why the
    last one was refused; and IMAGE_CRC: its CRC-32.

    Cores that take sequences have FRAMES: how many frames of input a sequence has, sampled when its first one starts.

    Cores whose memories can be read back have READ_MEMORY: which memory, and which 32 bits of its words; while it is
    not 0 the core takes no sample. READ_ADDRESS: of the next word; READ_DATA: reading it adds one to the address.

    Cores with weights in a memory outside have WEIGHTS_BASE: the address where they begin, a multiple of 4096, which
    stays as it is while a sample runs; and WEIGHTS_CRC: CRC-32 of the bytes that must be there. STATUS bit 2: the
    memory has answered with an error, bits 4 and 5: with which (RRESP); the core takes no sample until a soft reset or
    an image.
    """

    ID = 0x00
    CONTROL = 0x04
    STATUS = 0x08
    STEPS = 0x0C
    TOLERANCE = 0x10
    MADE = 0x14
    RESULTS = 0x18
    STALLS = 0x1C
    ERRORS = 0x20
    LOAD_ADDRESS = 0x24
    LOAD_DATA = 0x28
    FAULTS = 0x2C
    CORRECTED = 0x30
    DETECTED = 0x34
    IMAGE = 0x38
    IMAGE_CRC = 0x3C
    FRAMES = 0x40
    READ_MEMORY = 0x44
    READ_ADDRESS = 0x48
    READ_DATA = 0x4C
    WEIGHTS_BASE = 0x50
    WEIGHTS_CRC = 0x54


HARDENED = (Register.FAULTS, Register.CORRECTED, Register.DETECTED)
"""Registers of cores with hardening."""
IMAGES = (Register.IMAGE, Register.IMAGE_CRC)
"""Registers of cores that hold images."""
SEQUENCES = (Register.FRAMES,)
"""Registers of cores that take sequences of frames."""
READING = (Register.READ_MEMORY, Register.READ_ADDRESS, Register.READ_DATA)
"""Registers of cores whose memories can be read back."""
EXTERNAL = (Register.WEIGHTS_BASE, Register.WEIGHTS_CRC)
"""Registers of cores whose weights are in a memory outside."""
LOADING = (Register.LOAD_ADDRESS, Register.LOAD_DATA)
"""Registers of cores whose weights are in a memory."""


@dataclass(frozen=True)
class Row:
    """A register: `access` is "read", "write" or "read, write"; `meaning` a sentence."""

    name: str
    address: int
    access: str
    meaning: str


_RESET = """\
bit 0: soft reset; drops the sample at hand, registers and weights stay; a result that has begun keeps its length, \
zeros to its end, TUSER 0 in its last beat; reads 1 until then"""
_BUSY = """\
bit 0: busy, from the first code of a sample until its result was read; bit 1: at least one result was written"""
_IMAGE = """\
bit 0: an image is held, without one the core takes no sample; bit 1: one is being loaded; bits 8 to 10: why the last \
one was refused: 1 no image, 2 another version, 3 for another core, 4 too long, 5 damaged (nothing is held then)"""
_READ_MEMORY = """\
bits 0 to 7: memory to read (`readback` in core.json), 0: none, and the core runs; bits 8 to 23: which 32 bits of its \
words; refused while busy; meanwhile the core takes no sample"""
_READ, _WRITE, _BOTH = "read", "write", "read, write"
_MEANINGS: Mapping[Register, tuple[str, str]] = {
    Register.ID: (_READ, "0x{id:08X}"),
    Register.CONTROL: (_BOTH, _RESET),
    Register.STATUS: (_READ, _BUSY),
    Register.STEPS: (_BOTH, "ticks at most, 1 to 65535, after reset {steps}; taken when a sample starts"),
    Register.TOLERANCE: (_BOTH, "a sample ends when no code moved by more, after reset {tolerance}"),
    Register.MADE: (_READ, "ticks made for the last result"),
    Register.RESULTS: (_READ, "results written"),
    Register.STALLS: (_READ, "clocks in which a result waited for its reader"),
    Register.ERRORS: (_READ, "input frames that ended early or late"),
    Register.LOAD_ADDRESS: (_BOTH, "of the next weight word"),
    Register.LOAD_DATA: (_WRITE, "stores a weight word and adds one to the address"),
    Register.FAULTS: (_BOTH, "what was found since a bit was last cleared, by writing it as 1: {flags}"),
    Register.CORRECTED: (_READ, "clocks in which a word of the weight memory was repaired"),
    Register.DETECTED: (_READ, "clocks in which an error was found that is not repaired"),
    Register.IMAGE: (_READ, _IMAGE),
    Register.IMAGE_CRC: (_READ, "CRC-32 of the image that is held, its last word"),
    Register.FRAMES: (_BOTH, "input frames of a sequence, 1 to 65535, after reset 1; taken when a sequence starts"),
    Register.READ_MEMORY: (_BOTH, _READ_MEMORY),
    Register.READ_ADDRESS: (_BOTH, "of the word that is read next"),
    Register.READ_DATA: (_READ, "32 bits of that word; adds one to READ_ADDRESS"),
    Register.WEIGHTS_BASE: (_BOTH, "address of the weights in memory, a multiple of 4096; not while a sample runs"),
    Register.WEIGHTS_CRC: (
        _READ,
        "CRC-32 of weights.bin of the image that is held; the memory is not checked",
    ),
}

_OF_IMAGES: Mapping[Register, tuple[str, str]] = {
    Register.LOAD_ADDRESS: (_BOTH, "of the next word of an image; an image begins with word 0"),
    Register.LOAD_DATA: (_WRITE, "takes a word of an image and adds one to the address"),
}

_FAILS = """\
; bit 2: the memory of the weights has answered with an error, and the core takes no sample until a soft reset or an \
image; bits 4, 5: with which, RRESP: 2 SLVERR, 3 DECERR"""


def rows(
    *,
    identity: int,
    steps: int,
    tolerance: int,
    loads: bool,
    image: bool,
    flags: Sequence[str] | None,
    frames: bool = False,
    readback: bool = False,
    external: bool = False,
) -> tuple[Row, ...]:
    """The registers of a core, by address. `loads`: whether weights can be loaded; `image`: as images; `flags`: what
    the bits of FAULTS say, None for a core that has no such registers; `frames`: whether it takes sequences;
    `readback`: whether its memories can be read; `external`: whether it reads weights from a memory outside."""
    has = {HARDENED: flags is not None, LOADING: loads, IMAGES: image, SEQUENCES: frames, READING: readback}
    has[EXTERNAL] = external
    absent = [register for registers, there in has.items() if not there for register in registers]
    meanings = {**_MEANINGS, **(_OF_IMAGES if image else {})}
    if external:
        meanings[Register.STATUS] = (_READ, _BUSY + _FAILS)
    bits = ", ".join(f"bit {i}: {flag}" for i, flag in enumerate(flags or ()))
    values = {"id": identity, "steps": steps, "tolerance": tolerance, "flags": bits}
    return tuple(
        Row(register.name, int(register), access, meaning.format(**values))
        for register, (access, meaning) in meanings.items()
        if register not in absent
    )
