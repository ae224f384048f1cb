"""Upset rates of a bit: cross-sections folded with spectra, as ECSS-E-ST-10-12C (2008), section 9.5, prescribes.

Heavy ions with a sensitive volume (RPP, and IRPP for a cross-section that is no step):

    rate = S / (4 A) * integral over L' of (d sigma / d L') * integral over x of F(z L' / x) (-dC(x))

`S`: surface of the box, `A` its area in the plane of the die, `z` its depth, `C(x)` the share of chords above x, `F(L)`
the omnidirectional flux above L. A track deposits its LET along the whole chord, as CREME96 assumes. Protons, and ions
without a volume, whose cross-section then is taken as that of every direction:

    rate = integral over x of F(x) (d sigma / d x)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .chords import Box
from .cross_sections import Curve
from .spectra import Spectrum

__all__ = ["ion_rate", "proton_rate"]

_LENGTHS = 600
_SHORTEST = 1e-3
"""Of the depth: shorter chords are one step, which only ions of a thousand times the threshold could fill."""
_LET_STEPS = 300


def ion_rate(spectrum: Spectrum, curve: Curve, box: Box | None) -> float:
    """Upsets of a bit per second; `spectrum` over LET in MeV cm2/mg, `box` in any unit of length."""
    if box is None:
        return proton_rate(spectrum, curve)
    let, cm2 = _thinned(curve)
    per_volume = _crossings(spectrum, let, box)
    return box.surface / (4 * box.x * box.y) * _increments(per_volume, cm2)


def proton_rate(spectrum: Spectrum, curve: Curve) -> float:
    """Upsets of a bit per second; `spectrum` over energy in MeV."""
    x, cm2 = curve
    return _increments(spectrum.above(x), cm2)


def _increments(flux: NDArray[np.float64], cm2: NDArray[np.float64]) -> float:
    """`integral of flux d(cm2)` by the trapezoidal rule."""
    return float(((flux[1:] + flux[:-1]) / 2 * np.diff(cm2)).sum())


def _thinned(curve: Curve) -> Curve:
    """The curve at fewer points, its ends among them."""
    x, cm2 = curve
    if len(x) <= _LET_STEPS:
        return curve
    at = np.unique(np.linspace(0, len(x) - 1, _LET_STEPS).round().astype(np.int64))
    return x[at], cm2[at]


def _crossings(spectrum: Spectrum, let: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Flux of tracks that deposit as much as one of LET `let` along the depth does, of all that cross the box."""
    grid = np.geomspace(_SHORTEST * box.z, box.longest, _LENGTHS)
    lengths = np.unique(np.concatenate([grid, box.corners]))
    share = box.longer(lengths)
    weights = -np.diff(np.concatenate([[1.0], share]))
    found = np.empty(len(let))
    for k, threshold in enumerate(let):
        flux = spectrum.above(threshold * box.z / lengths)
        middle = np.concatenate([flux[:1], (flux[1:] + flux[:-1]) / 2])
        found[k] = middle @ weights
    return found
