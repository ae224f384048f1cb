"""Weights in flash: how the columns of a matrix are stored, and the C function that adds one column.

Every linear map becomes `acc[o] += delta * weight[o]` over the column of one operand entry: all of them (dense) or
those of the entries that changed (event). The storages differ in bytes and speed, never in the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...toolchain.ir import Interval
from .layout import CType, narrowest, signed

__all__ = ["Constant", "Matrix", "Pack", "matrix_of", "rows_of"]

Pack = Literal["auto", "2bit", "5trit", "int8"]
Codes = NDArray[np.int64]

TRITS = 5
PLANES = {2: (8, 4), 3: (16, 5), 4: (8, 2), 5: (16, 3), 6: (32, 5)}
"""Bits of a code: bits of a word, and codes in it. Codes of 7 or 8 bits take a byte each."""


@dataclass(frozen=True)
class Constant:
    """An array in flash."""

    name: str
    type: CType
    values: tuple[int, ...]

    @classmethod
    def of(cls, name: str, values: Codes, of_type: CType | None = None) -> Constant:
        flat = [int(v) for v in values.reshape(-1)]
        return cls(name, of_type or narrowest(Interval(min(flat), max(flat))), tuple(flat))


@dataclass(frozen=True)
class Matrix:
    """A stored matrix. `padded`: entries of an accumulator, at least the number of outputs; those behind stay 0.

    `body`: lines of the C function that adds a column, from the types of the accumulator and of the factor.
    """

    storage: str
    constants: tuple[Constant, ...]
    padded: int
    body: Callable[[CType, str], Sequence[str]]

    @property
    def bytes(self) -> int:
        return sum(c.type.bytes * len(c.values) for c in self.constants)


def matrix_of(name: str, columns: Codes, pack: Pack, data: str, *, sparse: bool = False) -> Matrix:
    """Storage of `columns` `[inputs, outputs]`; `data` is the C expression of the struct of constants.

    `auto`: lists of the nonzero weights where they take fewer bytes than the codes packed to their bits. `sparse`:
    lists in any case, for a map that reads few entries.
    """
    lists = _signs(name, columns, data) if np.abs(columns).max(initial=0) <= 1 else _lists(name, columns, data)
    if sparse:
        return lists
    packed = _packed(name, columns, pack, data)
    return lists if pack == "auto" and lists.bytes < packed.bytes else packed


def rows_of(name: str, columns: Codes, pack: Pack, data: str) -> Matrix | None:
    """Storage of `columns` [inputs, outputs] by rows, for a product with few outputs: `body` returns the product of one
    row with `x`, given the types of the sum and of x. None where `matrix_of` would store lists or trits, or a row is
    not made of whole words."""
    stored = matrix_of(name, columns, pack, data)
    rows = np.ascontiguousarray(columns.T)
    found = next((bits for bits in PLANES if stored.storage == f"{bits}-bit"), 0)
    if stored.storage.startswith("int"):
        codes = Constant.of(name, rows, stored.constants[0].type)
        words, terms = rows.shape[1], ["total += x[j] * w[j];"]
    elif found and rows.shape[1] % PLANES[found][1] == 0:
        codes, offset, words = _words(name, rows, found)
        terms = [f"total += x[j + {k * words}] * (T{_code(k, found)} - {offset});" for k in range(PLANES[found][1])]
    else:
        return None

    def body(total: CType, x: str) -> list[str]:
        head = f"    const {codes.type} *w = &{data}.{name}[row * {words}];"
        lines = [line.replace("x[", f"({total})x[").replace("(T(", f"(({total})(") for line in terms]
        return [head, f"    {total} total = 0;", *_loop(words, lines), "    return total;"]

    return Matrix(f"{stored.storage}, by rows", (codes,), len(rows), body)


def _packed(name: str, columns: Codes, pack: Pack, data: str) -> Matrix:
    low, high = int(columns.min()), int(columns.max())
    ternary = -1 <= low and high <= 1
    if ternary and pack == "5trit":
        return _trits(name, columns, data)
    bits = 2 if ternary else signed_bits(low, high)
    if pack == "int8" or bits not in PLANES:
        return _plain(name, columns, data)
    return _planes(name, columns, bits, data)


def signed_bits(low: int, high: int) -> int:
    """Bits of a two's-complement code that holds both."""
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length())


def _pad(columns: Codes, per: int) -> tuple[Codes, int]:
    """`columns` as `[inputs, plane, word]` with zeros behind, and the number of words of a column."""
    words = math.ceil(columns.shape[1] / per)
    padded = np.zeros((len(columns), per * words), np.int64)
    padded[:, : columns.shape[1]] = columns
    return padded.reshape(len(columns), per, words), words


def _loop(words: int, inner: Sequence[str]) -> list[str]:
    return [f"    for (size_t j = 0; j < {words}; j++) {{", *(f"        {line}" for line in inner), "    }"]


def _sum(acc: CType, target: str, term: str) -> str:
    return f"{target} = ({acc})({target} + {term});"


def _plain(name: str, columns: Codes, data: str) -> Matrix:
    codes = Constant.of(name, columns, signed(Interval(int(columns.min()), int(columns.max()))))
    outputs = columns.shape[1]

    def body(acc: CType, factor: str) -> list[str]:
        head = f"    const {codes.type} *w = &{data}.{name}[column * {outputs}];"
        return [head, *_loop(outputs, [_sum(acc, "acc[j]", "delta * w[j]")])]

    return Matrix(str(codes.type).removesuffix("_t"), (codes,), outputs, body)


def _planes(name: str, columns: Codes, bits: int, data: str) -> Matrix:
    """Code `k * words + j` of a column stands in bits `k * bits ..` of word j, plus `2**(bits - 1)`: a loop over j
    touches neighbours in every plane."""
    per = PLANES[bits][1]
    codes, offset, words = _words(name, columns, bits)

    def body(acc: CType, factor: str) -> list[str]:
        lines = []
        for k in range(per):
            code = f"({factor}){_code(k, bits)}"
            lines.append(_sum(acc, f"acc[j + {k * words}]", f"delta * ({code} - {offset})"))
        return [f"    const {codes.type} *w = &{data}.{name}[column * {words}];", *_loop(words, lines)]

    return Matrix(f"{bits}-bit", (codes,), per * words, body)


def _words(name: str, vectors: Codes, bits: int) -> tuple[Constant, int, int]:
    """Vectors packed in planes, the number that was added to each code, and the words of a vector."""
    width, per = PLANES[bits]
    split, words = _pad(vectors, per)
    # Ternary codes are stored plus 1; others in offset binary.
    offset = 1 if bits == 2 and int(vectors.min()) >= -1 else 1 << (bits - 1)
    packed = sum((split[:, k, :] + offset) << (k * bits) for k in range(per))
    return Constant.of(name, np.asarray(packed), CType(width, False)), offset, words


def _code(plane: int, bits: int) -> str:
    return f"(((uint32_t)w[j] >> {plane * bits}) & {(1 << bits) - 1}u)"


def _trits(name: str, columns: Codes, data: str) -> Matrix:
    """Five codes in a byte, base 3, the first of them the lowest digit; `x / 3` is `x * 171 >> 9` for x < 243."""
    split, words = _pad(columns, TRITS)
    packed = sum((split[:, k, :] + 1) * 3**k for k in range(TRITS))
    codes = Constant.of(name, np.asarray(packed), CType(8, False))

    def body(acc: CType, factor: str) -> list[str]:
        lines = ["const uint32_t r0 = w[j];"]
        for k in range(TRITS):
            digit = f"r{k}"
            if k + 1 < TRITS:
                lines.append(f"const uint32_t r{k + 1} = (r{k} * 171u) >> 9;")
                digit = f"r{k} - 3u * r{k + 1}"
            lines.append(_sum(acc, f"acc[j + {k * words}]", f"delta * (({factor})({digit}) - 1)"))
        return [f"    const uint8_t *w = &{data}.{name}[column * {words}];", *_loop(words, lines)]

    return Matrix("5-trit", (codes,), TRITS * words, body)


def _starts(name: str, counts: Codes) -> Constant:
    return Constant.of(f"{name}_start", np.concatenate([[0], np.cumsum(counts)]))


def _listed(values: Codes) -> Codes:
    """C has no empty array."""
    return values if values.size else np.zeros(1, np.int64)


def _signs(name: str, columns: Codes, data: str) -> Matrix:
    """For each column the outputs of its +1, then those of its -1."""
    rows = [np.flatnonzero(column == sign) for column in columns for sign in (1, -1)]
    start = _starts(name, np.array([len(r) for r in rows]))
    row = Constant.of(f"{name}_row", _listed(np.concatenate(rows)))

    def body(acc: CType, factor: str) -> list[str]:
        target = f"acc[{data}.{row.name}[j]]"
        return [
            f"    const {start.type} *start = &{data}.{start.name}[column * 2];",
            "    const size_t minus = (size_t)start[1], end = (size_t)start[2];",
            "    for (size_t j = (size_t)start[0]; j < end; j++) {",
            f"        {target} = ({acc})({target} + (j < minus ? delta : -delta));",
            "    }",
        ]

    return Matrix("lists of signs", (start, row), columns.shape[1], body)


def _lists(name: str, columns: Codes, data: str) -> Matrix:
    """For each column its nonzero weights and their outputs."""
    rows = [np.flatnonzero(column) for column in columns]
    start = _starts(name, np.array([len(r) for r in rows]))
    row = Constant.of(f"{name}_row", _listed(np.concatenate(rows)))
    weights = _listed(columns[columns != 0])
    codes = Constant.of(name, weights, signed(Interval(int(weights.min()), int(weights.max()))))

    def body(acc: CType, factor: str) -> list[str]:
        return [
            f"    const {start.type} *start = &{data}.{start.name}[column];",
            "    for (size_t j = (size_t)start[0]; j < (size_t)start[1]; j++) {",
            f"        const size_t o = (size_t){data}.{row.name}[j];",
            f"        {_sum(acc, 'acc[o]', f'delta * {data}.{codes.name}[j]')}",
            "    }",
        ]

    return Matrix("lists of weights", (start, row, codes), columns.shape[1], body)
