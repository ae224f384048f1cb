"""Layer and group normalisation in integers: exact sums, one integer square root and one reciprocal a group."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ..toolchain.ir import Format, ops
from ..toolchain.ir.ranges import RangeError
from ..toolchain.typed_json import JsonObject
from .builder import Builder
from .operands import Value

__all__ = ["normalize"]

_ROOT_ERROR = 0.25
"""Largest share of a code that rounding the root may cost; the reciprocal and the product cost 1/16 each."""

_LARGEST_ROOT_ERROR = 0.375
"""What it may cost where words are too short for more: with the last rounding the result is then within one code."""

_FINE_BITS = 3
_WORD_BITS = 62
_LEAST_BITS = 4


def normalize(build: Builder, op: ops.Normalize, x: Value, *, frac: int) -> tuple[Value, JsonObject]:
    """`(x - mean) / sqrt(variance + eps)`, or `/ (sqrt(variance) + eps)`, and its report row.

    With n codes X of scale s in a group, `S = sum X` and `V = n * sum X^2 - S^2` are exact, the deviation is
    `sqrt(V) * s / n`, and so `y = (n X - S) / sqrt(V + eps * n^2 / s^2)`: no mean is rounded. The root keeps r fraction
    bits, enough that the result, once rounded to `frac` fraction bits, is within one code of the exact quotient, or
    to fewer, down to 4, where words of 62 bits leave no room; the row states the bound and the code. The result
    has 3 fraction bits more and is limited to `sqrt(n - 1)`, which no normalised entry exceeds.

    Raises RangeError where the bound cannot be kept.
    """
    shape = build.shape(x)
    grouped = x
    axes = op.axes
    if op.groups > 1:
        split = (op.groups, math.prod(shape) // op.groups)
        grouped = build.put(ops.Reshape(out=build.fresh(f"{op.out}_grouped"), x=x.name, shape=split), x.scale)
        axes = (-1,)
    n = math.prod(build.shape(grouped)[axis] for axis in axes)
    total = _sum(build, op, "sum", grouped, axes)
    variance = _variance(build, op, grouped, total, n, axes)
    frac, bits, error = _precision(op, build.interval(variance).hi, n, x.scale, frac)
    root, lowest = _deviation(build, op, variance, _eps(op, n, x.scale), bits)
    centred = build.put(
        ops.Sub(out=build.fresh(f"{op.out}_centred"), a=_times(build, op, grouped, n).name, b=total.name), x.scale / n
    )
    # An error of 1/2 in the reciprocal reaches the result times `centred` and 2^bits.
    precision = math.ceil(math.log2(max(build.interval(centred).magnitude, 1))) + bits + frac + _FINE_BITS
    divide = ops.Divide(out=build.fresh(f"{op.out}_reciprocal"), a=build.whole(1), b=root.name, shift=precision)
    reciprocal = build.put(divide, Fraction(1))
    product = build.put(
        ops.Mul(out=build.fresh(f"{op.out}_product"), a=centred.name, b=reciprocal.name),
        Fraction(1, 1 << (precision - bits)),
    )
    fine = build.rescaled(product, Fraction(1, 1 << (frac + _FINE_BITS)))
    limit = math.isqrt((n - 1) << 2 * (frac + _FINE_BITS)) + (1 << _FINE_BITS) + 1
    bound = Format.holding(-limit, limit)
    if build.interval(fine).magnitude > bound.hi:
        fine = build.saturated(fine, bound)
    if op.groups > 1:
        fine = build.put(ops.Reshape(out=build.fresh(f"{op.out}_entries"), x=fine.name, shape=shape), fine.scale)
    row: JsonObject = {
        "what": "normalization",
        "name": op.out,
        "entries": n,
        "groups": op.groups,
        "root_bits": bits,
        "smallest_root": lowest,
        "max_error_lsb": error + 2.0**-_FINE_BITS + 0.5,
        "lsb": 2.0**-frac,
    }
    return fine, row


def _sum(build: Builder, op: ops.Normalize, what: str, x: Value, axes: tuple[int, ...]) -> Value:
    reduce = ops.Reduce(out=build.fresh(f"{op.out}_{what}"), x=x.name, kind="sum", axes=axes, keep=True)
    return build.put(reduce, x.scale)


def _times(build: Builder, op: ops.Normalize, x: Value, n: int) -> Value:
    """n times the codes of x, which then count in steps of scale / n."""
    out = build.fresh(f"{op.out}_{x.name}_times")
    return build.put(ops.Rescale(out=out, x=x.name, multiplier=build.whole(n), shift=0), x.scale / n)


def _variance(build: Builder, op: ops.Normalize, x: Value, total: Value, n: int, axes: tuple[int, ...]) -> Value:
    """`n * sum x^2 - (sum x)^2`: n^2 times the variance in steps of scale^2, never negative (no interval shows it)."""
    squares = build.put(ops.Mul(out=build.fresh(f"{op.out}_squares"), a=x.name, b=x.name), x.scale**2)
    power = _times(build, op, _sum(build, op, "power", squares, axes), n)
    square = build.put(ops.Mul(out=build.fresh(f"{op.out}_square"), a=total.name, b=total.name), power.scale)
    out = build.fresh(f"{op.out}_variance")
    return build.put(ops.Sub(out=out, a=power.name, b=square.name), power.scale)


def _eps(op: ops.Normalize, n: int, scale: Fraction) -> Fraction:
    """eps in steps of the divisor, or of its square where it stands under the root."""
    per_step = Fraction(n) / scale
    return Fraction(op.eps) * (per_step**2 if op.eps_on == "variance" else per_step)


def _cost(op: ops.Normalize, n: int, scale: Fraction, frac: int) -> float:
    """What rounding a root without fraction bits costs the result at most, in codes of `2^-frac`.

    An entry is at most `sqrt(V (n - 1))` before the division, and V is 0 or at least n - 1; the cost is largest where
    V is as large as eps.
    """
    eps = float(_eps(op, n, scale))
    if op.eps_on == "variance":
        return 1.25 * math.sqrt(n - 1) * 2.0**frac / max(math.sqrt(n - 1 + eps), 2.0 * math.sqrt(eps))
    return 1.5 * math.sqrt(n - 1) * 2.0**frac / max(math.sqrt(n - 1) + eps, 4.0 * eps)


def _precision(op: ops.Normalize, largest: int, n: int, scale: Fraction, finest: int) -> tuple[int, int, float]:
    """Fraction bits of the result (`finest`, or fewer), those of the root, and what rounding it costs, in codes.

    `largest`: that the variance takes.

    Raises RangeError where words have no room for any.
    """
    under = largest + (math.ceil(_eps(op, n, scale)) if op.eps_on == "variance" else 0)
    room = (_WORD_BITS - max(under, 1).bit_length()) // 2
    for frac in range(max(finest, _LEAST_BITS), _LEAST_BITS - 1, -1):
        cost = _cost(op, n, scale, frac)
        bits = min(max(math.ceil(math.log2(max(cost, 1e-300) / _ROOT_ERROR)), 0), room)
        if bits >= 0 and cost / 2.0**bits <= _LARGEST_ROOT_ERROR:
            return frac, bits, cost / 2.0**bits
    raise RangeError(
        f"normalize {op.out}: the variance of {n} entries takes {max(largest, 1).bit_length()} bits of "
        f"{_WORD_BITS}, too many for a result within one code of 2^-{_LEAST_BITS}"
    )


def _deviation(build: Builder, op: ops.Normalize, variance: Value, eps: Fraction, bits: int) -> tuple[Value, int]:
    """The divisor with `bits` fraction bits, and its smallest value; `eps` is in steps of the divisor or its square."""
    on_variance = op.eps_on == "variance"
    small = max(round(eps * ((4 if on_variance else 2) ** bits)), 1)
    shifted = variance
    if bits:
        factor, out = build.whole(1 << 2 * bits), build.fresh(f"{op.out}_fine_variance")
        shifted = build.put(ops.Rescale(out=out, x=variance.name, multiplier=factor, shift=0), variance.scale)
    constant = build.param(f"{op.out}_eps", np.array(small), f"eps {op.eps:g} of {op.out} in steps of the divisor")
    if on_variance:
        padded = build.put(ops.Add(out=build.fresh(f"{op.out}_padded"), a=shifted.name, b=constant), shifted.scale)
        root = build.put(ops.Isqrt(out=build.fresh(f"{op.out}_root"), x=padded.name), Fraction(1))
        lowest = math.isqrt(small)
    else:
        bare = build.put(ops.Isqrt(out=build.fresh(f"{op.out}_root"), x=shifted.name), Fraction(1))
        root = build.put(ops.Add(out=build.fresh(f"{op.out}_padded"), a=bare.name, b=constant), Fraction(1))
        lowest = small
    return build.at_least(root, lowest), lowest
