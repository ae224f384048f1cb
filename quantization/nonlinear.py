"""Nonlinear functions: saturations as they are, smooth activations and the softmax as table look-ups."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ..toolchain.ir import Format, Interval, ops
from ..toolchain.typed_json import JsonObject
from .bounds import Range
from .builder import Builder
from .operands import Value
from .tables import PlainTable, Table, function, saturation, tabulate

__all__ = ["activation", "limited", "softmax"]

Row = JsonObject

_SAMPLES = 1025
"""Points at which the largest value of an open-ended activation is sought."""


def activation(build: Builder, op: ops.Activation, x: Value, *, bits: int, reach: Range) -> tuple[Value, Row]:
    """A table over the codes that x can take, and its report row.

    tanh and sigmoid have all but the sign bit as fraction, and a domain that ends where the code at infinity is
    reached. The others, gelu, silu and exp, end at `reach` (real range of x), with the power-of-two scale that covers
    their values there. Codes are symmetric: at most `2**(bits-1) - 1` in magnitude.
    """
    phi, step, held = function(op.kind), float(x.scale), build.interval(x)
    top = (1 << (bits - 1)) - 1
    exponent = 0
    if op.kind in ("tanh", "sigmoid"):
        half = saturation(phi, step, scale=2.0 ** (1 - bits), top=top)
        domain = _within(Format.holding(held.lo, held.hi), Interval(-half, half - 1))
    else:
        domain = _within(
            Format.holding(held.lo, held.hi), Interval(math.floor(reach[0] / step), math.ceil(reach[1] / step))
        )
        largest = float(np.abs(phi(np.linspace(domain.lo, domain.hi, _SAMPLES) * step)).max())
        exponent = math.ceil(math.log2(largest)) if largest > 0.0 else 0
    scale = Fraction(2) ** (exponent + 1 - bits)
    table = tabulate(phi, domain.lo, domain.hi, step, scale=float(scale), top=top)
    value = _look_up(build, op.out, x, table, scale, f"{op.kind} in steps of {step:.9g}, output {float(scale):.9g}")
    return value, _row(op.out, op.kind, table)


def limited(build: Builder, out: str, x: Value, lo: float, hi: float, fmt: Format | None) -> tuple[Value, Row]:
    """`min(max(x, lo), hi)` in codes of x, within `fmt` if it is given, and the report row; `hi` may be infinite.

    The ends are rounded to the nearest code; between them the value is x itself. An infinite `hi` is that of x's
    interval: nothing is cut above.
    """
    held, step = build.interval(x), float(x.scale)
    bottom, top = round(lo / step), held.hi if math.isinf(hi) else round(hi / step)
    if fmt is not None:
        bottom, top = max(bottom, fmt.lo), min(top, fmt.hi)
    top = max(top, bottom)
    value = build.between(x, bottom, top)
    return value, {"what": "limits", "name": out, "lo": bottom * step, "hi": top * step}


def _within(codes: Format, wanted: Interval) -> Interval:
    """The domain of a table: what is wanted, cut to the operand's format; one entry if they do not meet."""
    lo, hi = max(wanted.lo, codes.lo), min(wanted.hi, codes.hi)
    return Interval(lo, hi) if lo <= hi else Interval(min(lo, codes.hi), min(lo, codes.hi))


def softmax(build: Builder, op: ops.Softmax, x: Value, *, bits: int, part: str | None = None) -> tuple[Value, Row]:
    """`exp(x - max x)` from a table, over its sum, and the table's report row.

    The exponential has `bits + 6` fraction bits and is at least one step, which proves the divisor positive. The
    quotient has the `bits + 1` fraction bits of a pre-activation and is limited to below 2, which it never reaches.

    `part`: the boolean value that says which entries take part; the others are 0 in the sum and in the result. A row
    in which none does is 0: its divisor is then 1.
    """
    out, fine, fraction = op.out, bits + 6, bits + 1
    among = x
    if part is not None:
        lowest = build.param(f"{out}_lowest", np.array(build.interval(x).lo), f"less than all of {x.name}", shared=True)
        among = build.put(ops.Select(out=build.fresh(f"{out}_among"), condition=part, a=x.name, b=lowest), x.scale)
    top = build.put(ops.Reduce(out=build.fresh(f"{out}_top"), x=among.name, kind="max", axes=(-1,), keep=True), x.scale)
    below = build.put(ops.Sub(out=build.fresh(f"{out}_below"), a=x.name, b=top.name), x.scale)
    unit, step = 1 << fine, float(x.scale)
    depth = math.ceil(fine * math.log(2.0) / step)
    table = tabulate(lambda v: np.maximum(np.exp(v), 1.0 / unit), -depth, 0, step, scale=1.0 / unit, top=2 * unit)
    e = _look_up(build, out, below, table, Fraction(1, unit), f"exp in steps of {step:.9g}, output 2^-{fine}")
    if part is not None:
        e = build.put(ops.Select(out=build.fresh(f"{out}_part"), condition=part, a=e.name, b=build.whole(0)), e.scale)
    total = build.put(ops.Reduce(out=build.fresh(f"{out}_total"), x=e.name, kind="sum", axes=(-1,), keep=True), e.scale)
    divisor = build.at_least(total, 1)
    divide = ops.Divide(out=build.fresh(f"{out}_quotient"), a=e.name, b=divisor.name, shift=fraction)
    quotient = build.put(divide, Fraction(1, 1 << fraction))
    return build.saturated(quotient, Format(fraction + 1, False)), _row(out, "exp", table)


def _look_up(build: Builder, out: str, x: Value, table: Table, scale: Fraction, source: str) -> Value:
    name = build.fresh(f"{out}_table")
    if isinstance(table, PlainTable):
        entries = build.param(f"{out}_entries", table.entries, source, shared=True)
        return build.put(ops.Lookup(out=name, x=x.name, table=entries, first=table.first), scale)
    base = build.param(f"{out}_base", table.base, f"{source}: values at knots", shared=True)
    slope = build.param(f"{out}_slope", table.slope, f"{source}: differences of knots", shared=True)
    op = ops.Interpolate(out=name, x=x.name, base=base, slope=slope, first=table.first, shift=table.shift)
    return build.put(op, scale)


def _row(name: str, kind: str, table: Table) -> Row:
    plain = isinstance(table, PlainTable)
    return {
        "what": "table",
        "name": name,
        "kind": kind,
        "form": "plain" if plain else "piecewise linear",
        "entries": int(table.entries.size if isinstance(table, PlainTable) else table.base.size),
        "max_error_lsb": table.max_error,
    }
