"""Nets of published classes without a trained file: random weights of their layouts, small enough to run everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.importers.settings import resolve
from eqcompile.toolchain.ir import EqNet

__all__ = ["UNTRAINED", "conv_layout", "drawn_net", "residual_layout", "untrained_net"]

Layout = Mapping[str, Sequence[int]]

_EDGES = [(0, 1), (1, 2), (0, 2), (2, 3), (2, 4), (3, 4), (4, 5), (4, 6), (5, 6), (6, 7), (6, 8), (7, 8)]


def _listed(biases: Sequence[Sequence[int]], weights: Sequence[Sequence[int]]) -> Layout:
    return {str(i): shape for i, shape in enumerate([*biases, *weights])}


def _layers(*shapes: Sequence[int]) -> Layout:
    weights = {f"synapses.{i}.weight": shape for i, shape in enumerate(shapes)}
    return weights | {f"synapses.{i}.bias": shape[:1] for i, shape in enumerate(shapes)}


def residual_layout(*channels: int) -> Layout:
    """Hopfield-ResNet13 on an image: channels of the input and of its eight layers."""
    biases = [*((n,) for n in channels[1:]), (10,)]
    weights = [(channels[b], channels[a], *((1, 1) if b - a == 2 else (3, 3))) for a, b in _EDGES]
    return _listed(biases, [*weights, (channels[8], 2, 2, 10)])


def conv_layout(channels: int, hidden: int) -> Layout:
    """ConvEqProp: two convolutions of a group-normalised state."""
    return {
        **{"embed.weight": (hidden, channels, 3, 3), "embed.bias": (hidden,)},
        **{"W1.weight": (2 * hidden, hidden, 3, 3), "W1.bias": (2 * hidden,)},
        **{"W2.weight": (hidden, 2 * hidden, 3, 3), "W2.bias": (hidden,)},
        **{"norm.weight": (hidden,), "norm.bias": (hidden,)},
        **{"Head.2.weight": (10, hidden), "Head.2.bias": (10,)},
    }


UNTRAINED: Mapping[str, tuple[Layout, Mapping[str, str]]] = {
    "laborieux.VF_MLP": (
        {**_layers((12, 8), (9, 12), (5, 9)), "B_syn.0.weight": (12, 9), "B_syn.1.weight": (9, 5)},
        {"act": "mysig", "loss": "mse", "steps": "10"},
    ),
    "laborieux.VF_CNN": (
        {**_layers((4, 2, 3, 3), (3, 4, 3, 3), (5, 12)), "B_syn.0.weight": (3, 4, 3, 3), "B_syn.1.weight": (5, 12)},
        {
            **{"act": "hard_sigmoid", "loss": "cel", "softmax": "false", "steps": "8", "height": "8", "width": "8"},
            **{"pools": "mm", "strides": "1", "paddings": "1"},
        },
    ),
    "laborieux.P_CNN": (
        _layers((4, 2, 3, 3), (3, 4, 3, 3), (6, 12), (5, 6)),
        {
            **{"act": "ctrd_hard_sig", "loss": "mse", "softmax": "true", "steps": "8", "height": "9", "width": "9"},
            **{"pools": "im", "strides": "1", "paddings": "0"},
        },
    ),
    "hopfield.ConvHopfieldEnergy32": (
        _listed([(4,), (3,), (5,)], [(4, 2, 3, 3), (3, 4, 3, 3), (3, 2, 2, 5)]),
        {
            **{"mode": "asynchronous", "steps": "8", "height": "8", "width": "8", "padding": "1"},
            **{"pool_type": "conv_max_pool", "activation": "hard-sigmoid"},
        },
    ),
    "hopfield.ConvHopfieldResEnergy32": (
        residual_layout(3, 4, 4, 6, 6, 8, 8, 8, 8),
        {"mode": "asynchronous", "steps": "5", "height": "32", "width": "32", "activation": "relu6"},
    ),
    "laydevant.Network_fc_bin_W_N": (
        {"W.0.weight": (6, 12), "W.0.bias": (6,), "W.1.weight": (12, 8), "W.1.bias": (12,)},
        {"steps": "12", "gamma_neur": "0.5", "expand_output": "2"},
    ),
    "models.ConvEqProp": (conv_layout(3, 8), {"steps": "8", "gamma": "0.5", "height": "8", "width": "8"}),
    "mondeq.SingleFcNet": (
        {
            **{"mon.linear_module.U.weight": (6, 8), "mon.linear_module.U.bias": (6,)},
            **{"mon.linear_module.A.weight": (6, 6), "mon.linear_module.B.weight": (6, 6)},
            **{"Wout.weight": (3, 6), "Wout.bias": (3,)},
        },
        {"solver": "peaceman-rachford", "alpha": "0.5", "m": "1.0", "steps": "8"},
    ),
}
"""Layout of the file and settings by family; the residual Hopfield net reads an image of the size of CIFAR's."""


@cache
def untrained_net(key: str, samples: int = 16) -> tuple[EqNet, dict[str, NDArray[Any]]]:
    """A net and random inputs in [0, 1]; binary weights have one magnitude a layer."""
    layout, settings = UNTRAINED[key]
    return drawn_net(key, layout, settings, seed=5, samples=samples)


def drawn_net(
    key: str, layout: Layout, settings: Mapping[str, str], *, seed: int, samples: int
) -> tuple[EqNet, dict[str, NDArray[Any]]]:
    """A net of a family with random weights of a layout, of a size that keeps its states moving, and random inputs."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for name, shape in layout.items():
        fan_in = int(np.prod(shape[:-1] if len(shape) == 4 and name == list(layout)[-1] else shape[1:]))
        drawn = generator.normal(size=shape) * (0.8 / fan_in**0.5 if len(shape) > 1 else 0.2)
        drawn += name == "norm.weight"
        binary = key.startswith("laydevant") and len(shape) > 1
        arrays[name] = (np.sign(drawn) * 0.2 if binary else drawn).astype(np.float32)
    family = all_families()[key]
    values = resolve(family, user=settings, config={}, stated={}, label="untrained").values
    net = family.build(Tensors("untrained", arrays), values)
    return net, {"x": generator.random((samples, *net.inputs[0].shape))}
