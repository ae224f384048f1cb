"""Upsets of points: what a disturbed word of each kind of site is in the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import IntNet
from .circuit import Circuit
from .model import Columns, Points, Population
from .storage import Packing, store_of
from .table import FaultTable, Place

__all__ = ["flips", "windows"]

Codes = NDArray[np.int64]


def windows(population: Population, points: Points, ticks: int) -> tuple[Codes, Codes, Codes]:
    """Place, first and last tick `[points]` in which the words of `points` are wrong: memory until the end, others
    once."""
    place = np.array([s.place for s in population.sites], np.int64)[points.site]
    return place, points.tick, np.where(place == Place.PARAM, ticks, points.tick)


def flips(
    net: IntNet, population: Population, points: Points, masks: Codes, *, ticks: int, held: bool, packing: Packing
) -> FaultTable:
    """One fault for each point: the bits `masks` `[points]` of its word flip. `held`: in an accumulator of the step for
    good."""
    place, first, last = windows(population, points, ticks)
    sites = population.sites
    names = [s.target for s in sites]
    stepped = np.array([held and s.name.startswith("accumulator:") and s.first == 0 for s in sites])[points.site]
    last = np.where(stepped, ticks - 1, last)
    owner = np.arange(len(points.site))
    index, flip, add = points.unit, masks, np.zeros(len(owner), np.int64)
    packed = place == Place.PARAM
    if packing != "plain" and packed.any():
        owner, index, flip, add = _packed(net, population, points, masks, packing)
    columns = Columns(
        owner=owner,
        place=place[owner],
        name=points.site[owner],
        index=index,
        first=first[owner],
        last=last[owner],
        flip=flip,
        add=add,
        held=stepped[owner],
    )
    return columns.table(names, [s.name for s in sites], points)


def _packed(
    net: IntNet, population: Population, points: Points, masks: Codes, packing: Packing
) -> tuple[Codes, Codes, Codes, Codes]:
    words = {name: word for (place, name), word in Circuit.of(net).words.items() if place is Place.PARAM}
    parts: list[tuple[Codes, Codes, Codes, Codes]] = []
    for number, site in enumerate(population.sites):
        here = np.flatnonzero(points.site == number)
        if site.place is Place.PARAM and site.name.startswith("weight:"):
            found = store_of(net, site.target, packing, words).changes(points.unit[here], masks[here])
            parts.append((here[found.owner], found.index, found.flip, found.add))
        else:
            parts.append((here, points.unit[here], masks[here], np.zeros(len(here), np.int64)))
    owner, index, flip, add = (np.concatenate([p[i] for p in parts]) for i in range(4))
    order = np.argsort(owner, kind="stable")
    return owner[order], index[order], flip[order], add[order]
