"""Upper bounds of the spectral norm of a matrix, proved: no rounding error is left out, no iteration is trusted.

Let A be a matrix. An iteration guesses `s`, a little above `||A||^2`, and a Cholesky decomposition proves it: where
that of `M = s I - fl(A^T A)` succeeds in floating point, `M + E` is positive semidefinite for an E with
`||E|| <= g / (1 - g) trace(M)`, with `g = (n + 1) u / (1 - (n + 1) u)` for n columns (Higham 2002, Accuracy and
Stability of Numerical Algorithms, theorem 10.3). So `||A||^2` is at most s and the errors of the decomposition, of the
difference and of the product; inner products of n terms err in whatever order by n u / (1 - n u) of the product of the
norms (eq. 3.13). Where no decomposition succeeds, the bound is the Frobenius norm. Every scalar operation below is
rounded up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Codes, Numbers, Reals, largest, row_parts

__all__ = ["LARGEST_SIDE", "NoBoundError", "Sparse", "Square", "spectral_bound", "spectral_bounds", "up"]

LARGEST_SIDE = 2048
"""Larger matrices get the bound from row and column sums: the decomposition would take their memory four times."""

_LANCZOS_STEPS = 64
_INVARIANT = 2.0**-40

_GUESSES = 30
_ABOVE = (1.01, 1.04, 1.2, 2.0)
"""Factors above the guess that are tried for a stack of matrices."""

_CLOSEST = 2.0**-36
"""Times the columns: by how much a single matrix is first tried above its guess, more than what rounding takes there;
then sixteen times as much, up to `_FURTHEST`."""

_FURTHEST = 4.0

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
    return Square.of(matrix).bound()


@dataclass(eq=False)
class Square:
    """What `spectral_bound` needs of a matrix A: `gram` is `A^T A` over the shorter side, of entries at most 1, None
    where that is too large; `size`, `error`: the Frobenius norm of A, rounded up, and what rounding did to the product;
    `sums`: the bound from row and column sums. All are of A by two to the power of `exponent`."""

    exponent: int
    sums: float
    gram: Reals | None = None
    size: float = 0.0
    error: float = 0.0

    @classmethod
    def of(cls, matrix: Numbers, *, overwrite: bool = False) -> Square:
        """`overwrite`: the matrix is float64, and nobody reads it any more: its memory may be used."""
        if matrix.size == 0 or not matrix.any():
            return cls(0, 0.0)
        if matrix.dtype.kind in "iu" and largest(matrix) >= 1 << 53:
            raise ValueError("an entry has more than 53 bits")
        # A power of two, so that nothing is rounded; entries are then at most 1.
        exponent = int(np.frexp(largest(matrix))[1])
        # What underflows is part of the bound, also where a library has made NumPy raise.
        with np.errstate(under="ignore"):
            sums = _sums(matrix, exponent)
            if min(matrix.shape) > LARGEST_SIDE:
                return cls(exponent, sums)
            a = matrix.astype(np.float64, copy=False)
            a = np.ldexp(a, -exponent, out=a if overwrite else None)
            a = a if a.shape[0] >= a.shape[1] else a.T
            size = _frobenius(a[None])
            return cls(exponent, sums, a.T @ a, float(size[0]), float(_product_error(len(a), size)[0]))

    def bound(self) -> float:
        """The bound; `gram` is overwritten."""
        if not self.sums:
            return 0.0
        with np.errstate(under="ignore"):
            close = self.sums if self.gram is None else min(self.sums, _close(self.gram, self.size, self.error))
        return math.ldexp(up(close + _UNDERFLOW), self.exponent)


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

    They are within a percent of the norms, as a rule: the guess is that of a power iteration.
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
    product_error = _product_error(a.shape[1], size)
    v = np.cos(np.arange(columns, dtype=np.float64))[None, :, None]
    for _ in range(_GUESSES):
        w = h @ v
        guess = np.sqrt((w * w).sum(axis=1, keepdims=True))
        v = w / np.maximum(guess, _UNDERFLOW)
    bounds = size.copy()
    for i, m in enumerate(np.negative(h, out=h)):
        diagonal = -np.diagonal(m)
        for above in _ABOVE:
            s = float(guess[i, 0, 0]) * above + _UNDERFLOW
            bound = _decomposed(m, diagonal, s, float(size[i]), float(product_error[i]))
            if bound is not None:
                bounds[i] = min(bounds[i], bound)
                break
    return bounds


def _close(gram: Reals, size: float, product_error: float) -> float:
    """An upper bound of the norm of one matrix, entries at most 1 in magnitude, within about a billionth of it as a
    rule; `gram` is overwritten."""
    columns, guess = len(gram), _largest_eigenvalue(gram)
    diagonal = np.diagonal(gram).copy()
    m, above = np.negative(gram, out=gram), _CLOSEST * columns
    while above <= _FURTHEST:
        bound = _decomposed(m, diagonal, guess * (1.0 + above) + _UNDERFLOW, size, product_error)
        if bound is not None:
            return min(size, bound)
        above *= 16.0
    return size


def _decomposed(m: Reals, diagonal: Reals, s: float, size: float, product_error: float) -> float | None:
    """The bound of the norm that a Cholesky decomposition of `s I - H` proves; None where it fails. m holds `-H` beside
    its diagonal, which is overwritten; `diagonal` that of H; `size`: the matrix's Frobenius norm."""
    columns = len(m)
    np.fill_diagonal(m, s - diagonal)
    try:
        np.linalg.cholesky(m)
    except np.linalg.LinAlgError:
        return None
    trace = up(float(np.abs(np.diagonal(m)).sum()) * (1.0 + _gamma(columns)))
    error = up(2.0 * _gamma(columns + 1) * trace) + up(2.0 * _UNIT * (s + size**2))
    return up(math.sqrt(up(s + up(up(error) + product_error))))


def _largest_eigenvalue(h: Reals) -> float:
    """Of a symmetric matrix, as Lanczos' iteration guesses it: never much above it."""
    steps = min(_LANCZOS_STEPS, len(h))
    basis, images = np.zeros((steps, len(h))), np.zeros((steps, len(h)))
    v, least = np.cos(np.arange(len(h), dtype=np.float64)), 0.0
    for k in range(steps):
        length = float(np.linalg.norm(v))
        if length <= least:
            # What is left is rounding: the images lie in the space of the basis.
            break
        basis[k] = v / length
        v = images[k] = h @ basis[k]
        least = max(least, _INVARIANT * float(np.linalg.norm(v)))
        # Twice, because one projection leaves what rounding left.
        for _ in range(2):
            v = v - (basis @ v) @ basis
    ritz = basis @ images.T
    return float(np.linalg.eigvalsh(0.5 * (ritz + ritz.T))[-1])


def _product_error(terms: int, size: Reals) -> Reals:
    """By how much `A^T A`, sums of so many terms, can be off, for Frobenius norms `size` of A."""
    return _up(_up(_gamma(terms) * size) * size)


def _frobenius(h: Reals) -> Reals:
    """Upper bounds of the Frobenius norms of a stack, entries at most 1 in magnitude."""
    squares = np.einsum("kij,kij->k", h, h)
    return _up(np.sqrt(_up(_up(squares * (1.0 + _gamma(h[0].size))) + _UNDERFLOW)))


def _up(values: Reals) -> Reals:
    return np.nextafter(values, np.inf)
