"""Elementwise operations as calls of `eq_ops.h` on codes of exact width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from ...toolchain.ir import Format, Interval, ops
from .values import ctype, literal, wide

__all__ = ["expression"]


def expression(
    op: ops.ElementwiseOp, x: Sequence[str], formats: Sequence[Format], result: Format, length: Callable[[str], int]
) -> str:
    """C++ expression of `op`; `x` and `formats`: its operands in the order of `op.reads`, tables by their C++ names."""
    y = ctype(result)
    held = [Interval(f.lo, f.hi) for f in formats]
    match op:
        case ops.Add():
            return f"{x[0]} + {x[1]}"
        case ops.Sub():
            return f"{x[0]} - {x[1]}"
        case ops.Mul():
            return f"{x[0]} * {x[1]}"
        case ops.Abs():
            return f"eq::absolute<{y}>({x[0]})"
        case ops.Greater():
            return f"eq::greater<{wide(*held)}>({x[0]}, {x[1]})"
        case ops.Select():
            return f"{x[0]} ? {y}({x[1]}) : {y}({x[2]})"
        case ops.Rescale(shift=shift):
            return f"eq::rescale<{y}, {shift}>({x[0]}, {x[1]})"
        case ops.Lookup(table=table, first=first):
            domain, type_ = _domain(held[0], first, length(table))
            return f"eq::lookup<{y}, {type_}>({x[0]}, {x[1]}, {domain})"
        case ops.Interpolate(base=base, first=first, shift=shift):
            domain, type_ = _domain(held[0], first, length(base) << shift)
            return f"eq::interpolate<{y}, {shift}, {type_}>({x[0]}, {x[1]}, {x[2]}, {domain})"
        case ops.DampFixed(multiplier=multiplier, shift=shift):
            factor = literal(multiplier, Format.holding(0, multiplier))
            return f"eq::damp<{y}, {shift}>({x[0]}, {x[1]}, {factor})"
        case ops.Divide(shift=shift):
            bound = (held[0].magnitude << shift) + held[1].magnitude
            return f"eq::divide<{y}, {shift}, {wide(Interval(-bound, bound))}>({x[0]}, {x[1]})"
        case ops.Isqrt():
            return f"eq::isqrt<{y}, {(held[0].hi.bit_length() + 1) // 2}>({x[0]})"
        case _:
            assert_never(op)


def _domain(x: Interval, first: int, size: int) -> tuple[str, str]:
    """Arguments that state a domain, and the C++ type that holds it, the operand and the distance between them."""
    reach = Interval(min(x.lo, first, x.lo - first), max(x.hi, first, size, x.hi - first))
    format_ = Format.holding(min(reach.lo, -1), reach.hi)
    return f"{literal(first, format_)}, {literal(size, format_)}", wide(reach)
