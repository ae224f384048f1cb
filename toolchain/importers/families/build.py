"""Composes an EqNet operation by operation; what does not fit is reported with the tensor keys it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from ...arrays import Reals
from ...diagnostics import Diagnostic, ImportFileError
from ...ir import EqNet, Input, OpError, Output, Param, Schedule, State, Stop, ops
from ...ir.ops import ActivationKind, Op
from ...ir.parts import OutputKind
from ...ir.types import ValueType, infer_op
from ..family import Array, Family, Reading, Setting, SettingValue, Tensors
from ..reading import Ended, Reader

__all__ = ["ALPHA", "GAMMA", "Builder", "family", "steps"]

Block = Literal["drive", "step", "readout"]

ALPHA = Setting("alpha", 0.5, "damping: share of the new value in each step")
GAMMA = replace(ALPHA, name="gamma")


def steps(default: int) -> Setting:
    """The setting of the number of steps, with the source code's default."""
    return Setting("steps", default, "relaxation steps for each input")


def family(
    key: str,
    summary: str,
    *settings: Setting,
    twins: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
    spectral_norm: bool = True,
) -> Callable[[Callable[[Builder], EqNet | None]], Family]:
    """Make a `Family` of the function that composes its net, called with a fresh builder.

    What the function reads is what a file of the family must hold, and all that it may hold but for `unused`: regular
    expressions (full match) of keys that inference never reads. It returns the net, or None if that is the builder's
    with the setting `steps`, which every family has: 30 unless `settings` hold another.

    `twins` are classes that compute the same from the same file. `spectral_norm`: whether the class can normalise
    layers; a file that does is of no class that cannot.
    """
    if not any(s.name == "steps" for s in settings):
        settings = (steps(30), *settings)
    silent = re.compile("|".join(unused) or r"(?!)")

    def decorate(compose: Callable[[Builder], EqNet | None]) -> Family:
        def read(name: str, tensors: Tensors, values: Mapping[str, SettingValue]) -> Reading:
            b = Builder(name, tensors, values)
            net = _composed(compose, b)
            unread = (k for k in tensors if k not in b.keys_read and not silent.fullmatch(k))
            return Reading(
                net=None if b.faults or b.misuse else net,
                read=frozenset(b.keys_read),
                missing=tuple(b.missing),
                unexpected=(*unread, *(() if spectral_norm else tensors.normed)),
                faults=tuple(b.faults),
                misuse=tuple(b.misuse),
                complete=b.complete,
            )

        others = tuple(Family(twin, summary, settings, partial(read, twin), same_as=key) for twin in twins)
        return Family(key, summary, settings, partial(read, key), twins=others)

    return decorate


def _composed(compose: Callable[[Builder], EqNet | None], b: Builder) -> EqNet | None:
    """The net that `compose` makes, None if the reading ended before there was one."""
    try:
        net = compose(b) or b.finish(b.integer("steps"))
    except Ended:
        pass
    except ImportFileError as error:
        b.faults += error.diagnostics
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        what = f"{b.family} cannot be built from these tensors: {' '.join(str(error).split())[:200]}"
        b.faults.append(Diagnostic("tensors-do-not-fit", what, b.tensors.label, b.tensors.shapes))
    else:
        b.complete = True
        return net
    return None


class Builder(Reader):
    """One net in the making.

    Each method adds an operation called `out` to the open block and returns `out`. Operations are typed as they are
    added. A value whose shape hangs on a tensor that is missing or does not fit is unknown, and so is all that is
    computed from it: no operation is made, but tensors are read on.
    """

    def __init__(self, family: str, tensors: Tensors, settings: Mapping[str, SettingValue]) -> None:
        super().__init__(family, tensors, settings)
        self.complete = False
        self._types: dict[str, ValueType] = {}
        self._unknown: set[str] = set()
        self._params: dict[str, Param] = {}
        self._inputs: list[Input] = []
        self._states: dict[str, tuple[tuple[int, ...], str | None]] = {}
        self._updates: dict[str, str] = {}
        self._blocks: dict[Block, list[Op]] = {"drive": [], "step": [], "readout": []}
        self._open = self._blocks["drive"]
        self._outputs: list[Output] = []

    # Constants and shapes

    def param(self, name: str, value: Array | float, source: str) -> str:
        """A constant of the net; the same name may be asked for again."""
        if name not in self._params:
            array = np.asarray(value)
            array = array if array.dtype == np.int64 else array.astype(np.float64, copy=False)
            self._params[name] = Param(name, array, source)
            self._types[name] = ValueType(array.shape)
        return name

    def flags(self, name: str, value: Reals, source: str) -> str:
        """A constant of zeros and ones as a boolean value, which is made in the drive."""
        outer, self._open = self._open, self._blocks["drive"]
        half = self.param("half", 0.5, "constant")
        flags = self.emit(ops.Greater(out=name, a=self.param(f"{name}_sites", value, source), b=half))
        self._open = outer
        return flags

    def parameter(self, key: str, *, shape: tuple[int, ...] | None = None) -> str:
        """The file's tensor as a parameter named after its key, under another shape if one is given."""
        value, name = self.find(key), key.replace(".", "_")
        name = f"tensor_{name}" if name[:1].isdecimal() else name
        if value is None:
            return self.unknown(name)
        return self.param(name, value if shape is None else value.reshape(shape), self.tensors.source(key))

    def unknown(self, name: str) -> str:
        """A value that cannot be computed, for what it hangs on is missing or wrong."""
        self._unknown.add(name)
        return name

    def knows(self, *names: str) -> bool:
        """Whether all these values have a shape."""
        return self._unknown.isdisjoint(names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value, without the batch axis. Ends the reading if it is unknown."""
        if name in self._unknown:
            raise Ended
        return self._types[name].shape

    # Structure

    def input(self, name: str, *shape: int, rows: int | None = None) -> str:
        """An input of numbers, or of indices below `rows`."""
        kind: Literal["number", "index"] = "number" if rows is None else "index"
        self._inputs.append(Input(name, shape, kind, rows))
        self._types[name] = ValueType(shape, kind)
        return name

    def drive(self, layer: str) -> str:
        """The input `x` and the value `drive`, the file's linear layer on it."""
        weight = f"{layer}.weight"
        x = self.input("x", self.matrix(weight).shape[1]) if self.find(weight) is not None else self.unknown("x")
        return self.linear("drive", x, layer)

    def driven(self, layer: str, *, start: bool = False) -> tuple[str, str]:
        """`drive`, and a state `h` of its shape, which starts there or at 0; the step is open afterwards."""
        drive = self.drive(layer)
        h = self.state("h", like=drive, init=drive if start else None)
        self.begin("step")
        return drive, h

    def chain(self, template: str) -> list[str]:
        """States `h0`, `h1`, ... with as many units as the layers `template.format(0)`, ... have rows."""
        states = []
        for i in range(self.count(f"{template}.weight")):
            weight = self.find(f"{template.format(i)}.weight")
            states.append(self.unknown(f"h{i}") if weight is None else self.state(f"h{i}", len(weight)))
        return states

    def state(self, name: str, *shape: int, like: str | None = None, init: str | None = None) -> str:
        """A register of `shape`, or of that of the value `like`; zeros at first unless `init` names a drive value or a
        parameter."""
        if like is not None:
            if like in self._unknown:
                return self.unknown(name)
            shape = self.shape(like)
        self._states[name] = (shape, init)
        self._types[name] = ValueType(shape)
        return name

    def update(self, state: str, value: str) -> None:
        """What the state latches at the end of a tick."""
        self._updates[state] = value

    def relax(self, h: str, new: str, share: str) -> None:
        """`h <- (1 - a) h + a new` with the setting `share` as a."""
        self.update(h, self.damp("next", h, new, self.share(share)))

    def read(self, h: str, layer: str) -> None:
        """Logits are the file's linear layer on the last value of `h`."""
        self.begin("readout")
        self.output("logits", self.linear("logits", h, layer))

    def begin(self, block: Block) -> None:
        """Operations go to this block from now on."""
        self._open = self._blocks[block]

    def output(self, name: str, value: str, kind: OutputKind = "classes") -> None:
        """What the net gives: logits of classes, or values."""
        self._outputs.append(Output(name, value, kind))

    def finish(
        self,
        steps: int,
        *,
        frames: bool = False,
        emit: Literal["last", "every"] = "last",
        stop: Stop | None = None,
    ) -> EqNet:
        """The finished net. Ends the reading if anything was missing or wrong."""
        self.complete = True
        if self._unknown or self.missing or self.faults:
            raise Ended
        return EqNet(
            name=self.family.rpartition(".")[2],
            family=self.family,
            inputs=tuple(self._inputs),
            params=tuple(self._params.values()),
            states=tuple(State(n, shape, self._updates[n], init) for n, (shape, init) in self._states.items()),
            drive=tuple(self._blocks["drive"]),
            step=tuple(self._blocks["step"]),
            readout=tuple(self._blocks["readout"]),
            outputs=tuple(self._outputs),
            schedule=Schedule(steps, frames=frames, emit=emit, stop=stop),
        )

    # Operations

    def emit(self, op: Op) -> str:
        """Add an operation as it is."""
        if not self._unknown.isdisjoint(op.reads):
            return self.unknown(op.out)
        try:
            self._types[op.out] = infer_op(op, self._types, {n: p.value for n, p in self._params.items()})
        except OpError as error:
            sources = ", ".join(self._params[n].source for n in op.reads if n in self._params)
            self.faults.append(Diagnostic("shape-mismatch", f"{op.out}: {error}", sources or self.tensors.label))
            return self.unknown(op.out)
        self._open.append(op)
        return op.out

    def linear(self, out: str, x: str, layer: str, *, bias: bool = True) -> str:
        """The file's linear layer."""
        weight, shift = self._weights(layer, bias=bias)
        return self.emit(ops.Linear(out=out, x=x, weight=weight, bias=shift))

    def linear_of(self, out: str, x: str, name: str, weight: Array, source: str, bias: str | None = None) -> str:
        """A linear map with a weight computed from the file's; `bias` is a key of the file."""
        parameter = self.param(name, weight, source)
        return self.emit(
            ops.Linear(out=out, x=x, weight=parameter, bias=None if bias is None else self.parameter(bias))
        )

    def conv(self, out: str, x: str, layer: str, *, bias: bool = True, stride: int = 1) -> str:
        """The file's convolution by a kernel of 3, padded by 1."""
        weight, shift = self._weights(layer, bias=bias)
        return self.emit(ops.Conv(out=out, x=x, weight=weight, bias=shift, stride=stride, padding=1))

    def _weights(self, layer: str, *, bias: bool) -> tuple[str, str | None]:
        return self.parameter(f"{layer}.weight"), self.parameter(f"{layer}.bias") if bias else None

    def layer_norm(self, out: str, x: str, layer: str) -> str:
        """Normalisation over the last axis with the file's affine part."""
        return self._normalise(out, x, layer, (-1,), 1)

    def group_norm(self, out: str, x: str, layer: str, *, groups: int) -> str:
        """Normalisation of groups of channels with the file's affine part."""
        rank = 3 if x in self._unknown else len(self.shape(x))
        return self._normalise(out, x, layer, tuple(range(-rank, 0)), groups)

    def _normalise(self, out: str, x: str, layer: str, axes: tuple[int, ...], groups: int) -> str:
        """The affine part has an entry for each index of the first of `axes`."""
        unit = self.emit(ops.Normalize(out=f"{out}_unit", x=x, axes=axes, groups=groups, eps=1e-5, eps_on="variance"))
        count = None if x in self._unknown else self.shape(x)[axes[0]]
        parts = []
        for key in (f"{layer}.weight", f"{layer}.bias"):
            value = self.find(key)
            if value is not None and count is not None and value.shape != (count,):
                what = f"{key} has shape {list(value.shape)}, it normalises {count} units"
                self.mismatch(key, what)
                value = None
            known = value is not None and count is not None
            shape = (count or 0,) + (1,) * (len(axes) - 1)
            parts.append(self.parameter(key, shape=shape) if known else self.unknown(key))
        return self.add(out, self.mul(f"{out}_scaled", unit, parts[0]), parts[1])

    def add(self, out: str, first: str, *others: str) -> str:
        """The sum, from left to right."""
        for i, other in enumerate(others):
            name = out if i == len(others) - 1 else f"{out}_{i}"
            first = self.emit(ops.Add(out=name, a=first, b=other))
        return first

    def sub(self, out: str, a: str, b: str) -> str:
        return self.emit(ops.Sub(out=out, a=a, b=b))

    def mul(self, out: str, a: str, b: str) -> str:
        return self.emit(ops.Mul(out=out, a=a, b=b))

    def scale(self, out: str, x: str, factor: float) -> str:
        return self.emit(ops.Scale(out=out, x=x, factor=factor))

    def act(self, out: str, x: str, kind: ActivationKind = "tanh") -> str:
        return self.emit(ops.Activation(out=out, x=x, kind=kind))

    def clip(self, out: str, x: str, lo: float = -1.0, hi: float = 1.0) -> str:
        """`min(max(x, lo), hi)`; without ends a hard tanh."""
        return self.emit(ops.Clip(out=out, x=x, lo=lo, hi=hi))

    def hard_sigmoid(self, out: str, x: str, slope: float = 1.0 / 6.0, offset: float = 0.5) -> str:
        """`clip(slope * x + offset, 0, 1)`, with PyTorch's slope and offset unless others are given."""
        line = self.scale(f"{out}_line", x, slope)
        return self.clip(out, self.add(f"{out}_shifted", line, self.param(f"{out}_offset", offset, "constant")), 0.0)

    def leaky_relu(self, out: str, x: str, slope: float = 0.01) -> str:
        """x where it is positive, else `slope * x`."""
        open_part = self.scale(f"{out}_open", self.act(f"{out}_relu", x, "relu"), 1.0 - slope)
        return self.add(out, open_part, self.scale(f"{out}_leak", x, slope))

    def damp(self, out: str, old: str, new: str, alpha: float) -> str:
        return self.emit(ops.Damp(out=out, old=old, new=new, alpha=alpha))

    def mean(self, out: str, x: str, axis: int, *, keep: bool = False) -> str:
        return self.emit(ops.Reduce(out=out, x=x, kind="mean", axes=(axis,), keep=keep))

    def reshape(self, out: str, x: str, *shape: int) -> str:
        return self.emit(ops.Reshape(out=out, x=x, shape=shape))

    def repeat(self, out: str, init: str, count: int, body: Callable[[str], str]) -> str:
        """A nested relaxation; `body` adds its operations and returns the value that is carried on."""
        outer, self._open = self._open, []
        carry = f"{out}_carry"
        if init in self._unknown:
            self.unknown(carry)
        else:
            self._types[carry] = self._types[init]
        result = body(carry)
        inner, self._open = tuple(self._open), outer
        if result in self._unknown:
            return self.unknown(out)
        return self.emit(ops.Repeat(out=out, init=init, count=count, carry=carry, body=inner, result=result))
