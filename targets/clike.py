"""What C and C++ for HLS share: views of arrays in memory. Types, loops and arithmetic are each target's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

__all__ = ["ArrayView", "Shape", "contiguous"]

Shape = tuple[int, ...]


def contiguous(shape: Shape) -> Shape:
    """Strides, in entries, of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True)
class ArrayView:
    """Entry `i` is `ref[sum(i * strides)]`, or the constant that `ref` spells if `strides` is None."""

    ref: str
    shape: Shape
    strides: Shape | None

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def plain(self) -> bool:
        """In C order without gaps, so that a reshape is the same view."""
        return self.strides is not None and all(
            n == 1 or a == b for n, a, b in zip(self.shape, self.strides, contiguous(self.shape), strict=True)
        )

    @property
    def even(self) -> bool:
        """Whether one running index serves: all entries in order, or one for all."""
        return self.strides is None or self.plain or not any(self.strides)

    def aligned(self, shape: Shape) -> Self:
        """Broadcast to `shape`."""
        if self.strides is None:
            return replace(self, shape=shape)
        strides = tuple(0 if n == 1 else k for n, k in zip(self.shape, self.strides, strict=True))
        return replace(self, shape=shape, strides=(0,) * (len(shape) - len(self.shape)) + strides)

    def reshaped(self, shape: Shape) -> Self:
        """Under another shape of as many entries; the view is plain or a constant."""
        return replace(self, shape=shape, strides=None if self.strides is None else contiguous(shape))

    def transposed(self, axes: Sequence[int]) -> Self:
        """With axis i taken from axis `axes[i]`."""
        strides = None if self.strides is None else tuple(self.strides[a] for a in axes)
        return replace(self, shape=tuple(self.shape[a] for a in axes), strides=strides)
