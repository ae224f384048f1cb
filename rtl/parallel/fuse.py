"""Linear maps with an addition behind them, found so that one adder graph computes both.

`add(rescale(linear(x)), d)` costs one more addition in a row than the map alone; as one more term of each row's tree
`d` costs none, unless the row had exactly a power of two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eqcompile.toolchain.ir import IntNet, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.passes import Analysis

from .matrix import LinearMap

__all__ = ["Fused", "fusible"]


@dataclass(frozen=True)
class Fused:
    """`add = factor * linear + addend`; `chain`: the map and the multiplication behind it, which nothing else reads."""

    add: ops.Add
    chain: tuple[Op, ...]
    factor: int
    addend: str

    @property
    def linear(self) -> LinearMap:
        base = self.chain[0]
        assert isinstance(base, (ops.Linear, ops.Stencil, ops.Conv))
        return base

    @property
    def names(self) -> tuple[str, ...]:
        """Values that are never made."""
        return tuple(op.out for op in self.chain)


def fusible(block: Sequence[Op], net: IntNet) -> dict[str, Fused]:
    """What can be computed so in `block`, by the name of the sum."""
    readers = Analysis.of(net).readers
    producers = {op.out: op for op in block}
    fusions: dict[str, Fused] = {}
    absorbed: set[str] = set()
    for op in block:
        if not isinstance(op, ops.Add):
            continue
        for operand, addend in ((op.a, op.b), (op.b, op.a)):
            chain = _chain(operand, producers, readers, net)
            if chain is None or operand in absorbed or addend in absorbed:
                continue
            fused = Fused(op, chain[0], chain[1], addend)
            fusions[op.out] = fused
            absorbed.update(fused.names)
            break
    return fusions


def _chain(
    name: str, producers: dict[str, Op], readers: Mapping[str, int], net: IntNet
) -> tuple[tuple[Op, ...], int] | None:
    """The map behind `name`, with what multiplies it, and by how much; None if there is none or others read it."""
    op = producers.get(name)
    if op is None or readers[name] != 1:
        return None
    if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv)):
        return (op,), 1
    if not isinstance(op, ops.Rescale) or op.shift != 0:
        return None
    factors = {int(v) for v in net.param(op.multiplier).reshape(-1)}
    behind = _chain(op.x, producers, readers, net)
    # Any other factor would give each weight more digits.
    if behind is None or len(factors) != 1 or min(factors) <= 0 or min(factors) & (min(factors) - 1):
        return None
    return (*behind[0], op), behind[1] * min(factors)
