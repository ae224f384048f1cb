"""What faults that last reach in a plan: weights, sums and values of the drive that the card disturbs, and how wide
what they disturb may become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ....toolchain.ir import IntNet, ops
from ....toolchain.ir.ops import Op
from ....toolchain.ir.ranges import op_range
from ....toolchain.passes import Analysis
from ..circuit import format_ranges
from ..storage import weight_names
from .plan import ELEMENTWISE, INT32, WORD, Plan, reach

__all__ = ["Reached", "reached"]

_BITS = 32


@dataclass(frozen=True, eq=False)
class Reached:
    """`plan` with `wide` as disturbed codes need it; `weights`: the number, from 1 on, of each parameter that may be
    wrong; `maps`: of each, the linear operations that read it; `dives`: by held value that such an operation of the
    drive reaches, the operations that it follows from, in order, the maps first met as sums. `sums`, `drive`: the
    numbers, behind those of weights, of maps of step and readout whose results may be wrong, and of held values of the
    drive; these are in `dives` too, with no operation if no such weight reaches them."""

    plan: Plan
    weights: Mapping[str, int]
    maps: Mapping[str, tuple[ops.Linear, ...]]
    dives: Mapping[str, tuple[Op, ...]]
    sums: Mapping[str, int] = field(default_factory=dict)
    drive: Mapping[str, int] = field(default_factory=dict)

    def codes(self, maps: Sequence[Op]) -> list[int]:
        """Numbers of the weights that one of `maps` reads."""
        names = {op.out for op in maps}
        return sorted({self.weights[w] for w, readers in self.maps.items() if any(op.out in names for op in readers)})

    @property
    def values(self) -> Mapping[str, int]:
        """`sums` and `drive`."""
        return {**self.sums, **self.drive}

    def number(self, op: Op) -> int:
        """The number of the weight of a map, 0 if it is never wrong."""
        return next((self.weights[w] for w, readers in self.maps.items() if op in readers), 0)


def reached(plan: Plan) -> Reached | None:
    """What can be disturbed for long in a plan that is `flat`; None where disturbed codes do not fit."""
    after = _after(plan.net)
    maps = {}
    for name in weight_names(plan.net):
        readers = tuple(op for op in plan.net.all_ops() if name in op.reads)
        linear = tuple(op for op in readers if isinstance(op, ops.Linear) and op.weight == name and op.bias != name)
        if len(linear) == len(readers) and all(_takes(plan, op, after) for op in linear):
            maps[name] = linear
    drive = [op for readers in maps.values() for op in readers if op.out not in plan.matrices]
    alone = [h for h in plan.held if _alone(plan, h, after)]
    dives = {h: _chain(plan.net, h, drive) for h in plan.held if h in alone or any(h in after[op.out] for op in drive)}
    wide = _wide(plan, [op for chain in dives.values() for op in chain])
    if wide is None:
        return None
    named = [*maps, *(op.out for op in (*plan.step, *plan.readout) if op.out in plan.matrices), *alone]
    number = {name: k + 1 for k, name in enumerate(named)}
    sums = {name: k for name, k in number.items() if name in plan.matrices}
    of_maps, of_drive = ({name: number[name] for name in names} for names in (maps, alone))
    return Reached(replace(plan, wide=wide), of_maps, maps, dives, sums, of_drive)


def _alone(plan: Plan, name: str, after: Mapping[str, set[str]]) -> bool:
    """Whether a held value is one of the drive, of several units, that ticks and readout alone read, place by place."""
    formats = plan.net.formats
    if name not in after or plan.sizes[name] == 1 or name not in formats or formats[name].bits > _BITS:
        return False
    moving = {o.out for o in (*plan.step, *plan.readout)} | set(plan.alias)
    ends = {s.init for s in plan.net.states} | {plan.resolve(n) for n in _ends(plan.net)}
    return after[name] - {name} <= moving and name not in ends


def _after(net: IntNet) -> dict[str, set[str]]:
    """Of each value of the drive, what follows from it in any block, itself included."""
    after = {op.out: {op.out} for op in net.drive}
    for values in after.values():
        for op in net.all_ops():
            if values.intersection(op.reads):
                values.add(op.out)
    return after


def _takes(plan: Plan, op: ops.Linear, after: Mapping[str, set[str]]) -> bool:
    """Whether a map may have a wrong weight: one that reads a state, or one of the drive from which held values follow
    place by place."""
    if op.out in plan.matrices:
        return True
    net, size = plan.net, plan.sizes[op.out]
    if op not in net.drive or size == 1:
        return False
    values = after[op.out]
    alike = all(
        isinstance(o, (*ELEMENTWISE, ops.Reshape)) and plan.sizes[o.out] == size
        for o in net.drive
        if o.out in values and o is not op
    )
    moving = {o.out for o in (*plan.step, *plan.readout)} | {o.out for o in net.drive} | set(plan.alias)
    ends = {s.init for s in net.states} | {plan.resolve(n) for n in _ends(net)}
    read = [o for o in (*plan.step, *plan.readout) if o.out in plan.matrices and values.intersection(o.reads)]
    drive = {o.out for o in net.drive if o.out in values}
    return alike and values <= moving and not drive & ends and not read


def _ends(net: IntNet) -> Iterator[str]:
    yield from (s.update for s in net.states)
    yield from (o.value for o in net.outputs)


def _chain(net: IntNet, end: str, maps: Sequence[Op]) -> tuple[Op, ...]:
    """The operations of the drive between maps, these included, and a value that follows from some."""
    needed, chain, starts = {end}, [], {op.out for op in maps}
    after = _after(net)
    for op in reversed(net.drive):
        if op.out in needed and any(op.out in after[start] for start in starts):
            chain.append(op)
            needed |= set() if op.out in starts else set(op.reads)
    return tuple(chain[::-1])


def _wide(plan: Plan, drive: Sequence[Op]) -> frozenset[str] | None:
    """Operations with 64 bits inside, where their operands may be anywhere in their formats; None where that is not
    enough."""
    net, ranges = plan.net, format_ranges(plan.net)
    shapes, wide = Analysis.of(net).shapes, set()
    for op in (*plan.step, *plan.readout, *drive):
        if op.out in net.formats and net.formats[op.out].bits > _BITS:
            return None
        if isinstance(op, (ops.Linear, ops.Stencil, ops.Greater, ops.Reshape)):
            continue
        inside = reach(net, op, ranges)
        if isinstance(op, (ops.Rescale, ops.DampFixed, ops.Interpolate)):
            wide |= {op.out} if inside > INT32 else set()
            if inside > WORD or (isinstance(op, ops.Interpolate) and inside > INT32):
                return None
        elif max(inside, op_range(op, ranges, shapes, net.param).magnitude) > INT32:
            return None
    return frozenset(wide)
