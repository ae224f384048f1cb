"""Golden: the definition of right. A plain interpreter of IntNet in NumPy int64, written for reading.

It follows `toolchain/ir/SPEC.md` rule by rule. No target imports it or shares arithmetic with it, so that the judge
shares no bug with the judged. Every value carries the batch axis first; parameters are repeated along it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, assert_never, cast

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Codes
from ..diagnostics import Diagnostic, SimulatorError, UsageError
from ..inputs import check_inputs
from ..interfaces import Progress, Run
from ..ir import Interval, IntNet, infer, ops, value_ranges, verify, walk
from ..ir.ops import Op
from .event import Accumulator, ConvMap, LinearMap, StencilMap, WeightedMap, exact_dtype

__all__ = ["Evaluation", "Machine", "clamped_codes", "first_states", "labels", "run"]

Samples = NDArray[np.intp]
Scope = dict[str, Codes]
"""Arrays `[samples, *shape]` by name: int64 codes. The result of a comparison is bool, which only `select` reads."""
Evaluation = Literal["dense", "event"]


def run(
    net: IntNet,
    inputs: Mapping[str, Codes],
    *,
    trace: bool = True,
    evaluation: Evaluation = "dense",
    progress: Progress | None = None,
) -> Run:
    """Relax `net` on input codes `[batch, (frame,) *shape]`.

    Raises VerifyError if the net is not valid, UsageError with every fault of the inputs, and SimulatorError if a value
    leaves its stated format. `evaluation` chooses how the linear maps of the step are computed, never the bits.
    `Run.details` has `additions_dense` and `additions_event`: nonzero weights added by the linear maps of the step over
    all ticks made, if every tick adds all of them, or only those of operand entries that changed.
    """
    verify(net)
    codes, batch, frames = clamped_codes(net, inputs)
    machine = Machine(net, batch, evaluation)
    every = np.arange(batch)
    total = frames * net.schedule.steps
    steps = np.zeros(batch, np.int64)
    rows: dict[str, Codes] = {s.name: np.zeros((total, batch, *s.shape), np.int64) for s in net.states if trace}
    results: dict[str, list[Codes]] = {o.name: [] for o in net.outputs}
    states: dict[str, Codes] = {}
    for frame in range(frames):
        clamped: Scope = {name: value[:, frame] for name, value in codes.items()}
        machine.evaluate(net.drive, clamped, every)
        if frame == 0:
            states = machine.initial(clamped)
        live = every
        for tick in range(frame * net.schedule.steps, (frame + 1) * net.schedule.steps):
            if live.size:
                steps[live] += 1
                states, live = machine.tick(clamped, states, live)
            for name, row in rows.items():
                row[tick] = states[name]
            if progress is not None:
                progress(tick + 1, total)
        if net.schedule.emit == "every" or frame == frames - 1:
            for name, value in machine.read(clamped, states).items():
                results[name].append(value)
    outputs = {n: np.stack(v, axis=1) if net.schedule.emit == "every" else v[0] for n, v in results.items()}
    return Run(states=rows, outputs=outputs, steps=steps, details=machine.details())


def first_states(net: IntNet, inputs: Mapping[str, Codes]) -> dict[str, Codes]:
    """States `[batch, *shape]` before the first tick."""
    codes, batch, _ = clamped_codes(net, inputs)
    clamped: Scope = {name: value[:, 0] for name, value in codes.items()}
    machine = Machine(net, batch, "dense")
    machine.evaluate(net.drive, clamped, np.arange(batch))
    return machine.initial(clamped)


def labels(logits: Codes) -> Codes:
    """Class `[batch, ...]` of output codes `[batch, ..., classes]`: the largest, ties to the lowest index."""
    found: Codes = np.argmax(logits, axis=-1)
    return found


class Machine:
    """Evaluates blocks of operations; remembers the accumulators of the step."""

    def __init__(self, net: IntNet, batch: int, evaluation: Evaluation) -> None:
        self.net, self.batch, self.by_event = net, batch, evaluation == "event"
        self.params = {p.name: net.param(p.name) for p in net.params}
        self.ranges = self.bounds()
        self.types = infer(net)
        stepped = [op for op in walk(net.step) if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
        self.accumulators = {op.out: Accumulator(self.weights(op), batch, self.types[op.out].shape) for op in stepped}
        self.step_reads = {name for op in walk(net.step) for name in op.reads} | {s.update for s in net.states}

    def details(self) -> dict[str, int]:
        return {
            "additions_dense": sum(a.dense for a in self.accumulators.values()),
            "additions_event": sum(a.event for a in self.accumulators.values()),
        }

    def initial(self, clamped: Scope) -> dict[str, Codes]:
        """States before the first tick: zeros, a parameter, or a value of the first frame's drive."""
        states = {}
        for s in self.net.states:
            first = np.zeros((self.batch, *s.shape), np.int64)
            if s.init is not None:
                first += _align(self.get(s.init, clamped, self.batch), 1 + len(s.shape))
            states[s.name] = self.hold(s.name, first)
        return states

    def tick(self, clamped: Scope, states: Mapping[str, Codes], live: Samples) -> tuple[dict[str, Codes], Samples]:
        """One step of the `live` samples: every state after it, and the samples in which some code moved by more than
        the tolerance."""
        scope: Scope = {n: v[live] for n, v in clamped.items() if n in self.step_reads}
        scope |= {n: v[live] for n, v in states.items()}
        self.evaluate(self.net.step, scope, live)
        # All states latch together: every new code is read before any old one is replaced.
        latched = {}
        moved = np.zeros(len(live), bool)
        for s in self.net.states:
            new = self.hold(s.name, self.get(s.update, scope, len(live)))
            distance = np.abs(new - states[s.name][live]).reshape(len(live), -1)
            moved |= (distance > self.net.schedule.tolerance).any(axis=1)
            latched[s.name] = states[s.name].copy()
            latched[s.name][live] = new
        return latched, live[moved]

    def read(self, clamped: Scope, states: Mapping[str, Codes]) -> dict[str, Codes]:
        """Output codes of the whole batch."""
        scope: Scope = {**clamped, **states}
        self.evaluate(self.net.readout, scope, np.arange(self.batch))
        return {o.name: np.array(self.get(o.value, scope, self.batch)) for o in self.net.outputs}

    def evaluate(self, block: Iterable[Op], scope: Scope, samples: Samples) -> None:
        """Add the value of each operation to `scope`, whose arrays belong to `samples`."""
        for op in block:
            if isinstance(op, ops.Repeat):
                inner = {**scope, op.carry: self.hold(op.carry, self.get(op.init, scope, len(samples)))}
                for _ in range(op.count):
                    self.evaluate(op.body, inner, samples)
                    inner[op.carry] = self.hold(op.carry, self.get(op.result, inner, len(samples)))
                value = inner[op.carry]
            else:
                value = self.apply(op, scope, samples)
            scope[op.out] = self.hold(op.out, value)

    def get(self, name: str, scope: Scope, samples: int) -> Codes:
        if name in scope:
            return scope[name]
        value = self.params[name]
        return np.broadcast_to(value, (samples, *value.shape))

    def bounds(self) -> dict[str, Interval]:
        """The interval of every value that sums are exact for."""
        return value_ranges(self.net)

    def hold(self, name: str, value: Codes) -> Codes:
        """`value`, once it is shown that every code of it fits the stated format of `name` (booleans have none)."""
        if value.dtype == bool or not value.size:
            return value
        stated = self.net.formats[name]
        lo, hi = int(value.min()), int(value.max())
        if lo < stated.lo or hi > stated.hi:
            what = f"{name} takes codes from {lo} to {hi}, its format {stated} holds {stated.lo} to {stated.hi}"
            raise SimulatorError(Diagnostic("golden-format", what, self.net.name, "verify the net: a bound is wrong"))
        return value

    def weights(self, op: Op) -> WeightedMap:
        match op:
            case ops.Linear(x=x, weight=w):
                return LinearMap(self.params[w], self.ranges[x], self.types[x].shape)
            case ops.Stencil(x=x, weight=w, index=i):
                return StencilMap(self.params[w], self.params[i], self.types[x].shape)
            case ops.Conv(x=x, weight=w, stride=stride, padding=padding):
                return ConvMap(self.params[w], stride, padding, self.ranges[x], self.types[x].shape)
            case _:
                raise TypeError(f"{op.mnemonic} holds no weights")

    def weighted(self, op: Op, x: Codes, bias: str | None, samples: Samples) -> Codes:
        if op.out in self.accumulators:
            y = self.accumulators[op.out].evaluate(x, samples, by_event=self.by_event)
        else:
            y = self.weights(op).product(x)
        if bias is None:
            return y
        # A conv has its channels before the space; elsewhere the bias runs along the last axis.
        space = y.ndim - 2 if isinstance(op, ops.Conv) else 0
        result: Codes = y + self.params[bias].reshape(-1, *(1 for _ in range(space)))
        return result

    def apply(self, op: Op, scope: Scope, samples: Samples) -> Codes:
        """The value of one operation other than a repeat; each case is the equation of the operation."""

        def value(name: str) -> Codes:
            return self.get(name, scope, len(samples))

        def aligned(*names: str) -> list[Codes]:
            values = [value(name) for name in names]
            rank = max(v.ndim for v in values)
            return [_align(v, rank) for v in values]

        match op:
            case ops.Linear(x=x, bias=bias) | ops.Stencil(x=x, bias=bias) | ops.Conv(x=x, bias=bias):
                return self.weighted(op, value(x), bias, samples)
            case ops.Embedding(x=x, table=t):
                return self.params[t][value(x)]
            case ops.MatMul(a=a, b=b):
                return self.matmul(op, value(a), value(b))
            case ops.Add(a=a, b=b):
                left, right = aligned(a, b)
                return left + right
            case ops.Sub(a=a, b=b):
                left, right = aligned(a, b)
                return left - right
            case ops.Mul(a=a, b=b):
                left, right = aligned(a, b)
                return left * right
            case ops.Abs(x=x):
                return np.abs(value(x))
            case ops.Greater(a=a, b=b):
                left, right = aligned(a, b)
                return cast("Codes", left > right)
            case ops.Select(condition=condition, a=a, b=b):
                return np.asarray(np.where(*aligned(condition, a, b)))
            case ops.Reduce(x=x, kind="sum", axes=axes, keep=keep):
                return np.asarray(value(x).sum(axis=axes, keepdims=keep))
            case ops.Reduce(x=x, kind="max", axes=axes, keep=keep):
                return np.asarray(value(x).max(axis=axes, keepdims=keep))
            case ops.Reshape(x=x, shape=shape):
                return value(x).reshape(len(samples), *shape)
            case ops.Transpose(x=x, axes=axes):
                return value(x).transpose(0, *(1 + axis for axis in axes))
            case ops.Rescale(x=x, multiplier=m, shift=shift):
                v, multiplier = aligned(x, m)
                return _half_up(v * multiplier, shift)
            case ops.Lookup(x=x, table=t, first=first):
                table = self.params[t]
                return np.asarray(table[np.clip(value(x), first, first + len(table) - 1) - first])
            case ops.Interpolate(x=x, base=b, slope=s, first=first, shift=shift):
                base, slope = self.params[b], self.params[s]
                u = np.clip(value(x), first, first + (len(base) << shift) - 1) - first
                segment, fraction = u >> shift, u & ((1 << shift) - 1)
                return np.asarray(base[segment] + _half_up(slope[segment] * fraction, shift))
            case ops.DampFixed(old=a, new=b, multiplier=multiplier, shift=shift):
                old, new = aligned(a, b)
                return old + _half_up((new - old) * multiplier, shift)
            case ops.Divide(a=a, b=b, shift=shift):
                dividend, divisor = aligned(a, b)
                return ((dividend << shift) + divisor // 2) // divisor
            case ops.Isqrt(x=x):
                return np.asarray(_isqrt(np.maximum(value(x), 0)), np.int64)
            case _ if isinstance(op, ops.FloatOp | ops.Repeat | ops.Reduce):
                raise TypeError(f"{op.mnemonic} is not an integer operation")
            case _:
                assert_never(op)

    def matmul(self, op: ops.MatMul, a: Codes, b: Codes) -> Codes:
        # The exactness argument of `event`: a row of `a` is at most its largest code in every entry.
        largest = max(abs(self.ranges[op.a].lo), abs(self.ranges[op.a].hi))
        dtype = exact_dtype(np.full((1, a.shape[-1]), largest, np.int64), self.ranges[op.b])
        product: Codes = (a.astype(dtype) @ b.astype(dtype)).astype(np.int64)
        return product


_isqrt = np.frompyfunc(math.isqrt, 1, 1)


def _align(value: Codes, rank: int) -> Codes:
    """Axes of size 1 after the batch axis, so that shapes broadcast as they do without it."""
    return value.reshape(value.shape[0], *(1 for _ in range(rank - value.ndim)), *value.shape[1:])


def _half_up(x: Codes, shift: int) -> Codes:
    """`x / 2**shift` to the nearest integer, ties up: the constant is half a unit, and 0 for a shift of 0."""
    return (x + ((1 << shift) >> 1)) >> shift


def clamped_codes(net: IntNet, inputs: Mapping[str, Array]) -> tuple[dict[str, Codes], int, int]:
    """Input codes `[batch, frame, *shape]` (one frame where the schedule has none), batch and number of frames.

    Raises UsageError with every fault of the inputs.
    """
    arrays, faults = check_inputs(net, inputs, content="codes", where=net.name)
    if faults:
        raise UsageError(faults)
    codes = {name: cast("Codes", value if net.schedule.frames else value[:, None]) for name, value in arrays.items()}
    batch, frames = next(iter(codes.values())).shape[:2]
    return codes, batch, frames
