"""Text of the emitted files, with `$name` where the net enters."""

from __future__ import annotations

from ...text import Templates

__all__ = ["fill"]

fill = Templates(__name__).fill
