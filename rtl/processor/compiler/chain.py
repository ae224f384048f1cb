"""Operations that one pass of the pipeline computes together, in the order of its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from ..isa import Alu, Old, Reduction, Table, Unit
from .views import View

__all__ = ["Chain", "Stage"]


class Stage(IntEnum):
    """Last stage that a chain uses."""

    READ = 0
    ALU = 1
    UNIT = 2
    REDUCE = 3
    ROUND = 4
    ADD = 5
    TABLE = 6
    DAMP = 7


@dataclass(frozen=True)
class Chain:
    """A pass before it is written: `shape` of what the alu sees, of which the last `reduced` axes (after `order`) go.

    `result` is the shape of its value. `old`: name of the state that damping reads where it is written.
    """

    shape: tuple[int, ...]
    result: tuple[int, ...]
    a: View
    b: View | None = None
    c: View | None = None
    stage: Stage = Stage.READ
    alu: Alu = Alu.PASS
    unit: Unit = Unit.NONE
    immediate: int = 0
    reduction: Reduction = Reduction.NONE
    axes: tuple[int, ...] = ()
    shift: int = 0
    add: bool = False
    table: Table | None = None
    damp: tuple[Old, int, int] | None = None
    old: str | None = None
    indirect: bool = False

    @classmethod
    def of(cls, view: View) -> Chain:
        """The view itself."""
        return cls(view.shape, view.shape, view)

    def two(self, alu: Alu, b: View, *, swapped: bool = False) -> Chain | None:
        """The alu of this value and b; None where this chain has gone too far."""
        if self.stage > Stage.READ or self.indirect:
            return None
        shape = _joint(self.result, b.shape)
        mine, other = self.a.broadcast(shape), b.broadcast(shape)
        first, second = (other, mine) if swapped else (mine, other)
        return replace(self, shape=shape, result=shape, a=first, b=second, alu=alu, stage=Stage.ALU)

    def absolute(self) -> Chain | None:
        """|x|."""
        if self.stage == Stage.READ:
            return replace(self, alu=Alu.ABS, stage=Stage.ALU)
        if self.stage == Stage.ALU and self.alu is Alu.SUB:
            return replace(self, alu=Alu.DISTANCE)
        return None

    def scaled(self, multiplier: int, shift: int) -> Chain | None:
        """x times a constant, rounded: before a sum it is the same as behind it."""
        if self.stage < Stage.UNIT or (self.stage is Stage.REDUCE and self.reduction is Reduction.SUM):
            if self.unit is Unit.NONE:
                if multiplier == 1 and not shift:
                    return replace(self, stage=max(self.stage, Stage.UNIT))
                unit = Unit.NONE if multiplier == 1 else Unit.SCALE
                return replace(self, unit=unit, immediate=multiplier, shift=shift, stage=Stage.ROUND)
        if multiplier == 1 and self.stage <= Stage.REDUCE and self.unit is not Unit.DIVIDE:
            return replace(self, shift=shift, stage=Stage.ROUND)
        return None

    def times(self, b: View, shift: int) -> Chain | None:
        """x times b, rounded if there is a shift."""
        if self.stage >= Stage.UNIT or self.b is not None or self.indirect:
            return None
        shape = _joint(self.result, b.shape)
        if self.c is not None and self.c.shape != shape:
            return None
        stage = Stage.ROUND if shift else Stage.UNIT
        whole = replace(self, shape=shape, result=shape, a=self.a.broadcast(shape), b=b.broadcast(shape))
        return replace(whole, unit=Unit.MULTIPLY, shift=shift, stage=stage)

    def divided(self, b: View, shift: int) -> Chain | None:
        """x / b with `shift` fraction bits."""
        if self.stage > Stage.READ or self.indirect:
            return None
        shape = _joint(self.result, b.shape)
        whole = replace(self, shape=shape, result=shape, a=self.a.broadcast(shape), b=b.broadcast(shape))
        return replace(whole, unit=Unit.DIVIDE, shift=shift, stage=Stage.ROUND)

    def root(self) -> Chain | None:
        """Integer square root."""
        if self.stage >= Stage.UNIT:
            return None
        return replace(self, unit=Unit.ROOT, stage=Stage.UNIT)

    def reduced(self, kind: Reduction, axes: tuple[int, ...], keep: bool) -> Chain | None:
        """Over axes of the value."""
        if self.stage > Stage.UNIT or self.indirect:
            return None
        rank = len(self.result)
        gone = tuple(sorted(rank + a for a in axes))
        result = tuple(1 if k in gone else n for k, n in enumerate(self.result) if keep or k not in gone)
        return replace(self, reduction=kind, axes=gone, result=result, stage=Stage.REDUCE)

    def plus(self, c: View) -> Chain | None:
        """c added behind the rounding."""
        if self.stage >= Stage.ADD or self.c is not None:
            return None
        if _joint(self.result, c.shape) != self.result:
            return None
        return replace(self, c=c.broadcast(self.result), add=True, stage=Stage.ADD)

    def through(self, table: Table) -> Chain | None:
        """The entry of a table."""
        if self.stage >= Stage.TABLE:
            return None
        return replace(self, table=table, stage=Stage.TABLE)

    def damped(self, state: str | None, old: View, multiplier: int, shift: int) -> Chain | None:
        """Damped towards the value; `state` is written where its old code is read."""
        if self.stage >= Stage.DAMP:
            return None
        if state is not None and old.shape == self.result:
            return replace(self, damp=(Old.D, multiplier, shift), old=state, stage=Stage.DAMP)
        if self.c is not None or _joint(self.result, old.shape) != self.result:
            return None
        return replace(self, c=old.broadcast(self.result), damp=(Old.C, multiplier, shift), stage=Stage.DAMP)

    @property
    def views(self) -> tuple[View, ...]:
        return tuple(v for v in (self.a, self.b, self.c) if v is not None)


def _joint(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(one, other))
