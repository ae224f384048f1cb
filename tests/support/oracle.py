"""A second, independent interpreter of IntNet: one sample, one scalar at a time, Python integers only.

It shares nothing with golden but the IR: no NumPy arithmetic, no batching, no 64-bit words, no early end. A value is a
`Tensor` of Python integers (or booleans) addressed by index tuples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.ir.ops import Op

Index = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    at: dict[Index, int]

    @classmethod
    def of(cls, array: NDArray[np.int64]) -> Tensor:
        return cls(array.shape, {i: int(array[i]) for i in indices(array.shape)})

    @classmethod
    def make(cls, shape: tuple[int, ...], entry: Callable[[Index], int]) -> Tensor:
        return cls(shape, {i: entry(i) for i in indices(shape)})

    def like(self, index: Index) -> int:
        """The entry that broadcasting puts at `index` of a larger shape."""
        tail = index[len(index) - len(self.shape) :] if self.shape else ()
        return self.at[tuple(0 if n == 1 else i for i, n in zip(tail, self.shape, strict=True))]

    def array(self) -> NDArray[np.int64]:
        return np.array([self.at[i] for i in indices(self.shape)], dtype=np.int64).reshape(self.shape)


@dataclass
class SampleRun:
    """Codes of one sample: `trace[tick][state]`, `outputs[frame][name]`, ticks made until settled."""

    trace: list[dict[str, Tensor]] = field(default_factory=list)
    outputs: list[dict[str, Tensor]] = field(default_factory=list)
    steps: int = 0


def run_sample(net: IntNet, frames: list[dict[str, NDArray[np.int64]]], *, settle: bool) -> SampleRun:
    """One sample, one entry of `frames` for each frame. Without `settle` every tick is made."""
    params = {p.name: Tensor.of(p.value) for p in net.params}
    result = SampleRun()
    states: dict[str, Tensor] = {}
    for number, frame in enumerate(frames):
        scope = params | {name: Tensor.of(codes) for name, codes in frame.items()}
        block(net.drive, scope)
        if number == 0:
            zero = Tensor((), {(): 0})
            for s in net.states:
                start = zero if s.init is None else scope[s.init]
                states[s.name] = Tensor.make(s.shape, start.like)
        done = False
        for _ in range(net.schedule.steps):
            if not done:
                result.steps += 1
                inner = scope | states
                block(net.step, inner)
                new = {s.name: inner[s.update] for s in net.states}
                furthest = max((abs(new[s].at[i] - states[s].at[i]) for s in new for i in new[s].at), default=0)
                done = settle and furthest <= net.schedule.tolerance
                states = new
            result.trace.append(states)
        inner = scope | states
        block(net.readout, inner)
        result.outputs.append({o.name: inner[o.value] for o in net.outputs})
    return result


def run(
    net: IntNet, inputs: Mapping[str, NDArray[np.int64]], *, settle: bool = True
) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """`(states, outputs, steps)` shaped as in `contracts.Run`."""
    batch = len(next(iter(inputs.values())))
    done = []
    for b in range(batch):
        first = next(iter(inputs.values()))
        count = first.shape[1] if net.schedule.frames else 1
        frames = [{n: v[b, f] if net.schedule.frames else v[b] for n, v in inputs.items()} for f in range(count)]
        done.append(run_sample(net, frames, settle=settle))
    states = {
        s.name: np.stack([np.stack([row[s.name].array() for row in one.trace]) for one in done], axis=1)
        for s in net.states
    }
    outputs = {}
    for o in net.outputs:
        each = [np.stack([row[o.name].array() for row in one.outputs]) for one in done]
        outputs[o.name] = np.stack(each if net.schedule.emit == "every" else [e[-1] for e in each])
    return states, outputs, np.array([one.steps for one in done])


def indices(shape: tuple[int, ...]) -> Iterator[Index]:
    return itertools.product(*(range(n) for n in shape))


def block(block_ops: tuple[Op, ...], scope: dict[str, Tensor]) -> None:
    for op in block_ops:
        scope[op.out] = apply(op, scope)


def broadcast(function: Callable[..., int], *values: Tensor) -> Tensor:
    rank = max(len(v.shape) for v in values)
    padded = [(1,) * (rank - len(v.shape)) + v.shape for v in values]
    shape = tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))
    return Tensor.make(shape, lambda i: function(*(v.like(i) for v in values)))


def half_up(x: int, shift: int) -> int:
    """Nearest integer to `x / 2**shift`, ties towards plus infinity, without a shift of a negative number."""
    quotient, rest = divmod(x, 2**shift)
    return quotient + (1 if 2 * rest >= 2**shift and shift > 0 else 0)


def clamp(x: int, lo: int, hi: int) -> int:
    return lo if x < lo else hi if x > hi else x


def apply(op: Op, scope: dict[str, Tensor]) -> Tensor:
    match op:
        case ops.Linear(x=xn, weight=wn, bias=bn):
            x, w = scope[xn], scope[wn]
            return Tensor.make(
                (*x.shape[:-1], w.shape[0]),
                lambda i: sum(w.at[i[-1], k] * x.at[(*i[:-1], k)] for k in range(w.shape[1])) + bias(scope, bn, i[-1]),
            )
        case ops.Stencil(x=xn, weight=wn, index=jn, bias=bn):
            x, w, j = scope[xn], scope[wn], scope[jn]

            def site(i: Index) -> int:
                reads = [(w.at[i[0], k], j.at[i[0], k]) for k in range(w.shape[1])]
                return sum(v * x.at[(m,)] for v, m in reads if m != -1) + bias(scope, bn, i[0])

            return Tensor.make((w.shape[0],), site)
        case ops.Conv(x=xn, weight=wn, bias=bn, stride=stride, padding=padding):
            return conv(scope[xn], scope[wn], stride, padding, lambda channel: bias(scope, bn, channel))
        case ops.Embedding(x=xn, table=tn):
            x, t = scope[xn], scope[tn]
            return Tensor.make((*x.shape, t.shape[1]), lambda i: t.at[x.at[i[:-1]], i[-1]])
        case ops.MatMul(a=an, b=bn):
            a, b = scope[an], scope[bn]
            return Tensor.make(
                (*a.shape[:-1], b.shape[-1]),
                lambda i: sum(a.at[(*i[:-1], k)] * b.at[(*i[:-2], k, i[-1])] for k in range(a.shape[-1])),
            )
        case ops.Add(a=an, b=bn):
            return broadcast(lambda a, b: a + b, scope[an], scope[bn])
        case ops.Sub(a=an, b=bn):
            return broadcast(lambda a, b: a - b, scope[an], scope[bn])
        case ops.Mul(a=an, b=bn):
            return broadcast(lambda a, b: a * b, scope[an], scope[bn])
        case ops.Abs(x=xn):
            return broadcast(abs, scope[xn])
        case ops.Greater(a=an, b=bn):
            return broadcast(lambda a, b: a > b, scope[an], scope[bn])
        case ops.Select(condition=cn, a=an, b=bn):
            return broadcast(lambda c, a, b: a if c else b, scope[cn], scope[an], scope[bn])
        case ops.Reduce(x=xn, kind=kind, axes=axes, keep=keep):
            return reduce(scope[xn], sum if kind == "sum" else max, {a % len(scope[xn].shape) for a in axes}, keep)
        case ops.Reshape(x=xn, shape=shape):
            entries = [scope[xn].at[i] for i in indices(scope[xn].shape)]
            assert math.prod(shape) == len(entries)
            return Tensor(shape, dict(zip(indices(shape), entries, strict=True)))
        case ops.Transpose(x=xn, axes=axes):
            x = scope[xn]
            moved = {tuple(i[a] for a in axes): v for i, v in x.at.items()}
            return Tensor(tuple(x.shape[a] for a in axes), moved)
        case ops.Repeat(init=init, count=count, carry=carry, body=body, result=result):
            inner = scope | {carry: scope[init]}
            for _ in range(count):
                block(body, inner)
                inner[carry] = inner[result]
            return inner[carry]
        case ops.Rescale(x=xn, multiplier=mn, shift=k):
            return broadcast(lambda x, m: half_up(x * m, k), scope[xn], scope[mn])
        case ops.Lookup(x=xn, table=tn, first=first):
            t = scope[tn]
            return broadcast(lambda x: t.at[(clamp(x - first, 0, t.shape[0] - 1),)], scope[xn])
        case ops.Interpolate(x=xn, base=bn, slope=sn, first=first, shift=k):
            base, slope = scope[bn], scope[sn]

            def line(x: int) -> int:
                segment, fraction = divmod(clamp(x - first, 0, base.shape[0] * 2**k - 1), 2**k)
                return base.at[(segment,)] + half_up(slope.at[(segment,)] * fraction, k)

            return broadcast(line, scope[xn])
        case ops.DampFixed(old=on, new=nn, multiplier=m, shift=k):
            return broadcast(lambda old, new: old + half_up((new - old) * m, k), scope[on], scope[nn])
        case ops.Divide(a=an, b=bn, shift=k):
            return broadcast(lambda a, b: math.floor(divmod(a * 2**k + b // 2, b)[0]), scope[an], scope[bn])
        case ops.Isqrt(x=xn):

            def root(x: int) -> int:
                y = 0
                for bit in reversed(range(x.bit_length())):  # a negative number has no bit that keeps y * y <= x
                    y += 2**bit if (y + 2**bit) ** 2 <= x else 0
                return y

            return broadcast(root, scope[xn])
        case _:
            raise TypeError(op.mnemonic)


def bias(scope: dict[str, Tensor], name: str | None, row: int) -> int:
    return 0 if name is None else scope[name].at[(row,)]


def conv(x: Tensor, w: Tensor, stride: int, padding: int, offset: Callable[[int], int]) -> Tensor:
    kernel = w.shape[2:]
    space = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[1:], kernel, strict=True))

    def entry(i: Index) -> int:
        total = offset(i[0])
        for c in range(x.shape[0]):
            for k in indices(kernel):
                where = tuple(p * stride + d - padding for p, d in zip(i[1:], k, strict=True))
                # A position outside the input is the zero padding.
                total += w.at[(i[0], c, *k)] * x.at.get((c, *where), 0)
        return total

    return Tensor.make((w.shape[0], *space), entry)


def reduce(x: Tensor, function: Callable[[list[int]], int], drop: set[int], keep: bool) -> Tensor:
    groups: dict[Index, list[int]] = {}
    for i in indices(x.shape):
        key = tuple(0 if a in drop else n for a, n in enumerate(i) if keep or a not in drop)
        groups.setdefault(key, []).append(x.at[i])
    shape = tuple(1 if a in drop else n for a, n in enumerate(x.shape) if keep or a not in drop)
    return Tensor(shape, {i: function(groups[i]) for i in indices(shape)})
