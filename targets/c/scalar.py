"""Elementwise operations as C expressions of scalars.

Each expression is evaluated in 32 bits where the proved intervals of its operands, its result and every product inside
it fit, else in 64. A right shift of a negative number is not portable in C; `round32` and `round64` are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from ...toolchain.ir import Interval, ops
from .values import literal

__all__ = ["HELPERS", "Scalar", "expression", "lookup_index"]

HALF_WORD = Interval(-(1 << 31) + 1, (1 << 31) - 1)

HELPERS: Mapping[str, str] = {
    **{
        f"clamp{n}": f"""\
static inline int{n}_t clamp{n}(int{n}_t x, int{n}_t lowest, int{n}_t highest)
{{
    return x < lowest ? lowest : (x > highest ? highest : x);
}}"""
        for n in (32, 64)
    },
    **{
        f"round{n}": f"""\
/* x / 2**shift to the nearest integer, ties up: floor((x + half) / 2**shift) on an unsigned number, moved origin */
static inline int{n}_t round{n}(int{n}_t x, unsigned shift)
{{
    const uint{n}_t origin = (uint{n}_t)1 << {n - 1};
    const uint{n}_t half = ((uint{n}_t)1 << shift) >> 1;
    return (int{n}_t)(((uint{n}_t)x + origin + half) >> shift) - (int{n}_t)(origin >> shift);
}}"""
        for n in (32, 64)
    },
    "divide": """\
/* floor(a / b), b > 0 */
static inline int64_t divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}""",
    "isqrt": """\
/* the largest y with y * y <= x, 0 for a negative x: one bit of y in each turn */
static inline int64_t isqrt(int64_t x)
{
    uint64_t rest = x < 0 ? 0u : (uint64_t)x;
    uint64_t y = 0u;
    for (uint64_t bit = (uint64_t)1 << 60; bit != 0u; bit >>= 2) {
        if (rest >= y + bit) {
            rest -= y + bit;
            y = (y >> 1) + bit;
        } else {
            y >>= 1;
        }
    }
    return (int64_t)y;
}""",
}


@dataclass(frozen=True)
class Scalar:
    """A C expression of one code and the interval of its value; `table` of it is an array in flash."""

    text: str
    interval: Interval
    table: str = ""


def _corners(a: Interval, b: Interval) -> Interval:
    found = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return Interval(min(found), max(found))


def _about(bound: int) -> Interval:
    return Interval(-bound, bound)


def expression(
    op: ops.ElementwiseOp,
    operands: Sequence[Scalar],
    result: Interval,
    length: Callable[[str], int],
    need: Callable[[str], None],
) -> tuple[str, str]:
    """C type and expression of `op` on its operands in the order of `op.reads`; `need` is told each helper used."""
    inner = [s.interval for s in operands] + [result]
    match op:
        case ops.Rescale(shift=k):
            product = _corners(operands[0].interval, operands[1].interval)
            inner += [product, _about(product.magnitude + (1 << k))]
        case ops.DampFixed(multiplier=m, shift=k):
            old, new = operands[0].interval, operands[1].interval
            span = Interval(new.lo - old.hi, new.hi - old.lo)
            inner += [span, _about(span.magnitude * m + (1 << k))]
        case ops.Interpolate(base=b, first=first, shift=k):
            inner += [Interval(first, first + (length(b) << k)), _about((operands[2].interval.magnitude + 1) << k)]
        case ops.Divide() | ops.Isqrt():
            inner += [_about(1 << 62)]
        case _:
            pass
    bits = 32 if all(x.within(HALF_WORD) for x in inner) else 64
    word = f"int{bits}_t"
    v = [f"({word}){s.text}" for s in operands]

    def rounded(text: str, shift: int) -> str:
        if shift == 0:
            return text
        need(f"round{bits}")
        return f"round{bits}({text}, {shift})"

    match op:
        case ops.Add():
            text = f"{v[0]} + {v[1]}"
        case ops.Sub():
            text = f"{v[0]} - {v[1]}"
        case ops.Mul():
            text = f"{v[0]} * {v[1]}"
        case ops.Abs():
            text = f"{v[0]} < 0 ? -{v[0]} : {v[0]}"
        case ops.Greater():
            text = f"{v[0]} > {v[1]}"
        case ops.Select():
            text = f"{operands[0].text} ? {v[1]} : {v[2]}"
        case ops.Rescale(shift=k):
            text = rounded(f"{v[0]} * {v[1]}", k)
        case ops.Lookup(table=t):
            text = f"{operands[1].table}[{lookup_index(op, operands[0], length(t), need)}]"
        case ops.Interpolate(base=b, first=first, shift=k):
            inside = _clamped(v[0], first, first + (length(b) << k) - 1, bits, need)
            text = _interpolated(inside, operands, k, word, rounded)
        case ops.DampFixed(multiplier=m, shift=k):
            text = f"{v[0]} + {rounded(f'({v[1]} - {v[0]}) * {literal(m)}', k)}"
        case ops.Divide(shift=k):
            need("divide")
            text = f"divide({v[0]} * {literal(1 << k)} + {v[1]} / 2, {v[1]})"
        case ops.Isqrt():
            need("isqrt")
            text = f"isqrt({v[0]})"
        case _:
            assert_never(op)
    return word, text


def lookup_index(op: ops.Lookup, x: Scalar, length: int, need: Callable[[str], None]) -> str:
    """C expression of the entry of its table, 0 to `length - 1`, that `op` reads for the operand `x`."""
    bits = 32 if all(i.within(HALF_WORD) for i in (x.interval, Interval(op.first, op.first + length))) else 64
    return _clamped(f"(int{bits}_t){x.text}", op.first, op.first + length - 1, bits, need)


def _clamped(x: str, first: int, last: int, bits: int, need: Callable[[str], None]) -> str:
    """`x` clamped to `[first, last]`, counted from `first`."""
    need(f"clamp{bits}")
    low = "" if first == 0 else f" - {literal(first)}"
    return f"clamp{bits}({x}, {literal(first)}, {literal(last)}){low}"


def _interpolated(
    inside: str, operands: Sequence[Scalar], shift: int, word: str, rounded: Callable[[str, int], str]
) -> str:
    base, slope = operands[1].table, operands[2].table
    segment = f"({inside}) / {literal(1 << shift)}"
    fraction = f"(({inside}) % {literal(1 << shift)})"
    if shift == 0:
        return f"{base}[{inside}]"
    return f"({word}){base}[{segment}] + {rounded(f'({word}){slope}[{segment}] * {fraction}', shift)}"
