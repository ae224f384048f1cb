"""The plan as one Triton kernel: a tile of faults relaxes in registers until every row is on the clean run again.

Rows are sorted by tick, so that a tile starts together; each tick costs one product of int8 matrices for each map. A
table is read only where its index differs from the clean run's, and the clean entry is taken elsewhere: after an upset
few units differ, so few reads are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import assert_never

from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from .plan import Plan

__all__ = ["REFUSED", "SLOT", "Kernel", "Writer", "indented", "kernel_of", "padded"]

SLOT = ("state", "index", "flip", "one", "zero", "add")
"""Columns of one upset of a row; a slot of no upset has state -1."""
REFUSED = (ops.FloatOp | ops.Conv | ops.Embedding | ops.MatMul) | (
    ops.Reshape | ops.Transpose | ops.Divide | ops.Isqrt | ops.Repeat
)
"""Operations that a plan does not hold."""
_LEAST = 32
"""Units of the smallest tile that the matrix units take."""
_HEAD = """\
import triton
import triton.language as tl


@triton.jit
def relax({arguments}):
    rows = tl.program_id(0) * B + tl.arange(0, B)
    valid = rows < count
    sample = tl.load(sample_ptr + rows, mask=valid, other=0)
    tick = tl.load(tick_ptr + rows, mask=valid, other=0)
    latest = tl.max(tick, 0)
    t = tl.min(tl.where(valid, tick, ticks), 0)
    last = tl.full((B,), -1, tl.int32)
    far = tl.zeros((B,), tl.int32)
    near = tl.zeros((B,), tl.int32)
    differ = tl.zeros((B,), tl.int32)
    moved = tl.zeros((B,), tl.int32)
    label = tl.load(clean_label_ptr + sample)
    spoilt = tl.zeros((B,), tl.int32)
"""
_TAIL = """\
    tl.store(last_ptr + rows, last, mask=valid)
    tl.store(far_ptr + rows, far, mask=valid)
    tl.store(near_ptr + rows, near, mask=valid)
    tl.store(differ_ptr + rows, differ, mask=valid)
    tl.store(moved_ptr + rows, moved, mask=valid)
    tl.store(label_ptr + rows, label, mask=valid)
    tl.store(spoilt_ptr + rows, spoilt, mask=valid)
"""


def padded(units: int) -> int:
    """Units of a row in memory and in registers: a power of two that the matrix units take, or 1."""
    return 1 if units == 1 else max(_LEAST, 1 << (units - 1).bit_length())


@dataclass(frozen=True)
class Kernel:
    """`text`: a module with the function `relax`; `arrays`: what its pointers are, in the order of its arguments:
    `(kind, name)`, kinds `state` (clean codes `[T + 1, samples, padded]`), `held` `[samples, padded]`, `index` and
    `entry` (clean operand and result of a lookup, `[T, samples, padded]`), `matrix` `[padded in, padded out]` int8,
    `row` (a constant `[padded]`), `table`, `output` `[samples, padded]`. The arguments before are the fields of `SLOT`
    `[rows, slots]`, those after are `last`, `far`, `near`, `differ`, `moved`, `label`, `spoilt` `[rows]`, all int32."""

    text: str
    arrays: tuple[tuple[str, str], ...]


def kernel_of(plan: Plan, slots: int) -> Kernel:
    """The kernel for faults of at most `slots` upsets."""
    return Writer(plan, slots).kernel()


class Writer:
    def __init__(self, plan: Plan, slots: int) -> None:
        self.plan, self.slots = plan, slots
        self.arrays: dict[tuple[str, str], str] = {}
        self.names: dict[str, str] = {}
        self.states = [s.name for s in plan.net.states]

    def pointer(self, kind: str, name: str) -> str:
        return self.arrays.setdefault((kind, name), f"{kind}{len(self.arrays)}_ptr")

    def units(self, name: str) -> int:
        return self.plan.sizes[name]

    def lane(self, name: str) -> str:
        return f"c{padded(self.units(name))}"

    def kernel(self) -> Kernel:
        body = [*self.opening(), *self.loop(), *self.closing()]
        used = sorted({int(n) for line in body for n in re.findall(r"\bc(\d+)\[", line)})
        lanes = [f"    c{n} = tl.arange(0, {n})" for n in used]
        inputs = ["sample_ptr", "tick_ptr", *(f"{field}_ptr" for field in SLOT), "clean_label_ptr"]
        results = [f"{n}_ptr" for n in ("last", "far", "near", "differ", "moved", "label", "spoilt")]
        numbers = ["count", "samples", "ticks", "B: tl.constexpr"]
        arguments = ", ".join([*inputs, *self.arrays.values(), *results, *numbers])
        text = _HEAD.format(arguments=arguments) + "\n".join([*lanes, *body]) + "\n" + _TAIL
        return Kernel(text, tuple(self.arrays))

    # Pieces

    def opening(self) -> Iterator[str]:
        for i, name in enumerate(self.states):
            yield f"    s{i} = {self.clean('state', name, 't')}"
        for op in (*self.plan.step, *self.plan.readout):
            if op.out in self.plan.matrices:
                n_in, n_out = padded(self.units(op.reads[0])), padded(self.units(op.out))
                pointer = self.pointer("matrix", op.out)
                yield f"    m_{self.name(op.out)} = tl.load({pointer} + c{n_in}[:, None] * {n_out} + c{n_out}[None, :])"
        yield "    going = (t < ticks).to(tl.int32)"

    def loop(self) -> Iterator[str]:
        yield "    while going != 0:"
        yield from (f"        p{i} = s{i}" for i in range(len(self.states)))
        yield from indented(self.upsets())
        yield from indented(self.block(self.plan.step, ticking=True))
        yield from indented(self.compared())
        yield "        t += 1"
        yield "        going = ((t < ticks) & ((latest >= t) | (tl.max(differ, 0) > 0))).to(tl.int32)"

    def compared(self) -> Iterator[str]:
        """Distances of the new codes from the clean run's, and the latch."""
        yield "differ = tl.zeros((B,), tl.int32)"
        yield "near = tl.zeros((B,), tl.int32)"
        yield "moved = tl.zeros((B,), tl.int32)"
        for i, s in enumerate(self.plan.net.states):
            new = self.value(s.update)
            yield f"n{i} = {new} + tl.zeros_like(s{i})"
            yield f"d = tl.abs(n{i} - {self.clean('state', s.name, '(t + 1)')})"
            yield f"g = (tl.abs(n{i} - p{i}) > {self.plan.net.schedule.tolerance}).to(tl.int32)"
            if padded(self.units(s.name)) != self.units(s.name):
                inside = f"{self.lane(s.name)}[None, :] < {self.units(s.name)}"
                yield f"d = tl.where({inside}, d, 0)"
                yield f"g = tl.where({inside}, g, 0)"
            yield "near = tl.maximum(near, tl.max(d, 1))"
            yield "differ += tl.sum((d != 0).to(tl.int32), 1)"
            yield "moved = tl.maximum(moved, tl.max(g, 1))"
        yield from (f"s{i} = n{i}" for i in range(len(self.states)))
        yield "far = tl.maximum(far, near)"
        yield "last = tl.where(differ > 0, t, last)"

    def closing(self) -> Iterator[str]:
        """The readout, where a row of the tile is not on the clean run's states."""
        yield "    if t >= ticks:"
        yield from indented(self.upsets())
        yield from indented(self.block(self.plan.readout, ticking=False))
        for o in self.plan.net.outputs:
            lane, units = self.lane(o.value), self.units(o.value)
            yield f"        y = {self.value(o.value)} + tl.zeros((B, {padded(units)}), tl.int32)"
            pointer = self.pointer("output", o.name)
            clean = f"tl.load({pointer} + sample[:, None] * {padded(units)} + {lane}[None, :])"
            yield f"        w = tl.where({lane}[None, :] < {units}, (y != {clean}).to(tl.int32), 0)"
            yield "        spoilt = tl.maximum(spoilt, tl.max(w, 1))"
        if self.plan.label is not None:
            value, units = self.plan.label
            lane = self.lane(value)
            yield f"        z = {self.value(value)} + tl.zeros((B, {padded(units)}), tl.int32)"
            yield f"        z = tl.where({lane}[None, :] < {units}, z, -2147483648)"
            yield "        label = tl.argmax(z, 1, tie_break_left=True).to(tl.int32)"

    def upsets(self) -> Iterator[str]:
        """The words that the upsets of tick t change."""
        for k in range(self.slots):
            yield "hit = valid & (tick == t)"
            for field in SLOT:
                yield f"u_{field} = tl.load({field}_ptr + rows * {self.slots} + {k}, mask=hit, other=-1)"
            for i, name in enumerate(self.states):
                stated = self.plan.net.formats[name]
                ones, sign = (1 << stated.bits) - 1, 1 << (stated.bits - 1)
                yield f"w = ((((s{i} & {ones}) ^ u_flip[:, None]) | u_one[:, None]) & ~u_zero[:, None]) & {ones}"
                if stated.signed:
                    yield f"w = (w ^ {sign}) - {sign}"
                yield f"w = tl.minimum(tl.maximum(w + u_add[:, None], {stated.lo}), {stated.hi})"
                at = f"({self.lane(name)}[None, :] == u_index[:, None]) & (hit & (u_state == {i}))[:, None]"
                yield f"s{i} = tl.where({at}, w, s{i})"

    def block(self, block: Sequence[Op], *, ticking: bool) -> Iterator[str]:
        for op in block:
            yield from self.operation(op, ticking=ticking)

    # Operations

    def operation(self, op: Op, *, ticking: bool) -> Iterator[str]:
        out, value = self.name(op.out), self.value
        wide = op.out in self.plan.wide

        def half_up(product: str, shift: int) -> str:
            rounded = f"((({product}) + {(1 << shift) >> 1}) >> {shift})"
            return f"{rounded}.to(tl.int32)" if wide else rounded

        def factor(name: str) -> str:
            return f"{value(name)}.to(tl.int64)" if wide else value(name)

        match op:
            case ops.Linear(x=x, bias=bias) | ops.Stencil(x=x, bias=bias):
                if padded(self.units(x)) == 1:  # the matrix units take no fewer than 32 terms
                    yield f"{out} = {value(x)} * m_{out}.to(tl.int32)"
                else:
                    yield f"{out} = tl.dot({value(x)}.to(tl.int8), m_{out}, out_dtype=tl.int32)"
                if bias is not None:
                    yield f"{out} += {value(bias)}"
            case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b) | ops.Mul(a=a, b=b) | ops.Greater(a=a, b=b):
                sign = {"add": "+", "sub": "-", "mul": "*", "greater": ">"}[op.mnemonic]
                yield f"{out} = {value(a)} {sign} {value(b)}"
            case ops.Abs(x=x):
                yield f"{out} = tl.abs({value(x)})"
            case ops.Select(condition=condition, a=a, b=b):
                yield f"{out} = tl.where({value(condition)}, {value(a)}, {value(b)})"
            case ops.Reduce(x=x, kind=kind):
                inside = f"{self.lane(x)}[None, :] < {self.units(x)}"
                rest = "0" if kind == "sum" else "-2147483648"
                yield f"{out} = tl.{kind}(tl.where({inside}, {value(x)}, {rest}), 1)[:, None]"
            case ops.Rescale(x=x, multiplier=m, shift=shift):
                yield f"{out} = {half_up(f'{factor(x)} * {value(m)}', shift)}"
            case ops.Lookup(x=x, table=table, first=first):
                top = len(self.plan.params[table]) - 1
                at = f"tl.minimum(tl.maximum({value(x)} - ({first}), 0), {top})"
                where = f"{self.pointer('table', table)} + {at}"
                if ticking:
                    yield f"i = {self.clean('index', op.out, 't')}"
                    yield f"e = {self.clean('entry', op.out, 't')}"
                    yield f"{out} = tl.load({where}, mask={value(x)} != i, other=e)"
                else:
                    yield f"{out} = tl.load({where})"
            case ops.Interpolate(x=x, base=base, slope=slope, first=first, shift=shift):
                top = (len(self.plan.params[base]) << shift) - 1
                yield f"u = tl.minimum(tl.maximum({value(x)} - ({first}), 0), {top})"
                rise = f"tl.load({self.pointer('table', slope)} + (u >> {shift}))" + (".to(tl.int64)" if wide else "")
                risen = half_up(f"{rise} * (u & {(1 << shift) - 1})", shift)
                yield f"{out} = tl.load({self.pointer('table', base)} + (u >> {shift})) + {risen}"
            case ops.DampFixed(old=old, new=new, multiplier=multiplier, shift=shift):
                yield f"u = {value(new)} - {value(old)}"
                step = half_up(f"{'u.to(tl.int64)' if wide else 'u'} * {multiplier}", shift)
                yield f"{out} = {value(old)} + {step}"
            case _ if isinstance(op, REFUSED):
                raise TypeError(f"{op.mnemonic} is not in the plan")
            case _:
                assert_never(op)

    def name(self, value: str) -> str:
        return self.names.setdefault(value, f"v{len(self.names)}")

    def value(self, name: str) -> str:
        """The expression of a value: `[B, units]`, `[1, units]` or a number."""
        name = self.plan.resolve(name)
        if name in self.states:
            return f"s{self.states.index(name)}"
        if name in self.plan.params:
            entries = self.plan.params[name]
            if len(entries) == 1:
                return f"({int(entries[0])})"
            return f"tl.load({self.pointer('row', name)} + {self.lane(name)}[None, :])"
        if name in self.plan.held:
            n = padded(self.units(name))
            return f"tl.load({self.pointer('held', name)} + sample[:, None] * {n} + {self.lane(name)}[None, :])"
        return self.name(name)

    def clean(self, kind: str, name: str, tick: str) -> str:
        """Codes of the clean run of each row's sample at a tick, int32."""
        n = padded(self.units(name))
        at = f"({tick} * samples + sample).to(tl.int64)[:, None] * {n} + {self.lane(name)}[None, :]"
        return f"tl.load({self.pointer(kind, name)} + {at}).to(tl.int32)"


def indented(lines: Iterator[str]) -> Iterator[str]:
    """Lines two levels in, as the body of a loop in a function."""
    return (f"        {line}" for line in lines)
