"""What does not change during relaxation is added once: biases and constants of a step's sums move into the drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..toolchain.arrays import Numbers
from ..toolchain.ir import EqNet, Param, ops
from ..toolchain.ir.ops import Op
from ..toolchain.passes import Analysis

__all__ = ["hoist"]

_MAPS = (ops.Linear, ops.Stencil, ops.Conv)


def hoist(net: EqNet) -> tuple[EqNet, frozenset[str]]:
    """The same network with fewer additions a tick, and the names of values whose meaning changed.

    In a sum of the step, `drive + (W h + b)` becomes `(drive + b) + W h` with `drive + b` in the drive (in the bias of
    the drive's own linear map if nothing else reads it). Real numbers are only reassociated.
    """
    work = _Hoist(net)
    for root in work.roots():
        work.move(root)
    return work.result(), frozenset(work.changed)


@dataclass(frozen=True)
class _Leaves:
    """A sum of the step: `moving` terms, `drives` (drive values), `constants` (parameters), inner additions."""

    moving: tuple[str, ...]
    drives: tuple[str, ...]
    constants: tuple[str, ...]
    inner: tuple[str, ...]


class _Hoist:
    def __init__(self, net: EqNet) -> None:
        self.net = net
        self.uses = Analysis.of(net).readers
        self.types = Analysis.of(net).types
        self.drive: dict[str, Op] = {op.out: op for op in net.drive}
        self.step: dict[str, tuple[Op, ...]] = {op.out: (op,) for op in net.step}
        self.params = {p.name: p for p in net.params}
        self.names = set(self.types)
        self.changed: set[str] = set()

    def roots(self) -> Iterator[ops.Add]:
        """Additions whose result is not just another addition's operand."""
        inner = {
            name for op in self.net.step if isinstance(op, ops.Add) for name in (op.a, op.b) if self.uses[name] == 1
        }
        yield from (op for op in self.net.step if isinstance(op, ops.Add) and op.out not in inner)

    def move(self, root: ops.Add) -> None:
        """Rewrite one sum, if that saves an addition."""
        leaves = self._leaves(root)
        biased = [m for m in leaves.moving if self._bias(m) is not None and self.uses[m] == 1]
        if not leaves.moving or len(leaves.drives) + len(leaves.constants) + len(biased) < 2:
            return
        offsets = [(self._offset(m), self.params[str(self._bias(m))].source) for m in biased]
        offsets += [(self.params[c].value, self.params[c].source) for c in leaves.constants]
        static = self._static(root.out, leaves.drives, offsets)
        for name in biased:
            biased_map = self.step[name][0]
            assert isinstance(biased_map, ops.WeightedOp)
            self.step[name] = (replace(biased_map, bias=None),)
            self.changed.add(name)
        for name in leaves.inner:
            self.step[name] = ()
            self.changed.add(name)
        self.step[root.out] = tuple(self._sum(root.out, [static, *leaves.moving]))

    def _leaves(self, root: ops.Add) -> _Leaves:
        moving: list[str] = []
        drives: list[str] = []
        constants: list[str] = []
        inner: list[str] = []
        pending = [root.a, root.b]
        while pending:
            name = pending.pop(0)
            made = self.step.get(name, ())
            if len(made) == 1 and isinstance(made[0], ops.Add) and self.uses[name] == 1:
                inner.append(name)
                pending = [made[0].a, made[0].b, *pending]
            elif name in self.params:
                constants.append(name)
            else:
                (drives if name in self.drive else moving).append(name)
        return _Leaves(tuple(moving), tuple(drives), tuple(constants), tuple(inner))

    def _bias(self, name: str) -> str | None:
        made = self.step.get(name, ())
        return made[0].bias if len(made) == 1 and isinstance(made[0], _MAPS) else None

    def _offset(self, name: str) -> Numbers:
        """The bias of a linear map, shaped to be added to its value."""
        value = self.params[str(self._bias(name))].value
        return _spread(self.step[name][0], value, len(self.types[name].shape))

    def _static(self, root: str, drives: tuple[str, ...], offsets: list[tuple[Numbers, str]]) -> str:
        """The name of the drive value (or constant) that holds all static terms of `root`."""
        if not offsets:
            return self._in_drive(root, list(drives))
        total = offsets[0][0]
        for value, _ in offsets[1:]:
            total = total + value
        sources = [source for _, source in offsets]
        if len(drives) == 1 and self.uses[drives[0]] == 1:
            made = self.drive[drives[0]]
            if isinstance(made, _MAPS):
                shape = (self.params[made.weight].value.shape[0],)
                full = _spread(made, np.zeros(shape), len(self.types[made.out].shape))
                if total.shape == full.shape:
                    self._into_bias(made, total.reshape(shape), sources)
                    return made.out
        offset = self._param(f"{root}_offset", total, sources)
        return self._in_drive(root, [*drives, offset]) if drives else offset

    def _into_bias(self, made: ops.Linear | ops.Stencil | ops.Conv, total: Numbers, sources: list[str]) -> None:
        if made.bias is not None:
            total = self.params[made.bias].value + total
            sources = [self.params[made.bias].source, *sources]
        self.drive[made.out] = replace(made, bias=self._param(f"{made.out}_bias", total, sources))
        self.changed.add(made.out)

    def _in_drive(self, root: str, terms: list[str]) -> str:
        made = self._sum(self._fresh(f"{root}_drive"), terms)
        self.drive |= {op.out: op for op in made}
        return made[-1].out

    def _sum(self, out: str, terms: list[str]) -> list[ops.Add]:
        made: list[ops.Add] = []
        left = terms[0]
        for i, right in enumerate(terms[1:], start=2):
            name = out if i == len(terms) else self._fresh(f"{out}_sum")
            made.append(ops.Add(out=name, a=left, b=right))
            left = name
        return made

    def _param(self, name: str, value: Numbers, sources: list[str]) -> str:
        name = self._fresh(name)
        self.params[name] = Param(name, value, " + ".join(sources))
        return name

    def _fresh(self, base: str) -> str:
        name, n = base, 2
        while name in self.names:
            name, n = f"{base}_{n}", n + 1
        self.names.add(name)
        return name

    def result(self) -> EqNet:
        """The rewritten net without the parameters that nothing reads any more."""
        net = replace(
            self.net,
            drive=tuple(self.drive.values()),
            step=tuple(op for made in self.step.values() for op in made),
            params=tuple(self.params.values()),
        )
        used = Analysis.of(net).readers
        return replace(net, params=tuple(p for p in net.params if used[p.name]))


def _spread(op: Op, bias: Numbers, rank: int) -> Numbers:
    """`bias` shaped to broadcast over the value of `op`: a convolution's runs over the first axis."""
    return bias.reshape(-1, *(1,) * (rank - 1)) if isinstance(op, ops.Conv) else bias
