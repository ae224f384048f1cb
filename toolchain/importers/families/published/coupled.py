"""Layers that are coupled in both directions, as the gradient of an energy or of a primitive function couples them.

A layer is `activation(sum of what its couplings give)`: a coupling gives its later layer `W s + b` and its earlier one
`W^T s` (Ernoult et al. 2019, Scellier et al. 2023), or what a feedback weight of its own gives
(vector fields). Layer 0 is the clamped input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ....arrays import Reals
from ....ir import ops
from ...family import Setting, SettingValue
from ...reading import Ended
from ..build import Builder
from ..spatial import avg_pool, avg_unpool, conv_transpose, max_pool, max_unpool
from ..turns import in_turn

__all__ = [
    "Activate",
    "Convolution",
    "Coupling",
    "Dense",
    "Pool",
    "Shape",
    "choose",
    "each",
    "option",
    "relax",
]

Activate = Callable[[Builder, str, str], str]
"""`activate(builder, out, x)` adds the activation of x as `out`."""
Pool = Literal["max", "avg", "none"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Coupling(ABC):
    """A weight between layer `pre` and a later layer `post`.

    `weight` is real and laid out as the builder's operations want it; `source` says where it comes from. `bias` is a
    key of the file, if the coupling adds one. `feedback` is what takes the place of `weight` on the way back.
    """

    pre: int
    post: int
    weight: Reals
    source: str
    bias: str | None
    feedback: tuple[Reals, str] | None = None

    @property
    def name(self) -> str:
        return f"{self.pre}_{self.post}"

    @abstractmethod
    def target(self, shape: Shape) -> Shape:
        """Shape of the later layer, `shape` being that of the earlier one. Raises ValueError if they do not fit."""

    @abstractmethod
    def forward(self, b: Builder, x: str) -> str:
        """What the later layer gets from the value x of the earlier one."""

    @abstractmethod
    def backward(self, b: Builder, x: str, y: str) -> str:
        """What the earlier layer, whose value is x, gets from the value y of the later one."""


@dataclass(frozen=True)
class Dense(Coupling):
    """`y = weight vec(x) + bias`; weight `[out, in]`, also where the feedback is a weight of its own."""

    def target(self, shape: Shape) -> Shape:
        if math.prod(shape) != self.weight.shape[1]:
            what = f"weight {list(self.weight.shape)} follows a layer of shape {list(shape)}"
            raise ValueError(f"{self.source}: {what}")
        return (self.weight.shape[0],)

    def forward(self, b: Builder, x: str) -> str:
        if len(b.shape(x)) > 1:
            x = b.reshape(f"flat{self.name}", x, math.prod(b.shape(x)))
        return b.linear_of(f"up{self.name}", x, f"W{self.name}", self.weight, self.source, self.bias)

    def backward(self, b: Builder, x: str, y: str) -> str:
        weight, source = self.feedback or (self.weight, self.source)
        name, out, shape = f"W{self.name}_back", f"down{self.name}", b.shape(x)
        if len(shape) == 1:
            return b.linear_of(out, y, name, weight.T, f"{source} (transposed)")
        flat = b.linear_of(f"{out}_flat", y, name, weight.T, f"{source} (transposed)")
        return b.reshape(out, flat, *shape)


@dataclass(frozen=True)
class Convolution(Coupling):
    """`y = pool(weight * x + bias)`; weight `[out, in, k, k]`, the pool of two by two entries.

    On the way back the gradient of the pool comes first; a maximum is where the weight of the way back has it.
    """

    stride: int = 1
    padding: int = 0
    pool: Pool = "none"
    _convolved: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """By operand: both directions of a step may read the same convolution."""

    def target(self, shape: Shape) -> Shape:
        if len(shape) != 3 or self.weight.ndim != 4 or shape[0] != self.weight.shape[1]:
            what = f"kernel {list(self.weight.shape)} follows a layer of shape {list(shape)}"
            raise ValueError(f"{self.source}: {what}")
        space = [(n + 2 * self.padding - k) // self.stride + 1 for n, k in self._sides(shape)]
        space = space if self.pool == "none" else [n // 2 for n in space]
        if min(space) < 1:
            what = f"kernel {list(self.weight.shape[2:])} and pool {self.pool} do not fit a space of {list(shape[1:])}"
            raise ValueError(f"{self.source}: {what}")
        return (self.weight.shape[0], *space)

    def _sides(self, shape: Shape) -> list[tuple[int, int]]:
        return list(zip(shape[1:], self.weight.shape[2:], strict=True))

    def forward(self, b: Builder, x: str) -> str:
        out = f"up{self.name}"
        match self.pool:
            case "none":
                return self._convolve(b, out, x, f"W{self.name}", self.weight, self.bias)
            case "max":
                # The bias follows the pool, so that the way back can read the same convolution.
                pooled = max_pool(b, f"{out}_pooled" if self.bias else out, self._before_pool(b, x), 2)
                if self.bias is None:
                    return pooled
                shift = b.parameter(self.bias, shape=(-1, 1, 1))
                return b.add(out, pooled, shift)
            case "avg":
                whole = self._convolve(b, f"{out}_conv", x, f"W{self.name}", self.weight, self.bias)
                return avg_pool(b, out, whole, 2)

    def _before_pool(self, b: Builder, x: str) -> str:
        if x not in self._convolved:
            self._convolved[x] = self._convolve(b, f"conv{self.name}_{x}", x, f"W{self.name}", self.weight, None)
        return self._convolved[x]

    def _convolve(self, b: Builder, out: str, x: str, name: str, weight: Reals, bias: str | None) -> str:
        kernel, shift = b.param(name, weight, self.source), None if bias is None else b.parameter(bias)
        return b.emit(ops.Conv(out=out, x=x, weight=kernel, bias=shift, stride=self.stride, padding=self.padding))

    def backward(self, b: Builder, x: str, y: str) -> str:
        weight, source = self.feedback or (self.weight, self.source)
        shape, out = b.shape(x), f"down{self.name}"
        space = tuple((n + 2 * self.padding - k) // self.stride + 1 for n, k in self._sides(shape))
        match self.pool:
            case "none":
                pass
            case "max":
                if self.feedback is None:
                    at = self._before_pool(b, x)
                else:
                    at = self._convolve(b, f"{out}_at", x, f"W{self.name}_feedback", weight, None)
                y = max_unpool(b, f"{out}_unpooled", at, y, 2)
            case "avg":
                y = avg_unpool(b, f"{out}_unpooled", y, space, 2)
        short = shape[1] - ((space[0] - 1) * self.stride - 2 * self.padding + self.weight.shape[2])
        return conv_transpose(
            b, out, y, f"W{self.name}_back", weight, source, stride=self.stride, padding=self.padding,
            output_padding=short,
        )  # fmt: skip


def relax(
    b: Builder,
    x: str,
    couplings: Sequence[Coupling],
    activations: Sequence[Activate],
    groups: Sequence[Sequence[int]],
    sizes: Sequence[str] = (),
) -> list[str]:
    """States `h0`, `h1`, ... of layers 1, 2, ..., from zero; returns them. The step block is open afterwards.

    In a step the layers of each of `groups` (numbers from 1) are updated together, each group reading what the groups
    before it made. `activations` has one entry for each layer. Where shapes do not fit, that is a fault of the settings
    `sizes`, or else raises ValueError.
    """
    _check_channels(couplings)
    try:
        shapes = _shapes(b.shape(x), couplings)
    except ValueError as error:
        if not sizes:
            raise
        if not b.misuse:
            values = ", ".join(f"{name}={b.settings[name]}" for name in sizes[1:])
            what = f"is {b.settings[sizes[0]]!r}, which with {values} does not fit the weights: {error}"
            b.reject(sizes[0], what, None)
        raise Ended from error
    clamped = {c.post: c.forward(b, x) for c in couplings if c.pre == 0}
    states = [b.state(f"h{i - 1}", *shapes[i]) for i in range(1, len(activations) + 1)]
    b.begin("step")

    def update(state: str, now: Mapping[str, str]) -> str:
        i = 1 + states.index(state)
        return _update(b, i, [x, *(now[s] for s in states)], couplings, clamped, activations[i - 1])

    in_turn(b, [[states[i - 1] for i in group] for group in groups], update)
    return states


def _check_channels(couplings: Sequence[Coupling]) -> None:
    """Raise ValueError where a kernel has other channels than the layer before it, which no setting can mend."""
    channels = {c.post: len(c.weight) for c in couplings}
    for c in couplings:
        before = channels.get(c.pre)
        if isinstance(c, Convolution) and before is not None and c.weight.shape[1] != before:
            raise ValueError(f"{c.source} is {list(c.weight.shape)} behind a layer of {before} channels")


def _shapes(image: Shape, couplings: Sequence[Coupling]) -> dict[int, Shape]:
    """Shape of every layer, 0 being the input. Raises ValueError where two couplings disagree."""
    shapes = {0: image}
    for c in sorted(couplings, key=lambda c: (c.post, c.pre)):
        shape = c.target(shapes[c.pre])
        if shapes.setdefault(c.post, shape) != shape:
            raise ValueError(f"{c.source} makes {list(shape)} of a layer of shape {list(shapes[c.post])}")
    return shapes


def _update(
    b: Builder, i: int, now: Sequence[str], couplings: Sequence[Coupling], clamped: dict[int, str], activate: Activate
) -> str:
    terms = []
    for c in couplings:
        if c.post == i:
            terms.append(clamped[i] if c.pre == 0 else c.forward(b, now[c.pre]))
        elif c.pre == i and c.post < len(now):
            terms.append(c.backward(b, now[i], now[c.post]))
    return activate(b, f"new{i - 1}", b.add(f"pre{i - 1}", *terms))


# Settings


def option(name: str, choices: Sequence[str], what: str, default: str | None = None) -> Setting:
    """A setting that is one of a few words."""
    return Setting(name, default, f"{what}: {', '.join(choices)}", example=choices[0])


def choose(b: Builder, name: str, choices: Sequence[str]) -> str:
    """The word of such a setting; the first, and noted, if it is none of `choices`."""
    value = b.settings[name]
    if value in choices:
        return str(value)
    return b.reject(name, f"is {value!r}, must be one of {', '.join(choices)}", choices[0])


def each(b: Builder, name: str, count: int, *, least: int) -> tuple[int, ...]:
    """An integer for each of `count` layers: one for all of them, or as many, separated by commas."""
    value: SettingValue = b.settings[name]
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, tuple) else [value]
    numbers = [int(p) for p in parts if not isinstance(p, bool) and str(p).strip().isdecimal()]
    if len(numbers) == len(parts) and len(numbers) in (1, count) and min(numbers) >= least:
        return tuple(numbers * count if len(numbers) == 1 else numbers)
    what = f"is {value!r}, must be one integer of at least {least}, or {count} of them separated by commas"
    return b.reject(name, what, (least,) * count)
