"""Cross-sections of a bit as functions of LET (heavy ions) or energy (protons).

Each is given as a curve, points `x` and the cross-section up to there: a rate is an integral over its increments.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bendel", "CrossSection", "Curve", "Points", "Weibull"]

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Points and the cross-section at each in cm2, both `[n]` float64 and ascending."""
_STEPS = 1500
_PICO = 1e-12


class CrossSection(ABC):
    """Abstract: a cross-section in cm2 that does not fall."""

    constants: ClassVar[tuple[str, ...]]
    """Fields that are constants of the part."""

    @abstractmethod
    def curve(self) -> Curve:
        """The cross-section from its threshold to its limit."""


@dataclass(frozen=True, kw_only=True)
class Weibull(CrossSection):
    """`limit * (1 - exp(-((x - onset) / width)^exponent))` above `onset`; `onset` and `width` in MeV cm2/mg or MeV.

    E. L. Petersen, J. C. Pickel, J. H. Adams, E. C. Smith: Rate prediction for single event effects, IEEE Trans. Nucl.
    Sci. 39 (1992) 1577.
    """

    constants: ClassVar[tuple[str, ...]] = ("onset", "width", "exponent", "limit_cm2")

    onset: float
    width: float
    exponent: float
    limit_cm2: float

    def curve(self) -> Curve:
        """At equal steps of the logarithm of the odds, from 10^-9 to 1 - 10^-12 of the limit."""
        odds = np.linspace(math.log(1e-9), math.log(1e12), _STEPS)
        # -log(1 - share) of share = odds / (1 + odds)
        depth = np.logaddexp(0.0, odds)
        share = -np.expm1(-depth)
        x = self.onset + self.width * depth ** (1 / self.exponent)
        return np.append(self.onset, x), np.append(0.0, share / share[-1]) * self.limit_cm2


@dataclass(frozen=True, kw_only=True)
class Bendel(CrossSection):
    """Protons: `(b / a)^14 * (1 - exp(-0.18 y^0.5))^4 * 10^-12 cm2`, `y = (18 / a)^0.5 (E - a)`, E and `a` in MeV. With
    `b` = 24 it is the form of one parameter.

    W. L. Bendel, E. L. Petersen: Proton upsets in orbit, IEEE Trans. Nucl. Sci. 30 (1983) 4481 (one parameter); W. J.
    Stapor et al., IEEE Trans. Nucl. Sci. 37 (1990) 1966 (two).
    """

    constants: ClassVar[tuple[str, ...]] = ("a", "b")

    a: float
    b: float = 24.0

    def curve(self) -> Curve:
        """Up to 100 GeV."""
        above = np.append(0.0, np.geomspace(1e-4, 1e5, 2 * _STEPS))
        share = (-np.expm1(-0.18 * np.sqrt(math.sqrt(18 / self.a) * above))) ** 4
        return self.a + above, (self.b / self.a) ** 14 * share * _PICO


@dataclass(frozen=True, kw_only=True)
class Points(CrossSection):
    """Measured points, joined by lines: `x` ascending in MeV cm2/mg or MeV, `cm2` that do not fall. One point is a step
    at its `x`; of several, the cross-section below the first is 0."""

    constants: ClassVar[tuple[str, ...]] = ()

    x: tuple[float, ...]
    cm2: tuple[float, ...]

    def curve(self) -> Curve:
        steps = np.arange(len(self.x), dtype=np.float64)
        fine = np.linspace(0.0, steps[-1], 1 + 200 * (len(self.x) - 1))
        x, cm2 = (np.interp(fine, steps, np.array(values)) for values in (self.x, self.cm2))
        return np.append(x[0], x), np.append(0.0, cm2)
