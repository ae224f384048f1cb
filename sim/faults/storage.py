"""How constants stand in memory: which codes change when bits of a stored word do.

| storage | a word | reads back |
|---|---|---|
| plain | one code in two's complement | 2-bit weights as the serial core does: 01 is +1, 11 is -1, 00 and 10 are 0 |
| 2bit | one ternary code of target `c`, two bits, stored plus 1 | 3 is +2 |
| 5trit | 5 ternary codes of a byte of target `c`, base 3, plus 1 each | the last digit of 243..255 is 3: +2 |

Widths of `plain`: all weights of a net have the narrowest of 2, 4, 8 and 16 bits that holds the largest (the serial
core has one weight memory), a table has the format of the value that reads it, other constants the narrowest format of
their codes. Faults of a `plain` word are bits of the upset itself; those of a packed word are sums (`add`) to codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic, UnsupportedError
from ...toolchain.ir import Format, IntNet, ops
from .table import Upset

__all__ = [
    "Packing",
    "Store",
    "Word",
    "boolean",
    "changed",
    "param_words",
    "read_back",
    "store_of",
    "weight_names",
    "wrap",
]

Codes = NDArray[np.int64]
Code = TypeVar("Code", int, Codes)
Packing = Literal["plain", "2bit", "5trit"]

_CODE_BITS: Final = (2, 4, 8, 16)
_TRITS: Final = 5


@dataclass(frozen=True)
class Word:
    """A word of `format`; `ternary` says that it is read as a 2-bit weight, `exact` that `add` has no bounds."""

    format: Format
    ternary: bool = False
    exact: bool = False


boolean: Final = Word(Format(1, False))


def wrap(value: Code, fmt: Format) -> Code:
    """The code that the lowest bits of an integer, or of an array of them `[...]` int64, hold."""
    low = value & ((1 << fmt.bits) - 1)
    if not fmt.signed:
        return low
    sign = 1 << (fmt.bits - 1)
    return (low ^ sign) - sign


def changed(code: int, upset: Upset, word: Word, *, saturate: bool) -> int:
    """What an upset makes of a code: its bits, then its sum."""
    fmt = word.format
    read = code
    # A constant may hold a code that its word cannot (`add` put it there): without bits to change it stays.
    if upset.flip or upset.one or upset.zero:
        read = read_back(((code & ((1 << fmt.bits) - 1)) ^ upset.flip | upset.one) & ~upset.zero, word)
    total = read + upset.add
    if word.exact:
        return total
    return min(max(total, fmt.lo), fmt.hi) if saturate else wrap(total, fmt)


def read_back(bits: Code, word: Word) -> Code:
    """The code of a stored word, or of an array of them `[...]` int64. The serial core reads a 2-bit weight so: the low
    bit says that there is one, the high bit its sign."""
    return (bits & 1) * (1 - (bits & 2)) if word.ternary else wrap(bits, word.format)


def weight_names(net: IntNet) -> tuple[str, ...]:
    """Parameters that hold weights, in the order of the operations that read them."""
    named = (op.weight for op in net.all_ops() if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv)))
    return tuple(dict.fromkeys(named))


def param_words(net: IntNet) -> dict[str, Word]:
    """The plain word of every parameter but indices of stencils, which are wiring."""
    weights = weight_names(net)
    largest = max((int(np.abs(net.param(n)).max(initial=0)) for n in weights), default=0)
    code = next((bits for bits in _CODE_BITS if largest < 1 << (bits - 1)), None)
    words = {p.name: Word(_narrowest(net.param(p.name)), exact=True) for p in net.params}
    for name in weights:
        fmt = words[name].format if code is None else Format(code, True)
        words[name] = Word(fmt, ternary=code == 2, exact=True)
    for op in net.all_ops():
        match op:
            case ops.Lookup(table=t) | ops.Interpolate(base=t):
                words[t] = Word(net.formats[op.out], exact=True)
            case ops.Stencil(index=i):
                words.pop(i, None)
    return words


def _narrowest(value: Codes) -> Format:
    return Format.holding(int(value.min(initial=0)), int(value.max(initial=0)))


@dataclass(frozen=True)
class Changes:
    """Upsets of one parameter, by column: `owner` counts in the words asked for, ascending."""

    owner: NDArray[np.intp]
    index: Codes
    flip: Codes
    add: Codes


class Store(ABC):
    """A parameter in memory: `words` of `bits` each."""

    words: int
    bits: int

    @abstractmethod
    def changes(self, words: Codes, masks: Codes) -> Changes:
        """What flipping the bits `masks` of `words` does, each for itself."""


class _Plain(Store):
    def __init__(self, value: Codes, word: Word) -> None:
        self.words, self.bits = value.size, word.format.bits

    def changes(self, words: Codes, masks: Codes) -> Changes:
        return Changes(np.arange(len(words)), words, masks, np.zeros_like(words))


class _Pairs(Store):
    """Ternary codes of target `c`, two bits each: a word is one code, so that no word is padding."""

    bits = 2

    def __init__(self, value: Codes) -> None:
        self.codes, self.words = value.reshape(-1), value.size

    def changes(self, words: Codes, masks: Codes) -> Changes:
        codes = self.codes[words]
        return Changes(np.arange(len(words)), words, np.zeros_like(words), ((codes + 1) ^ masks) - 1 - codes)


class _Trits(Store):
    """Ternary codes of a linear map in the bytes of target `c`: byte `column * rows + j` holds code `k * rows + j` of a
    column as its k-th digit; codes behind the last output are padding."""

    bits = 8

    def __init__(self, value: Codes) -> None:
        outputs, inputs = value.shape
        rows = -(-outputs // _TRITS)
        self.words = inputs * rows
        padded = np.zeros((inputs, _TRITS * rows), np.int64)
        padded[:, :outputs] = value.T
        self.codes = padded.reshape(inputs, _TRITS, rows).transpose(0, 2, 1).reshape(self.words, _TRITS)
        column, row = np.divmod(np.arange(self.words), rows)
        output = np.arange(_TRITS)[None, :] * rows + row[:, None]
        self.index = np.where(output < outputs, output * inputs + column[:, None], -1)

    def changes(self, words: Codes, masks: Codes) -> Changes:
        codes, index = self.codes[words], self.index[words]
        stored = ((codes + 1) * 3 ** np.arange(_TRITS)).sum(axis=1)
        add = _trits(stored ^ masks) - codes
        owner, place = np.nonzero((add != 0) & (index >= 0))
        return Changes(owner, index[owner, place], np.zeros(len(owner), np.int64), add[owner, place])


def _trits(stored: Codes) -> Codes:
    """The codes of bytes as the C reads them: the quotient by 3 is `x * 171 >> 9`, the last digit is what is left."""
    digits, left = [], stored
    for _ in range(_TRITS - 1):
        quotient = (left * 171) >> 9
        digits.append(left - 3 * quotient)
        left = quotient
    return np.asarray(np.stack([*digits, left], axis=1) - 1)


def store_of(net: IntNet, name: str, packing: Packing, words: Mapping[str, Word]) -> Store:
    """The memory of a parameter; UnsupportedError if it cannot be packed so."""
    value = net.param(name)
    if packing == "plain":
        return _Plain(value, words[name])
    linear = all(isinstance(op, ops.Linear) for op in net.all_ops() if name in op.reads)
    if not linear or name not in weight_names(net) or int(np.abs(value).max(initial=0)) > 1:
        what = f"{name} is no ternary matrix of linear maps alone: it cannot be packed as {packing}"
        raise UnsupportedError(Diagnostic("fault-packing", what, net.name, "packing plain takes every constant"))
    return _Pairs(value) if packing == "2bit" else _Trits(value)
