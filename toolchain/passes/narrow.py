"""Storage of constant codes."""

from __future__ import annotations

import numpy as np

__all__ = ["narrowest"]
from ..arrays import Array


def narrowest(codes: Array) -> Array:
    """The same codes as int8, int16, int32 or int64, the first that holds them all; shape unchanged."""
    lo, hi = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    for dtype in (np.int8, np.int16, np.int32):
        if np.iinfo(dtype).min <= lo and hi <= np.iinfo(dtype).max:
            return codes.astype(dtype)
    return codes.astype(np.int64)
