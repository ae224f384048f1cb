"""The step and the readout on rows of codes, in PyTorch: what the kernel computes, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from .plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Evaluator"]


class Evaluator:
    """Values are int64 tensors `[rows, units]` (booleans for comparisons), one unit where a value is a single code."""

    def __init__(self, plan: Plan, device: str) -> None:
        import torch

        self.plan = plan
        self.params = {n: torch.from_numpy(v.copy()).to(device)[None] for n, v in plan.params.items()}
        # A float64 product is exact: the plan keeps every sum within 31 bits.
        self.matrices = {n: torch.from_numpy(m.T.copy()).to(device).double() for n, m in plan.matrices.items()}

    def block(self, block: Iterable[Op], scope: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`scope` with the value of every operation of the block."""
        known = {**self.params, **scope}
        for op in block:
            known[op.out] = self._value(op, known)
        return known

    def _value(self, op: Op, known: Mapping[str, Tensor]) -> Tensor:
        import torch

        def value(name: str) -> Tensor:
            return known[self.plan.resolve(name)]

        match op:
            case ops.Linear(x=x, bias=bias) | ops.Stencil(x=x, bias=bias):
                total = (value(x).double() @ self.matrices[op.out]).long()
                return total if bias is None else total + value(bias)
            case ops.Add(a=a, b=b):
                return value(a) + value(b)
            case ops.Sub(a=a, b=b):
                return value(a) - value(b)
            case ops.Mul(a=a, b=b):
                return value(a) * value(b)
            case ops.Abs(x=x):
                return value(x).abs()
            case ops.Greater(a=a, b=b):
                return value(a) > value(b)
            case ops.Select(condition=condition, a=a, b=b):
                return torch.where(value(condition), value(a), value(b))
            case ops.Reduce(x=x, kind="sum"):
                return value(x).sum(dim=1, keepdim=True)
            case ops.Reduce(x=x, kind="max"):
                return value(x).amax(dim=1, keepdim=True)
            case ops.Rescale(x=x, multiplier=m, shift=k):
                return _half_up(value(x) * value(m), k)
            case ops.Lookup(x=x, table=t, first=first):
                entries = value(t)[0]
                return entries[(value(x) - first).clamp(0, len(entries) - 1)]
            case ops.Interpolate(x=x, base=b, slope=s, first=first, shift=k):
                base, slope = value(b)[0], value(s)[0]
                at = (value(x) - first).clamp(0, (len(base) << k) - 1)
                return base[at >> k] + _half_up(slope[at >> k] * (at & ((1 << k) - 1)), k)
            case ops.DampFixed(old=a, new=b, multiplier=m, shift=k):
                return value(a) + _half_up((value(b) - value(a)) * m, k)
            case _:
                raise TypeError(f"{op.mnemonic} is not in the plan")


def _half_up(x: Tensor, shift: int) -> Tensor:
    return (x + ((1 << shift) >> 1)) >> shift
