"""Faults as the columns of the kernel, by tick, then by the unit hit first: those of one unit live about as long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic, UsageError
from ....toolchain.ir import IntNet
from ..table import FaultTable, Place
from .source import SLOT

__all__ = ["Columns", "columns_of"]

_LARGE = (1 << 31) - 1
"""Beyond every code that the kernel holds: states have at most 16 bits, and `add` saturates."""
_ELSEWHERE = "is no upset of a state, nor one of a matrix's weight or sum or of the drive"

Columns = dict[str, NDArray[np.int32]]
"""`sample`, `tick` `[rows]` and the fields of `SLOT` `[rows, slots]`, int32."""


def columns_of(table: FaultTable, net: IntNet, samples: int, ticks: int) -> tuple[Columns, NDArray[np.intp], int]:
    """The columns, the row of the table of each (`[rows]` intp), and the number of slots.

    Raises UsageError for faults that are no upsets of states in one tick each, and for words that the net lacks.
    """
    faults, upsets = table.faults, table.upsets
    states = {s.name: i for i, s in enumerate(net.states)}
    numbers = np.array([states.get(n, -1) for n in table.names], np.int32)
    owner = np.repeat(np.arange(len(faults)), faults["count"])
    state = numbers[upsets["name"]] if len(numbers) else np.zeros(0, np.int32)
    sizes = np.array([int(np.prod(s.shape)) for s in net.states])
    bits = np.array([net.formats[s.name].bits for s in net.states])
    reach = upsets["flip"] | upsets["one"] | upsets["zero"]
    wrong = [
        _fault(_ELSEWHERE, upsets["place"] != Place.STATE, table, owner),
        _fault("names no state of the net", (upsets["place"] == Place.STATE) & (state < 0), table, owner),
        _fault("is outside its state", (state >= 0) & (upsets["index"] >= sizes[state]), table, owner),
        _fault("disturbs a bit that its word has not", (state >= 0) & (reach >> bits[state] != 0), table, owner),
        _fault("holds a state", upsets["held"], table, owner),
        _fault("lasts for more than one tick", upsets["first"] != upsets["last"], table, owner),
        _fault("acts in several ticks", upsets["first"] != faults["tick"][owner], table, owner),
        _fault(f"is later than tick {ticks}", upsets["first"] > ticks, table, owner),
        _fault(f"is in none of the {samples} samples", (faults["sample"] >= samples)[owner], table, owner),
    ]
    faults_found = [d for d in wrong if d is not None]
    if faults_found:
        raise UsageError(faults_found)
    first = np.zeros((2, len(faults)), np.int64)
    some = faults["count"] > 0
    first[:, some] = upsets["index"][faults["start"][some]], upsets["name"][faults["start"][some]]
    order = np.lexsort((*first, faults["tick"]))
    slots = int(faults["count"].max(initial=1))
    columns: Columns = {"sample": faults["sample"][order], "tick": faults["tick"][order]}
    place = np.arange(len(upsets)) - np.repeat(faults["start"], faults["count"])
    for field in SLOT:
        held = np.full((len(faults), slots), -1 if field == "state" else 0, np.int32)
        held[owner, place] = state if field == "state" else np.clip(upsets[field], -_LARGE, _LARGE).astype(np.int32)
        columns[field] = held[order]
    return columns, order, slots


def _fault(what: str, where: NDArray[np.bool_], table: FaultTable, owner: NDArray[np.intp]) -> Diagnostic | None:
    if not where.any():
        return None
    first = table[int(owner[int(where.argmax())])]
    hint = "the engines `fast` and `golden` take every fault"
    return Diagnostic("gpu-fault", f"{int(where.sum())} upsets: the first {what}", str(first), hint)
