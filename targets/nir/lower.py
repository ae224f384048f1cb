"""An IntNet as a NIR graph: every value a vector, one tick one unit of time, every state a delay of one tick.

A signal is constant within a tick `[t, t + 1)`, so `h(t) = f(h(t - 1))` is a Delay of 1 in a loop with memoryless
nodes, exactly. A Delay gives 0 before its input began; a state that starts at `c` is `delay(update)`, plus `c` in the
first tick, which is where the delay of a constant 1 is still 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

import numpy as np
from numpy.typing import NDArray

from ...toolchain.diagnostics import Diagnostic
from ...toolchain.ir import IntNet, State, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import Analysis, bias_entries, linear_matrix
from ...toolchain.requirements import Requirements
from .circuit import Circuit, Term, TooWideError, Wire

if TYPE_CHECKING:
    from nir import NIRGraph

__all__ = ["lower", "preflight", "state_node"]

MAX_STEPS = 1024
"""Most steps of one table: each is a node."""
MAX_MATRIX = 1 << 26
"""Most entries of one matrix; NIR has no other linear map of a flat vector."""
Affine = ops.Linear | ops.Stencil | ops.Conv | ops.Reshape | ops.Transpose | ops.Reduce
UNWRITTEN = (ops.Embedding, ops.MatMul, ops.Divide, ops.Isqrt)
NO_SUMS = "no sums of steps are written for it"
LIST = "NIR holds affine maps, sums, thresholds and delays"

Scope = dict[str, Wire]


class _RefusedError(ValueError):
    """An operation that has no exact form here; the message says why."""


def state_node(name: str) -> str:
    """Node whose output is the state `name`."""
    return f"state-{name}"


def lower(net: IntNet) -> tuple[NIRGraph, list[Diagnostic]]:
    """The `nir.NIRGraph` of a verified net, and every node that it cannot hold (then the graph is not to be used)."""
    lowering = _Lowering(net)
    lowering.build()
    return lowering.graph(), lowering.faults


def preflight(needs: Requirements) -> list[Diagnostic]:
    """What the graph cannot hold of a net, as far as it is known before quantization."""
    faults = [_index(i.name) for i in needs.net.inputs if i.kind == "index"]
    for _, name, kind in needs.operations():
        if issubclass(kind, UNWRITTEN):
            faults.append(_inexact(kind, name, _RefusedError(NO_SUMS)))
    kinds = {op.out: type(op) for op in needs.net.all_ops()}
    for m in needs.maps:
        try:
            _demand_matrix(m.rows, m.columns)
        except _RefusedError as error:
            faults.append(_inexact(kinds[m.name], m.name, error))
    return faults


def _index(name: str) -> Diagnostic:
    return Diagnostic("nir-operation", f"input {name} is an index, NIR carries numbers only", name, LIST)


def _inexact(kind: type[Op], name: str, why: Exception) -> Diagnostic:
    return Diagnostic("nir-operation", f"{kind.mnemonic} {name} has no exact form in NIR: {why}", name, LIST)


@dataclass
class _Lowering:
    net: IntNet
    circuit: Circuit = field(default_factory=Circuit)
    faults: list[Diagnostic] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.types = Analysis.of(self.net).types
        self.ranges = Analysis.of(self.net).ranges
        self.params = Analysis.of(self.net).codes

    def graph(self) -> NIRGraph:
        import nir

        return nir.NIRGraph(nodes=self.circuit.nodes, edges=self.circuit.edges, type_check=False)

    def size(self, name: str) -> int:
        return math.prod(self.types[name].shape)

    def build(self) -> None:
        import nir

        net, circuit = self.net, self.circuit
        scope: Scope = {}
        for i in net.inputs:
            if i.encoding is None:
                self.faults.append(_index(i.name))
            name = circuit.place(f"input-{i.name}", nir.Input({"input": np.array([math.prod(i.shape)])}))
            lo, hi = (0, 1) if i.encoding is None else (self.ranges[i.name].lo, self.ranges[i.name].hi)
            scope[i.name] = Wire(name, math.prod(i.shape), lo, hi)
        first = scope[net.inputs[0].name]
        circuit.one = circuit.place("one", nir.Affine(np.zeros((1, first.size)), np.ones(1)), first.name)
        self.block(net.drive, "drive", scope)
        delays: dict[str, str] = {}
        for s in net.states:
            delays[s.name] = circuit.place(f"delay-{s.name}", nir.Delay(np.ones(math.prod(s.shape))))
        for s in net.states:
            scope[s.name] = self.state(s, delays[s.name], scope)
        step = dict(scope)
        self.block(net.step, "step", step)
        for s in net.states:
            update = self.operand(s.update, step, s.shape, f"update-{s.name}")
            circuit.edges.append((update.name, delays[s.name]))
        self.block(net.readout, "readout", scope)
        for o in net.outputs:
            value = self.operand(o.value, scope, self.types[o.value].shape, f"result-{o.name}")
            circuit.place(f"output-{o.name}", nir.Output({"output": np.array([value.size])}), value.name)
        kinds = (nir.Input, nir.Output)
        ends = [n for n, node in circuit.nodes.items() if isinstance(node, kinds)]
        # `one` is kept: the package's type check wants an edge from an input, also where no state depends on it.
        circuit.prune([*ends, circuit.one, *(state_node(s.name) for s in net.states)])

    def state(self, s: State, delay: str, scope: Scope) -> Wire:
        import nir

        size, bounds = math.prod(s.shape), self.ranges[s.name]
        sources = [delay]
        if s.init is not None:
            start = self.operand(s.init, scope, s.shape, f"start-{s.name}")
            before = Wire(self.circuit.one, 1, 1, 1)
            begun = Wire(self.circuit.place(f"begun-{s.name}", nir.Delay(np.ones(1)), before.name), 1, 0, 1)
            terms: list[Term] = [(before, np.ones((size, 1))), (begun, -np.ones((size, 1)))]
            first = self.circuit.add(f"first-{s.name}", terms, 0, size, 0, 1)
            sources.append(self.circuit.gate(f"initial-{s.name}", start, first).name)
        name = self.circuit.place(state_node(s.name), nir.Scale(np.ones(size)), *sources)
        return Wire(name, size, bounds.lo, bounds.hi)

    def block(self, block: Iterable[Op], place: str, scope: Scope) -> None:
        for op in block:
            if isinstance(op, ops.Repeat):
                self.repeat(op, place, scope)
                continue
            try:
                scope[op.out] = self.op(op, f"{place}-{op.out}", scope)
            except (_RefusedError, TooWideError) as error:
                self.faults.append(_inexact(type(op), op.out, error))
                bounds = self.ranges.get(op.out)
                lo, hi = (bounds.lo, bounds.hi) if bounds else (0, 1)
                scope[op.out] = self.circuit.add(f"{place}-{op.out}", [], np.ones(1), self.size(op.out), lo, hi)

    def repeat(self, op: ops.Repeat, place: str, scope: Scope) -> None:
        inner = dict(scope)
        shape = self.types[op.carry].shape
        inner[op.carry] = self.operand(op.init, scope, shape, f"{place}-{op.carry}")
        for _ in range(op.count):
            self.block(op.body, place, inner)
            inner[op.carry] = self.operand(op.result, inner, shape, f"{place}-{op.carry}")
        scope[op.out] = inner[op.carry]

    # Operands

    def wire(self, name: str, scope: Scope) -> Wire:
        if name in scope:
            return scope[name]
        value = self.params[name].ravel()
        return self.circuit.add(f"param-{name}", [], value, value.size, int(value.min()), int(value.max()))

    def constant(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The parameter `name` broadcast to `shape`, flat."""
        return np.broadcast_to(self.params[name], shape).ravel().astype(np.float64)

    def spread(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """The matrix that broadcasts the value `name` to `shape`; None if nothing changes."""
        size = self.size(name)
        source = np.broadcast_to(np.arange(size).reshape(self.types[name].shape), shape).ravel()
        if np.array_equal(source, np.arange(size)):
            return None
        _demand_matrix(len(source), size)
        matrix: NDArray[np.float64] = np.eye(size)[source]
        return matrix

    def operand(self, name: str, scope: Scope, shape: tuple[int, ...], place: str) -> Wire:
        """The value `name` broadcast to `shape`."""
        wire = self.wire(name, scope)
        matrix = self.spread(name, shape)
        if matrix is None:
            return wire
        return self.circuit.add(place, [(wire, matrix)], 0, math.prod(shape), wire.lo, wire.hi)

    def scaled(self, name: str, x: Wire, factor: NDArray[np.float64], bias: NDArray[np.float64] | int) -> Wire:
        """`x * factor + bias`, entry by entry."""
        ends = np.stack([x.lo * factor, x.hi * factor]) + bias
        return self.circuit.add(name, [(x, factor)], bias, x.size, int(ends.min()), int(ends.max()))

    def half_up(self, name: str, x: Wire, factor: NDArray[np.float64], shift: int) -> Wire:
        product = self.scaled(f"{name}-product", x, factor, (1 << shift) >> 1)
        return self.circuit.shifted(name, product, shift)

    # Operations

    def op(self, op: Op, name: str, scope: Scope) -> Wire:
        shape, circuit = self.types[op.out].shape, self.circuit
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv() | ops.Reshape() | ops.Transpose() | ops.Reduce(kind="sum"):
                return self.linear(op, name, scope)
            case ops.Add(a=a, b=b):
                return self.sum(op, name, scope, (a, 1), (b, 1))
            case ops.Sub(a=a, b=b):
                return self.sum(op, name, scope, (a, 1), (b, -1))
            case ops.Mul(a=a, b=b) if a in self.params or b in self.params:
                value, factor = (b, a) if a in self.params else (a, b)
                return self.scaled(name, self.operand(value, scope, shape, name), self.constant(factor, shape), 0)
            case ops.Mul(a=a, b=b):
                left, right = (self.operand(n, scope, shape, f"{name}-{k}") for k, n in enumerate((a, b)))
                bits, offset = circuit.bits(f"{name}-right", right, 0)
                parts: list[Term] = [(left, np.full(left.size, float(offset)))]
                for k, bit in enumerate(bits):
                    part = circuit.gate(f"{name}-times{k}", left, Wire(bit, left.size, 0, 1))
                    parts.append((part, np.full(left.size, float(1 << k))))
                bounds = self.ranges[op.out]
                return circuit.add(name, parts, 0, left.size, bounds.lo, bounds.hi)
            case ops.Rescale(x=x, multiplier=multiplier, shift=shift):
                return self.half_up(name, self.wire(x, scope), self.constant(multiplier, shape), shift)
            case ops.DampFixed(old=old, new=new, multiplier=multiplier, shift=shift):
                change = self.sum(op, f"{name}-change", scope, (new, 1), (old, -1))
                part = self.half_up(f"{name}-part", change, np.full(change.size, float(multiplier)), shift)
                before = self.operand(old, scope, shape, f"{name}-old")
                bounds = self.ranges[op.out]
                return circuit.add(name, [(before, None), (part, None)], 0, change.size, bounds.lo, bounds.hi)
            case ops.Lookup(x=x, table=table, first=first):
                return self.table(name, self.wire(x, scope), self.params[table], first)
            case ops.Interpolate():
                return self.interpolate(op, name, self.wire(op.x, scope))
            case ops.Abs(x=x):
                entry = self.wire(x, scope)
                positive = Wire(circuit.above(f"{name}-positive", entry, 1), entry.size, 0, 1)
                part = circuit.gate(f"{name}-part", entry, positive)
                terms: list[Term] = [(part, np.full(entry.size, 2.0)), (entry, -np.ones(entry.size))]
                return circuit.add(name, terms, 0, entry.size, 0, max(abs(entry.lo), abs(entry.hi)))
            case ops.Greater(a=a, b=b):
                difference = self.sum(op, f"{name}-difference", scope, (a, 1), (b, -1))
                return Wire(circuit.above(name, difference, 1), difference.size, 0, 1)
            case ops.Select(condition=condition, a=a, b=b):
                which = self.operand(condition, scope, shape, f"{name}-condition")
                difference = self.sum(op, f"{name}-difference", scope, (a, 1), (b, -1))
                part = circuit.gate(f"{name}-part", difference, which)
                otherwise = self.operand(b, scope, shape, f"{name}-else")
                bounds = self.ranges[op.out]
                return circuit.add(name, [(otherwise, None), (part, None)], 0, part.size, bounds.lo, bounds.hi)
            case _ if isinstance(
                op, ops.FloatOp | ops.Embedding | ops.MatMul | ops.Reduce | ops.Divide | ops.Isqrt | ops.Repeat
            ):
                raise _RefusedError(NO_SUMS)
            case _:
                assert_never(op)

    def sum(self, op: Op, name: str, scope: Scope, *signed: tuple[str, int]) -> Wire:
        shape = self.types[op.out].shape
        wires = [(self.operand(n, scope, shape, f"{name}-{k}"), sign) for k, (n, sign) in enumerate(signed)]
        terms: list[Term] = [(w, None if sign > 0 else -np.ones(w.size)) for w, sign in wires]
        lo = sum(w.lo if sign > 0 else -w.hi for w, sign in wires)
        hi = sum(w.hi if sign > 0 else -w.lo for w, sign in wires)
        return self.circuit.add(name, terms, 0, math.prod(shape), lo, hi)

    def linear(self, op: Affine, name: str, scope: Scope) -> Wire:
        """An affine map of one value as a matrix and a bias."""
        wire, size = self.wire(op.x, scope), self.size(op.out)
        _demand_matrix(size, wire.size)
        bias = np.zeros(size)
        match op:
            case ops.Reshape():
                matrix = np.eye(size)
            case ops.Transpose(axes=axes):
                matrix = self.units(op.x).transpose(0, *(axis + 1 for axis in axes)).reshape(wire.size, -1).T
            case ops.Reduce(axes=axes):
                matrix = self.units(op.x).sum(axis=axes).reshape(wire.size, -1).T
            case _:
                matrix = linear_matrix(self.net, op)
                bias = bias_entries(self.net, op).astype(np.float64)
        plain = size == wire.size == np.count_nonzero(matrix) and (np.diagonal(matrix) == 1.0).all() and not bias.any()
        bounds = self.ranges[op.out]
        terms: list[Term] = [(wire, None if plain else np.ascontiguousarray(matrix))]
        return self.circuit.add(name, terms, bias, size, bounds.lo, bounds.hi)

    def units(self, name: str) -> NDArray[np.float64]:
        """The unit vectors of a value, one after another, each in its shape."""
        return np.eye(self.size(name)).reshape(-1, *self.types[name].shape)

    def table(self, name: str, x: Wire, table: NDArray[np.int64], first: int) -> Wire:
        count = int(np.count_nonzero(np.diff(table)))
        if count > MAX_STEPS:
            raise _RefusedError(f"its table has {count} steps, each a node; at most {MAX_STEPS} are written")
        return self.circuit.steps(name, x, table, first)

    def interpolate(self, op: ops.Interpolate, name: str, x: Wire) -> Wire:
        base, slope = self.params[op.base], self.params[op.slope]
        size, half = len(base) << op.shift, (1 << op.shift) >> 1
        if len(base) > 1 or size <= MAX_STEPS // 4:
            if size > 1 << 22:
                raise _RefusedError(f"its domain has {size} codes")
            at = np.arange(size)
            segment, fraction = at >> op.shift, at & ((1 << op.shift) - 1)
            return self.table(name, x, base[segment] + ((slope[segment] * fraction + half) >> op.shift), op.first)
        inside = self.circuit.clamped(f"{name}-clamp", x, op.first, op.first + size - 1)
        rise = np.full(x.size, float(slope[0]))
        product = self.scaled(f"{name}-product", inside, rise, half - op.first * int(slope[0]))
        shifted = self.circuit.shifted(f"{name}-rise", product, op.shift)
        lo, hi = shifted.lo + int(base[0]), shifted.hi + int(base[0])
        return self.circuit.add(name, [(shifted, None)], int(base[0]), x.size, lo, hi)


def _demand_matrix(rows: int, columns: int) -> None:
    if rows * columns > MAX_MATRIX:
        raise _RefusedError(f"its matrix has {rows} x {columns} entries, at most {MAX_MATRIX} are written")
