"""Weights in flash: how the columns of a matrix are stored, and the C function that adds one column.

Every linear map becomes `acc[o] += delta * weight[o]` over the column of one operand entry: all of them (dense) or
those of the entries that changed (event). The storages differ in bytes and speed, never in the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ...toolchain.ir import Interval
from .lanes import FEWEST, Lanes
from .layout import CType, signed
from .storage import Constant, Entries, Integers, Matrix, added, least_bytes, lists_of

__all__ = ["Pack", "matrix_of", "rows_of"]

Pack = Literal["auto", "2bit", "5trit", "int8"]

TRITS = 5
PLANES = {2: (8, 4), 3: (16, 5), 4: (8, 2), 5: (16, 3), 6: (32, 5)}
"""Bits of a code: bits of a word, and codes in it. Codes of 7 or 8 bits take a byte each."""
HALVES = {2: (16, 8), 3: (16, 5), 4: (16, 4), 5: (16, 3)}
"""The same of words that fill the lanes of vector registers, where a column is made of such."""


def matrix_of(name: str, columns: Integers, pack: Pack, data: str) -> Matrix:
    """Storage of `columns` `[inputs, outputs]`; `data` is the C expression of the struct of constants.

    `auto`: lists of the nonzero weights where they take fewer bytes than the codes packed to their bits.
    """
    packed = _packed(name, columns, pack, data)
    if pack != "auto" or packed.bytes <= least_bytes(columns):
        return packed
    lists = lists_of(name, Entries.of(columns), data)
    return lists if lists.bytes < packed.bytes else packed


def rows_of(name: str, columns: Integers, pack: Pack, data: str) -> Matrix | None:
    """Storage of `columns` [inputs, outputs] by rows, for a product with few outputs: `body` returns the product of one
    row with `x`, given the types of the sum and of x. None where `matrix_of` would store lists or trits, or a row is
    not made of whole words."""
    stored = matrix_of(name, columns, pack, data)
    rows = np.ascontiguousarray(columns.T)
    found = next((bits for bits in PLANES if stored.storage == f"{bits}-bit"), 0)
    if stored.storage.startswith("int"):
        codes = Constant.of(name, rows, stored.constants[0].type)
        words, terms = rows.shape[1], ["total += x[j] * w[j];"]
    elif found and rows.shape[1] % _layout(found, rows.shape[1])[1] == 0:
        codes, offset, words = _words(name, rows, found)
        per = rows.shape[1] // words
        terms = [f"total += x[j + {k * words}] * (T{_code(k, found)} - {offset});" for k in range(per)]
    else:
        return None

    def body(total: CType, x: str) -> list[str]:
        head = f"    const {codes.type} *w = &{data}.{name}[row * {words}];"
        lines = [line.replace("x[", f"({total})x[").replace("(T(", f"(({total})(") for line in terms]
        return [head, f"    {total} total = 0;", *_loop(words, lines), "    return total;"]

    return Matrix(f"{stored.storage}, by rows", (codes,), len(rows), body)


def _packed(name: str, columns: Integers, pack: Pack, data: str) -> Matrix:
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


def _pad(columns: Integers, per: int) -> tuple[Integers, int]:
    """`columns` as `[inputs, plane, word]` with zeros behind, and the number of words of a column."""
    words = math.ceil(columns.shape[1] / per)
    padded = np.zeros((len(columns), per * words), np.int8)
    padded[:, : columns.shape[1]] = columns
    return padded.reshape(len(columns), per, words), words


def _loop(words: int, inner: Sequence[str]) -> list[str]:
    return [f"    for (size_t j = 0; j < {words}; j++) {{", *(f"        {line}" for line in inner), "    }"]


def _plain(name: str, columns: Integers, data: str) -> Matrix:
    codes = Constant.of(name, columns, signed(Interval(int(columns.min()), int(columns.max()))))
    outputs = columns.shape[1]

    def body(acc: CType, factor: str) -> list[str]:
        head = f"    const {codes.type} *w = &{data}.{name}[column * {outputs}];"
        return [head, *_loop(outputs, [added(acc, "acc[j]", "delta * w[j]")])]

    return Matrix(str(codes.type).removesuffix("_t"), (codes,), outputs, body)


def _planes(name: str, columns: Integers, bits: int, data: str) -> Matrix:
    """Code `k * words + j` of a column stands in bits `k * bits ..` of word j, plus `2**(bits - 1)`: a loop over j
    touches neighbours in every plane."""
    per = _layout(bits, columns.shape[1])[1]
    codes, offset, words = _words(name, columns, bits)
    lanes = Lanes(f"{data}.{name}", words, bits, offset) if codes.type.bits == 16 and words % FEWEST == 0 else None

    def body(acc: CType, factor: str) -> list[str]:
        lines = []
        for k in range(per):
            code = f"({factor}){_code(k, bits)}"
            lines.append(added(acc, f"acc[j + {k * words}]", f"delta * ({code} - {offset})"))
        return [f"    const {codes.type} *w = &{data}.{name}[column * {words}];", *_loop(words, lines)]

    return Matrix(f"{bits}-bit", (codes,), per * words, body, lanes)


def _layout(bits: int, length: int) -> tuple[int, int]:
    """Bits of a word, and codes in it, for vectors of so many codes."""
    word, per = HALVES.get(bits, (0, 1))
    return (word, per) if word and length % (per * FEWEST) == 0 else PLANES[bits]


def _words(name: str, vectors: Integers, bits: int) -> tuple[Constant, int, int]:
    """Vectors packed in planes, the number that was added to each code, and the words of a vector."""
    width, per = _layout(bits, vectors.shape[1])
    split, words = _pad(vectors, per)
    # Ternary codes are stored plus 1; others in offset binary.
    offset = 1 if bits == 2 and int(vectors.min()) >= -1 else 1 << (bits - 1)
    word = CType(width, False)
    packed = np.zeros((len(vectors), words), word.dtype)
    for k in range(per):
        packed |= (split[:, k, :] + offset).astype(word.dtype) << word.dtype.type(k * bits)
    return Constant.of(name, packed, word), offset, words


def _code(plane: int, bits: int) -> str:
    return f"(((uint32_t)w[j] >> {plane * bits}) & {(1 << bits) - 1}u)"


def _trits(name: str, columns: Integers, data: str) -> Matrix:
    """Five codes in a byte, base 3, the first of them the lowest digit; `x / 3` is `x * 171 >> 9` for x < 243."""
    split, words = _pad(columns, TRITS)
    packed = np.zeros((len(columns), words), np.uint8)
    for k in range(TRITS):
        packed += (split[:, k, :] + 1).astype(np.uint8) * np.uint8(3**k)
    codes = Constant.of(name, packed, CType(8, False))

    def body(acc: CType, factor: str) -> list[str]:
        lines = ["const uint32_t r0 = w[j];"]
        for k in range(TRITS):
            digit = f"r{k}"
            if k + 1 < TRITS:
                lines.append(f"const uint32_t r{k + 1} = (r{k} * 171u) >> 9;")
                digit = f"r{k} - 3u * r{k + 1}"
            lines.append(added(acc, f"acc[j + {k * words}]", f"delta * (({factor})({digit}) - 1)"))
        return [f"    const uint8_t *w = &{data}.{name}[column * {words}];", *_loop(words, lines)]

    return Matrix("5-trit", (codes,), TRITS * words, body)
