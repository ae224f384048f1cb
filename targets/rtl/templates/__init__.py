"""Files of the emitted folder: those of `bench/` as they stand, the rest with `$name` where the core enters."""

from __future__ import annotations

from ...text import Templates

__all__ = ["fill", "text"]

fill = Templates(__name__).fill
text = Templates(__name__).text
