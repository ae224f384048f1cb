"""Values as views of buffers: what reshapes, transposes and broadcasts without a copy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

__all__ = ["Buffer", "View", "contiguous"]


@dataclass(frozen=True)
class Buffer:
    """`words` words of one bank, chosen later. `lives`: as long as the sample, otherwise until its last reader. `sums`:
    of a linear map."""

    name: str
    words: int
    bits: int
    lives: bool = False
    sums: bool = False


@dataclass(frozen=True)
class View:
    """Entry `(i0, i1, ...)` of `shape` is word `offset + sum(strides[k] * ik)` of the buffer."""

    buffer: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """As NumPy broadcasts; the caller has checked that it does."""
        lead = len(shape) - len(self.shape)
        kept = (
            0 if mine == 1 != whole else stride
            for mine, stride, whole in zip(self.shape, self.strides, shape[lead:], strict=True)
        )
        return replace(self, shape=shape, strides=(*[0] * lead, *kept))

    def transpose(self, axes: tuple[int, ...]) -> View:
        """Axis k of the result is axis `axes[k]`."""
        shape, strides = (tuple(t[a] for a in axes) for t in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    def reshape(self, shape: tuple[int, ...]) -> View | None:
        """In C order; None if that needs a copy."""
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides: list[int] = []
        rest = list(reversed(old))
        for n in reversed(shape):
            if n == 1:
                strides.append(0)
                continue
            if not rest:
                return None
            have, stride = rest[0]
            while have < n:
                if len(rest) < 2 or rest[1][1] != rest[0][0] * rest[0][1] or n % have:
                    return None
                rest[:2] = [(rest[0][0] * rest[1][0], rest[0][1])]
                have, stride = rest[0]
            if have % n:
                return None
            strides.append(stride)
            rest[:1] = [] if have == n else [(have // n, stride * n)]
        return replace(self, shape=shape, strides=tuple(reversed(strides)))

    @property
    def size(self) -> int:
        return prod(self.shape)


def contiguous(buffer: str, shape: tuple[int, ...], offset: int = 0) -> View:
    """A view in C order."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return View(buffer, shape, tuple(reversed(strides)), offset)
