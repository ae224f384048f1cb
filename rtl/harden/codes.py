"""Check bits of stored words: parity, and Hamming's code with an overall parity bit (SECDED), for any width.

| code | check bits of w bits | one wrong bit | two | an odd number |
|---|---|---|---|---|
| parity | 1 | found | missed | found |
| SECDED | r + 1, least r with 2^r >= w + r + 1 | repaired | found | taken for one and misrepaired, or found |

SECDED: R. W. Hamming, Error detecting and error correcting codes, Bell System Technical Journal 29 (1950). A stored
word is the data with its check bits above; data bit number i has the i-th position that is no power of two, the check
bits those that are, and the highest bit makes the whole word even.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal, Value

__all__ = ["Checked", "Code", "Parity", "Secded", "code_of"]


@dataclass(frozen=True)
class Checked:
    """What a stored word reads as. `corrected`: one bit was wrong and is repaired in `data` and in `word`, the stored
    word as it should be; `detected`: more were, and `data` may be wrong."""

    data: Value
    word: Value
    corrected: Value
    detected: Value


@dataclass(frozen=True)
class Code(ABC):
    """A code for words of `width` bits (at least 1)."""

    width: int

    @property
    @abstractmethod
    def check_bits(self) -> int:
        """Bits stored above the data."""

    @abstractmethod
    def check(self, data: Value) -> Value:
        """The check bits of a word."""

    @abstractmethod
    def read(self, m: Module, word: Value) -> Checked:
        """A stored word, checked by logic of the module."""

    def encode(self, data: Value) -> Value:
        """The word to store."""
        return Cat(data, self.check(data))

    def encoded(self, data: int) -> int:
        """`encode` of a number, for initial contents."""
        return data | self.checks(data) << self.width

    @abstractmethod
    def checks(self, data: int) -> int:
        """`check` of a number, computed apart from the hardware."""


@dataclass(frozen=True)
class Parity(Code):
    """One bit makes the number of ones even."""

    @property
    def check_bits(self) -> int:
        return 1

    def check(self, data: Value) -> Value:
        return data.xor()

    def checks(self, data: int) -> int:
        return data.bit_count() & 1

    def read(self, m: Module, word: Value) -> Checked:
        return Checked(word[: self.width], word, Const(0, 1), word.xor())


@dataclass(frozen=True)
class Secded(Code):
    """Single errors repaired, double errors found."""

    @property
    def hamming_bits(self) -> int:
        bits = 1
        while 1 << bits < self.width + bits + 1:
            bits += 1
        return bits

    @property
    def check_bits(self) -> int:
        return self.hamming_bits + 1

    @property
    def positions(self) -> tuple[int, ...]:
        """Of each data bit, and behind them of the check bits."""
        checks = [1 << i for i in range(self.hamming_bits)]
        data = [n for n in range(1, self.width + len(checks) + 1) if n & (n - 1)]
        return (*data, *checks)

    def check(self, data: Value) -> Value:
        hamming = self._parities(data)
        return Cat(hamming, data.xor() ^ hamming.xor())

    def checks(self, data: int) -> int:
        hamming = 0
        for bit, position in enumerate(self.positions[: self.width]):
            hamming ^= position if data >> bit & 1 else 0
        return hamming | ((data.bit_count() + hamming.bit_count()) & 1) << self.hamming_bits

    def _parities(self, bits: Value) -> Value:
        """The exclusive or of the positions of the bits that are set."""
        places = list(enumerate(self.positions[: len(bits)]))
        return Cat(Cat(bits[i] for i, at in places if at >> k & 1).xor() for k in range(self.hamming_bits))

    def read(self, m: Module, word: Value) -> Checked:
        syndrome, odd, known = Signal(self.hamming_bits), Signal(), Signal()
        here, fixed = Signal(len(self.positions)), Signal(len(word))
        m.d.comb += [
            syndrome.eq(self._parities(word[:-1])),
            odd.eq(word.xor()),
            here.eq(Cat(syndrome == at for at in self.positions)),
            # A syndrome of no position: at least three bits are wrong.
            known.eq(here.any() | (syndrome == 0)),
            fixed.eq(word ^ Cat(here & odd.replicate(len(here)), odd & (syndrome == 0))),
        ]
        return Checked(fixed[: self.width], fixed, odd & known, Mux(odd, ~known, syndrome != 0))


def code_of(mechanisms: Collection[str], width: int) -> Code | None:
    """The code that hardening puts on words of `width` bits."""
    return Parity(width) if "parity" in mechanisms else Secded(width) if "secded" in mechanisms else None
