"""Values of a net as C++ arrays of exact width, views of them, and how often a multiplier is used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...toolchain.ir import Format, Input, Interval
from ..clike import ArrayView

__all__ = [
    "BOOLEAN",
    "Names",
    "View",
    "ctype",
    "largest_divisor",
    "literal",
    "token_format",
    "wide",
]

BOOLEAN = Format(1, False)


def ctype(of: Format) -> str:
    """The C++ type of a code."""
    return f"ap_int<{of.bits}>" if of.signed else f"ap_uint<{of.bits}>"


def wide(*intervals: Interval) -> str:
    """The C++ type of the narrowest signed integer that holds all of them."""
    lo, hi = min(-1, *(x.lo for x in intervals)), max(x.hi for x in intervals)
    return ctype(Format.holding(lo, hi))


def literal(code: int, of: Format) -> str:
    """A constant of the exact width."""
    return f"{ctype(of)}({code})" if abs(code) < 1 << 31 else f"{ctype(of)}({code}LL)"


def token_format(i: Input) -> Format:
    """The format of an input that holds indices."""
    return Format.holding(*i.limits)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return max(n for n in range(1, min(number, max(limit, 1)) + 1) if number % n == 0)


@dataclass
class Names:
    """C++ identifiers: a prefix, so that no word of the language or of hls4ml is met, and the name of the net; unique
    without regard to case, because hls4ml names files and guards by them."""

    taken: set[str] = field(default_factory=set)

    def free(self, prefix: str, wanted: str) -> str:
        name = f"{prefix}_{re.sub(r'[^A-Za-z0-9_]', '_', wanted)}"
        while name.lower() in self.taken:
            name += "_"
        self.taken.add(name.lower())
        return name


@dataclass(frozen=True)
class View(ArrayView):
    """A view of an array of codes of one format."""

    format: Format

    def at(self, index: Sequence[str]) -> str:
        """The entry at C++ expressions of an index: one an axis, or a running one over all entries of an even view."""
        if self.strides is None:
            return self.ref
        if len(index) == 1 and len(self.shape) != 1:
            return f"{self.ref}[{index[0] if any(self.strides) else '0'}]"
        pairs = zip(index, self.strides, strict=True)
        terms = [i if k == 1 else f"{i} * {k}" for i, k in pairs if k and i != "0"]
        return f"{self.ref}[{' + '.join(terms) or '0'}]"
