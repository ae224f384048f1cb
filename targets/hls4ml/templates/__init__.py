"""Text of the emitted files, with `$name` where the net enters; `eq_ops.h` is copied as it stands."""

from __future__ import annotations

from pathlib import Path

from ...text import Templates

__all__ = ["HEADER", "fill"]

HEADER = Path(__file__).with_name("eq_ops.h")
fill = Templates(__name__).fill
