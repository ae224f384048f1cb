"""Updates in turn: forms of the step in which later states, or later sites of a lattice, read the new values.

A step is a composition of operations, so an order of updates is the order in which new values are read: nothing else
changes. A tick is a whole sweep, a sample has settled when a whole sweep moved no code, and the certificate bounds the
sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...arrays import Reals
from ...ir import ops
from .build import Builder

__all__ = ["by_colour", "checkerboard", "even_odd", "in_turn"]

Update = Callable[[str, Mapping[str, str]], str]
"""`update(state, now)` adds the operations of a state's new value and returns it; `now` has the newest value of each
state by its name. Names of operations must differ from call to call."""


def even_odd(states: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The layers of a chain in two groups, each of which reads the other alone."""
    return states[::2], states[1::2]


def in_turn(b: Builder, groups: Sequence[Sequence[str]], update: Update) -> dict[str, str]:
    """Update the states of each group together, each group with the values that those before it made; returns the last
    values, which the states latch.

    One group is Jacobi, one state a group Gauss-Seidel, `even_odd` two colours. A state may be in several groups: a
    sweep forth and back.
    """
    names = list(dict.fromkeys(state for group in groups for state in group))
    now = {name: name for name in names}
    for group in groups:
        now |= {state: update(state, dict(now)) for state in group}
    for state in names:
        b.update(state, now[state])
    return now


def checkerboard(*shape: int) -> tuple[Reals, Reals]:
    """The two colours of a lattice `[*shape]`: 1 at sites whose indices have an even, or an odd sum, 0 elsewhere."""
    odd = np.indices(shape).sum(axis=0) % 2
    return 1.0 - odd, odd.astype(np.float64)


def by_colour(b: Builder, out: str, state: str, colours: Sequence[Reals], update: Callable[[str, str], str]) -> str:
    """The sites of each colour in turn: `update(name, now)` adds operations under names that begin with `name` and
    returns the new value of every site, of which those of the colour are kept.

    `colours` are 0 or 1 and broadcast to the state's shape. All sites are computed for each colour: a state for each
    colour and `in_turn` compute half of them, and have a certificate where this has none.
    """
    now = state
    for i, colour in enumerate(colours):
        mine = b.flags(f"{out}_colour{i}", colour, "derived: sites of a colour")
        last = i == len(colours) - 1
        new = update(f"{out}{i}", now)
        now = b.emit(ops.Select(out=out if last else f"{out}_swept{i}", condition=mine, a=new, b=now))
    return now
