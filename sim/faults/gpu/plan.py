"""What of a net the GPU engine computes in each tick, with every value as a row of codes `[faults, units]`.

Values of the step that no state reaches are constant over the ticks: they are taken from the clean run, like the drive.
What is left has to be matrices and elementwise operations on rows, each as long as its partner or of one code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ....toolchain.diagnostics import Diagnostic
from ....toolchain.ir import Interval, IntNet, ops, verify
from ....toolchain.ir.ops import Op
from ....toolchain.passes import Analysis, linear_taps

__all__ = ["ELEMENTWISE", "INT32", "WORD", "Plan", "make_plan", "reach", "refusals"]

ELEMENTWISE = (
    *(ops.Add, ops.Sub, ops.Mul, ops.Abs, ops.Greater, ops.Select),
    *(ops.Rescale, ops.Lookup, ops.Interpolate, ops.DampFixed),
)
WORD = 1 << 62
"""Products stay below it, so that a rounding constant fits beside them in 64 bits."""
_INT8 = 127
INT32 = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Plan:
    """`step` and `readout`: operations that depend on a state, in order, reshapes left out; `alias`: values that are
    others under another shape; `held`: values of drive and step that are constant over the ticks and read by them;
    `matrices`: by linear operation, `[rows, units of its operand]` int8; `wide`: operations with 64 bits inside."""

    net: IntNet
    step: tuple[Op, ...]
    readout: tuple[Op, ...]
    alias: Mapping[str, str]
    held: tuple[str, ...]
    matrices: Mapping[str, NDArray[np.int8]]
    sizes: Mapping[str, int]
    wide: frozenset[str]

    def resolve(self, name: str) -> str:
        """The value that `name` is."""
        return self.alias.get(name, name)

    @cached_property
    def params(self) -> Mapping[str, NDArray[np.int64]]:
        """Every constant, flat."""
        return {p.name: self.net.param(p.name).reshape(-1) for p in self.net.params}

    @cached_property
    def label(self) -> tuple[str, int] | None:
        """Value and size of the first output of classes."""
        for o in self.net.outputs:
            if o.kind == "classes":
                return self.resolve(o.value), self.sizes[o.value]
        return None


def refusals(net: IntNet) -> list[Diagnostic]:
    """Every reason why this engine cannot run `net`."""
    return list(_Planner(net).faults())


def make_plan(net: IntNet) -> Plan:
    """The plan of a verified net that is not refused."""
    return _Planner(net).plan()


class _Planner:
    def __init__(self, net: IntNet) -> None:
        verify(net)
        self.net = net
        analysis = Analysis.of(net)
        self.types, self.ranges, self.sizes = analysis.types, analysis.ranges, analysis.sizes
        self.moving = analysis.moving
        self.alias: dict[str, str] = {}
        for op in (*net.step, *net.readout):
            if isinstance(op, ops.Reshape):
                self.alias[op.out] = self.alias.get(op.x, op.x)

    def block(self, block: Iterable[Op]) -> tuple[Op, ...]:
        return tuple(op for op in block if op.out in self.moving and not isinstance(op, ops.Reshape))

    def faults(self) -> Iterator[Diagnostic]:
        net = self.net
        if net.schedule.frames:
            yield Diagnostic("gpu-frames", "the net takes frames, this engine one input a sample", net.name)
        for o in net.outputs:
            shape = self.types[o.value].shape
            if o.kind == "classes" and len(shape) != 1:
                what = f"output {o.name} has {len(shape)} axes, this engine reads one row of classes"
                yield Diagnostic("gpu-output", what, o.name, "use the engine `fast` or `golden`")
        for op in (*self.block(net.step), *self.block(net.readout)):
            why = self.why_not(op)
            if why:
                yield Diagnostic(
                    "gpu-op", f"{op.mnemonic} {op.out}: {why}", op.out, "use the engine `fast` or `golden`"
                )

    def why_not(self, op: Op) -> str:
        ranges = self.ranges
        match op:
            case ops.Linear(x=x) | ops.Stencil(x=x):
                if max(-ranges[x].lo - 1, ranges[x].hi) > _INT8 or ranges[x].lo < -_INT8 - 1:
                    return f"its operand is in {ranges[x]}, the matrix units take 8 bits"
                largest = int(np.abs(linear_taps(self.net, op).weight).max(initial=0))
                if largest > _INT8:
                    return f"its weights reach {largest}, the matrix units take 8 bits"
                if isinstance(op, ops.Linear) and len(self.types[x].shape) != 1:
                    return f"its operand has {len(self.types[x].shape)} axes, this engine takes 1"
                if ranges[op.out].magnitude > INT32:
                    return f"its sums reach {ranges[op.out].magnitude}, the matrix units hold 32 bits"
            case ops.Reduce(x=x, kind=kind):
                if self.sizes[op.out] != 1 or kind == "mean":
                    return "this engine reduces all units to one"
            case _ if isinstance(op, ELEMENTWISE):
                entries = {self.sizes[op.out], 1}
                wrong = [n for n in op.reads if self.is_operand(op, n) and self.sizes[n] not in entries]
                if wrong:
                    return f"operand {wrong[0]} has {self.sizes[wrong[0]]} codes beside {self.sizes[op.out]}"
                if reach(self.net, op, self.ranges) > WORD:
                    return f"it reaches {reach(self.net, op, self.ranges)} inside, a word holds {WORD}"
            case _:
                return "this engine has no such operation"
        return ""

    def is_operand(self, op: Op, name: str) -> bool:
        """Whether `name` is read as a row beside the others, not as a table."""
        return name not in {getattr(op, key, None) for key in ("table", "base", "slope")}

    def plan(self) -> Plan:
        net = self.net
        step, readout = self.block(net.step), self.block(net.readout)
        params, states = net.param_names, {s.name for s in net.states}
        made = {op.out for op in (*step, *readout)} | states | params
        ends = [*(s.update for s in net.states), *(o.value for o in net.outputs)]
        reads = [self.alias.get(n, n) for n in (*(n for op in (*step, *readout) for n in op.reads), *ends)]
        return Plan(
            net=net,
            step=step,
            readout=readout,
            alias=self.alias,
            held=tuple(dict.fromkeys(n for n in reads if n not in made)),
            matrices={op.out: linear_taps(net, op).dense().astype(np.int8) for op in (*step, *readout) if _is_map(op)},
            sizes=self.sizes,
            wide=frozenset(op.out for op in (*step, *readout) if reach(net, op, self.ranges) > INT32),
        )


def _is_map(op: Op) -> bool:
    return isinstance(op, (ops.Linear, ops.Stencil))


def reach(net: IntNet, op: Op, ranges: Mapping[str, Interval]) -> int:
    """The largest number that computing an elementwise operation meets."""
    match op:
        case ops.Rescale(x=x, multiplier=m, shift=k):
            return ranges[x].magnitude * ranges[m].magnitude + (1 << k)
        case ops.DampFixed(old=a, new=b, multiplier=m, shift=k):
            return (ranges[a].magnitude + ranges[b].magnitude) * m + (1 << k)
        case ops.Interpolate(x=x, base=base, slope=s, first=first, shift=k):
            return max(ranges[s].magnitude << k, ranges[x].magnitude + abs(first) + (len(net.param(base)) << k))
        case ops.Lookup(x=x, table=t, first=first):
            return ranges[x].magnitude + abs(first) + len(net.param(t))
        case ops.Mul(a=a, b=b):
            return ranges[a].magnitude * ranges[b].magnitude
        case ops.Greater():
            return 0
        case _:
            return ranges[op.out].magnitude
