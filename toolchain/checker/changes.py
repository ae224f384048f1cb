"""How far a step can spread a change of states, entry by entry, in Python's integers; and norms, proved.

A norm is proved by a Cholesky decomposition in floating point, whose rounding Higham 2002, theorem 10.3, bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

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
    term of scale 1 that is the change itself, up to jump.

    `chained`: of a linear map behind a table (whose terms have absolute values), the product of both norms and what is
    added to it: `||change|| <= chained[0] ||d|| + chained[1]`.
    """

    terms: tuple[tuple[float, Whole, int], ...]
    jump: Reals
    signed: bool
    chained: tuple[float, float] | None = None

    def norms(self) -> tuple[float, float]:
        """As `chained`, of any change."""
        if self.chained is not None:
            return self.chained
        parts = (np.ldexp(m.astype(np.float64), -e) * s for s, m, e in self.terms)
        bound = sum(norm_bound(p) + 2.0**-49 * float(np.linalg.norm(p)) for p in parts)
        return bound * (1.0 + 2.0**-50), _length(self.jump)

    def rows(self, index: Codes) -> Change:
        """The entries at these places, each as often as any other."""
        root = math.sqrt(len(index) / len(self.jump)) * (1.0 + 2.0**-50)
        terms = tuple((s, m[index], e) for s, m, e in self.terms)
        return Change(terms, self.jump[index], self.signed, _scaled(self.chained, root))

    def times(self, factor: Codes, shift: int) -> Change:
        terms = tuple((s, m * factor.astype(object)[:, None], e + shift) for s, m, e in self.terms)
        most = math.ldexp(float(np.abs(factor).max()), -shift)
        jump = up(np.ldexp(up(self.jump * np.abs(factor)), -shift))
        return Change(terms, jump, self.signed, _scaled(self.chained, most))

    def more(self, jump: float | Reals) -> Change:
        added = _length(np.broadcast_to(jump, self.jump.shape))
        return Change(self.terms, up(self.jump + jump), self.signed, _scaled(self.chained, 1.0, added))

    def plus(self, other: Change, sign: int) -> Change:
        jump = up(self.jump + other.jump)
        if not (self.signed and other.signed):
            chained = None
            if self.chained is not None or other.chained is not None:
                (a, b), (c, d) = self.norms(), other.norms()
                chained = _scaled((a + c, b + d), 1.0)
            return Change(self.terms + other.terms, jump, False, chained)
        (_, m, s), (_, n, e) = self.terms[0], other.terms[0]
        return Change(((1.0, m * (1 << max(e - s, 0)) + sign * n * (1 << max(s - e, 0)), max(s, e)),), jump, True)

    def steeper(self, slope: float, jump: float) -> Change:
        terms = tuple((math.nextafter(s * slope, math.inf), m, e) for s, m, e in self.terms)
        chained = _scaled(self.chained, slope, _length(np.full(len(self.jump), jump)))
        return Change(terms, up(up(self.jump * slope) + jump), False, chained)

    def mapped(self, matrix: Codes) -> Change:
        """Through a linear map [results, entries]."""
        weight, jump = matrix.astype(object), up((np.abs(matrix) @ self.jump) * (1.0 + 2.0**-40))
        terms = tuple((s, weight @ m if self.signed else abs(weight) @ abs(m), e) for s, m, e in self.terms)
        if self.signed:
            return Change(terms, jump, True)
        norm = norm_bound(matrix.astype(np.float64))
        return Change(terms, jump, False, _scaled(self.norms(), norm))

    def either(self, other: Change, apart: Reals) -> Change:
        """Of two values one of which each run takes, where these differ by at most `apart`."""
        first, second = (
            sum((abs(m) * (Fraction(s) / (1 << e)) for s, m, e in c.terms), c.terms[0][1] * Fraction(0))
            for c in (self, other)
        )
        # Rounded up to multiples of 2**-40.
        whole = np.array([math.ceil(v * (1 << 40)) for v in np.maximum(first, second).ravel()], object)
        terms = ((1.0, whole.reshape(len(self.jump), -1), 40),)
        return Change(terms, up(np.maximum(self.jump, other.jump) + apart), False)


def _length(values: Reals) -> float:
    return math.sqrt(float((values * values).sum())) * (1.0 + 2.0**-40)


def _scaled(chained: tuple[float, float] | None, factor: float, added: float = 0.0) -> tuple[float, float] | None:
    above = 1.0 + 2.0**-50
    return None if chained is None else (chained[0] * factor * above, (chained[1] * factor * above + added) * above)


class Changes:
    """The change of each value of the step as a function of these states, all others being equal. `opened`: selections
    taken as open in both runs."""

    def __init__(self, net: Net, names: Sequence[str], opened: Sequence[str] = ()) -> None:
        self.net, self.opened = net, opened
        self.decided: set[str] = set()
        self.unknown: dict[str, UnknownError] = {}
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
            try:
                change = self._change(op)
            except UnknownError as error:
                # No harm where a gate alone reads it.
                self.unknown[op.out] = error
            else:
                self.known |= {op.out: change} if change is not None else {}

    def _ends(self, name: str, shape: tuple[int, ...]) -> Box:
        if name not in self.net.ends:
            raise UnknownError(f"{name}: an input of indices")
        return np.full(shape, self.net.ends[name][0]), np.full(shape, self.net.ends[name][1])

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.full[name][0].shape if name in self.full else self.net.params[name].shape

    def _moves(self, name: str) -> bool:
        return name in self.known or name in self.decided or name in self.unknown

    def of(self, name: str, out: str | None = None) -> Change:
        """The change of a value, broadcast to the shape of `out`."""
        if name in self.unknown:
            raise self.unknown[name]
        shape, full = (self._shape(n) for n in (name, out or name))
        change = self.known.get(name)
        if change is None:
            size = math.prod(shape)
            change = Change(((0.0, np.zeros((size, self.units), object), 0),), np.zeros(size), False)
        place = np.arange(math.prod(shape)).reshape(shape)
        return change if shape == full else change.rows(np.broadcast_to(place, full).ravel())

    def _change(self, op: Op) -> Change | None:
        of, out, n = op.reads, op.out, op.fields
        moving = [f for f, name in of.items() if self._moves(name)]
        if not moving:
            return None
        match op.kind:
            case "linear" | "stencil" | "conv":
                return self.of(of["x"]).mapped(self.net.linear(op, self._shape(of["x"]))[0])
            case "reduce" if n["kind"] == b"sum":
                shape = self._shape(of["x"])
                place = np.arange(math.prod(self._shape(out))).reshape(self.full[out][0].shape)
                kept = place if n["keep"] else np.expand_dims(place, tuple(n["axes"]))
                rows = np.broadcast_to(kept, shape).ravel()
                return self.of(of["x"]).mapped((rows == np.arange(place.size)[:, None]).astype(np.int64))
            case "rescale" if moving == ["x"]:
                factor = np.broadcast_to(self.net.params[of["multiplier"]], self._shape(out)).ravel()
                return self.of(of["x"], out).times(factor, n["shift"]).more(1.0 - 2.0 ** -n["shift"])
            case "mul" if len(moving) == 1 and of[{"a": "b", "b": "a"}[moving[0]]] in self.net.params:
                factor = self.net.params[of[{"a": "b", "b": "a"}[moving[0]]]]
                return self.of(of[moving[0]], out).times(np.broadcast_to(factor, self._shape(out)).ravel(), 0)
            case "add" | "sub":
                if len(moving) == 1:
                    return self.of(of[moving[0]], out)
                return self.of(of["a"], out).plus(self.of(of["b"], out), 1 if op.kind == "add" else -1)
            case "reshape":
                return self.of(of["x"])
            case "transpose":
                shape = self._shape(of["x"])
                return self.of(of["x"]).rows(np.arange(math.prod(shape)).reshape(shape).transpose(n["axes"]).ravel())
            case "abs":
                return self.of(of["x"]).steeper(1.0, 0.0)
            case "lookup" | "interpolate":
                return self.of(of["x"]).steeper(*growth(self.net.table(op)))
            case "damp_fixed":
                whole, ones = 1 << n["shift"], np.ones(self.full[out][0].size, np.int64)
                factors = {"old": whole - n["multiplier"], "new": n["multiplier"]}
                parts = [self.of(of[f], out).times(ones * factors[f], n["shift"]) for f in moving]
                return (parts[0] if len(parts) == 1 else parts[0].plus(parts[1], 1)).more(1.0 - 1.0 / whole)
            case "greater":
                self.decided.add(out)
                return None
            case "select":
                return self._selected(op)
            case _:
                raise UnknownError(f"{op.kind} {out}")

    def _selected(self, op: Op) -> Change:
        of, out, shape = op.reads, op.out, self._shape(op.out)
        first = self.of(of["a"], out)
        if out in self.opened:
            return first
        apart = np.zeros(math.prod(shape))
        if of["condition"] in self.decided:
            limit = self.net.hold(op) if shape == self._shape(of["condition"]) else None
            if limit is not None and shape == self._shape(of["a"]) == self._shape(of["b"]):
                return replace(first.more(2.0 * np.broadcast_to(limit, shape).ravel()), signed=False)
            (a, b), (c, d) = self.full[of["a"]], self.full[of["b"]]
            apart += np.broadcast_to(np.maximum(b - c, d - a), shape).ravel()
        return first.either(self.of(of["b"], out), apart)
