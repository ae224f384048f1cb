"""Arrays in flash: constants, their literals, and matrices as lists of the weights that are not zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import Interval
from ...toolchain.passes import Taps
from .lanes import Lanes
from .layout import CType, narrowest, signed

__all__ = ["Constant", "Entries", "Integers", "Matrix", "added", "least_bytes", "lists_of"]

Integers = NDArray[np.integer[Any]]
"""Codes in whatever type holds them: a large matrix is nowhere eight bytes a code."""

_LINE = 112
_INDENT = 8
_PART = 1 << 14
"""Literals that are text at once."""


@dataclass(frozen=True, eq=False)
class Constant:
    """An array in flash; `values` [entries] in the dtype of `type`."""

    name: str
    type: CType
    values: Integers

    @classmethod
    def of(cls, name: str, values: Integers, of_type: CType | None = None) -> Constant:
        made = of_type or narrowest(Interval(int(values.min()), int(values.max())))
        return cls(name, made, values.reshape(-1).astype(made.dtype, copy=False))

    def lines(self) -> Iterator[str]:
        """Literals, each line as full as it may be, all but the last with its newline; a part of them at a time."""
        rest = ""
        for first in range(0, len(self.values), _PART):
            text = rest + ", ".join(_literals(self.values[first : first + _PART], self.type.bits)) + ", "
            ends = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) == ord(",")) + 2
            start = 0
            while True:
                # The blank behind the last comma takes no place, nor does that comma.
                last = int(np.searchsorted(ends, start + _LINE - _INDENT, "right"))
                if last == len(ends):
                    break
                yield f"{' ' * _INDENT}{text[start : ends[last - 1] - 1]}\n"
                start = int(ends[last - 1])
            rest = text[start:]
        yield f"{' ' * _INDENT}{rest.rstrip()}"


def _literals(values: Integers, bits: int) -> Iterator[str]:
    if bits < 64:
        return map(str, values.tolist())
    return (str(v) if abs(v) < 1 << 31 else f"{'-' * (v < 0)}INT64_C({abs(v)})" for v in values.tolist())


@dataclass(frozen=True)
class Matrix:
    """A stored matrix. `padded`: entries of an accumulator, at least the number of outputs; those behind stay 0.

    `body`: lines of the C function that adds a column, from the types of the accumulator and of the factor. `lanes`:
    where its columns fill vector registers.
    """

    storage: str
    constants: tuple[Constant, ...]
    padded: int
    body: Callable[[CType, str], Sequence[str]]
    lanes: Lanes | None = None

    @property
    def bytes(self) -> int:
        return sum(c.type.bytes * len(c.values) for c in self.constants)


def added(acc: CType, target: str, term: str) -> str:
    """The C statement that adds a term to an accumulator."""
    return f"{target} = ({acc})({target} + {term});"


@dataclass(frozen=True, eq=False)
class Entries:
    """Weights that are not zero, column by column, rows ascending: `column`, `row` and `weight` [entries] each, of a
    matrix with `inputs` columns and `outputs` rows."""

    inputs: int
    outputs: int
    column: Integers
    row: Integers
    weight: Integers

    @classmethod
    def of(cls, columns: Integers) -> Entries:
        """Those of `columns` [inputs, outputs]."""
        column, row = np.nonzero(columns)
        inputs, outputs = columns.shape
        return cls(inputs, outputs, column, row, columns[column, row])

    @classmethod
    def of_taps(cls, taps: Taps[np.int64]) -> Entries:
        """Those of a linear map."""
        order = np.argsort(taps.column, kind="stable")
        outputs, inputs = taps.shape
        return cls(inputs, outputs, taps.column[order], taps.row[order], taps.weight[order])


def least_bytes(columns: Integers) -> int:
    """Fewer bytes than these lists of `columns` [inputs, outputs] cannot take: a row for each entry that is not zero,
    a weight where one is above 1, and a byte for each start of a list."""
    signs = -1 <= int(columns.min(initial=0)) and int(columns.max(initial=0)) <= 1
    return int(np.count_nonzero(columns)) * (1 if signs else 2) + len(columns) * (2 if signs else 1) + 1


def lists_of(name: str, entries: Entries, data: str) -> Matrix:
    """Entries as lists, one a column; `data` is the C expression of the struct of constants."""
    signs = -1 <= int(entries.weight.min(initial=0)) and int(entries.weight.max(initial=0)) <= 1
    return (_signs if signs else _lists)(name, entries, data)


def _starts(name: str, place: Integers, count: int) -> Constant:
    """Where each of `count` lists begins, and where the last one ends; `place`: the list of every entry."""
    return Constant.of(f"{name}_start", np.concatenate([[0], np.cumsum(np.bincount(place, minlength=count))]))


def _listed(values: Integers) -> Integers:
    """C has no empty array."""
    return values if values.size else np.zeros(1, np.int64)


def _signs(name: str, entries: Entries, data: str) -> Matrix:
    """For each column the outputs of its +1, then those of its -1."""
    place = 2 * entries.column.astype(np.int64) + (entries.weight < 0)
    order = np.argsort(place, kind="stable")
    start = _starts(name, place, 2 * entries.inputs)
    row = Constant.of(f"{name}_row", _listed(entries.row[order]))

    def body(acc: CType, factor: str) -> list[str]:
        target = f"acc[{data}.{row.name}[j]]"
        return [
            f"    const {start.type} *start = &{data}.{start.name}[column * 2];",
            "    const size_t minus = (size_t)start[1], end = (size_t)start[2];",
            "    for (size_t j = (size_t)start[0]; j < end; j++) {",
            f"        {target} = ({acc})({target} + (j < minus ? delta : -delta));",
            "    }",
        ]

    return Matrix("lists of signs", (start, row), entries.outputs, body)


def _lists(name: str, entries: Entries, data: str) -> Matrix:
    """For each column its nonzero weights and their outputs."""
    start = _starts(name, entries.column, entries.inputs)
    row = Constant.of(f"{name}_row", _listed(entries.row))
    weights = _listed(entries.weight)
    codes = Constant.of(name, weights, signed(Interval(int(weights.min()), int(weights.max()))))

    def body(acc: CType, factor: str) -> list[str]:
        return [
            f"    const {start.type} *start = &{data}.{start.name}[column];",
            "    for (size_t j = (size_t)start[0]; j < (size_t)start[1]; j++) {",
            f"        const size_t o = (size_t){data}.{row.name}[j];",
            f"        {added(acc, 'acc[o]', f'delta * {data}.{codes.name}[j]')}",
            "    }",
        ]

    return Matrix("lists of weights", (start, row, codes), entries.outputs, body)
