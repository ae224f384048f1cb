"""Repeats as plain operations: the body stands there as often as it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ....toolchain.ir import Format, IntNet, ValueType, ops
from ....toolchain.ir.ops import Op
from ....toolchain.passes import Analysis

__all__ = ["Unrolled", "unroll"]


@dataclass
class Unrolled:
    """`net` without repeats; `copies`: the operations that an operation of the source became, in their order."""

    net: IntNet
    copies: dict[str, list[str]] = field(default_factory=dict)


def unroll(net: IntNet) -> Unrolled:
    """The same circuit. What a repeat carries becomes a reshape to its own shape, in the carried format."""
    made = _Unroller(net)
    drive, step, readout = (tuple(made.block(block, {})) for _, block in net.blocks)
    return Unrolled(replace(net, drive=drive, step=step, readout=readout, formats=made.formats), made.copies)


class _Unroller:
    def __init__(self, net: IntNet) -> None:
        self.types: Mapping[str, ValueType] = Analysis.of(net).types
        self.formats: dict[str, Format] = dict(net.formats)
        self.copies: dict[str, list[str]] = {}
        self.taken = set(self.types)

    def block(self, block: Iterable[Op], names: dict[str, str]) -> Iterator[Op]:
        """Operations of `block`, which reads what `names` says in place of what it names."""
        for op in block:
            if isinstance(op, ops.Repeat):
                yield from self.repeat(op, names)
            else:
                fields: dict[str, Any] = {**self.reads(op, names), "out": self.name(op.out, names)}
                yield replace(op, **fields)

    def reads(self, op: Op, names: Mapping[str, str]) -> dict[str, str]:
        given = {f: getattr(op, f) for f, _ in op.reference_fields()}
        return {f: names.get(n, n) for f, n in given.items() if n is not None}

    def name(self, name: str, names: dict[str, str]) -> str:
        """A new name for an operation's value; the first keeps its own."""
        held = self.copies.setdefault(name, [])
        fresh, number = name, len(held)
        while held and fresh in self.taken:
            fresh, number = f"{name}_{number}", number + 1
        self.taken.add(fresh)
        held.append(fresh)
        names[name] = fresh
        if name in self.formats:
            self.formats[fresh] = self.formats[name]
        return fresh

    def repeat(self, op: ops.Repeat, names: dict[str, str]) -> Iterator[Op]:
        shape = self.types[op.carry].shape
        inner = dict(names)
        yield ops.Reshape(x=names.get(op.init, op.init), out=self.name(op.carry, inner), shape=shape)
        for _ in range(op.count):
            yield from self.block(op.body, inner)
            result = inner.get(op.result, op.result)
            yield ops.Reshape(x=result, out=self.name(op.carry, inner), shape=shape)
        yield ops.Reshape(x=inner[op.carry], out=self.name(op.out, names), shape=shape)
