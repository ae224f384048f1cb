"""Composes an EqNet operation by operation; what does not fit is reported with the tensor keys it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic, ImportFileError, UsageError
from ...ir import EqNet, Input, OpError, Output, Param, Schedule, State, Stop, ops
from ...ir.ops import ActivationKind, Op
from ...ir.parts import OutputKind
from ...ir.types import ValueType, infer_op
from ..family import Family, Setting, Tensors

__all__ = ["ALPHA", "GAMMA", "Builder", "family", "layer", "steps"]

Block = Literal["drive", "step", "readout"]

ALPHA = Setting("alpha", 0.5, "damping: share of the new value in each step")
GAMMA = replace(ALPHA, name="gamma")


def steps(default: int) -> Setting:
    """The setting of the number of steps, with the source code's default."""
    return Setting("steps", default, "relaxation steps for each input")


def layer(*names: str) -> tuple[str, ...]:
    """Patterns of weight and bias of layers; a name is a regular expression such as `layers\\.\\d+`."""
    return tuple(rf"{name}\.{part}" for name in names for part in ("weight", "bias"))


def family(
    key: str,
    summary: str,
    required: tuple[str, ...],
    *settings: Setting,
    optional: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
    spectral_norm: bool = True,
    same_as: str | None = None,
) -> Callable[[Callable[[Builder], EqNet | None]], Family]:
    """Make a `Family` (see there) of the function that composes its net, called with a fresh builder.

    The function returns the net, or None if it is that of the builder with the setting `steps`, which every family has:
    30 unless `settings` hold another.
    """
    if not any(s.name == "steps" for s in settings):
        settings = (steps(30), *settings)

    def decorate(compose: Callable[[Builder], EqNet | None]) -> Family:
        def build(tensors: Tensors, values: Mapping[str, Any]) -> EqNet:
            b = Builder(key, tensors, values)
            return compose(b) or b.finish(b.integer("steps"))

        return Family(key, summary, required, settings, build, optional, unused, spectral_norm, same_as)

    return decorate


class Builder:
    """One net in the making.

    Each method adds an operation called `out` to the open block and returns `out`. Operations are typed as they are
    added: ImportFileError names the file's keys when shapes disagree, a key is missing, or layers have a gap;
    UsageError when a setting is out of its range.
    """

    def __init__(self, family: str, tensors: Tensors, settings: Mapping[str, Any]) -> None:
        self.family = family
        self.tensors = tensors
        self.settings = settings
        self._types: dict[str, ValueType] = {}
        self._params: dict[str, Param] = {}
        self._inputs: list[Input] = []
        self._states: dict[str, tuple[tuple[int, ...], str | None]] = {}
        self._updates: dict[str, str] = {}
        self._blocks: dict[Block, list[Op]] = {"drive": [], "step": [], "readout": []}
        self._open = self._blocks["drive"]
        self._outputs: list[Output] = []

    # Settings and tensors

    def integer(self, name: str, *, least: int = 1) -> int:
        """An integer setting of at least `least`."""
        value = self.settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._setting(name, f"is {value!r}, must be an integer of at least {least}")
        return value

    def real(self, name: str, *, over: float = -math.inf, most: float = math.inf) -> float:
        """A real setting in (over, most]."""
        value = self.settings[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self._setting(name, f"is {value!r}, must be a number")
        if not over < value <= most:
            raise self._setting(name, f"is {value!r}, must be in ({over:g}, {most:g}]")
        return float(value)

    def share(self, name: str) -> float:
        """A damping setting, in (0, 1]."""
        return self.real(name, over=0.0, most=1.0)

    def flag(self, name: str) -> bool:
        """A boolean setting."""
        value = self.settings[name]
        if not isinstance(value, bool):
            raise self._setting(name, f"is {value!r}, must be true or false")
        return value

    def _setting(self, name: str, what: str) -> UsageError:
        return UsageError(Diagnostic("setting-value", f"{name} {what}", self.family))

    def tensor(self, key: str) -> NDArray[Any]:
        """The tensor under a normalised key (see `Tensors`)."""
        if key not in self.tensors:
            raise ImportFileError(
                Diagnostic(
                    "missing-tensor", f"the file has no tensor {key}, {self.family} needs it", self.tensors.label
                )
            )
        return self.tensors[key]

    def matrix(self, key: str) -> NDArray[Any]:
        """A tensor with two axes."""
        value = self.tensor(key)
        if value.ndim != 2:
            raise self.mismatch(f"{key} has shape {list(value.shape)}, must have two axes", key)
        return value

    def number(self, key: str) -> float:
        """A tensor with a single entry."""
        value = self.tensor(key)
        if value.size != 1:
            raise self.mismatch(f"{key} has shape {list(value.shape)}, must hold one number", key)
        return float(value.reshape(()))

    def mismatch(self, what: str, key: str) -> ImportFileError:
        return ImportFileError(Diagnostic("shape-mismatch", what, f"{self.tensors.label}:{key}"))

    def count(self, template: str) -> int:
        """How many layers `template.format(0)`, `template.format(1)`, ... there are: at least one, without a gap."""
        n = self.tensors.count(template)
        pattern = re.compile(re.escape(template.format("INDEX")).replace("INDEX", r"\d+"))
        total = sum(1 for key in self.tensors if pattern.fullmatch(key))
        if n == 0 or n != total:
            raise ImportFileError(
                Diagnostic(
                    "missing-layer",
                    f"the file holds {total} tensors {template.format('N')}, {n} of them numbered from 0 without a gap",
                    self.tensors.label,
                )
            )
        return n

    def param(self, name: str, value: Any, source: str) -> str:
        """A constant of the net; the same name may be asked for again."""
        if name not in self._params:
            array = np.asarray(value)
            array = array if array.dtype == np.int64 else array.astype(np.float64)
            self._params[name] = Param(name, array, source)
            self._types[name] = ValueType(array.shape)
        return name

    def parameter(self, key: str, *, shape: tuple[int, ...] | None = None) -> str:
        """The file's tensor as a parameter named after its key, under another shape if one is given."""
        value = self.tensor(key)
        return self.param(
            key.replace(".", "_"), value if shape is None else value.reshape(shape), self.tensors.source(key)
        )

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value, without the batch axis."""
        return self._types[name].shape

    # Structure

    def input(self, name: str, *shape: int, rows: int | None = None) -> str:
        """An input of numbers, or of indices below `rows`."""
        kind: Literal["number", "index"] = "number" if rows is None else "index"
        self._inputs.append(Input(name, shape, kind, rows))
        self._types[name] = ValueType(shape, kind)
        return name

    def fed(self, layer: str) -> str:
        """The input `x` and the value `drive`, the file's linear layer on it."""
        return self.linear("drive", self.input("x", self.matrix(f"{layer}.weight").shape[1]), layer)

    def driven(self, layer: str, *, start: bool = False) -> tuple[str, str]:
        """`fed`, and a state `h` of the drive's shape, which starts there or at 0; the step is open afterwards."""
        drive = self.fed(layer)
        h = self.state("h", *self.shape(drive), init=drive if start else None)
        self.begin("step")
        return drive, h

    def chain(self, template: str) -> list[str]:
        """States `h0`, `h1`, ... with as many units as the layers `template.format(0)`, ... have rows."""
        count = self.count(f"{template}.weight")
        return [self.state(f"h{i}", len(self.matrix(f"{template.format(i)}.weight"))) for i in range(count)]

    def relax(self, h: str, new: str, share: str) -> None:
        """`h <- (1 - a) h + a new` with the setting `share` as a."""
        self.update(h, self.damp("next", h, new, self.share(share)))

    def read(self, h: str, layer: str) -> None:
        """Logits are the file's linear layer on the last value of `h`."""
        self.begin("readout")
        self.output("logits", self.linear("logits", h, layer))

    def state(self, name: str, *shape: int, init: str | None = None) -> str:
        """A register; zeros at first unless `init` names a drive value or a parameter."""
        self._states[name] = (shape, init)
        self._types[name] = ValueType(shape)
        return name

    def update(self, state: str, value: str) -> None:
        """What the state latches at the end of a tick."""
        self._updates[state] = value

    def begin(self, block: Block) -> None:
        """Operations go to this block from now on."""
        self._open = self._blocks[block]

    def output(self, name: str, value: str, kind: OutputKind = "classes") -> None:
        self._outputs.append(Output(name, value, kind))

    def finish(
        self,
        steps: int,
        *,
        frames: bool = False,
        emit: Literal["last", "every"] = "last",
        stop: Stop | None = None,
    ) -> EqNet:
        """The finished net."""
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
        try:
            self._types[op.out] = infer_op(op, self._types, {n: p.value for n, p in self._params.items()})
        except OpError as error:
            sources = [self._params[n].source for n in op.reads if n in self._params]
            raise ImportFileError(
                Diagnostic("shape-mismatch", f"{op.out}: {error}", ", ".join(sources) or self.tensors.label)
            ) from error
        self._open.append(op)
        return op.out

    def linear(self, out: str, x: str, layer: str) -> str:
        """The file's linear layer; without a bias if the file has none."""
        return self.emit(ops.Linear(out=out, x=x, weight=self.parameter(f"{layer}.weight"), bias=self._bias(layer)))

    def linear_of(self, out: str, x: str, name: str, weight: NDArray[Any], source: str, bias: str | None = None) -> str:
        """A linear map with a weight made here; `bias` is a key of the file."""
        parameter = self.param(name, weight, source)
        return self.emit(
            ops.Linear(out=out, x=x, weight=parameter, bias=None if bias is None else self.parameter(bias))
        )

    def conv(self, out: str, x: str, layer: str, *, stride: int = 1, padding: int = 1) -> str:
        """The file's convolution; without a bias if the file has none."""
        weight, bias = self.parameter(f"{layer}.weight"), self._bias(layer)
        return self.emit(ops.Conv(out=out, x=x, weight=weight, bias=bias, stride=stride, padding=padding))

    def _bias(self, layer: str) -> str | None:
        return self.parameter(f"{layer}.bias") if f"{layer}.bias" in self.tensors else None

    def layer_norm(self, out: str, x: str, layer: str) -> str:
        """Normalisation over the last axis with the file's affine part."""
        unit = self.emit(
            ops.Normalize(out=f"{out}_unit", x=x, axes=(-1,), groups=1, eps=1e-5, eps_on="variance"),
        )
        return self._affine(out, unit, layer, self.shape(x)[-1:])

    def group_norm(self, out: str, x: str, layer: str, *, groups: int) -> str:
        """Normalisation of groups of channels with the file's affine part."""
        rank = len(self.shape(x))
        axes = tuple(range(-rank, 0))
        unit = self.emit(
            ops.Normalize(out=f"{out}_unit", x=x, axes=axes, groups=groups, eps=1e-5, eps_on="variance"),
        )
        return self._affine(out, unit, layer, (self.shape(x)[0],) + (1,) * (rank - 1))

    def _affine(self, out: str, unit: str, layer: str, shape: tuple[int, ...]) -> str:
        for part in ("weight", "bias"):
            actual = self.tensor(f"{layer}.{part}").shape
            if actual != (math.prod(shape),):
                raise self.mismatch(
                    f"{layer}.{part} has shape {list(actual)}, it normalises {math.prod(shape)} units",
                    f"{layer}.{part}",
                )
        scaled = self.mul(f"{out}_scaled", unit, self.parameter(f"{layer}.weight", shape=shape))
        return self.add(out, scaled, self.parameter(f"{layer}.bias", shape=shape))

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
        self._types[carry] = self._types[init]
        result = body(carry)
        inner, self._open = tuple(self._open), outer
        return self.emit(ops.Repeat(out=out, init=init, count=count, carry=carry, body=inner, result=result))
