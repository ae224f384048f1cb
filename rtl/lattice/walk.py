"""How the codes of a lattice walk past every cell that needs them, one neighbour a clock.

All cells pass their code on in the same direction at once, so after moves that add up to an offset, each cell holds the
code of the site at that offset. Sites are numbered in C order and the numbering is a ring: what leaves at one end comes
in at the other, where its weight is 0, and is there again when the walk comes back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Walk", "walk_of"]


@dataclass(frozen=True)
class Walk:
    """`moves[i]`: which site, counted from a cell's own, gives the cell its next code after clock i.

    `weights[i, n]`: weight of cell n for the code that it holds in clock i; the first is its own code. `side` is the
    lattice's, `axes` the number of its dimensions.
    """

    moves: tuple[int, ...]
    weights: NDArray[np.int64]
    side: int
    axes: int

    @property
    def directions(self) -> tuple[int, ...]:
        """The different moves: neighbour wires of a cell."""
        return tuple(sorted(set(self.moves)))


def walk_of(matrix: NDArray[np.int64]) -> Walk:
    """The shortest walk found that computes `matrix` `[sites, sites]` on a line, a square or a cube of sites."""
    sites = len(matrix)
    row, column = np.nonzero(matrix)
    offsets = np.unique((column - row) % sites)
    shapes = [(sites, 1)] + [(side, axes) for axes in (2, 3) for side in range(2, sites) if side**axes == sites]
    paths = [(_path(offsets, sites, side, axes), side, axes) for side, axes in shapes]
    path, side, axes = min(paths, key=lambda p: len(p[0]))
    weights = np.zeros((len(path), sites), np.int64)
    site, seen = np.arange(sites), set()
    for i, offset in enumerate(path):
        if offset % sites not in seen:
            weights[i] = matrix[site, (site + offset) % sites]
            seen.add(offset % sites)
    moves = tuple(b - a for a, b in itertools.pairwise(path))
    return Walk(moves, weights, side, axes)


def _path(offsets: Iterable[int], sites: int, side: int, axes: int) -> list[int]:
    """Offsets in the order of visit, from 0, neighbours in turn; snakes through the coordinates."""
    strides = [side**axis for axis in reversed(range(axes))]
    targets = {_coordinates(int(offset), sites, strides) for offset in offsets} - {(0,) * axes}
    path, at = [0], (0,) * axes
    for target in sorted(targets, key=lambda t: _snake(t, side)):
        while at != target:
            axis = next(a for a in reversed(range(axes)) if at[a] != target[a])
            step = 1 if target[axis] > at[axis] else -1
            at = (*at[:axis], at[axis] + step, *at[axis + 1 :])
            path.append(sum(c * s for c, s in zip(at, strides, strict=True)))
    return path


def _coordinates(offset: int, sites: int, strides: list[int]) -> tuple[int, ...]:
    """The nearest displacement whose number is `offset` on the ring."""
    best: tuple[int, ...] | None = None
    for whole in (offset, offset - sites):
        rest, found = whole, []
        for stride in strides:
            steps = (2 * rest + stride) // (2 * stride)
            found.append(steps)
            rest -= steps * stride
        if best is None or sum(map(abs, found)) < sum(map(abs, best)):
            best = tuple(found)
    if best is None:
        raise AssertionError("no displacement was tried")
    return best


def _snake(displacement: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Sorting key of a boustrophedon: each axis turns round after every step of the one before."""
    key, forward = [], True
    for c in displacement:
        key.append(c if forward else -c)
        forward = (c + side) % 2 == 0 if forward else (c + side) % 2 != 0
    return tuple(key)
