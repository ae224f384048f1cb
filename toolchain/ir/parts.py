"""What a net is made of: formats, inputs, parameters, states, outputs, the schedule, and the circuit they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..arrays import Numbers
from .ops import Op, Repeat

__all__ = [
    "Circuit",
    "Encoding",
    "Format",
    "Input",
    "Output",
    "OutputKind",
    "Param",
    "Schedule",
    "State",
    "Stop",
    "walk",
]

OutputKind = Literal["classes", "values"]


@dataclass(frozen=True)
class Format:
    """Integer format: `bits` wide, two's complement if `signed`."""

    bits: int
    signed: bool

    @property
    def lo(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @classmethod
    def holding(cls, lo: int, hi: int) -> Format:
        """The narrowest format that holds every integer of [lo, hi]; signed only if `lo` is negative."""
        if lo < 0:
            return cls(max((-lo - 1).bit_length(), max(hi, 0).bit_length()) + 1, True)
        return cls(max(hi.bit_length(), 1), False)

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


@dataclass(frozen=True, eq=False)
class Param:
    """A constant tensor: float64 in an EqNet, int64 in an IntNet (indices and masks are int64 in both).

    `source` says where it comes from (file, tensor key, what was done to it) and survives every pass.
    """

    name: str
    value: Numbers
    source: str

    def __post_init__(self) -> None:
        if self.value.flags.writeable or not self.value.flags.c_contiguous:
            value = np.array(self.value, order="C")
            value.setflags(write=False)
            object.__setattr__(self, "value", value)


@dataclass(frozen=True)
class Encoding:
    """How a host turns a real input into codes: `clip(rint(x / scale), lo, hi)` of `format`, IEEE double division,
    round half to even. Nothing right of the waist evaluates it; the scale is folded into the drive."""

    format: Format
    scale: float


@dataclass(frozen=True)
class Input:
    """A clamped input of `shape` (without batch and frame axes).

    `kind` is `"number"`, or `"index"` for tokens below `rows`. `encoding` is set for numbers of an IntNet, else None.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["number", "index"] = "number"
    rows: int | None = None
    encoding: Encoding | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest code: those of the encoding's format, of an index 0 to `rows - 1`."""
        if self.encoding is None:
            return 0, (self.rows or 1) - 1
        return self.encoding.format.lo, self.encoding.format.hi


@dataclass(frozen=True)
class State:
    """A register of `shape`, latching `update` at the end of each tick.

    `init` names a drive value or a parameter (broadcast to `shape`); None is zeros. In an IntNet code v means
    `v / 2**frac`; `frac` is None where a state has no real meaning (a counter) and in an EqNet.
    """

    name: str
    shape: tuple[int, ...]
    update: str
    init: str | None = None
    frac: int | None = None


@dataclass(frozen=True)
class Output:
    """A result, read after the last tick. `classes`: logits over the last axis, label = argmax, ties to the lowest.

    `scale` (IntNet): real value = code * scale; None in an EqNet.
    """

    name: str
    value: str
    kind: OutputKind
    scale: float | None = None


@dataclass(frozen=True)
class Stop:
    """An early stop that is part of the source model (EqNet only).

    After a tick, stop the whole batch when `max over the batch of ||state_new - state_old||_2 < epsilon`; the bound
    is `loose * epsilon` once more than `loose_after` ticks were made.
    """

    state: str
    epsilon: float
    loose_after: int
    loose: float


@dataclass(frozen=True)
class Schedule:
    """`steps` ticks for each input. With `frames`, the input has a frame axis after the batch axis: the drive is
    evaluated anew and `steps` ticks are made for each frame, states carried over; outputs are read after the last
    frame (`emit="last"`) or after each (`"every"`, results `[batch, frame, ...]`).

    `tolerance` (IntNet only): a sample ends once no code of any state moved by more than this. 0 is exact: the result
    is the same as without. `stop` (EqNet only) is the model's own rule.
    """

    steps: int
    frames: bool = False
    emit: Literal["last", "every"] = "last"
    tolerance: int = 0
    stop: Stop | None = None


def walk(ops: Iterable[Op]) -> Iterator[Op]:
    """Every operation, bodies of `repeat` included, in evaluation order (a repeat after its body)."""
    for op in ops:
        if isinstance(op, Repeat):
            yield from walk(op.body)
        yield op


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """Inputs, parameters, states, operations and schedule: what both levels share."""

    name: str
    family: str
    inputs: tuple[Input, ...]
    params: tuple[Param, ...]
    states: tuple[State, ...]
    drive: tuple[Op, ...]
    step: tuple[Op, ...]
    readout: tuple[Op, ...]
    outputs: tuple[Output, ...]
    schedule: Schedule

    @property
    def blocks(self) -> tuple[tuple[str, tuple[Op, ...]], ...]:
        """`(name, operations)` of the three blocks in evaluation order."""
        return (("drive", self.drive), ("step", self.step), ("readout", self.readout))

    def all_ops(self) -> Iterator[Op]:
        """Every operation of every block, nested ones included."""
        for _, ops in self.blocks:
            yield from walk(ops)

    def param(self, name: str) -> Numbers:
        """The (read-only) array of a parameter; KeyError if there is none."""
        for p in self.params:
            if p.name == name:
                return p.value
        raise KeyError(name)

    @property
    def param_names(self) -> frozenset[str]:
        return frozenset(p.name for p in self.params)
