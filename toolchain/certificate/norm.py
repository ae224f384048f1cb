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
from dataclasses import dataclass

import numpy as np

from ..arrays import Codes, Numbers, Reals, largest, row_parts

__all__ = ["LARGEST_SIDE", "NoBoundError", "Sparse", "spectral_bound", "spectral_bounds", "up"]

_SQUARINGS = 18
"""k = 2**18: too large by at most 1.4e-5 for 1024 columns, whatever the other singular values."""

LARGEST_SIDE = 1024
"""Larger matrices get the bound from row and column sums: their powers would take minutes."""

_GUESSES = 30
_ABOVE = (1.01, 1.04, 1.2, 2.0)
"""Factors above the guess that are tried."""

_UNIT = 2.0**-53
_UNDERFLOW = 2.0**-1000
"""Above n^2 times the smallest positive number, for every n here."""


class NoBoundError(ValueError):
    """An operation through which no distance can be bounded; the message names it and says why."""


def up(value: float) -> float:
    """The next larger float: a bound of whatever correctly rounded operation gave `value`."""
    return math.nextafter(value, math.inf)


def spectral_bound(matrix: Numbers) -> float:
    """An upper bound of the largest singular value of a finite matrix [rows, columns].

    Entries are taken as exact numbers; integers must be below 2**53 in magnitude (ValueError).
    """
    if matrix.size == 0 or not matrix.any():
        return 0.0
    if matrix.dtype.kind in "iu" and largest(matrix) >= 1 << 53:
        raise ValueError("an entry has more than 53 bits")
    # A power of two, so that nothing is rounded; entries are then at most 1.
    exponent = int(np.frexp(largest(matrix))[1])
    # What underflows is part of the bound, also where a library has made NumPy raise.
    with np.errstate(under="ignore"):
        bound = _sums(matrix, exponent)
        if min(matrix.shape) <= LARGEST_SIDE:
            a = np.ldexp(matrix.astype(np.float64, copy=False), -exponent)
            bound = min(bound, float(_powers((a if a.shape[0] >= a.shape[1] else a.T)[None], _SQUARINGS)[0]))
    return math.ldexp(up(bound + _UNDERFLOW), exponent)


def _gamma(terms: int) -> float:
    """`n u / (1 - n u)` for sums of n products, with room for one operation more."""
    product = (terms + 2) * _UNIT
    return up(product / (1.0 - product))


def _sums(matrix: Numbers, exponent: int) -> float:
    """`sqrt(||A||_1 ||A||_inf)` of the matrix by two to minus the exponent; a part of its rows at a time."""
    row, column = 0.0, np.zeros(matrix.shape[1])
    for part in row_parts(matrix):
        size = np.abs(np.ldexp(matrix[part].astype(np.float64, copy=False), -exponent))
        row = max(row, float(size.sum(axis=1).max()))
        column += size.sum(axis=0)
    return _root(row, matrix.shape[1], float(column.max()), matrix.shape[0])


def _root(row: float, row_terms: int, column: float, column_terms: int) -> float:
    """The root of the product of two sums of so many terms."""
    rows, columns = (up(s * (1.0 + _gamma(terms))) for s, terms in ((row, row_terms), (column, column_terms)))
    return up(math.sqrt(up(rows * columns)))


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix of `shape` with `value` [entries] at `row` and `column`, none of them twice."""

    shape: tuple[int, int]
    row: Codes
    column: Codes
    value: Reals

    def bound(self) -> float:
        """An upper bound of its largest singular value: `sqrt(||A||_1 ||A||_inf)`. Time and memory of its entries."""
        if not self.value.any():
            return 0.0
        exponent = int(np.frexp(np.abs(self.value).max())[1])
        with np.errstate(under="ignore"):
            size = np.abs(np.ldexp(self.value, -exponent))
            row, column = (np.bincount(place, weights=size) for place in (self.row, self.column))
            bound = _root(float(row.max()), self.shape[1], float(column.max()), self.shape[0])
        return math.ldexp(up(bound + _UNDERFLOW), exponent)


def spectral_bounds(matrices: Reals) -> Reals:
    """Upper bounds [matrices] of the largest singular values of a stack [matrices, rows, columns] of float64.

    A power iteration guesses `s`, a little above `||A||^2`, and a Cholesky decomposition proves it: where that of
    `M = s I - fl(A^T A)` succeeds in floating point, `M + E` is positive semidefinite for an E with
    `||E|| <= g / (1 - g) trace(M)`, g as above with n + 1 for n (Higham 2002, theorem 10.3). So `||A||^2` is at most
    s and the errors of the decomposition, of the difference and of the product. Where none succeeds, the bound is the
    Frobenius norm.
    """
    if not matrices.size:
        return np.zeros(len(matrices))
    exponents = np.frexp(np.abs(matrices).max(axis=(1, 2)))[1]
    with np.errstate(under="ignore"):
        bounds = _proved(np.ldexp(matrices, -exponents[:, None, None]))
        return np.ldexp(_up(bounds + _UNDERFLOW), exponents)


def _proved(a: Reals) -> Reals:
    """As `spectral_bounds`, entries at most 1 in magnitude."""
    size = _frobenius(a)
    columns = a.shape[2]
    h = a.transpose(0, 2, 1) @ a
    product_error = _up(_up(_gamma(a.shape[1]) * size) * size)
    v = np.cos(np.arange(columns, dtype=np.float64))[None, :, None]
    for _ in range(_GUESSES):
        w = h @ v
        guess = np.sqrt((w * w).sum(axis=1, keepdims=True))
        v = w / np.maximum(guess, _UNDERFLOW)
    diagonal = np.arange(columns)
    bounds = size.copy()
    for i, m in enumerate(np.negative(h)):
        for above in _ABOVE:
            s = float(guess[i, 0, 0]) * above + _UNDERFLOW
            m[diagonal, diagonal] = s - h[i, diagonal, diagonal]
            try:
                np.linalg.cholesky(m)
            except np.linalg.LinAlgError:
                continue
            trace = up(float(np.abs(m[diagonal, diagonal]).sum()) * (1.0 + _gamma(columns)))
            error = up(2.0 * _gamma(columns + 1) * trace) + up(2.0 * _UNIT * (s + float(size[i]) ** 2))
            bounds[i] = min(bounds[i], up(math.sqrt(up(s + up(up(error) + float(product_error[i]))))))
            break
    return bounds


def _powers(a: Reals, squarings: int) -> Reals:
    """The bound of the module's text, for a stack with entries of at most 1 and no more columns than rows."""
    inner = [a.shape[1]] + [a.shape[2]] * squarings
    errors: list[Reals] = []
    exponents: list[Codes] = []
    h = a
    for terms in inner:
        size = _frobenius(h)
        errors.append(_up(_up(_up(_gamma(terms) * size) * size) + _UNDERFLOW))
        h = h.transpose(0, 2, 1) @ h
        # Scaled by a power of two to entries of at most 1: exact but for what underflows, as counted.
        exponent = np.frexp(np.abs(h).max(axis=(1, 2)))[1]
        h = np.ldexp(h, -exponent[:, None, None])
        exponents.append(exponent)
    bound = _frobenius(h)
    for error, exponent in zip(reversed(errors), reversed(exponents), strict=True):
        bound = _up(np.sqrt(_up(_up(np.ldexp(bound, exponent)) + error)))
    return bound


def _frobenius(h: Reals) -> Reals:
    """Upper bounds of the Frobenius norms of a stack, entries at most 1 in magnitude."""
    squares = (h * h).sum(axis=(1, 2))
    return _up(np.sqrt(_up(_up(squares * (1.0 + _gamma(h[0].size))) + _UNDERFLOW)))


def _up(values: Reals) -> Reals:
    return np.nextafter(values, np.inf)
