"""C integer types, and the bytes of the two structs that hold everything: the state in RAM, the constants in flash.

Both structs are padded by hand: fields by falling size, then bytes up to a multiple of eight. So no ABI adds padding of
its own, and `sizeof`, which the source asserts, is known without a compiler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...toolchain.ir import Interval
from .values import Names

__all__ = ["ALIGNMENT", "CType", "Field", "Group", "narrowest", "signed"]

ALIGNMENT = 8


@dataclass(frozen=True)
class CType:
    """An exact-width type of <stdint.h>; its name is `str()`."""

    bits: int
    is_signed: bool

    def __str__(self) -> str:
        return f"{'' if self.is_signed else 'u'}int{self.bits}_t"

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        return np.dtype(f"{'' if self.is_signed else 'u'}int{self.bits}")

    @property
    def interval(self) -> Interval:
        if self.is_signed:
            return Interval(-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        return Interval(0, (1 << self.bits) - 1)


SIGNED = tuple(CType(bits, True) for bits in (8, 16, 32, 64))
UNSIGNED = tuple(CType(bits, False) for bits in (8, 16, 32))


def narrowest(x: Interval) -> CType:
    """The smallest type that holds `x`, signed if it serves. Never unsigned of 64 bits: values have at most 63."""
    found = [t for t in (*SIGNED, *UNSIGNED) if x.within(t.interval)]
    return min(found, key=lambda t: (t.bits, not t.is_signed))


def signed(x: Interval) -> CType:
    """The smallest signed type that holds `x`."""
    return next(t for t in SIGNED if x.within(t.interval))


@dataclass(frozen=True)
class Field:
    """An array of `count` codes."""

    name: str
    type: CType
    count: int
    comment: str = ""

    @property
    def bytes(self) -> int:
        return self.type.bytes * self.count

    def declaration(self, indent: str) -> str:
        comment = f"  /* {self.comment} */" if self.comment else ""
        return f"{indent}{self.type} {self.name}[{self.count}];{comment}"


@dataclass
class Group:
    """Fields of a struct, grown while code is written."""

    fields: list[Field] = field(default_factory=list)
    names: Names = field(default_factory=Names)

    def add(self, made: Field) -> None:
        self.fields.append(made)

    @property
    def ordered(self) -> Sequence[Field]:
        return sorted(self.fields, key=lambda f: -f.type.bytes)

    @property
    def bytes(self) -> int:
        """Size of the struct with its padding."""
        return math.ceil(sum(f.bytes for f in self.fields) / ALIGNMENT) * ALIGNMENT

    @property
    def padding(self) -> int:
        return self.bytes - sum(f.bytes for f in self.fields)

    def declarations(self, indent: str) -> list[str]:
        """One line a field, the padding included."""
        pad = [Field(self.names.free("padding"), UNSIGNED[0], self.padding)] if self.padding else []
        return [f.declaration(indent) for f in [*self.ordered, *pad]]
