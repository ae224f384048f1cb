"""Lengths of the chords that an isotropic flux of straight tracks cuts out of a box, the sensitive volume of a bit.

The overlap of a box with itself moved by x in direction u is `K(x u) = (a - x|u1|)(b - x|u2|)(c - x|u3|)`. Tracks in
direction u with a chord above x cover the area `-dK(x u)/dx`, so that of all chords the share above x is

    C(x) = (4 / S) * mean over u of (-dK(x u) / dx),        S = 2 (ab + bc + ca).

The mean over the azimuth is done in closed form, the one over the polar angle by Gauss quadrature between the angles at
which a face begins or ceases to count. G. Matheron: Random sets and integral geometry (1975), section 4.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

__all__ = ["Box"]

_NODES = 32


@dataclass(frozen=True)
class Box:
    """A box of edges `x` and `y` in the plane of the die and depth `z`, all in one unit of length."""

    x: float
    y: float
    z: float

    @property
    def surface(self) -> float:
        return 2 * (self.x * self.y + self.y * self.z + self.z * self.x)

    @property
    def volume(self) -> float:
        return self.x * self.y * self.z

    @property
    def longest(self) -> float:
        """The diagonal, which no chord exceeds."""
        return math.sqrt(self.x**2 + self.y**2 + self.z**2)

    @property
    def corners(self) -> tuple[float, ...]:
        """Lengths at which the distribution has a kink: edges and diagonals of faces, and the diagonal."""
        x, y, z = self.x, self.y, self.z
        return (x, y, z, math.hypot(x, y), math.hypot(y, z), math.hypot(x, z), self.longest)

    def longer(self, lengths: ArrayLike) -> NDArray[np.float64]:
        """Share of chords longer than each of `lengths` `[n]`, `[n]` float64: 1 at 0, 0 from the diagonal on."""
        length = np.asarray(lengths, np.float64)
        a, b, c = sorted((self.x, self.y, self.z))
        long = np.maximum(length, 1e-12 * a)[:, None]
        # Polar angles at which the box ends along c, and at which the faces across a, b and both of them begin to cut.
        first = np.arccos(np.minimum(1.0, c / long))
        kinks = [np.arcsin(np.minimum(1.0, edge / long)) for edge in (a, b, math.hypot(a, b))]
        last = kinks.pop()
        inner = [np.clip(kink, first, np.maximum(first, last)) for kink in kinks]
        ends = np.concatenate([first, *inner, np.maximum(first, last)], axis=1)
        total = np.zeros(length.shape)
        nodes, weights = leggauss(_NODES)  # type: ignore[no-untyped-call]
        # Quadratic spacing at the ends of each panel makes the square roots there smooth.
        inside, slope = np.sin(nodes * math.pi / 2), np.cos(nodes * math.pi / 2) * math.pi / 2
        for left, right in zip(ends.T[:-1], ends.T[1:], strict=True):
            half = ((right - left) / 2)[:, None]
            theta = ((left + right) / 2)[:, None] + half * inside
            total += (_azimuths(theta, long, a, b, c) * half * slope * weights).sum(axis=1)
        share = 4 / self.surface * (2 / math.pi) * total
        return np.where(length >= self.longest, 0.0, np.clip(share, 0.0, 1.0))


def _azimuths(
    theta: NDArray[np.float64], length: NDArray[np.float64], a: float, b: float, c: float
) -> NDArray[np.float64]:
    """`-dK/dx` integrated over the azimuths of an octant, times the sine of the polar angle from edge `c`."""
    s, t = np.sin(theta), np.cos(theta)
    across = length * s
    safe = np.maximum(across, 1e-300)
    low = np.arccos(np.minimum(1.0, a / safe))
    high = np.maximum(np.arcsin(np.minimum(1.0, b / safe)), low)
    sines = np.sin(high) - np.sin(low)
    cosines = np.cos(low) - np.cos(high)
    both = (np.sin(high) ** 2 - np.sin(low) ** 2) / 2
    along = a * b * (high - low) - a * across * cosines - b * across * sines + across**2 * both
    sideways = b * sines + a * cosines - 2 * across * both
    found: NDArray[np.float64] = (t * along + (c - length * t) * s * sideways) * s
    return found
