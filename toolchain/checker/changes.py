"""How far a step can spread a change of states, entry by entry, in Python's integers; and norms, proved.

A norm is proved by a Cholesky decomposition in floating point, whose rounding Higham 2002, theorem 10.3, bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .reading import Box, Codes, Net, Op, Reals, UnknownError, evaluate, up

__all__ = ["Change", "Changes", "Whole", "growth", "norm_bound"]

Whole = NDArray[np.object_]
UNIT = 2.0**-53


def norm_bound(matrix: Reals) -> float:
    """A proved upper bound of the largest singular value of a matrix [rows, columns], close to it."""
    if not matrix.any():
        return 0.0
    exponent = int(np.frexp(np.abs(matrix).max())[1])
    b = np.ldexp(matrix, -exponent)
    rows, n = b.shape
    gram = b.T @ b
    squares = float((b * b).sum()) * (1.0 + 2.0**-40)
    largest = float(np.linalg.eigvalsh(gram)[-1]) + 2.0**-900
    for k in range(36, 0, -1):
        s = largest * (1.0 + 2.0**-k)
        try:
            np.linalg.cholesky(s * np.eye(n) - gram)
        except np.linalg.LinAlgError:
            continue
        of_product, of_cholesky = 2.0 * (rows + 4) * UNIT * squares, 4.0 * (n + 4) * UNIT * (n * s + squares)
        total = (s + of_product + of_cholesky + 4.0 * UNIT * (s + squares) + 2.0**-900) * (1.0 + 2.0**-50)
        return math.ldexp(math.sqrt(total) * (1.0 + 2.0**-50), exponent)
    return math.ldexp(math.sqrt(squares) * (1.0 + 2.0**-50), exponent)


def growth(table: Codes) -> tuple[float, float]:
    """The least slope of a table [entries], to 2**-20, that holds with one code of jump; or the largest step and no
    jump."""
    steepest = int(np.abs(np.diff(table)).max(initial=0))
    low, high = -1, steepest << 20
    while high - low > 1:
        middle = (low + high) // 2
        ramp = middle * np.arange(len(table))
        rise = max(int((v - np.minimum.accumulate(v)).max()) for v in ((table << 20) - ramp, -(table << 20) - ramp))
        low, high = (low, middle) if rise <= 1 << 20 else (middle, high)
    return (high / (1 << 20), 1.0) if 0 <= high < steepest << 20 else (float(steepest), 0.0)


@dataclass(frozen=True)
class Change:
    """`|change| <= sum of |scale * 2**-shift * M d|, and jump`, M [entries, units] of Python's integers; `signed`: one
    term of scale 1 that is the change itself, up to jump."""

    terms: tuple[tuple[float, Whole, int], ...]
    jump: Reals
    signed: bool

    def rows(self, index: Codes) -> Change:
        return Change(tuple((s, m[index], e) for s, m, e in self.terms), self.jump[index], self.signed)

    def times(self, factor: Codes, shift: int) -> Change:
        terms = tuple((s, m * factor.astype(object)[:, None], e + shift) for s, m, e in self.terms)
        return Change(terms, up(np.ldexp(up(self.jump * np.abs(factor)), -shift)), self.signed)

    def more(self, jump: float) -> Change:
        return Change(self.terms, up(self.jump + jump), self.signed)

    def plus(self, other: Change, sign: int) -> Change:
        jump = up(self.jump + other.jump)
        if not (self.signed and other.signed):
            return Change(self.terms + other.terms, jump, False)
        (_, m, s), (_, n, e) = self.terms[0], other.terms[0]
        return Change(((1.0, m * (1 << max(e - s, 0)) + sign * n * (1 << max(s - e, 0)), max(s, e)),), jump, True)

    def steeper(self, slope: float, jump: float) -> Change:
        terms = tuple((math.nextafter(s * slope, math.inf), m, e) for s, m, e in self.terms)
        return Change(terms, up(up(self.jump * slope) + jump), False)


class Changes:
    """The change of each value of the step as a function of these states, all others being equal."""

    def __init__(self, net: Net, names: Sequence[str]) -> None:
        self.net = net
        self.full: dict[str, Box] = {n: self._ends(n, shape) for n, shape in net.shapes.items()}
        self.full |= {i["name"]: self._ends(i["name"], tuple(i["shape"])) for i in net.meta["inputs"]}
        evaluate(net, net.blocks["drive"] + net.blocks["step"], self.full)
        self.known: dict[str, Change] = {}
        self.units, at = sum(math.prod(net.shapes[n]) for n in names), 0
        for n in names:
            size = math.prod(net.shapes[n])
            eye = np.eye(size, self.units, k=at, dtype=np.int64).astype(object)
            self.known[n], at = Change(((1.0, eye, 0),), np.zeros(size), True), at + size
        for op in net.blocks["step"]:
            change = self._change(op)
            self.known |= {op.out: change} if change is not None else {}

    def _ends(self, name: str, shape: tuple[int, ...]) -> Box:
        if name not in self.net.ends:
            raise UnknownError(f"{name}: an input of indices")
        return np.full(shape, self.net.ends[name][0]), np.full(shape, self.net.ends[name][1])

    def of(self, name: str, out: str | None = None) -> Change:
        """The change of a value, broadcast to the shape of `out`."""
        shape, full = (self.full[n][0].shape for n in (name, out or name))
        place = np.arange(math.prod(shape)).reshape(shape)
        return self.known[name] if shape == full else self.known[name].rows(np.broadcast_to(place, full).ravel())

    def _change(self, op: Op) -> Change | None:
        of, out, n = op.reads, op.out, op.fields
        moving = [f for f, name in of.items() if name in self.known]
        if not moving:
            return None
        match op.kind:
            case "linear" | "stencil":
                matrix, change = self.net.linear(op, self.full[of["x"]][0].shape)[0], self.of(of["x"])
                weight, jump = matrix.astype(object), up((np.abs(matrix) @ change.jump) * (1.0 + 2.0**-40))
                terms = ((s, weight @ m if change.signed else abs(weight) @ abs(m), e) for s, m, e in change.terms)
                if of["x"] in self.net.shapes and len(change.jump) == self.units:
                    return Change(((1.0, weight, 0),), jump, True)
                return Change(tuple(terms), jump, change.signed)
            case "rescale" if moving == ["x"]:
                factor = np.broadcast_to(self.net.params[of["multiplier"]], self.full[out][0].shape).ravel()
                return self.of(of["x"], out).times(factor, n["shift"]).more(1.0 - 2.0 ** -n["shift"])
            case "add" | "sub":
                if len(moving) == 1:
                    return self.of(of[moving[0]], out)
                return self.of(of["a"], out).plus(self.of(of["b"], out), 1 if op.kind == "add" else -1)
            case "reshape":
                return self.of(of["x"])
            case "lookup" | "interpolate":
                return self.of(of["x"]).steeper(*growth(self.net.table(op)))
            case "damp_fixed":
                whole, ones = 1 << n["shift"], np.ones(self.full[out][0].size, np.int64)
                factors = {"old": whole - n["multiplier"], "new": n["multiplier"]}
                parts = [self.of(of[f], out).times(ones * factors[f], n["shift"]) for f in moving]
                return (parts[0] if len(parts) == 1 else parts[0].plus(parts[1], 1)).more(1.0 - 1.0 / whole)
            case _:
                raise UnknownError(f"{op.kind} {out}")
