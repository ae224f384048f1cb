"""Python source of a relaxation kernel: one statement and one comment for each operation of an IntNet."""

from __future__ import annotations

import builtins
import json
import keyword
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import assert_never

from ...toolchain.arrays import row_reach
from ...toolchain.ir import IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import Analysis, label_keys, output_keys, reads
from .templates import fill, text

__all__ = ["kernel_source", "run_arguments"]

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53
"""Up to these magnitudes every integer has a code of its own: a sum of products within them is exact in any order."""

HELPERS = ("convolve", "stencil", "interpolate", "isqrt")

RESERVED = frozenset(
    {*keyword.kwlist, *dir(builtins), "np", "Path", "STEPS", "TOLERANCE", "FRAMES", "EVERY_FRAME", "INPUTS", "STATES"}
    | {"OUTPUTS", "LABELS", "drive", "step", "readout", "relax", "checked", "run", "trace", *HELPERS}
    | {"inputs", "batch", "frames", "steps", "history", "states", "emitted", "frame", "start", "clamped", "kept"}
    | {"results", "_file", "_weights", "_"}
)


def run_arguments(net: IntNet) -> str:
    """Parameters of the kernel's `run`."""
    source = _Source(net)
    return ", ".join(source.name(i.name) for i in net.inputs)


def kernel_source(net: IntNet) -> str:
    """The module `kernel.py` of a verified net; it reads the parameters from `weights.npz` beside it."""
    source = _Source(net)
    drive, step, readout = source.drive(), source.step(), source.readout()
    keys = output_keys(net)
    helpers = [text(f"{name}.py.tmpl") for name in HELPERS if name in source.helpers]
    return fill(
        "kernel.py.tmpl",
        title=json.dumps(net.name),
        digest=net.digest,
        steps=net.schedule.steps,
        tolerance=net.schedule.tolerance,
        frames=net.schedule.frames,
        every_frame=net.schedule.emit == "every",
        inputs="\n".join(f"    {i.name!r}: {source.interface(i.name)}," for i in net.inputs),
        states=repr(tuple(s.name for s in net.states)),
        outputs=repr(tuple(keys.values())),
        labels=repr({keys[name]: key for name, key in label_keys(net).items()}),
        params="\n".join(source.constants),
        helpers="".join(f"\n{h}" for h in helpers),
        drive_arguments=run_arguments(net),
        drive="\n".join(drive),
        step_arguments=", ".join(source.name(n) for n in [*source.step_reads, *source.states]),
        step="\n".join(step),
        readout_arguments=", ".join(source.name(n) for n in [*source.readout_reads, *source.states]),
        readout="\n".join(readout),
        run_arguments=run_arguments(net),
        frame_axis="frame, " if net.schedule.frames else "",
    )


class _Source:
    """Names and statements of one net. A parameter has no batch axis; `fixed` values have one of size 1."""

    def __init__(self, net: IntNet) -> None:
        self.net = net
        analysis = Analysis.of(net)
        self.types, self.ranges, self.params = analysis.types, analysis.ranges, analysis.codes
        self.states = [s.name for s in net.states]
        self.helpers: set[str] = set()
        self.fixed: set[str] = set()
        self._names: dict[str, str] = {}
        self.constants = [f"{self.name(p)} = _weights[{p!r}]" for p in self.params]
        clamped = [i.name for i in net.inputs] + [op.out for op in net.drive]
        read = reads(net.step) | {s.update for s in net.states}
        self.step_reads = [n for n in clamped if n in read]
        read = reads(net.readout) | {o.value for o in net.outputs}
        self.readout_reads = [n for n in clamped if n in read]
        if not self.states and not self.readout_reads:
            # Something has to say how many samples there are.
            self.readout_reads = [net.inputs[0].name]

    def name(self, ir: str) -> str:
        """The Python name of an IR name, or of a constant `<operation>.<part>`: the same with `_` behind until free."""
        if ir not in self._names:
            name, taken = ir.replace(".", "_"), RESERVED | set(self._names.values()) | (set(self.types) - {ir})
            while name in taken:
                name += "_"
            self._names[ir] = name
        return self._names[ir]

    def interface(self, name: str) -> str:
        i = next(i for i in self.net.inputs if i.name == name)
        scale = None if i.encoding is None else i.encoding.scale
        return repr((i.shape, *i.limits, scale))

    # The three functions

    def drive(self) -> list[str]:
        length = f"len({self.name(self.net.inputs[0].name)})"
        lines = self.block(self.net.drive)
        starts = []
        for s in self.net.states:
            if s.init is None:
                starts.append(f"np.zeros({_sizes(length, s.shape)}, np.int64)")
            else:
                starts.append(self.whole(self.lifted(s.init, len(s.shape)), s.shape, length))
        lines.append(f"    start = [{', '.join(starts)}]")
        for title, names in (("clamped", self.step_reads), ("kept", self.readout_reads)):
            values = [
                self.whole(self.name(n), self.shape(n), length) if n in self.fixed else self.name(n) for n in names
            ]
            lines.append(f"    {title} = [{', '.join(values)}]")
        return [*lines, "    return start, clamped, kept"]

    def step(self) -> list[str]:
        lines = self.block(self.net.step)
        length = f"len({self.name(self.states[0])})" if self.states else "0"
        return [*lines, f"    return [{', '.join(self.results([s.update for s in self.net.states], length))}]"]

    def readout(self) -> list[str]:
        lines = self.block(self.net.readout)
        length = f"len({self.name([*self.readout_reads, *self.states][0])})"
        return [*lines, f"    return [{', '.join(self.results([o.value for o in self.net.outputs], length))}]"]

    def results(self, names: Sequence[str], length: str) -> list[str]:
        loose = self.fixed | set(self.params)
        return [self.whole(self.name(n), self.shape(n), length) if n in loose else self.name(n) for n in names]

    def whole(self, value: str, shape: tuple[int, ...], length: str) -> str:
        return f"np.broadcast_to({value}, {_sizes(length, shape)})"

    # Operands

    def shape(self, name: str) -> tuple[int, ...]:
        return self.types[name].shape

    def batched(self, name: str) -> str:
        return f"{self.name(name)}[None]" if name in self.params else self.name(name)

    def lifted(self, name: str, rank: int) -> str:
        """The operand with axes of size 1 behind the batch axis up to `rank`; NumPy lifts a parameter by itself."""
        missing = rank - len(self.shape(name))
        if missing == 0 or name in self.params:
            return self.name(name)
        return f"{self.name(name)}[:{', None' * missing}]"

    def aligned(self, *names: str) -> list[str]:
        rank = max(len(self.shape(n)) for n in names)
        values = [self.lifted(n, rank) for n in names]
        if all(n in self.params for n in names):
            values[0] += f"[{', '.join(['None'] * (1 + rank - len(self.shape(names[0]))))}]"
        return values

    # Operations

    def block(self, block: Iterable[Op], indent: int = 4) -> list[str]:
        pad = " " * indent
        lines = []
        for op in block:
            lines.append(f"{pad}# {self.comment(op)}")
            if isinstance(op, ops.Repeat):
                lines += self.repeat(op, indent)
            else:
                lines.append(f"{pad}{self.name(op.out)} = {self.expression(op)}")
                if all(name in self.params or name in self.fixed for name in op.reads):
                    self.fixed.add(op.out)
        return lines

    def comment(self, op: Op) -> str:
        given = {f.name: getattr(op, f.name) for f in fields(op) if f.name not in ("out", "body")}
        arguments = ", ".join(f"{n}={v}" for n, v in given.items() if v is not None)
        kind = self.net.formats.get(op.out, "bool")
        return f"{op.out}: {kind}{list(self.shape(op.out))} = {op.mnemonic}({arguments})"

    def repeat(self, op: ops.Repeat, indent: int) -> list[str]:
        pad = " " * indent
        if op.init in self.params or op.init in self.fixed:
            self.fixed.add(op.carry)
        lines = [f"{pad}{self.name(op.carry)} = {self.batched(op.init)}", f"{pad}for _ in range({op.count}):"]
        lines += self.block(op.body, indent + 4)
        lines.append(f"{pad}    {self.name(op.carry)} = {self.batched(op.result)}")
        if op.result in self.params or op.result in self.fixed:
            self.fixed.add(op.out)
        return [*lines, f"{pad}{self.name(op.out)} = {self.name(op.carry)}"]

    def matrix(self, op: Op, value: str, name: str, bound: int) -> tuple[str, str]:
        """A constant for the weights of `op` in the fastest exact type; its name and the type."""
        dtype = _exact(bound)
        constant = self.name(f"{op.out}.{name}")
        self.constants.append(
            f"{constant} = np.ascontiguousarray({value}, np.{dtype})  # sums of {op.out} stay within {bound}"
        )
        return constant, dtype

    def bound(self, weight: str, x: str) -> int:
        """Largest magnitude of any partial sum of a row of `weight` times operands in the range of `x`."""
        return row_reach(self.params[weight]) * self.ranges[x].magnitude

    def biased(self, value: str, bias: str | None, space: int = 0) -> str:
        if bias is None:
            return value
        return f"{value} + {self.name(bias)}" + (f".reshape(-1{', 1' * space})" if space else "")

    def expression(self, op: Op) -> str:
        n = self.name
        match op:
            case ops.Linear(x=x, weight=w, bias=bias):
                matrix, dtype = self.matrix(op, f"{n(w)}.T", "matrix", self.bound(w, x))
                return self.biased(_product(self.batched(x), matrix, dtype), bias)
            case ops.Conv(x=x, weight=w, bias=bias):
                self.helpers.add("convolve")
                weight = self.params[w]
                value = f"{n(w)}.reshape({len(weight)}, -1).T"
                matrix, _ = self.matrix(op, value, "matrix", self.bound(w, x))
                product = f"convolve({self.batched(x)}, {matrix}, {weight.shape[2:]}, {op.stride}, {op.padding})"
                return self.biased(product, bias, weight.ndim - 2)
            case ops.Stencil(x=x, weight=w, index=index, bias=bias):
                self.helpers.add("stencil")
                weights, _ = self.matrix(op, n(w), "taps", self.bound(w, x))
                return self.biased(f"stencil({self.batched(x)}, {weights}, {n(index)})", bias)
            case ops.MatMul(a=a, b=b):
                dtype = _exact(self.ranges[a].magnitude * self.ranges[b].magnitude * self.shape(a)[-1])
                right = self.batched(b) if dtype == "int64" else f"{self.batched(b)}.astype(np.{dtype})"
                return _product(self.batched(a), right, dtype)
            case _:
                return self.elementwise(op)

    def elementwise(self, op: Op) -> str:
        n = self.name
        match op:
            case ops.Embedding(x=x, table=t):
                return f"{n(t)}[{self.batched(x)}]"
            case ops.Add(a=a, b=b):
                return " + ".join(self.aligned(a, b))
            case ops.Sub(a=a, b=b):
                return " - ".join(self.aligned(a, b))
            case ops.Mul(a=a, b=b):
                return " * ".join(self.aligned(a, b))
            case ops.Greater(a=a, b=b):
                return " > ".join(self.aligned(a, b))
            case ops.Select(condition=c, a=a, b=b):
                return f"np.where({', '.join(self.aligned(c, a, b))})"
            case ops.Abs(x=x):
                return f"np.abs({self.batched(x)})"
            case ops.Reduce(x=x, kind=kind, axes=axes, keep=keep):
                return f"{self.batched(x)}.{kind}(axis={axes}, keepdims={keep})"
            case ops.Reshape(x=x, shape=shape):
                return f"{self.batched(x)}.reshape{_sizes('1' if x in self.params else f'len({n(x)})', shape)}"
            case ops.Transpose(x=x, axes=axes):
                return f"{self.batched(x)}.transpose{_sizes('0', tuple(1 + a for a in axes))}"
            case ops.Rescale(x=x, multiplier=m, shift=k):
                return _half_up(f"{self.batched(x)} * {n(m)}", k)
            case ops.Lookup(x=x, table=t, first=first):
                # The mode "clip" of take saturates the domain.
                offset = f" {'-' if first > 0 else '+'} {abs(first)}" if first else ""
                return f'{n(t)}.take({self.batched(x)}{offset}, mode="clip")'
            case ops.Interpolate(x=x, base=base, slope=slope, first=first, shift=k):
                self.helpers.add("interpolate")
                return f"interpolate({self.batched(x)}, {n(base)}, {n(slope)}, {first}, {k})"
            case ops.DampFixed(old=a, new=b, multiplier=m, shift=k):
                old, new = self.aligned(a, b)
                return f"{old} + ({_half_up(f'({new} - {old}) * {m}', k)})"
            case ops.Divide(a=a, b=b, shift=k):
                dividend, divisor = self.aligned(a, b)
                return f"(({dividend} << {k}) + {divisor} // 2) // {divisor}"
            case ops.Isqrt(x=x):
                self.helpers.add("isqrt")
                return f"isqrt({self.batched(x)})"
            case _ if isinstance(op, ops.FloatOp | ops.WeightedOp | ops.MatMul | ops.Repeat):
                raise TypeError(f"{op.mnemonic} is not an integer operation")
            case _:
                assert_never(op)


def _sizes(first: str, shape: tuple[int, ...]) -> str:
    """A tuple: `first`, then the sizes of `shape`."""
    return f"({', '.join([first, *map(str, shape)])}{'' if shape else ','})"


def _exact(bound: int) -> str:
    if bound <= FLOAT32_EXACT:
        return "float32"
    return "float64" if bound <= FLOAT64_EXACT else "int64"


def _product(left: str, right: str, dtype: str) -> str:
    if dtype == "int64":
        return f"{left} @ {right}"
    return f"({left}.astype(np.{dtype}) @ {right}).astype(np.int64)"


def _half_up(value: str, shift: int) -> str:
    return value if shift == 0 else f"({value} + {1 << (shift - 1)}) >> {shift}"
