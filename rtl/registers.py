"""The register map in words: the one source of README, C header and core.json of a folder with a core.

Addresses and what the hardware does are in `interface.Register` and the shell, which is built from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .interface import HARDENED, IMAGES, LOADING, Register

__all__ = ["Row", "rows"]


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
}

_OF_IMAGES: Mapping[Register, tuple[str, str]] = {
    Register.LOAD_ADDRESS: (_BOTH, "of the next word of an image; an image begins with word 0"),
    Register.LOAD_DATA: (_WRITE, "takes a word of an image and adds one to the address"),
}


def rows(
    *, identity: int, steps: int, tolerance: int, loads: bool, image: bool, flags: Sequence[str] | None
) -> tuple[Row, ...]:
    """The registers of a core, by address. `loads`: whether weights can be loaded; `image`: as images; `flags`: what
    the bits of FAULTS say, None for a core that has no such registers."""
    absent = (*(() if flags is not None else HARDENED), *(() if loads else LOADING), *(() if image else IMAGES))
    meanings = {**_MEANINGS, **(_OF_IMAGES if image else {})}
    bits = ", ".join(f"bit {i}: {flag}" for i, flag in enumerate(flags or ()))
    values = {"id": identity, "steps": steps, "tolerance": tolerance, "flags": bits}
    return tuple(
        Row(register.name, int(register), access, meaning.format(**values))
        for register, (access, meaning) in meanings.items()
        if register not in absent
    )
