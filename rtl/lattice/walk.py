"""How the codes of a block of cells walk past every cell that needs them, one neighbour a clock.

The sites of a lattice, numbered in C order, are dealt to the cells in blocks: cell c holds the codes of the sites
`p * cells + c`, one for each pass p (of a cube whose passes are its planes: a column). To weigh block p the cells load
the codes of a block, all at once, and pass them on in the same direction at once; so after moves that add up to an
offset each cell holds the code of the cell at that offset. The cells of a block are a ring by number: what leaves at
one end comes in at the other, where its weight is 0 if it is no neighbour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place", "Walk", "walk_of"]

Cell = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """How a cell gets its next code: it loads its own of the block that is `block` further on (modulo the passes), or,
    where that is None, takes the code of the cell `move` further on."""

    block: int | None
    move: int = 0


@dataclass(frozen=True)
class Walk:
    """The places that every block is weighed at; the first loads.

    `weights[i, p, c]`: weight of site `p * cells + c` for the code that cell c holds at place i. `side` is that of a
    block, `axes` the number of its dimensions.
    """

    places: tuple[Place, ...]
    weights: NDArray[np.int64]
    side: int
    axes: int

    @property
    def moves(self) -> tuple[int, ...]:
        """The different moves: neighbour wires of a cell."""
        return tuple(sorted({p.move for p in self.places if p.block is None}))


def walk_of(matrix: NDArray[np.int64], passes: int) -> Walk:
    """The shortest walk found that computes `matrix` `[sites, sites]` with blocks that are lines, squares or cubes."""
    sites = len(matrix)
    cells = -(-sites // passes)
    row, column = np.nonzero(matrix)
    block = (column // cells - row // cells) % passes
    offset = (column % cells - row % cells) % cells
    offsets_of = {int(q): sorted({int(r) for r in offset[block == q]}) for q in np.unique(block)} or {0: []}
    shapes = [(cells, 1)] + [(side, axes) for axes in (2, 3) for side in range(2, cells) if side**axes == cells]
    candidates = [
        ({q: _path(rs, cells, side, axes) for q, rs in offsets_of.items()}, side, axes) for side, axes in shapes
    ]
    paths, side, axes = min(candidates, key=lambda f: sum(len(path) for path in f[0].values()))
    places: list[Place] = []
    weights: list[NDArray[np.int64]] = []
    padded = np.zeros((cells * passes, cells * passes), np.int64)
    padded[:sites, :sites] = matrix
    own = np.arange(cells * passes)
    for q, path in paths.items():
        visited: set[int] = set()
        source = (own // cells + q) % passes * cells
        places += [Place(q), *(Place(None, b - a) for a, b in itertools.pairwise(path))]
        for at in path:
            fresh = at % cells not in visited
            visited.add(at % cells)
            weights.append(padded[own, source + (own + at) % cells] * fresh)
    return Walk(tuple(places), np.array(weights).reshape(-1, passes, cells), side, axes)


def _path(offsets: Iterable[int], cells: int, side: int, axes: int) -> list[int]:
    """Offsets in the order of visit, from 0, neighbours in turn: through the coordinates like a snake, or always on to
    what is nearest, whichever is shorter."""
    strides = [side**axis for axis in reversed(range(axes))]
    targets = {_coordinates(offset, cells, strides) for offset in offsets}
    snake = _tour(targets, axes, lambda target, at: _snake(target, side))
    nearest = _tour(targets, axes, lambda target, at: (_far(target, at), *_snake(target, side)))
    path = min(snake, nearest, key=len)
    return [sum(c * s for c, s in zip(at, strides, strict=True)) for at in path]


def _tour(targets: Iterable[Cell], axes: int, key: Callable[[Cell, Cell], tuple[int, ...]]) -> list[Cell]:
    """From the origin through all targets; the next one is always that of the smallest key."""
    at: Cell = (0,) * axes
    left, path = set(targets) - {at}, [at]
    while left:
        _, target = min((key(t, at), t) for t in left)
        while at != target:
            axis = next(a for a in reversed(range(len(at))) if at[a] != target[a])
            at = (*at[:axis], at[axis] + (1 if target[axis] > at[axis] else -1), *at[axis + 1 :])
            path.append(at)
            left.discard(at)
    return path


def _far(a: Cell, b: Cell) -> int:
    return sum(abs(i - j) for i, j in zip(a, b, strict=True))


def _coordinates(offset: int, cells: int, strides: list[int]) -> Cell:
    """The nearest displacement whose number is `offset` on the ring."""
    candidates = []
    for whole in (offset, offset - cells):
        rest, steps = whole, []
        for stride in strides:
            steps.append((2 * rest + stride) // (2 * stride))
            rest -= steps[-1] * stride
        candidates.append(tuple(steps))
    return min(candidates, key=lambda f: sum(map(abs, f)))


def _snake(displacement: Cell, side: int) -> Cell:
    """Sorting key of a boustrophedon: each axis turns round after every step of the one before."""
    key, forward = [], True
    for c in displacement:
        key.append(c if forward else -c)
        forward = (c + side) % 2 == 0 if forward else (c + side) % 2 != 0
    return tuple(key)
