"""A net as arrays: every entry of every value is an element, every operation a row of numbers.

Elements lie in four regions, by what their fault-free value depends on: those that change with ticks (states, then
values of the step), those that change with frames (values of the drive, inputs), constants, and values of the readout.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ....toolchain.arrays import Array
from ....toolchain.ir import IntNet, ValueType, ops
from ....toolchain.ir.ops import Op
from ....toolchain.passes import Analysis, tap_places
from . import codes

__all__ = ["Graph", "Layout", "compile_net"]

Index = NDArray[np.int32]
Numbers = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

ELEMENTWISE: Final[dict[type[Op], tuple[int, tuple[str, ...]]]] = {
    ops.Add: (codes.ADD, ("a", "b")),
    ops.Sub: (codes.SUB, ("a", "b")),
    ops.Mul: (codes.MUL, ("a", "b")),
    ops.Abs: (codes.ABS, ("x",)),
    ops.Greater: (codes.GREATER, ("a", "b")),
    ops.Select: (codes.SELECT, ("condition", "a", "b")),
    ops.Rescale: (codes.RESCALE, ("x", "multiplier")),
    ops.Lookup: (codes.LOOKUP, ("x",)),
    ops.Interpolate: (codes.INTERPOLATE, ("x",)),
    ops.DampFixed: (codes.DAMP, ("old", "new")),
    ops.Divide: (codes.DIVIDE, ("a", "b")),
    ops.Isqrt: (codes.ISQRT, ("x",)),
    ops.Reshape: (codes.COPY, ("x",)),
    ops.Transpose: (codes.COPY, ("x",)),
}


class Graph(NamedTuple):
    """What the kernel reads. `op`: a row an operation (columns in `codes`); `slot`: a row an operand: its value, where
    its elements stand in `gather` (one for each result), where in `fan_start`, and 1 if result i reads entry i.

    `fan_start[f + i] : fan_start[f + i + 1]` bounds what entry i of an operand goes to in `fan_to`, with `fan_weight`.
    `pair_start`, `pair_to`, `pair_from`: for each weight, the results and the operand elements it connects.
    `list_start`, `list_a`, `list_b`: for each result, the elements that a maximum or an inner product reads. `base`,
    `size`: of each value; `state`: a row a state: its value, the value it latches, bits, sign, the value it starts from
    (-1: zeros) and where its map is in `gather`; `output`: a row an output: its value and its classes (0: none).
    """

    op: Numbers
    slot: Numbers
    gather: Index
    fan_start: Numbers
    fan_to: Index
    fan_weight: Numbers
    pair_start: Numbers
    pair_to: Index
    pair_from: Index
    list_start: Numbers
    list_a: Index
    list_b: Index
    base: Numbers
    size: Numbers
    state: Numbers
    output: Numbers
    blocks: Numbers
    limits: Numbers


@dataclass(frozen=True)
class Layout:
    """Where things are: the number of each value, its first element, and of each operation its row."""

    graph: Graph
    value: dict[str, int]
    op: dict[str, int]
    varying: tuple[str, ...]
    held: tuple[str, ...]
    constant: tuple[str, ...]
    read: tuple[str, ...]
    size: dict[str, int]


def compile_net(net: IntNet) -> Layout:
    """The arrays of a net without repeats."""
    return _Compiler(net).layout()


class _Compiler:
    def __init__(self, net: IntNet) -> None:
        self.net, self.types = net, Analysis.of(net).types
        self.varying = (*(s.name for s in net.states), *(op.out for op in net.step))
        self.held = (*(op.out for op in net.drive), *(i.name for i in net.inputs))
        self.constant = tuple(p.name for p in net.params)
        self.read = tuple(op.out for op in net.readout)
        names = (*self.varying, *self.held, *self.constant, *self.read)
        self.value = {name: number for number, name in enumerate(names)}
        self.size = {name: prod(self.shape(name)) for name in names}
        sizes = np.array([self.size[n] for n in names], np.int64)
        self.bases = np.cumsum(sizes) - sizes
        self.sizes = sizes
        self.inputs = {i.name for i in net.inputs}
        self.rows: list[list[int]] = []
        self.slots: list[list[int]] = []
        self.parts: dict[str, list[Array]] = {}
        self.lengths: dict[str, int] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        found: ValueType = self.types[name]
        return found.shape

    def put(self, kind: str, array: Array) -> int:
        """Append to the array of this kind; where it starts there."""
        start = self.lengths.get(kind, 0)
        self.parts.setdefault(kind, []).append(array)
        self.lengths[kind] = start + len(array)
        return start

    def elements(self, name: str) -> NDArray[np.int64]:
        """Elements of a value, in its shape."""
        start = int(self.bases[self.value[name]])
        return np.arange(start, start + self.size[name]).reshape(self.shape(name))

    def layout(self) -> Layout:
        bounds = [0]
        for _, block in self.net.blocks:
            for op in block:
                self.operation(op)
            bounds.append(len(self.rows))
        state = [self.state(number) for number in range(len(self.net.states))]
        output = [self.output(number) for number in range(len(self.net.outputs))]
        regions = [sum(self.size[n] for n in part) for part in (self.varying, self.held, self.constant, self.read)]
        states = sum(self.size[s.name] for s in self.net.states)
        graph = Graph(
            op=np.array(self.rows, np.int64).reshape(-1, codes.OP_COLUMNS),
            slot=np.array(self.slots, np.int64).reshape(-1, codes.SLOT_COLUMNS),
            gather=self.joined("gather", np.int32),
            fan_start=self.joined("fan_start", np.int64),
            fan_to=self.joined("fan_to", np.int32),
            fan_weight=self.joined("fan_weight", np.int64),
            pair_start=self.joined("pair_start", np.int64),
            pair_to=self.joined("pair_to", np.int32),
            pair_from=self.joined("pair_from", np.int32),
            list_start=self.joined("list_start", np.int64),
            list_a=self.joined("list_a", np.int32),
            list_b=self.joined("list_b", np.int32),
            base=self.bases,
            size=self.sizes,
            state=np.array(state, np.int64).reshape(-1, codes.STATE_COLUMNS),
            output=np.array(output, np.int64).reshape(-1, 2),
            blocks=np.array(bounds, np.int64),
            limits=np.array([*np.cumsum(regions), states], np.int64),
        )
        rows = {op.out: number for number, op in enumerate(self.net.all_ops())}
        return Layout(graph, self.value, rows, self.varying, self.held, self.constant, self.read, self.size)

    def joined(self, kind: str, dtype: type[Scalar]) -> NDArray[Scalar]:
        return np.asarray(np.concatenate(self.parts.get(kind, [np.zeros(0, dtype)])), dtype)

    def state(self, number: int) -> list[int]:
        s = self.net.states[number]
        fmt = self.net.formats[s.name]
        first, where = -1, 0
        if s.init is not None:
            first = self.value[s.init]
            where = self.put("gather", np.broadcast_to(self.elements(s.init), s.shape).ravel())
        return [self.value[s.name], self.value[s.update], fmt.bits, int(fmt.signed), first, where]

    def output(self, number: int) -> list[int]:
        o = self.net.outputs[number]
        first = next((i for i, other in enumerate(self.net.outputs) if other.kind == "classes"), -1)
        return [self.value[o.value], self.shape(o.value)[-1] if number == first else 0]

    def operation(self, op: Op) -> None:
        fmt = self.net.formats.get(op.out)
        row = [0] * codes.OP_COLUMNS
        row[codes.OUT], row[codes.SLOT] = self.value[op.out], len(self.slots)
        row[codes.BITS], row[codes.SIGNED] = (1, 0) if fmt is None else (fmt.bits, int(fmt.signed))
        row[codes.WEIGHT] = row[codes.TABLE] = row[codes.SLOPE] = -1
        match op:
            case ops.Linear() | ops.Stencil() | ops.Conv():
                self.weighted(op, row)
            case ops.Reduce(x=x, kind="sum", axes=axes):
                row[codes.KIND] = codes.SUM
                owner = self.owners(op, axes)
                self.fan(x, np.arange(self.size[x]), owner, np.ones(self.size[x], np.int64))
            case ops.Reduce(x=x, axes=axes):
                row[codes.KIND] = codes.MAX
                owner = self.owners(op, axes)
                self.fan(x, np.arange(self.size[x]), owner, np.zeros(self.size[x], np.int64))
                row[codes.LIST] = self.lists(op.out, owner, self.elements(x).ravel(), self.elements(x).ravel())
            case ops.MatMul(a=a, b=b):
                self.matmul(op, a, b, row)
            case ops.Embedding(x=x, table=t):
                row[codes.KIND], row[codes.TABLE] = codes.EMBED, self.value[t]
                width = self.shape(t)[1]
                row[codes.FIRST] = width
                self.slot(x, np.repeat(self.elements(x).ravel(), width))
            case _:
                self.elementwise(op, row)
        row[codes.SLOTS] = len(self.slots) - row[codes.SLOT]
        self.rows.append(row)

    def elementwise(self, op: Op, row: list[int]) -> None:
        row[codes.KIND], operands = ELEMENTWISE[type(op)]
        match op:
            case ops.Lookup(table=t, first=first):
                row[codes.TABLE], row[codes.FIRST] = self.value[t], first
            case ops.Interpolate(base=b, slope=s, first=first, shift=shift):
                row[codes.TABLE], row[codes.SLOPE] = self.value[b], self.value[s]
                row[codes.FIRST], row[codes.SHIFT] = first, shift
            case ops.DampFixed(multiplier=m, shift=shift):
                row[codes.FACTOR], row[codes.SHIFT] = m, shift
            case ops.Rescale(shift=shift) | ops.Divide(shift=shift):
                row[codes.SHIFT] = shift
            case _:
                pass
        for name in (getattr(op, field) for field in operands):
            found = self.elements(name)
            if isinstance(op, ops.Transpose):
                found = found.transpose(op.axes)
            if isinstance(op, ops.Reshape):
                found = found.reshape(op.shape)
            self.slot(name, np.broadcast_to(found, self.shape(op.out)).ravel())

    def slot(self, name: str, gather: NDArray[np.int64]) -> None:
        """An operand: result i reads element `gather[i]`."""
        start = int(self.bases[self.value[name]])
        same = len(gather) == self.size[name] and bool((gather == start + np.arange(len(gather))).all())
        where = self.put("gather", gather)
        fan = 0 if same else self.fan_of(name, gather - start, np.arange(len(gather)), np.zeros(len(gather), np.int64))
        self.slots.append([self.value[name], where, fan, int(same)])

    def fan(self, name: str, entry: Numbers, to: Numbers, weight: Numbers) -> None:
        self.slots.append([self.value[name], 0, self.fan_of(name, entry, to, weight), 0])

    def fan_of(self, name: str, entry: Numbers, to: Numbers, weight: Numbers) -> int:
        order = np.argsort(entry, kind="stable")
        start = self.put("fan_to", to[order])
        self.put("fan_weight", weight[order])
        return self.put("fan_start", start + self.starts(entry, self.size[name]))

    def starts(self, key: Numbers, count: int) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(np.bincount(key, minlength=count))])

    def owners(self, op: ops.Reduce, axes: tuple[int, ...]) -> NDArray[np.int64]:
        """The result that each entry of the operand goes to."""
        shape = self.shape(op.x)
        kept = tuple(1 if i - len(shape) in axes else n for i, n in enumerate(shape))
        return np.broadcast_to(np.arange(prod(kept)).reshape(kept), shape).ravel()

    def lists(self, out: str, owner: Numbers, a: Numbers, b: Numbers) -> int:
        order = np.argsort(owner, kind="stable")
        start = self.put("list_a", a[order])
        self.put("list_b", b[order])
        return self.put("list_start", start + self.starts(owner, self.size[out]))

    def weighted(self, op: ops.Linear | ops.Stencil | ops.Conv, row: list[int]) -> None:
        row[codes.KIND], row[codes.WEIGHT] = codes.SUM, self.value[op.weight]
        out, x, place = tap_places(self.net, op, zeros=True)
        weight = self.net.param(op.weight).reshape(-1)[place]
        if op.x not in self.inputs:
            some = weight != 0
            self.fan(op.x, x[some], out[some], weight[some])
        if op.bias is not None:
            space = self.shape(op.out)
            axis = 0 if isinstance(op, ops.Conv) else len(space) - 1
            entry = np.indices(space)[axis].ravel()
            self.fan(op.bias, entry, np.arange(len(entry)), np.ones(len(entry), np.int64))
        order = np.argsort(place, kind="stable")
        start = self.put("pair_to", out[order])
        self.put("pair_from", self.elements(op.x).ravel()[x[order]])
        row[codes.LIST] = self.put("pair_start", start + self.starts(place, self.size[op.weight]))

    def matmul(self, op: ops.MatMul, a: str, b: str, row: list[int]) -> None:
        row[codes.KIND] = codes.DOT
        left, right, out = self.elements(a), self.elements(b), np.arange(self.size[op.out]).reshape(self.shape(op.out))
        shape = (*out.shape, left.shape[-1])
        x = np.broadcast_to(left[..., :, None, :], shape).ravel()
        y = np.broadcast_to(np.swapaxes(right, -1, -2)[..., None, :, :], shape).ravel()
        owner = np.broadcast_to(out[..., None], shape).ravel()
        none = np.zeros(len(owner), np.int64)
        self.fan(a, x - int(left.min()), owner, none)
        self.fan(b, y - int(right.min()), owner, none)
        row[codes.LIST] = self.lists(op.out, owner, x, y)
