"""Random small IntNets that verify, for property tests.

`random_net(rng)` builds one from a `random.Random`; `int_nets()` is the hypothesis strategy over it. Every net is a
circuit as a compiler meets it: a drive from the input, one to three states in one space (a vector, lattice sites, an
image or tokens), each updated by `squash(map of states + drive)`, possibly damped, gated or nested, and a readout.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.ir import (
    Encoding,
    Format,
    Input,
    IntNet,
    Output,
    Param,
    Schedule,
    State,
    ValueType,
    ops,
    value_ranges,
    verify,
)
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.types import infer, infer_op

if TYPE_CHECKING:
    from hypothesis import strategies as st

Array = NDArray[np.int64]

SPACES = ("vector", "sites", "image", "tokens")
EXTRAS = ("gate", "repeat", "interpolate", "divide", "isqrt", "select", "reduce", "shape", "mul", "sweep", "copy")


def with_formats(net: IntNet) -> IntNet:
    """The net with the narrowest proved format for every value that has none; raises VerifyError if it is not valid.

    States and the values carried by repeats must have a format already: nothing bounds them but their format.
    """
    types = infer(net)
    named = {i.name for i in net.inputs if i.kind == "number"} | {s.name for s in net.states}
    named |= {op.out for op in net.all_ops() if types[op.out].kind == "number"}
    ranges = value_ranges(net)
    formats = {n: net.formats.get(n, Format.holding(ranges[n].lo, ranges[n].hi)) for n in sorted(named)}
    filled = replace(net, formats={**net.formats, **formats})
    verify(filled)
    return filled


def random_net(
    rng: random.Random,
    *,
    spaces: Sequence[str] = SPACES,
    extras: Collection[str] = EXTRAS,
    frames: bool | None = None,
    tolerance: int | None = None,
    max_states: int = 3,
    max_steps: int = 6,
    wide: bool = False,
) -> IntNet:
    """A random net. `extras=()` leaves linear maps, add, rescale, lookup and damping; `frames` and `tolerance` are
    drawn if None. The space decides the linear map: vector linear, sites stencil or linear, image conv, tokens linear
    per token, from an embedding or numbers. `wide`: vectors and sites of 31 to 64 units, up to 95 % of weights zero."""
    return _Builder(rng, rng.choice(spaces), extras, wide).net(frames, tolerance, max_states, max_steps)


def random_inputs(net: IntNet, rng: random.Random, *, batch: int = 3, frames: int = 2) -> dict[str, Array]:
    """Codes for every input: uniform over the format, with a share of zeros and of both ends."""
    lead = (batch, frames) if net.schedule.frames else (batch,)
    source = np.random.default_rng(rng.getrandbits(32))
    result = {}
    for i in net.inputs:
        if i.kind == "index":
            result[i.name] = source.integers(0, i.rows, (*lead, *i.shape))
            continue
        fmt = i.encoding.format if i.encoding is not None else Format(1, False)
        codes = source.integers(fmt.lo, fmt.hi, (*lead, *i.shape), endpoint=True)
        special = source.choice([0, fmt.lo, fmt.hi], codes.shape)
        result[i.name] = np.where(source.random(codes.shape) < 0.3, special, codes)
    return result


def int_nets(**limits: Any) -> st.SearchStrategy[IntNet]:
    """Strategy over `random_net`; the keyword arguments are its own."""
    from hypothesis import strategies as st

    return st.randoms(use_true_random=False).map(lambda rng: random_net(rng, **limits))


def int_runs(**limits: Any) -> st.SearchStrategy[tuple[IntNet, dict[str, Array]]]:
    """Strategy of a net and input codes for it, 1 to 4 samples, 1 to 3 frames where the net has frames."""
    from hypothesis import strategies as st

    def draw(rng: random.Random) -> tuple[IntNet, dict[str, Array]]:
        net = random_net(rng, **limits)
        return net, random_inputs(net, rng, batch=rng.randint(1, 4), frames=rng.randint(1, 3))

    return st.randoms(use_true_random=False).map(draw)


SIGNED_BYTE = Format(8, True)


def small_net(
    weight: Sequence[Sequence[int]],
    *,
    table: Sequence[int],
    first: int,
    steps: int,
    tolerance: int = 0,
    init: Sequence[int] | None = None,
    frames: bool = False,
    state: Format = SIGNED_BYTE,
) -> IntNet:
    """The plainest loop, for tests with known numbers: `h <- table[clamp(W h + x)]`, one state of 8 bits, output h."""
    params = [Param("W", np.array(weight, np.int64), "test"), Param("T", np.array(table, np.int64), "test")]
    if init is not None:
        params.append(Param("h0", np.array(init, np.int64), "test"))
    size = len(weight)
    net = IntNet(
        name="small",
        family="test",
        inputs=(Input("x", (size,), encoding=Encoding(Format(8, True), 1.0)),),
        params=tuple(params),
        states=(State("h", (size,), "y", init=None if init is None else "h0", frac=state.bits - state.signed),),
        drive=(),
        step=(
            ops.Linear(out="w", x="h", weight="W"),
            ops.Add(out="a", a="w", b="x"),
            ops.Lookup(out="y", x="a", table="T", first=first),
        ),
        readout=(),
        outputs=(Output("o", "h", "values", 1.0),),
        schedule=Schedule(steps, frames=frames, tolerance=tolerance),
        formats={"h": state},
    )
    return with_formats(net)


class _Builder:
    """Grows one net: `emit` adds an operation and returns its name, shapes are inferred as the net grows."""

    def __init__(self, rng: random.Random, space: str, extras: Collection[str], wide: bool) -> None:
        self.rng, self.space, self.extras = rng, space, extras
        self.arrays = np.random.default_rng(rng.getrandbits(32))
        self.params: list[Param] = []
        self.types: dict[str, ValueType] = {}
        self.block: list[Op] = []
        self.formats: dict[str, Format] = {}
        self.count = 0
        rank = rng.randint(1, 3)
        self.shape = {
            "vector": (rng.randint(1, 5),),
            "sites": (rng.randint(3, 7),),
            "image": (rng.randint(1, 2), *(rng.randint(1, 3) for _ in range(rank))),
            "tokens": (rng.randint(1, 3), rng.randint(1, 3)),
        }[space]
        self.zeros = 0.2
        if wide:
            self.zeros = rng.choice((0.0, 0.2, 0.6, 0.95))
            self.shape = (rng.choice((31, 32, 33, 64)),) if space in ("vector", "sites") else self.shape
        # Attention multiplies three states: wider ones would leave the 63 bits that a value may have.
        self.state_format = Format(rng.choice((2, 3, 4, 8, 8, 8, 8 if space == "tokens" else 16)), True)

    def net(self, frames: bool | None, tolerance: int | None, max_states: int, max_steps: int) -> IntNet:
        rng = self.rng
        inputs = (self.input(),)
        drive = self.drive(inputs[0])
        names = [f"h{i}" for i in range(rng.randint(1, max_states))]
        inits = [self.init(drive) for _ in names]
        drive_ops = self.take()
        for name in names:
            self.types[name] = ValueType(self.shape)
            self.formats[name] = self.state_format
        updates: list[str] = []
        for i, name in enumerate(names):
            # A sweep (Gauss-Seidel) reads the updates made so far, Jacobi the states alone.
            visible = [*updates, *names[i:]] if self.may("sweep") else names
            updates.append(self.update(name, visible, drive))
        step_ops = self.take()
        outputs = self.outputs(names, drive)
        framed = rng.random() < 0.25 if frames is None else frames
        net = IntNet(
            name="random",
            family="test",
            inputs=inputs,
            params=tuple(self.params),
            states=tuple(
                State(n, self.shape, u, init=i, frac=self.state_format.bits - 1)
                for n, u, i in zip(names, updates, inits, strict=True)
            ),
            drive=drive_ops,
            step=step_ops,
            readout=self.take(),
            outputs=outputs,
            schedule=Schedule(
                rng.randint(1, max_steps),
                frames=framed,
                emit=rng.choice(("last", "every")) if framed else "last",
                tolerance=rng.choice((0, 0, 1, 2)) if tolerance is None else tolerance,
            ),
            formats=self.formats,
        )
        return with_formats(net)

    def may(self, extra: str, chance: float = 0.3) -> bool:
        return extra in self.extras and self.rng.random() < chance

    def take(self) -> tuple[Op, ...]:
        block, self.block = tuple(self.block), []
        return block

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def param(self, value: NDArray[np.int64]) -> str:
        name = f"p{len(self.params)}"
        self.params.append(Param(name, np.asarray(value, np.int64), "random"))
        self.types[name] = ValueType(np.shape(value))
        return name

    def emit(self, kind: type[Op], /, **fields: Any) -> str:
        op = kind(out=self.fresh(), **fields)
        self.block.append(op)
        self.types[op.out] = infer_op(op, self.types, {p.name: p.value for p in self.params})
        return op.out

    def shape_of(self, name: str) -> tuple[int, ...]:
        return self.types[name].shape

    def ints(self, lo: int, hi: int, shape: Sequence[int]) -> Array:
        return self.arrays.integers(lo, hi, tuple(shape), endpoint=True)

    def codes(self, shape: Sequence[int]) -> str:
        """Weights: ternary, or signed 4 or 8 bits, with zeros."""
        top = self.rng.choice((1, 1, 7, 127))
        value = self.ints(-top, top, shape)
        return self.param(np.where(self.arrays.random(value.shape) < self.zeros, 0, value))

    def bias(self, size: int) -> str | None:
        return self.param(self.ints(-20, 20, (size,))) if self.rng.random() < 0.5 else None

    def input(self) -> Input:
        rng = self.rng
        self.stride = rng.choice((1, 2))
        if self.space == "tokens" and rng.random() < 0.5:
            made = Input("x", self.shape[:1], "index", rows=rng.randint(1, 4))
        else:
            shape = {
                "image": (rng.randint(1, 2), *(self.stride * (n - 1) + 1 for n in self.shape[1:])),
                "tokens": (self.shape[0], rng.randint(1, 3)),
            }.get(self.space, (rng.randint(1, 4),))
            fmt = Format(rng.randint(2, 6), rng.random() < 0.5)
            made = Input("x", shape, encoding=Encoding(fmt, 0.25))
        self.types[made.name] = ValueType(made.shape, made.kind)
        return made

    def drive(self, x: Input) -> str:
        if x.kind == "index":
            return self.emit(ops.Embedding, x="x", table=self.param(self.ints(-9, 9, (x.rows or 1, self.shape[-1]))))
        if self.space == "image":
            weight = self.codes((self.shape[0], x.shape[0], *(3 for _ in self.shape[1:])))
            bias = self.bias(self.shape[0])
            return self.emit(ops.Conv, x="x", weight=weight, bias=bias, stride=self.stride, padding=1)
        weight = self.codes((self.shape[-1], x.shape[-1]))
        return self.emit(ops.Linear, x="x", weight=weight, bias=self.bias(self.shape[-1]))

    def init(self, drive: str) -> str | None:
        fmt = self.state_format
        choice = self.rng.randint(0, 3)
        if choice == 0:
            return self.squash(drive)
        if choice == 1:
            return self.param(self.ints(fmt.lo, fmt.hi, self.rng.choice((self.shape, ()))))
        return None

    def weighted(self, x: str) -> str:
        """A map of `x` that keeps its shape and holds weights."""
        size = self.shape[-1]
        if self.space == "image":
            kernel = self.rng.choice((1, 3))
            weight = self.codes((self.shape[0], self.shape[0], *(kernel for _ in self.shape[1:])))
            return self.emit(
                ops.Conv, x=x, weight=weight, bias=self.bias(self.shape[0]), stride=1, padding=(kernel - 1) // 2
            )
        if self.space == "sites" and self.rng.random() < 0.8:
            weight = self.codes((size, self.rng.randint(1, 4)))
            index = self.param(self.ints(-1, size - 1, self.shape_of(weight)))
            return self.emit(ops.Stencil, x=x, weight=weight, index=index, bias=self.bias(size))
        if self.space == "tokens" and self.may("shape"):
            scores = self.emit(ops.MatMul, a=x, b=self.emit(ops.Transpose, x=x, axes=(1, 0)))
            return self.emit(ops.MatMul, a=scores, b=self.emit(ops.Linear, x=x, weight=self.codes((size, size))))
        return self.emit(ops.Linear, x=x, weight=self.codes((size, size)), bias=self.bias(size))

    def squash(self, x: str) -> str:
        """`x` brought into the state format: a rescale, then a table (random, or monotone as an activation is)."""
        fmt = self.state_format
        if self.rng.random() < 0.7:
            shape = self.shape_of(x)
            multiplier = self.param(self.ints(1, 7, self.rng.choice(((), shape[-1:], shape))))
            x = self.emit(ops.Rescale, x=x, multiplier=multiplier, shift=self.rng.choice((0, 1, 2, 4, 7)))
        size = self.rng.randint(1, 40)
        table = self.ints(fmt.lo, fmt.hi, (size,))
        if self.rng.random() < 0.6:
            table = np.sort(table)
        first = self.rng.randint(-size, 3)
        if not self.may("interpolate"):
            return self.emit(ops.Lookup, x=x, table=self.param(table), first=first)
        ends = np.append(table[1:], self.ints(fmt.lo, fmt.hi, (1,)))
        base, slope = self.param(table), self.param(ends - table)
        return self.emit(ops.Interpolate, x=x, base=base, slope=slope, first=first, shift=self.rng.randint(0, 3))

    def update(self, name: str, visible: Sequence[str], drive: str) -> str:
        rng = self.rng
        if self.may("copy", 0.1):
            return rng.choice(visible)
        v = self.weighted(rng.choice(visible))
        if rng.random() < 0.4:
            v = self.emit(rng.choice((ops.Add, ops.Sub)), a=v, b=self.weighted(rng.choice(visible)))
        if rng.random() < 0.8:
            v = self.emit(ops.Add, a=v, b=drive)
        if self.may("mul"):
            v = self.emit(ops.Mul, a=v, b=rng.choice((rng.choice(visible), self.param(self.ints(-3, 3, ())))))
        if self.may("reduce"):
            # The position's distance from the largest or the total, as in a normalisation.
            axes = rng.choice(((-1,), tuple(-i - 1 for i in range(len(self.shape)))))
            total = self.emit(ops.Reduce, x=v, kind=rng.choice(("sum", "max")), axes=axes, keep=True)
            v = self.emit(ops.Sub, a=v, b=total)
        if self.may("divide"):
            size = self.emit(ops.Add, a=self.emit(ops.Abs, x=v), b=self.param(self.ints(1, 3, ())))
            v = self.emit(ops.Divide, a=v, b=size, shift=rng.randint(0, 5))
        if self.may("isqrt"):
            v = self.emit(ops.Isqrt, x=self.emit(ops.Abs, x=v) if rng.random() < 0.5 else v)
        if self.may("shape"):
            flat = self.emit(ops.Reshape, x=v, shape=(int(np.prod(self.shape)),))
            v = self.emit(ops.Reshape, x=flat, shape=self.shape)
        v = self.squash(v)
        if self.may("repeat"):
            v = self.nested(v, name)
        if self.may("select"):
            v = self.emit(
                ops.Select, condition=self.emit(ops.Greater, a=v, b=drive), a=v, b=self.param(np.array(0, np.int64))
            )
        if rng.random() < 0.5:
            shift = rng.randint(0, 4)
            v = self.emit(ops.DampFixed, old=name, new=v, multiplier=rng.randint(1, 1 << shift), shift=shift)
        if self.may("gate"):
            v = self.gated(name, v)
        return v

    def gated(self, old: str, new: str) -> str:
        """Per unit or per population: keep `old` where the change is small."""
        change = self.emit(ops.Abs, x=self.emit(ops.Sub, a=new, b=old))
        if self.rng.random() < 0.5:
            every = tuple(-i - 1 for i in range(len(self.shape)))
            change = self.emit(ops.Reduce, x=change, kind="sum", axes=every, keep=self.rng.random() < 0.5)
        moved = self.emit(ops.Greater, a=change, b=self.param(self.ints(0, 9, ())))
        return self.emit(ops.Select, condition=moved, a=new, b=old)

    def nested(self, init: str, drive: str) -> str:
        """A repeat whose body relaxes `carry <- squash(map(carry) + drive)`."""
        outer, self.block = self.block, []
        carry = self.fresh()
        self.types[carry] = self.types[init]
        self.formats[carry] = self.state_format
        result = self.squash(self.emit(ops.Add, a=self.weighted(carry), b=drive))
        body, self.block = self.take(), outer
        return self.emit(ops.Repeat, init=init, count=self.rng.randint(1, 3), carry=carry, body=body, result=result)

    def outputs(self, names: Sequence[str], drive: str) -> tuple[Output, ...]:
        rng = self.rng
        flat = self.emit(ops.Reshape, x=rng.choice(names), shape=(int(np.prod(self.shape)),))
        logits = self.emit(
            ops.Linear, x=flat, weight=self.codes((rng.randint(1, 3), self.shape_of(flat)[0])), bias=None
        )
        made = (Output("logits", logits, "classes", 0.5),)
        return (*made, Output("seen", rng.choice((*names, drive)), "values", 1.0)) if rng.random() < 0.3 else made


def op_counts(net: IntNet) -> Mapping[str, int]:
    """How often each operation occurs, nested ones included."""
    counts: dict[str, int] = {}
    for op in net.all_ops():
        counts[op.mnemonic] = counts.get(op.mnemonic, 0) + 1
    return counts
