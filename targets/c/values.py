"""Where a value of the net lies in the emitted program, and loops over it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...toolchain.ir import Interval
from ..clike import ArrayView, Shape

__all__ = ["Names", "Value", "literal", "loops"]

_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
    alignas alignof and bool catch class compl concept constexpr decltype delete explicit export false friend mutable
    namespace new noexcept not nullptr operator or private protected public requires template this throw true try
    typeid typename using virtual xor NULL offsetof linux unix""".split()
)
"""Of C, and of C++, which includes the header; macros that no rule below covers."""
_LOCALS = frozenset(
    "s in out now old delta moved differs total data run changed at clamp32 clamp64 round32 round64 divide".split()
)
_PATTERN = r"[iktp]\d+|u?int\w*_t|size_t|U?INT\w*"
_MACRO = r"[A-Z][A-Z0-9]*_[A-Z0-9_]*"
"""How macros are written: those of the header and of <stdint.h>."""


class Names:
    """C identifiers for the names of a net: the same where it is free, else with `_` behind. `local`: names of
    variables, which what the code itself uses would shadow."""

    def __init__(self, *, local: bool = False) -> None:
        self._taken = {*_KEYWORDS, *(_LOCALS if local else ())}

    def free(self, wanted: str) -> str:
        """An identifier that nothing has yet."""
        name = re.sub(r"[^A-Za-z0-9_]", "_", wanted).lstrip("_") or "v"
        if name[0].isdigit() or re.fullmatch(_MACRO, name):
            name = f"v{name}"
        while name in self._taken or re.fullmatch(_PATTERN, name):
            name += "_"
        self._taken.add(name)
        return name


def literal(value: int) -> str:
    """A C constant of at least 32 bits; the lowest 64-bit code cannot occur."""
    text = str(abs(value)) if abs(value) < 1 << 31 else f"INT64_C({abs(value)})"
    return f"(-{text})" if value < 0 else text


@dataclass(frozen=True)
class Value(ArrayView):
    """A view of an array of codes in `interval`; `roots`: the fields whose change would change it."""

    interval: Interval
    roots: frozenset[str] = frozenset()

    def at(self, index: Sequence[str]) -> str:
        """The entry at C expressions of an index, one an axis."""
        if self.strides is None:
            return self.ref
        terms = [
            i if k == 1 else f"{i} * {k}"
            for i, k, n in zip(index, self.strides, self.shape, strict=True)
            if k and n > 1 and i != "0"
        ]
        return f"{self.ref}[{' + '.join(terms) or '0'}]"

    def flat(self, index: str) -> str:
        """The entry at a running index over all entries; the value is plain, or every entry is the same."""
        if self.strides is None:
            return self.ref
        return f"{self.ref}[{index if self.plain and any(self.strides) else '0'}]"


def loops(
    shape: Shape, body: Callable[[Sequence[str]], Iterable[str]], pad: str, *, flat: bool = False, letter: str = "i"
) -> list[str]:
    """Nested loops over the axes of `shape` around what `body` says of an index; one loop if `flat`."""
    sizes = (math.prod(shape),) if flat else shape
    lines, index, inner = [], [], pad
    for axis, size in enumerate(sizes):
        if size == 1:
            index.append("0")
            continue
        name = f"{letter}{axis}"
        index.append(name)
        lines.append(f"{inner}for (size_t {name} = 0; {name} < {size}; {name}++) {{")
        inner += "    "
    deep = len(inner) - len(pad)
    if deep == 0:
        lines.append(f"{pad}{{")
        inner += "    "
        deep = 4
    lines += [f"{inner}{line}" for line in body(index)]
    lines += [f"{' ' * (len(pad) + k)}}}" for k in range(deep - 4, -1, -4)]
    return lines
