"""The words of a command line that ask for widths of states."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["width_words"]


def width_words(states: Mapping[str, int], guard_bits: int, guards: Mapping[str, int]) -> list[str]:
    """The words of a command line that ask for these widths of states."""
    words = [f"--states={_listed(states)}"] if states else []
    bits = [str(guard_bits)] if guard_bits else []
    bits += [_listed(guards)] if guards else []
    return [*words, *([f"--guard-bits={','.join(bits)}"] if bits else [])]


def _listed(bits: Mapping[str, int]) -> str:
    return ",".join(f"{name}={n}" for name, n in bits.items())
