"""Which mechanisms there are, and which go together. Imports no HDL: the command line reads it."""

from __future__ import annotations

from typing import Final

from eqcompile.toolchain.diagnostics import Diagnostic

__all__ = ["FLAGS", "MECHANISMS", "chosen", "faults"]

MECHANISMS: Final = {
    "watchdog": "ends a run that overruns its clock bound, or that engine and bus shell disagree about",
    "safe-fsm": "brings every encoding of the sequencer that means nothing back to idle",
    "parity": "finds odd numbers of wrong bits in a word of the weight memory",
    "secded": "repairs single wrong bits of the weight memory, and finds double ones",
    "tmr": "votes over three copies of each control register",
    "residue": "checks codes of states, and sums, modulo 3",
}
"""Name of each, and what it does."""

FLAGS: Final = ("watchdog", "safe-fsm", "weights", "residue")
"""What each bit of register FAULTS says, the lowest first; `weights`: parity or secded. TMR repairs silently."""


def chosen(text: str) -> tuple[str, ...]:
    """The names of a list with commas, each once, in the order of `MECHANISMS` (unknown ones behind)."""
    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    known = [name for name in MECHANISMS if name in names]
    return (*known, *(name for name in names if name not in MECHANISMS))


def faults(names: tuple[str, ...]) -> list[Diagnostic]:
    """What is wrong with a choice, whatever the engine; empty if nothing is."""
    known = ", ".join(MECHANISMS)
    diagnostics = [
        Diagnostic("rtl-mechanism", f"there is no mechanism {name!r}", "harden", f"known: {known}")
        for name in names
        if name not in MECHANISMS
    ]
    if {"parity", "secded"} <= set(names):
        what = "parity and secded are two codes for the same memory"
        diagnostics.append(Diagnostic("rtl-mechanism", what, "harden", "secded finds what parity finds, and repairs"))
    return diagnostics
