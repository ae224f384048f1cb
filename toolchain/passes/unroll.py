"""Nested relaxations written out, for hardware without loops inside a time step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..ir import Format, IntNet
from ..ir.ops import Op, Repeat

__all__ = ["unroll"]


def unroll(net: IntNet) -> IntNet:
    """The same net without `repeat`: the body stands there `count` times, its values under names of their own.

    Weights of the body are then in the net once, but each copy of a linear map becomes a connection of its own.
    """
    if not any(isinstance(op, Repeat) for op in net.all_ops()):
        return net
    taken = {p.name for p in net.params} | {i.name for i in net.inputs} | {s.name for s in net.states}
    taken |= {op.out for op in net.all_ops()}
    writer = _Writer(dict(net.formats), taken)
    drive, step, readout = (writer.block(block) for _, block in net.blocks)
    alias = writer.alias
    formats = {n: f for n, f in writer.formats.items() if n not in alias}
    return replace(
        net,
        drive=drive,
        step=step,
        readout=readout,
        states=tuple(
            replace(s, update=alias.get(s.update, s.update), init=None if s.init is None else alias.get(s.init, s.init))
            for s in net.states
        ),
        outputs=tuple(replace(o, value=alias.get(o.value, o.value)) for o in net.outputs),
        formats=formats,
    )


class _Writer:
    def __init__(self, formats: dict[str, Format], taken: set[str]) -> None:
        self.formats, self.taken = formats, taken
        self.alias: dict[str, str] = {}

    def block(self, ops: Iterable[Op]) -> tuple[Op, ...]:
        done: list[Op] = []
        for op in ops:
            if isinstance(op, Repeat):
                done += self.repeat(op)
            else:
                done.append(self.renamed(op))
        return tuple(done)

    def repeat(self, op: Repeat) -> list[Op]:
        done: list[Op] = []
        self.alias[op.carry] = self.alias.get(op.init, op.init)
        outer = dict(self.alias)
        for _ in range(op.count):
            for inner in op.body:
                if isinstance(inner, Repeat):
                    done += self.repeat(inner)
                    continue
                copy = self.renamed(inner)
                name = self.fresh(inner.out)
                if inner.out in self.formats:
                    self.formats[name] = self.formats[inner.out]
                self.alias[inner.out] = name
                done.append(replace(copy, out=name))
            self.alias[op.carry] = self.alias.get(op.result, op.result)
        last = self.alias[op.carry]
        # The body's own names mean nothing outside, but they stay aliased: their first meaning is gone.
        self.alias = {**self.alias, **{k: v for k, v in outer.items() if k != op.carry}, op.out: last}
        return done

    def renamed(self, op: Op) -> Op:
        """`op` reading the present name of each operand."""
        names = {f: getattr(op, f) for f, _ in op.reference_fields()}
        return replace(op, **{f: self.alias.get(n, n) for f, n in names.items() if n is not None})

    def fresh(self, name: str) -> str:
        k = 0
        while f"{name}_r{k}" in self.taken:
            k += 1
        self.taken.add(f"{name}_r{k}")
        return f"{name}_r{k}"
