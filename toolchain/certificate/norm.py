"""Upper bounds of the spectral norm of a matrix, proved: no rounding error is left out, no iteration is trusted.

Let A be a matrix and `H_0 = A^T A`, so that `||A||^2 = ||H_0||`. Squaring `H_{i+1} = fl(H_i^T H_i)` in floating point
errs by at most `e_i = g ||H_i||_F^2` in the Frobenius norm, with `g = n u / (1 - n u)` for inner products of n terms in
whatever order (Higham 2002, Accuracy and Stability of Numerical Algorithms, eq. 3.13), plus what underflows. So

    ||H_i||^2 = ||H_i^T H_i|| <= ||H_{i+1}|| + e_i,      ||H_last|| <= ||H_last||_F,

read backwards, is an upper bound. Without rounding it is `trace((A^T A)^k)^(1/2k)` with k twice as large in each
squaring: too large by a factor of at most `n^(1/2k)`. Every scalar operation below is rounded up.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Numbers, Reals

__all__ = ["LARGEST_SIDE", "spectral_bound", "up"]

_SQUARINGS = 18
"""k = 2**18: too large by at most 1.4e-5 for 1024 columns, whatever the other singular values."""

LARGEST_SIDE = 1024
"""Larger matrices get the bound from row and column sums: their powers would take minutes."""

_UNIT = 2.0**-53
_UNDERFLOW = 2.0**-1000
"""Above n^2 times the smallest positive number, for every n here."""


def up(value: float) -> float:
    """The next larger float: a bound of whatever correctly rounded operation gave `value`."""
    return math.nextafter(value, math.inf)


def spectral_bound(matrix: Numbers) -> float:
    """An upper bound of the largest singular value of a finite matrix [rows, columns].

    Entries are taken as exact numbers; integers must be below 2**53 in magnitude (ValueError).
    """
    if matrix.size == 0 or not matrix.any():
        return 0.0
    if matrix.dtype.kind in "iu" and int(np.abs(matrix).max()) >= 1 << 53:
        raise ValueError("an entry has more than 53 bits")
    a = matrix.astype(np.float64)
    # A power of two, so that nothing is rounded; entries are then at most 1.
    exponent = int(np.frexp(np.abs(a).max())[1])
    a = np.ldexp(a, -exponent)
    # What underflows is part of the bound, also where a library has made NumPy raise.
    with np.errstate(under="ignore"):
        bound = _sums(a)
        if min(a.shape) <= LARGEST_SIDE:
            bound = min(bound, _powers(a if a.shape[0] >= a.shape[1] else a.T))
    return math.ldexp(up(bound + _UNDERFLOW), exponent)


def _gamma(terms: int) -> float:
    """`n u / (1 - n u)` for sums of n products, with room for one operation more."""
    product = (terms + 2) * _UNIT
    return up(product / (1.0 - product))


def _sums(a: Reals) -> float:
    """`sqrt(||A||_1 ||A||_inf)`."""
    size = np.abs(a)
    rows = up(float(size.sum(axis=1).max()) * (1.0 + _gamma(a.shape[1])))
    columns = up(float(size.sum(axis=0).max()) * (1.0 + _gamma(a.shape[0])))
    return up(math.sqrt(up(rows * columns)))


def _powers(a: Reals) -> float:
    """The bound of the module's text, for a with no more columns than rows."""
    inner = [a.shape[0]] + [a.shape[1]] * _SQUARINGS
    errors: list[float] = []
    exponents: list[int] = []
    h = a
    for terms in inner:
        size = _frobenius(h)
        errors.append(up(up(up(_gamma(terms) * size) * size) + _UNDERFLOW))
        h = h.T @ h
        # Scaled by a power of two to entries of at most 1: exact but for what underflows, as counted.
        exponent = int(np.frexp(np.abs(h).max())[1]) if h.any() else 0
        h = np.ldexp(h, -exponent)
        exponents.append(exponent)
    bound = _frobenius(h)
    for error, exponent in zip(reversed(errors), reversed(exponents), strict=True):
        bound = up(math.sqrt(up(up(math.ldexp(bound, exponent)) + error)))
    return bound


def _frobenius(h: Reals) -> float:
    """An upper bound of the Frobenius norm, entries at most 1 in magnitude."""
    squares = float((h * h).sum())
    return up(math.sqrt(up(up(squares * (1.0 + _gamma(h.size))) + _UNDERFLOW)))
