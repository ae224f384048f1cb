"""Rates of what a store holds, as the plan of its campaign allows to state them."""

from __future__ import annotations

import numpy as np

from ..faults.model import Population
from . import statistics
from .plan import Plan
from .store import Store, counted
from .strata import keys_of, shares

__all__ = ["rate_of"]


def rate_of(plan: Plan, population: Population, store: Store, where: str) -> statistics.Interval:
    """The rate of all faults for which the SQL condition `where` on a stored row holds, as the plan allows to state it:
    that of the population where strata were drawn alike."""
    hit = f"{counted()} AS faults, {counted(where)} AS hits"
    if plan.strata is None:
        table = store.query(f"SELECT {hit} FROM tally")
        return plan.interval(int(table["hits"][0]), int(table["faults"][0]))
    keys = keys_of(plan.strata)
    by = ", ".join(keys)
    table = store.query(f"SELECT {by}, {hit} FROM tally GROUP BY {by} ORDER BY {by}")
    whole = shares(population, keys)
    weights = np.array([whole[row] for row in zip(*(table[key].tolist() for key in keys), strict=True)])
    hits, faults = (table[name].astype(np.int64) for name in ("hits", "faults"))
    return statistics.stratified(hits, faults, weights, confidence=plan.confidence)
