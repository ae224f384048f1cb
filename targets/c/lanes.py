"""Columns of packed weights that are added many at a time, in vector registers of 16-bit lanes.

The types are those of GCC and Clang (`vector_size`). Where a compiler lacks them, or its processor has no such
registers (a Cortex-M), the code beside this one adds column by column. The choice is the compiler's; the sums are the
same: lanes count modulo 2**16, and whatever they bring to an accumulator is proved to fit 16 bits.

    operand ──► list of the entries that changed, by how much ──► for each part of the outputs: sums in registers,
                (or are not 0)                                    over the whole list, then once to memory
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...toolchain.ir import Interval
from .layout import CType

__all__ = ["MACRO", "Lanes", "prelude"]

MACRO = "EQ_LANES"
"""How many lanes a register has; not defined without such registers."""
FEWEST, MOST = 8, 32
LISTED = 128
"""Entries of a list at most: it lies on the stack."""
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

    def listed(self, acc: CType, product: Interval, x: CType, entries: int) -> int:
        """Entries of a list at most, for sums of type `acc` and products in `product` of an operand of `entries` of
        type `x`; 0 where lanes do not hold them, or the operand is not made of whole runs."""
        fits = {16: LISTED, 32: min(LISTED, HALF // max(product.magnitude, 1))}.get(acc.bits, 0)
        run = EIGHT // x.bits
        return fits if entries % run == 0 and fits >= run and entries < 1 << 16 else 0

    def adder(self, name: str, acc: CType) -> list[str]:
        """The C function that adds the columns of a list."""
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

    def updater(
        self, name: str, adder: str, acc: CType, x: CType, *, events: bool, entries: int, listed: int
    ) -> list[str]:
        """The C function that brings sums up to an operand: what changed since `seen`, or what is not 0 without it."""
        run, word = EIGHT // x.bits, "int64_t" if x.bits > 16 else "int32_t"
        same = "0" if not events else "*(const eq_eight_at *)&seen[run]"
        value = f"({word})x[i]" if not events else f"({word})x[i] - ({word})seen[i]"
        given = "" if not events else f", {x} *seen"
        return [
            f"static void {name}({acc} *acc, const {x} *x{given})",
            "{",
            f"    uint16_t column[{listed}], delta[{listed}];",
            "    size_t count = 0;",
            f"    for (size_t run = 0; run < {entries}; run += {run}) {{",
            f"        if (*(const eq_eight_at *)&x[run] == {same}) {{",
            "            continue;",
            "        }",
            f"        for (size_t i = run; i < run + {run}; i++) {{",
            f"            const {word} moved = {value};",
            "            column[count] = (uint16_t)i;",
            "            delta[count] = (uint16_t)moved;",
            "            count += moved != 0;",
            *([] if not events else ["            seen[i] = x[i];"]),
            "        }",
            f"        if (count > {listed - run}) {{",
            f"            {adder}(acc, column, delta, count);",
            "            count = 0;",
            "        }",
            "    }",
            "    if (count != 0) {",
            f"        {adder}(acc, column, delta, count);",
            "    }",
            "}",
        ]


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
            " * at a time. Without them the code takes column by column. Either gives the same bits. */",
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
