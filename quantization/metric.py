"""The matrix M of the error `(w - s q)^T M (w - s q)` of a row, as a matrix, one for each row, or by its factor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..toolchain.arrays import Codes, Reals

__all__ = ["Dense", "Factor", "Metric"]


class Metric(ABC):
    """M, symmetric and positive semidefinite, of n entries."""

    @property
    @abstractmethod
    def diagonal(self) -> Reals:
        """`[n]`, or `[rows, n]`."""

    @property
    @abstractmethod
    def own(self) -> bool:
        """Whether each row has a matrix of its own."""

    @abstractmethod
    def of(self, rows: slice | NDArray[np.bool_]) -> Metric:
        """That of some of the rows."""

    @abstractmethod
    def inner(self, block: slice) -> Reals:
        """The entries between columns of a block, `[columns, columns]`, or `[columns, columns, rows]`."""

    @abstractmethod
    def times(self, rows: Reals) -> Reals:
        """Each row `[rows, n]` times M."""

    @abstractmethod
    def moved(self, changes: Reals, block: slice, rows: Codes) -> Reals:
        """The same of rows that are 0 but for `changes` [rows, columns] in a block of columns; `rows`: which they
        are."""


@dataclass(frozen=True)
class Dense(Metric):
    """`matrix` [n, n], or [rows, n, n]."""

    matrix: Reals

    @property
    def diagonal(self) -> Reals:
        return np.asarray(np.diagonal(self.matrix, axis1=-2, axis2=-1))

    @property
    def own(self) -> bool:
        return self.matrix.ndim == 3

    def of(self, rows: slice | NDArray[np.bool_]) -> Dense:
        return Dense(self.matrix[rows]) if self.own else self

    def inner(self, block: slice) -> Reals:
        return np.ascontiguousarray(self.matrix[..., block, block].T)

    def times(self, rows: Reals) -> Reals:
        return _times(rows, self.matrix)

    def moved(self, changes: Reals, block: slice, rows: Codes) -> Reals:
        part = self.matrix[..., block, :]
        return _times(changes, part[rows] if self.own and len(rows) < len(part) else part)


@dataclass(frozen=True)
class Factor(Metric):
    """`M = V^T V + ridge`, of `vectors` V [count, n] with fewer rows than columns: M itself is never there."""

    vectors: Reals
    ridge: float = 0.0

    @cached_property
    def diagonal(self) -> Reals:
        squares: Reals = np.einsum("kn,kn->n", self.vectors, self.vectors)
        squares += self.ridge
        return squares

    @property
    def own(self) -> bool:
        return False

    def of(self, rows: slice | NDArray[np.bool_]) -> Factor:
        return self

    def inner(self, block: slice) -> Reals:
        part = self.vectors[:, block]
        inner: Reals = part.T @ part
        np.fill_diagonal(inner, self.diagonal[block])
        return inner

    def times(self, rows: Reals) -> Reals:
        product: Reals = (rows @ self.vectors.T) @ self.vectors
        if self.ridge:
            product += self.ridge * rows
        return product

    def moved(self, changes: Reals, block: slice, rows: Codes) -> Reals:
        product: Reals = (changes @ self.vectors[:, block].T) @ self.vectors
        product[:, block] += self.ridge * changes
        return product


def _times(rows: Reals, matrix: Reals) -> Reals:
    """Each row times the matrix, or times its own."""
    return np.asarray(rows @ matrix if matrix.ndim == 2 else np.einsum("rn,rnm->rm", rows, matrix))
