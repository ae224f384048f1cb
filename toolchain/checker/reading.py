"""Read `net.onnx`, and evaluate its operations on boxes: the least and the largest code of every value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["Box", "Codes", "Net", "Op", "Reals", "RefusalError", "UnknownError", "demand", "evaluate", "up"]

Codes = NDArray[np.int64]
Reals = NDArray[np.float64]
Box = tuple[Codes, Codes]
LIMIT = 1 << 62


class RefusalError(Exception):
    """A claim does not follow."""


class UnknownError(Exception):
    """What this program cannot replay."""


def demand(holds: bool | np.bool_, claim: str) -> None:
    """Raise RefusalError with the claim unless it holds."""
    if not holds:
        raise RefusalError(claim)


def up(values: Reals) -> Reals:
    """The next larger numbers, of any shape. A zero is exact: nothing here is near what underflows."""
    return np.where(values == 0.0, 0.0, np.nextafter(values, np.inf))


@dataclass(frozen=True)
class Op:
    """`reads`: value names by field; `fields`: numbers and lists of the operation."""

    kind: str
    out: str
    reads: Mapping[str, str]
    fields: Mapping[str, Any]


class Net:
    """Operations, parameters, formats and tables of `net.onnx`; `ends`: least and largest code by name."""

    def __init__(self, content: bytes) -> None:
        from onnx import ModelProto, numpy_helper

        model = ModelProto.FromString(content)
        texts = [p.value for p in model.metadata_props if p.key == "eqcompile"]
        self.meta = json.loads(texts[0]) if len(texts) == 1 else {}
        demand(self.meta.get("level") == "intnet", "the net holds no integers of eqcompile")
        self.params = {t.name: np.asarray(numpy_helper.to_array(t), np.int64) for t in model.graph.initializer}
        self.shapes = {s["name"]: tuple(s["shape"]) for s in self.meta["states"]}
        self.updates = {s["name"]: s["update"] for s in self.meta["states"]}
        self.ends: dict[str, tuple[int, int]] = {}
        encodings = {i["name"]: i["encoding"]["format"] for i in self.meta["inputs"] if i["encoding"]}
        for name, f in {**self.meta["formats"], **encodings}.items():
            low = -(1 << (f["bits"] - 1)) if f["signed"] else 0
            self.ends[name] = (low, low + (1 << f["bits"]) - 1)
        self.blocks: dict[str, list[Op]] = {"drive": [], "step": [], "readout": []}
        self._collect(model.graph, {f.name: list(f.input) for f in model.functions})
        self._maps: dict[str, tuple[Codes, Codes]] = {}

    def _collect(self, graph: GraphProto, fields: Mapping[str, list[str]]) -> None:
        from onnx import helper

        for node in graph.node:
            if node.domain == "eqcompile":
                reads = dict(zip(fields[node.op_type], (n.rpartition("/")[2] for n in node.input), strict=True))
                place, _, out = node.output[0].rpartition("/")
                kind = node.op_type.rstrip("0123456789").rstrip("_")
                numbers = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                self.blocks[place.partition("/")[0]].append(Op(kind, out, reads, numbers))
            elif node.name.startswith("repeat/"):
                raise UnknownError(f"{node.name}: a nested relaxation")
            for a in node.attribute:
                if node.domain != "eqcompile" and a.HasField("g"):
                    self._collect(a.g, fields)

    def linear(self, op: Op, shape: tuple[int, ...]) -> tuple[Codes, Codes]:
        """Matrix [results, operand entries] and bias [results] of a linear map of an operand of this shape."""
        if op.out not in self._maps:
            matrix = weight = self.params[op.reads["weight"]]
            repeats = 1
            if op.kind == "linear":
                matrix = np.kron(np.eye(math.prod(shape[:-1]), dtype=np.int64), weight)
            elif op.kind == "conv":
                matrix = convolution(weight, shape, op.fields["stride"], op.fields["padding"])
                repeats = len(matrix) // len(weight)
            else:
                index, matrix = self.params[op.reads["index"]], np.zeros((len(weight), math.prod(shape)), np.int64)
                for taps, column in zip(weight.T, index.T, strict=True):
                    rows = np.flatnonzero(column >= 0)
                    matrix[rows, column[rows]] += taps[rows]
            bias = self.params[op.reads["bias"]] if "bias" in op.reads else np.zeros(1, np.int64)
            self._maps[op.out] = matrix, np.resize(np.repeat(bias, repeats), len(matrix))
        return self._maps[op.out]

    def hold(self, op: Op) -> Codes | None:
        """How far a selection is from its operand `a`, at most: c of a condition `|a - b| > c`; None without one."""
        greater, size, difference = op.reads["condition"], "", ""
        for made in reversed(self.blocks["step"]):
            if made.out == greater and made.kind == "greater":
                size, limit = made.reads["a"], made.reads["b"]
            elif made.out == size and made.kind == "abs":
                difference = made.reads["x"]
            elif made.out == difference and made.kind == "sub" and limit in self.params:
                same = {*made.reads.values()} == {op.reads["a"], op.reads["b"]}
                return np.maximum(self.params[limit], 0) if same else None
        return None

    def counts(self) -> dict[str, int]:
        """States without a real size that a table sets from themselves alone: in how many ticks any code has become
        the same one."""
        found = {}
        makers = {op.out: op for op in self.blocks["step"]}
        for state in self.meta["states"]:
            name, op = state["name"], makers.get(state["update"])
            if state["frac"] is not None or op is None or op.kind != "lookup" or op.reads["x"] != name:
                continue
            codes, ticks = np.arange(self.ends[name][0], self.ends[name][1] + 1), 0
            while len(codes) > 1 and ticks <= self.ends[name][1]:
                table = self.table(op)
                codes = np.unique(table[np.clip(codes - op.fields["first"], 0, len(table) - 1)])
                ticks += 1
            if len(codes) == 1:
                found[name] = ticks
        return found

    def table(self, op: Op) -> Codes:
        """All values of an activation, from index `first` on."""
        if op.kind == "lookup":
            return self.params[op.reads["table"]]
        base, slope, shift = self.params[op.reads["base"]], self.params[op.reads["slope"]], int(op.fields["shift"])
        u = np.arange(len(base) << shift)
        table: Codes = base[u >> shift] + half_up(slope[u >> shift] * (u % (1 << shift)), shift)
        return table


def convolution(weight: Codes, shape: tuple[int, ...], stride: int, padding: int) -> Codes:
    """The matrix of a cross-correlation [channels out, channels in, *kernel] of [channels in, *space], zeros around."""
    kernel, space = weight.shape[2:], shape[1:]
    results = sizes(weight, shape, stride, padding)
    matrix = np.zeros((len(weight), math.prod(results), shape[0], math.prod(space)), np.int64)
    for row, at in enumerate(np.ndindex(*results)):
        for number, tap in enumerate(np.ndindex(*kernel)):
            place = tuple(a * stride + t - padding for a, t in zip(at, tap, strict=True))
            if all(0 <= p < n for p, n in zip(place, space, strict=True)):
                column = int(np.ravel_multi_index(place, space))
                matrix[:, row, :, column] = weight.reshape(*weight.shape[:2], -1)[:, :, number]
    return matrix.reshape(len(weight) * math.prod(results), math.prod(shape))


def half_up(x: Codes, shift: int) -> Codes:
    return (x + ((1 << shift) >> 1)) >> shift


def sizes(weight: Codes, shape: tuple[int, ...], stride: int, padding: int) -> tuple[int, ...]:
    """The space of a convolution's result."""
    pairs = zip(shape[1:], weight.shape[2:], strict=True)
    return tuple((n + 2 * padding - k) // stride + 1 for n, k in pairs)


def hull(values: Sequence[Codes]) -> Box:
    return np.minimum.reduce(values), np.maximum.reduce(values)


def evaluate(
    net: Net, block: Iterable[Op], scope: dict[str, Box], ball: tuple[str, Codes, float] | None = None
) -> None:
    """Add the least and largest code of each result, shaped as in the net, without a batch. `ball`: a state, its
    centre, and how far from that it can be (2-norm)."""

    def get(name: str) -> Box:
        return scope[name] if name in scope else (net.params[name], net.params[name])

    for op in block:
        scope[op.out] = box(net, op, {field: get(name) for field, name in op.reads.items()}, ball)


def box(net: Net, op: Op, of: Mapping[str, Box], ball: tuple[str, Codes, float] | None) -> Box:
    n = op.fields
    match op.kind:
        case "linear" | "stencil" | "conv":
            lo, hi = of["x"]
            matrix, bias = net.linear(op, lo.shape)
            reach = int(np.abs(matrix).sum(axis=1).max()) * int(max(np.abs(lo).max(), np.abs(hi).max()))
            if 4 * reach >= LIMIT:
                raise UnknownError(f"{op.kind} {op.out}: sums of more than 60 bits")
            more, less = np.maximum(matrix, 0), np.minimum(matrix, 0)
            low, high = more @ lo.ravel() + less @ hi.ravel(), more @ hi.ravel() + less @ lo.ravel()
            if ball is not None and ball[0] == op.reads["x"]:
                at, rows = matrix @ ball[1].ravel(), up(np.sqrt((matrix * matrix).sum(axis=1).astype(np.float64)))
                far = np.floor(up(rows * ball[2])).astype(np.int64)
                low, high = np.maximum(low, at - far), np.minimum(high, at + far)
            shape: tuple[int, ...] = (*lo.shape[:-1], -1) if op.kind == "linear" else (-1,)
            if op.kind == "conv":
                weight = net.params[op.reads["weight"]]
                shape = (len(weight), *sizes(weight, lo.shape, n["stride"], n["padding"]))
            return (low + bias).reshape(shape), (high + bias).reshape(shape)
        case "reshape":
            return of["x"][0].reshape(n["shape"]), of["x"][1].reshape(n["shape"])
        case "transpose":
            return of["x"][0].transpose(n["axes"]), of["x"][1].transpose(n["axes"])
        case "reduce" if n["kind"] in (b"sum", b"max"):
            reduce = np.sum if n["kind"] == b"sum" else np.max
            low, high = (reduce(v, axis=tuple(n["axes"]), keepdims=bool(n["keep"])) for v in of["x"])
            return np.asarray(low), np.asarray(high)
        case "abs":
            (lo, hi) = of["x"]
            return np.maximum(np.maximum(lo, -hi), 0), np.maximum(np.abs(lo), np.abs(hi))
        case "greater":
            (a, b), (c, d) = of["a"], of["b"]
            return (a > d).astype(np.int64), (b > c).astype(np.int64)
        case "select":
            (never, ever), a_, b_ = of["condition"], of["a"], of["b"]
            low = np.where(never > 0, a_[0], np.where(ever > 0, np.minimum(a_[0], b_[0]), b_[0]))
            high = np.where(never > 0, a_[1], np.where(ever > 0, np.maximum(a_[1], b_[1]), b_[1]))
            limit = net.hold(op) if a_[0].shape == b_[0].shape == never.shape else None
            return (low, high) if limit is None else (np.maximum(low, a_[0] - limit), np.minimum(high, a_[1] + limit))
        case "mul":
            return hull([p * q for p in of["a"] for q in of["b"]])
        case "lookup" | "interpolate":
            table = net.table(op)
            lo, hi = (np.clip(v, n["first"], n["first"] + len(table) - 1) - n["first"] for v in of["x"])
            parts = [table[a : b + 1] for a, b in zip(lo.ravel(), hi.ravel(), strict=True)]
            low, high = (np.array([f(p) for p in parts], np.int64).reshape(lo.shape) for f in (np.min, np.max))
            return low, high
        case "add" | "sub":
            (a, b), (c, d) = of["a"], of["b"]
            return (a + c, b + d) if op.kind == "add" else (a - d, b - c)
        case "rescale":
            low, high = hull([p * q for p in of["x"] for q in of["multiplier"]])
            return half_up(low, n["shift"]), half_up(high, n["shift"])
        case "damp_fixed":
            (a, b), (c, d) = of["old"], of["new"]
            return a + half_up((c - a) * n["multiplier"], n["shift"]), b + half_up(
                (d - b) * n["multiplier"], n["shift"]
            )
        case _:
            raise UnknownError(f"{op.kind} {op.out}")
