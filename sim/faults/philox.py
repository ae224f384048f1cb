"""Philox 4x32 of ten rounds (Salmon et al., SC 2011) as Triton's `tl.randint` has it: a number of a seed and a place
alone, so that what a card draws is drawn again on a CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["below", "philox"]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEYS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(seed: int, places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A random number below 2**32 for each of `places` `[n]` int64: `[n]` uint64."""
    words = [np.asarray(places, np.uint64) & _LOW, *(np.zeros(np.shape(places), np.uint64) for _ in range(3))]
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    first, second = (np.uint64(m) for m in _MULTIPLIERS)
    for _ in range(_ROUNDS):
        left, right = first * words[0], second * words[2]
        words = [
            (right >> _HALF) ^ words[1] ^ np.uint64(keys[0]),
            right & _LOW,
            (left >> _HALF) ^ words[3] ^ np.uint64(keys[1]),
            left & _LOW,
        ]
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _KEYS, strict=True)]
    return words[0]


def below(top: int, seed: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number of 0 to `top - 1` for each of `places`, both `[n]` int64; where `top` is no power of two their chances
    differ by less than one in 2**32."""
    return ((philox(seed, places) * np.uint64(top)) >> _HALF).astype(np.int64)
