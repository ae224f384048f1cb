"""Source text of a population's process: its ports, its registers and one method for each block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from string import Template
from typing import assert_never

from eqcompile.toolchain.ir import ops
from eqcompile.toolchain.ir.ops import Op

from .partition import BLOCKS, Action, Block, Partition, Population

__all__ = ["POPULATION_OPS", "population_source", "template"]

POPULATION_OPS = (
    ops.Add,
    ops.Sub,
    ops.Mul,
    ops.Abs,
    ops.Greater,
    ops.Select,
    ops.Reduce,
    ops.Reshape,
    ops.Transpose,
    ops.Rescale,
    ops.Lookup,
    ops.Interpolate,
    ops.DampFixed,
    ops.Divide,
    ops.Isqrt,
)
"""What a population computes itself."""


def template(name: str) -> str:
    """Text of a file in `templates`."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def population_source(p: Population, net: Partition, *, beat: bool) -> str:
    """A module with `Population` and its model; with `beat` it listens to a conductor."""
    return _Source(p, net, beat).text()


class _Source:
    def __init__(self, p: Population, net: Partition, beat: bool) -> None:
        self.p, self.net, self.beat = p, net, beat
        self.params = net.net.param_names

    def text(self) -> str:
        p = self.p
        parts = [f"states {', '.join(s.name for s in p.states)}" if p.states else "no state"]
        parts += [f"clamped to {', '.join(i.name for i in p.clamped)}"] if p.clamped else []
        ports, types = list(self.ports()), list(self.types())
        return Template(template("population.py.tmpl")).substitute(
            name=p.name,
            units=p.units,
            summary=f"Units of {p.name}: {'; '.join(parts)}.",
            ports="\n".join(" " * 8 + line for line in ports or ["pass"]),
            types="\n".join(" " * 4 + line for line in types or ["pass"]),
            methods="\n".join(self.methods()),
        )

    # Declarations

    def ports(self) -> Iterator[str]:
        for value in self.p.receives:
            yield f"self.in_{value} = InPort(shape=(lanes, {self.net.elements(value)}))"
        for stream in self.p.mirrors:
            yield f"self.in_{stream} = InPort(shape=(lanes, {self.net.elements(stream.value)}))"
        for stream in self.p.streams:
            yield f"self.out_{stream} = OutPort(shape=(lanes, {self.net.elements(stream.value)}))"
        if self.beat:
            yield "self.beat_in = InPort(shape=(1,))"
        for s in self.p.states:
            yield f"self.v_{s.name} = Var(shape=(lanes, {self.tuple(s.shape)}), init=0)"

    def types(self) -> Iterator[str]:
        for value in self.p.receives:
            yield self.port("in", value, "PyInPort", self.bits(value))
        for stream in self.p.mirrors:
            yield self.port("in", str(stream), "PyInPort", self.bits(stream.value) + 1)
        for stream in self.p.streams:
            yield self.port("out", str(stream), "PyOutPort", self.bits(stream.value) + 1)
        if self.beat:
            yield "beat_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=1)"
        for s in self.p.states:
            precision = self.net.net.formats[s.name].bits
            yield f"v_{s.name}: np.ndarray = LavaPyType(np.ndarray, np.int32, precision={precision})"

    def port(self, way: str, name: str, kind: str, bits: int) -> str:
        return f"{way}_{name}: {kind} = LavaPyType({kind}.VEC_DENSE, np.int32, precision={bits})"

    def bits(self, value: str) -> int:
        found = self.net.net.formats.get(value)
        return 1 if found is None else found.bits

    def tuple(self, shape: tuple[int, ...]) -> str:
        return ", ".join(map(str, shape))

    # Methods

    def methods(self) -> Iterator[str]:
        if self.beat:
            yield from self.method("pulse", ["self.beat_in.recv()"])
        yield from self.method("reset", list(self.reset()))
        for block in BLOCKS:
            yield from self.method(block, list(self.block(block)))

    def method(self, name: str, lines: list[str]) -> Iterator[str]:
        if lines:
            yield f"\n    def {name}(self):"
            yield from (" " * 8 + line for line in lines)

    def reset(self) -> Iterator[str]:
        for s in self.p.states:
            yield f"self.v_{s.name} = self.zeros({self.tuple(s.shape)})"
        for value in dict.fromkeys(s.value for s in self.p.mirrors):
            for block in (s.block for s in self.p.mirrors if s.value == value):
                yield f"self.m_{value}_{block} = self.zeros({self.tuple(self.net.types[value].shape)})"

    def block(self, block: Block) -> Iterator[str]:
        if block == "drive":
            for i in self.p.clamped:
                yield f'self.v_{i.name} = self.clamp(self.codes["{i.name}"])'
        for action in self.p.scripts[block]:
            yield from self.action(action, block)
        if block == "drive":
            started = [s for s in self.p.states if s.init is not None]
            if started:
                yield "if self.frame == 0:"
            for s in started:
                yield f"    self.v_{s.name} = self.full({self.value(str(s.init))}, {self.tuple(s.shape)})"
        if block == "step" and self.p.states:
            yield f"self.latch({', '.join(f'{s.name}={self.value(s.update)}' for s in self.p.states)})"
        if block == "readout":
            for value in self.p.outputs:
                shape = self.tuple(self.net.types[value].shape)
                yield f'self.record("output.{value}", self.full({self.value(value)}, {shape}))'

    def action(self, action: Action, block: Block) -> Iterator[str]:
        v = action.value
        shape = self.tuple(self.net.types[v].shape) if v in self.net.types else ""
        match action.kind:
            case "send":
                yield f'self.send(self.out_{v}_{block}, "{v}_{block}", {self.value(v)})'
            case "receive":
                yield f"self.v_{v} = {self.wired(v, f'self.receive(self.in_{v}, {shape})')}"
            case "mirror":
                # One register for each stream; whoever reads the value next sees what just arrived.
                yield f"self.m_{v}_{block} = self.mirror(self.in_{v}_{block}, self.m_{v}_{block})"
                yield f"self.v_{v} = self.m_{v}_{block}"
            case "compute":
                assert action.op is not None
                yield f"# {self.comment(action.op)}"
                yield f"self.v_{v} = {self.wired(v, self.expression(action.op))}"
            case _:
                assert_never(action.kind)

    def wired(self, value: str, expression: str) -> str:
        """The expression of a value, at its width; a boolean has none."""
        fmt = self.net.net.formats.get(value)
        return expression if fmt is None else f"self.wire({expression}, {fmt.bits}, {fmt.signed})"

    def comment(self, op: Op) -> str:
        shown = ((f.name, getattr(op, f.name)) for f in fields(op) if f.name != "out")
        return f"{op.out} = {op.mnemonic}({', '.join(f'{n}={v}' for n, v in shown)})"

    # Expressions

    def value(self, name: str) -> str:
        return f'self.p["{name}"]' if name in self.params else f"self.v_{name}"

    def table(self, name: str) -> str:
        return f'self.p["{name}"][0]'

    def lifted(self, name: str, rank: int) -> str:
        """The value with as many axes as the result has, so that NumPy's broadcast leaves the lanes alone."""
        have = len(self.net.types[name].shape)
        return self.value(name) if have == rank else f"ar.lift({self.value(name)}, {rank})"

    def expression(self, op: Op) -> str:
        rank = len(self.net.types[op.out].shape)
        bits = ", bits=64" if op.out in self.net.wide else ""
        match op:
            case ops.Add(a=a, b=b):
                return f"ar.add({self.lifted(a, rank)}, {self.lifted(b, rank)}{bits})"
            case ops.Sub(a=a, b=b):
                return f"ar.subtract({self.lifted(a, rank)}, {self.lifted(b, rank)}{bits})"
            case ops.Mul(a=a, b=b):
                return f"ar.multiply({self.lifted(a, rank)}, {self.lifted(b, rank)}{bits})"
            case ops.Abs(x=x):
                return f"ar.absolute({self.value(x)}{bits})"
            case ops.Greater(a=a, b=b):
                return f"{self.lifted(a, rank)} > {self.lifted(b, rank)}"
            case ops.Select(condition=c, a=a, b=b):
                return f"np.where({self.lifted(c, rank)}, {self.lifted(a, rank)}, {self.lifted(b, rank)})"
            case ops.Reduce(x=x, kind="sum", axes=axes, keep=keep):
                return f"ar.reduce_sum({self.value(x)}, {axes}, {keep}{bits})"
            case ops.Reduce(x=x, axes=axes, keep=keep):
                return f"ar.reduce_max({self.value(x)}, {axes}, {keep})"
            case ops.Reshape(x=x, shape=shape):
                return f"{self.value(x)}.reshape({self.tuple((-1, *shape))})"
            case ops.Transpose(x=x, axes=axes):
                return f"{self.value(x)}.transpose({self.tuple((0, *(a + 1 for a in axes)))})"
            case ops.Rescale(x=x, multiplier=m, shift=k):
                return f"ar.rescale({self.value(x)}, {self.lifted(m, rank)}, {k}{bits})"
            case ops.Lookup(x=x, table=t, first=first):
                return f"ar.lookup({self.value(x)}, {self.table(t)}, {first})"
            case ops.Interpolate(x=x, base=b, slope=s, first=first, shift=k):
                return f"ar.interpolate({self.value(x)}, {self.table(b)}, {self.table(s)}, {first}, {k}{bits})"
            case ops.DampFixed(old=old, new=new, multiplier=m, shift=k):
                return f"ar.damp({self.lifted(old, rank)}, {self.lifted(new, rank)}, {m}, {k}{bits})"
            case ops.Divide(a=a, b=b, shift=k):
                return f"ar.divide({self.lifted(a, rank)}, {self.lifted(b, rank)}, {k}{bits})"
            case ops.Isqrt(x=x):
                return f"ar.isqrt({self.value(x)}{bits})"
            case _ if isinstance(op, ops.FloatOp | ops.WeightedOp | ops.Embedding | ops.MatMul | ops.Repeat):
                raise TypeError(f"a population does not compute {op.mnemonic}")
            case _:
                assert_never(op)
