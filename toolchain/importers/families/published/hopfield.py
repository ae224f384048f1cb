"""Deep Hopfield nets of Scellier et al. 2023, "Energy-based learning algorithms for analog computing", code
energy-based-learning, and the residual ones of "Scaling equilibrium propagation to deeper neural network architectures"
(2025), whose code extends it.

A file is a bare list of tensors: the biases of all layers, then the weights of all couplings; a dense weight is laid
out `[*shape of the earlier layer, units]`. A layer is updated to `activation(-dE/ds_i)`, by default first all odd
layers, then all even ones, from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...family import Setting
from ..build import Builder, family, steps
from .coupled import Activate, Convolution, Coupling, Dense, Pool, choose, option, relax

__all__ = ["conv_hopfield", "deep_hopfield", "hopfield_resnet"]

_MODES = ("asynchronous", "synchronous", "forward", "backward")
_MODE = option("mode", _MODES, "order in which a step updates the layers", "asynchronous")


def _sigmoid(b: Builder, out: str, x: str) -> str:
    """`sigmoid(4 x - 2)`."""
    steep = b.sub(f"{out}_shifted", b.scale(f"{out}_steep", x, 4.0), b.param("two", 2.0, "constant"))
    return b.act(out, steep, "sigmoid")


_ACTIVATIONS: dict[str, Activate] = {
    "hard-sigmoid": partial(Builder.clip, lo=0.0, hi=1.0),
    "sigmoid": _sigmoid,
    "relu6": partial(Builder.clip, lo=0.0, hi=6.0),
    "relu": lambda b, out, x: b.act(out, x, "relu"),
}


def _groups(b: Builder, count: int) -> list[list[int]]:
    layers = list(range(1, count + 1))
    match choose(b, "mode", _MODES):
        case "synchronous":
            return [layers]
        case "forward":
            return [[i] for i in layers]
        case "backward":
            return [[i] for i in reversed(layers)]
        case _:
            return [group for group in (layers[::2], layers[1::2]) if group]


def _settle(
    b: Builder, x: str, couplings: Sequence[Coupling], act: Activate, layers: int, sizes: Sequence[str] = ()
) -> None:
    """The last layer is linear and is the output."""
    activations = [act] * (layers - 1) + [lambda b, out, x: x]
    states = relax(b, x, couplings, activations, _groups(b, layers), sizes)
    b.begin("readout")
    b.output("logits", states[-1])


def _dense(b: Builder, pre: int, post: int, key: int, bias: str) -> Dense:
    weight = b.tensor(str(key))
    what = f"tensor {key} has shape {list(weight.shape)}, a dense weight has at least two axes"
    b.demand(str(key), weight.ndim >= 2, what)
    matrix = np.ascontiguousarray(weight.reshape(-1, weight.shape[-1]).T)
    return Dense(pre, post, matrix, b.tensors.source(str(key), "as [out, in]"), bias)


def _listed(b: Builder, *, least: int) -> int:
    """How many tensors the list holds; every missing one of the `least` is noted."""
    for i in range(least):
        b.find(str(i))
    return b.count("{}", least=least)


def _halves(b: Builder, least: int) -> int:
    """Layers of a chain: as many biases as weights."""
    count = _listed(b, least=2 * least)
    what = f"the list holds {count} tensors, a bias and a weight for each layer make an even number"
    b.demand(str(count - 1), count % 2 == 0, what)
    return count // 2


@family(
    "hopfield.DeepHopfieldEnergy",
    "list of tensors: dense layers with hard sigmoids, the last one linear; odd and even layers in turn",
    steps(15),
    _MODE,
    spectral_norm=False,
)
def deep_hopfield(b: Builder) -> None:
    """`s_i <- clip(W_i^T s_{i-1} + b_i + W_{i+1} s_{i+1}, 0, 1)`, the last without the clip. The input is flat, an
    image in C order."""
    layers = _halves(b, 1)
    couplings = [_dense(b, i, i + 1, layers + i, str(i)) for i in range(layers)]
    x = b.input("x", couplings[0].weight.shape[1])
    _settle(b, x, couplings, _ACTIVATIONS["hard-sigmoid"], layers)


_SIZE = (Setting("height", None, "rows of the input image"), Setting("width", None, "columns of the input image"))
_POOLS: dict[str, Pool] = {"conv_max_pool": "max", "conv_avg_pool": "avg"}


@family(
    "hopfield.ConvHopfieldEnergy32",
    "list of tensors: convolutions with pools, then a dense linear layer; odd and even layers in turn",
    steps(15),
    _MODE,
    *_SIZE,
    option("pool_type", tuple(_POOLS), "pool behind each convolution"),
    option("activation", tuple(_ACTIVATIONS), "activation of all layers but the last", "hard-sigmoid"),
    Setting(
        "padding", None, "padding of the convolutions: 0 in ConvHopfieldEnergy28, 1 in ConvHopfieldEnergy32", example=1
    ),
    twins=("hopfield.ConvHopfieldEnergy28",),
    spectral_norm=False,
)
def conv_hopfield(b: Builder) -> None:
    """`s_i <- act(pool(W_i * s_{i-1}) + b_i + W_{i+1}^T * unpool(s_{i+1}))`, the last layer dense and linear."""
    layers = _halves(b, 2)
    sizes = ("height", "width", "padding")
    pool = _POOLS[choose(b, "pool_type", tuple(_POOLS))]
    padding = b.integer("padding", least=0)
    couplings: list[Coupling] = [
        _convolution(b, i, i + 1, layers + i, str(i), padding=padding, pool=pool) for i in range(layers - 1)
    ]
    couplings.append(_dense(b, layers - 1, layers, 2 * layers - 1, str(layers - 1)))
    x = b.input("x", couplings[0].weight.shape[1], b.integer("height"), b.integer("width"))
    _settle(b, x, couplings, _ACTIVATIONS[choose(b, "activation", tuple(_ACTIVATIONS))], layers, sizes)


def _convolution(
    b: Builder, pre: int, post: int, key: int, bias: str | None, *, padding: int, stride: int = 1, pool: Pool = "none"
) -> Convolution:
    weight = b.tensor(str(key))
    what = f"tensor {key} has shape {list(weight.shape)}, the kernel of a convolution has 4 axes"
    b.demand(str(key), weight.ndim == 4, what)
    return Convolution(pre, post, weight, b.tensors.source(str(key)), bias, stride=stride, padding=padding, pool=pool)


_BLOCKS = 4
_EDGES = [
    edge
    for first in range(0, 2 * _BLOCKS, 2)
    for edge in (
        [(first, first + 1), (first + 1, first + 2), (first, first + 2)]
        if first == 0
        else [(first, first + 1), (first, first + 2), (first + 1, first + 2)]
    )
]
"""Couplings of the four blocks in the order of the list: two 3x3 convolutions and a 1x1 one past both."""


@family(
    "hopfield.ConvHopfieldResEnergy32",
    "list of tensors: Hopfield-ResNet13, four blocks of two convolutions and a skip, then a dense linear layer",
    steps(120),
    _MODE,
    *_SIZE,
    option("activation", tuple(_ACTIVATIONS), "activation of all layers but the last"),
    spectral_norm=False,
)
def hopfield_resnet(b: Builder) -> None:
    """`s_i <- act(b_i + sum over couplings)`: into the middle of a block with stride 1, into its end with stride 2."""
    layers = 2 * _BLOCKS + 1
    count, needed = _listed(b, least=layers + len(_EDGES) + 1), layers + len(_EDGES) + 1
    b.demand(str(count - 1), count == needed, f"the list holds {count} tensors, Hopfield-ResNet13 has {needed}")
    couplings: list[Coupling] = []
    for k, (pre, post) in enumerate(_EDGES):
        skip, bias = post - pre == 2, str(post - 1) if post - pre == 1 else None
        stride = 2 if post % 2 == 0 else 1
        couplings.append(_convolution(b, pre, post, layers + k, bias, padding=0 if skip else 1, stride=stride))
    couplings.append(_dense(b, layers - 1, layers, needed - 1, str(layers - 1)))
    sizes = ("height", "width")
    x = b.input("x", couplings[0].weight.shape[1], b.integer("height"), b.integer("width"))
    _settle(b, x, couplings, _ACTIVATIONS[choose(b, "activation", tuple(_ACTIVATIONS))], layers, sizes)
