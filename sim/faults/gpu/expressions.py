"""What an operation computes of the codes at one place, as C, for every engine that writes some."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from .plan import Plan
from .source import REFUSED

__all__ = ["clamped", "expression"]


def expression(
    op: Op, plan: Plan, value: Callable[[str], str], entries: Callable[[str], str], *, entry: str = "e"
) -> tuple[str, str]:
    """Declarations, and the code that an operation gives a place, an `i32`.

    `value`: the code of a value at the place; `entries`: the array of a table's; `entry`: a free name. Raises TypeError
    for an operation that reads other places too (maps, reductions) or is in no plan.
    """
    wide = "i64" if op.out in plan.wide else "i32"

    def half_up(product: str, shift: int) -> str:
        return f"(i32)((({wide})({product}) + {(1 << shift) >> 1}) >> {shift})"

    match op:
        case ops.Add(a=a, b=b) | ops.Sub(a=a, b=b) | ops.Mul(a=a, b=b) | ops.Greater(a=a, b=b):
            sign = {"add": "+", "sub": "-", "mul": "*", "greater": ">"}[op.mnemonic]
            return "", f"{value(a)} {sign} {value(b)}"
        case ops.Abs(x=x):
            return "", f"({value(x)} < 0 ? -{value(x)} : {value(x)})"
        case ops.Select(condition=condition, a=a, b=b):
            return "", f"{value(condition)} ? {value(a)} : {value(b)}"
        case ops.Rescale(x=x, multiplier=m, shift=shift):
            return "", half_up(f"({wide}){value(x)} * {value(m)}", shift)
        case ops.Lookup(x=x, table=t, first=first):
            return clamped(entry, value(x), first, len(plan.params[t])), f"{entries(t)}[{entry}]"
        case ops.Interpolate(x=x, base=base, slope=slope, first=first, shift=shift):
            before = clamped(entry, value(x), first, len(plan.params[base]) << shift)
            rise = f"({wide}){entries(slope)}[{entry} >> {shift}] * ({entry} & {(1 << shift) - 1})"
            return before, f"{entries(base)}[{entry} >> {shift}] + {half_up(rise, shift)}"
        case ops.DampFixed(old=old, new=new, multiplier=multiplier, shift=shift):
            rise = f"({wide})({value(new)} - {value(old)}) * {multiplier}"
            return "", f"{value(old)} + {half_up(rise, shift)}"
        case ops.Linear() | ops.Stencil() | ops.Reduce():
            raise TypeError(f"{op.mnemonic} reads other places too")
        case _ if isinstance(op, REFUSED):
            raise TypeError(f"{op.mnemonic} is not in the plan")
        case _:
            assert_never(op)


def clamped(entry: str, index: str, first: int, count: int) -> str:
    """The declaration of an entry of `count`, of which an index `first` reads the first."""
    top = count - 1
    return f"i32 {entry} = {index} - ({first}); {entry} = {entry} < 0 ? 0 : {entry} > {top} ? {top} : {entry};"
