"""Columns of packed weights that are added many at a time: sums stay in registers over a list of columns.

    operand ──► list of the entries that changed, by how much ──► for each part of the outputs: sums in registers,
                (or are not 0, or all)                            over the whole list, then once to memory

Where compiler and processor have vector registers, a sum is one of them, of 16-bit lanes; the types are those of GCC
and Clang (`vector_size`). Elsewhere, as on a Cortex-M, it is a word. The choice is the compiler's; the sums are the
same: lanes count modulo 2**16 and what they bring to an accumulator is proved to fit 16 bits; words are proved to hold
every sum on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...toolchain.ir import Interval
from .layout import CType, signed

__all__ = ["FEWEST", "MACRO", "Lanes", "Update", "prelude"]

MACRO = "EQ_LANES"
"""How many lanes a register has; not defined without such registers."""
FEWEST, MOST = 8, 32
LISTED = 128
"""Entries of a list at most: it lies on the stack."""
SHORT = 32
"""The same where sums are words: there stacks are small too."""
EIGHT = 64
"""Bits of the operand that are compared at once."""
HALF = (1 << 15) - 1


@dataclass(frozen=True)
class Lanes:
    """A matrix of columns of `words` 16-bit words. Code `k * words + j` of a column is bits `k * bits` up of word j,
    less `offset`; `array` is the C expression of the words."""

    array: str
    words: int
    bits: int
    offset: int

    @property
    def width(self) -> int:
        """Lanes of a register at most: they divide the words."""
        return math.gcd(self.words, MOST)

    def listed(self, total: Interval, delta: Interval, product: Interval, x: CType, entries: int) -> int:
        """Entries of a list at most where registers have lanes, for sums in `total`, changes in `delta` and products
        in `product` of an operand of `entries` of type `x`; 0 where lanes or words do not hold the sums, or the operand
        is not made of whole runs."""
        fits = {16: LISTED, 32: min(LISTED, HALF // max(product.magnitude, 1))}.get(signed(total).bits, 0)
        run = EIGHT // x.bits
        held = total.magnitude + SHORT * (delta.magnitude << (self.bits + 1)) < 1 << 31 and delta.magnitude <= HALF
        return fits if held and entries % run == 0 and fits >= run and entries < 1 << 16 else 0

    def functions(self, name: str, acc: CType) -> list[str]:
        """The C function that adds the columns of a list, with lanes and without."""
        return [f"#ifdef {MACRO}", *self._lanes(name, acc), "#else", *self._words(name, acc), "#endif"]

    def _words(self, name: str, acc: CType) -> list[str]:
        planes = range(16 // self.bits)
        mask = (1 << self.bits) - 1
        lines = [
            f"static void {name}({acc} *acc, const uint16_t *column, const int16_t *delta, size_t count)",
            "{",
            "    int32_t offset = 0;",
            "    for (size_t k = 0; k < count; k++) {",
            "        offset += delta[k];",
            "    }",
            *([] if self.offset == 1 else [f"    offset *= {self.offset};"]),
            f"    for (size_t j = 0; j < {self.words}; j++) {{",
            *(f"        int32_t sum{k} = acc[j + {k * self.words}] - offset;" for k in planes),
            "        for (size_t k = 0; k < count; k++) {",
            "            const int32_t d = delta[k];",
            f"            const uint32_t w = {self.array}[(size_t)column[k] * {self.words} + j];",
            *(f"            sum{k} += d * (int32_t)((w >> {k * self.bits}) & {mask}u);" for k in planes),
            "        }",
            *(f"        acc[j + {k * self.words}] = ({acc})sum{k};" for k in planes),
        ]
        return [*lines, "    }", "}"]

    def _lanes(self, name: str, acc: CType) -> list[str]:
        planes = range(16 // self.bits)
        mask = (1 << self.bits) - 1
        wide = acc.bits > 16
        offset = "offset" if self.offset == 1 else f"(uint16_t)({self.offset}u * offset)"
        lines = [
            f"static void {name}({acc} *acc, const uint16_t *column, const uint16_t *delta, size_t count)",
            "{",
            f"    const uint16_t mask = {mask};",
            "    uint16_t offset = 0;",
            "    for (size_t k = 0; k < count; k++) {",
            "        offset = (uint16_t)(offset + delta[k]);",
            "    }",
            *([] if self.offset == 1 else [f"    offset = {offset};"]),
            f"    for (size_t j = 0; j < {self.words}; j += {MACRO}) {{",
        ]
        for k in planes:
            start = "(eq_lanes){0}" if wide else f"*(const eq_lanes_at *)&acc[j + {k * self.words}]"
            lines.append(f"        eq_lanes sum{k} = {start} - offset;")
        lines += [
            "        for (size_t k = 0; k < count; k++) {",
            "            const uint16_t d = delta[k];",
            f"            const size_t at = (size_t)column[k] * {self.words} + j;",
            f"            const eq_lanes w = *(const eq_lanes_at *)&{self.array}[at];",
        ]
        for k in planes:
            code = "w" if k == 0 else f"(w >> {k * self.bits})"
            lines.append(f"            sum{k} += ({code}{'' if (k + 1) * self.bits == 16 else ' & mask'}) * d;")
        lines.append("        }")
        if wide:
            lines.append(f"        for (size_t k = 0; k < {MACRO}; k++) {{")
            lines += [f"            acc[j + {k * self.words} + k] += (int16_t)sum{k}[k];" for k in planes]
            lines.append("        }")
        else:
            lines += [f"        *(eq_lanes_at *)&acc[j + {k * self.words}] = sum{k};" for k in planes]
        return [*lines, "    }", "}"]


@dataclass(frozen=True)
class Update:
    """Brings accumulators of type `acc` up to an operand of `entries` of type `x` with the function `adder`: with what
    changed since they saw it (`events`), or from zeros with what is not 0, or with all of it (`every`); with lanes
    `listed` entries at a time."""

    adder: str
    acc: CType
    x: CType
    entries: int
    listed: int
    events: bool
    every: bool

    def function(self, name: str) -> list[str]:
        """The C function."""
        seen = f", {self.x} *seen" if self.events else ""
        head = [f"static void {name}({self.acc} *acc, const {self.x} *x{seen})", "{"]
        return [*head, f"#ifdef {MACRO}", *self._lanes(), "#else", *self._words(), "#endif", *self._rest(), "}"]

    def _moved(self) -> str:
        word = "int64_t" if self.x.bits > 16 else "int32_t"
        return f"const {word} moved = ({word})x[i]{f' - ({word})seen[i]' if self.events else ''};"

    def _lanes(self) -> list[str]:
        run = EIGHT // self.x.bits
        same = "*(const eq_eight_at *)&seen[run]" if self.events else "0"
        passed = [f"        if (*(const eq_eight_at *)&x[run] == {same}) {{", "            continue;", "        }"]
        return [
            f"    uint16_t column[{self.listed}], delta[{self.listed}];",
            "    size_t count = 0;",
            f"    for (size_t run = 0; run < {self.entries}; run += {run}) {{",
            *([] if self.every else passed),
            f"        for (size_t i = run; i < run + {run}; i++) {{",
            f"            {self._moved()}",
            "            column[count] = (uint16_t)i;",
            "            delta[count] = (uint16_t)moved;",
            f"            count{'++' if self.every else ' += moved != 0'};",
            *(["            seen[i] = x[i];"] if self.events else []),
            "        }",
            f"        if (count > {self.listed - run}) {{",
            f"            {self.adder}(acc, column, delta, count);",
            "            count = 0;",
            "        }",
            "    }",
        ]

    def _words(self) -> list[str]:
        listing = [
            *(["seen[i] = x[i];"] if self.events else []),
            "column[count] = (uint16_t)i;",
            "delta[count] = (int16_t)moved;",
            "count++;",
            f"if (count == {SHORT}) {{",
            f"    {self.adder}(acc, column, delta, count);",
            "    count = 0;",
            "}",
        ]
        if not self.every:
            listing = ["if (moved != 0) {", *(f"    {line}" for line in listing), "}"]
        return [
            f"    uint16_t column[{SHORT}];",
            f"    int16_t delta[{SHORT}];",
            "    size_t count = 0;",
            f"    for (size_t i = 0; i < {self.entries}; i++) {{",
            f"        {self._moved()}",
            *(f"        {line}" for line in listing),
            "    }",
        ]

    def _rest(self) -> list[str]:
        return ["    if (count != 0) {", f"        {self.adder}(acc, column, delta, count);", "    }"]


def prelude(widths: Sequence[int]) -> str:
    """What the functions above need; `widths`: lanes at most of each matrix, none without such a matrix."""
    if not widths:
        return ""
    known = [
        (32, "defined(__AVX512BW__)"),
        (16, "defined(__AVX2__)"),
        (8, "(defined(__SSE2__) || defined(__ARM_NEON))"),
    ]
    chosen = [(lanes, test) for lanes, test in known if lanes <= min(widths)]
    tests = [
        f"#{'el' if k else ''}if defined(__GNUC__) && {test}\n#define {MACRO} {lanes}"
        for k, (lanes, test) in enumerate(chosen)
    ]
    return "\n".join(
        [
            "",
            "/* Vector registers of 16-bit lanes, where compiler and processor have them: many columns of weights",
            " * at a time. Without them sums are words. Either gives the same bits. */",
            *tests,
            "#endif",
            f"#ifdef {MACRO}",
            f"typedef uint16_t eq_lanes __attribute__((vector_size(2 * {MACRO})));",
            f"typedef uint16_t eq_lanes_at __attribute__((vector_size(2 * {MACRO}), aligned(2), may_alias));",
            "typedef uint64_t eq_eight_at __attribute__((aligned(1), may_alias));",
            "#endif",
            "",
        ]
    )
