"""Published updates for which no trained file is stored, against PyTorch's gradients of the published energies.

Reference and importer share nothing: here a layer's new value is `activation(d primitive / d layer)` by autograd, in
the importer it is composed of the operations of the IR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as f

from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.importers.settings import resolve
from eqcompile.toolchain.reference import run_reference

BOUND = 1e-9
State = dict[str, Tensor]
Primitive = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Of layers, the input first: one number for each layer but the input, whose gradient there is the layer's drive."""
Act = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Act] = {
    "mysig": lambda v: 1 / (1 + torch.exp(-4 * (v - 0.5))),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hard_sigmoid": lambda v: (1 + f.hardtanh(2 * v - 1)) * 0.5,
    "ctrd_hard_sig": lambda v: f.hardtanh(2 * v) * 0.5,
    "my_hard_sig": lambda v: (1 + f.hardtanh(v - 1)) * 0.5,
}
POOLS: dict[str, Act] = {"m": lambda v: f.max_pool2d(v, 2), "a": lambda v: f.avg_pool2d(v, 2), "i": lambda v: v}


def settled(
    primitive: Primitive, x: Tensor, shapes: Sequence[Sequence[int]], acts: Sequence[Act], groups: Any, steps: int
) -> list[Tensor]:
    """Layers after `steps` rounds of updates from zero; the layers of a group are updated together."""
    layers = [x, *(torch.zeros(len(x), *shape, dtype=torch.float64) for shape in shapes)]
    for _ in range(steps):
        for group in groups:
            leaves = [v.detach().requires_grad_() for v in layers]
            parts = primitive(leaves)
            new = {
                i: acts[i - 1](torch.autograd.grad(parts[i - 1], leaves[i], retain_graph=True)[0]).detach()
                for i in group
            }
            layers = [new.get(i, v) for i, v in enumerate(layers)]
    return layers


def drawn(seed: int, **shapes: Sequence[int]) -> State:
    """Random tensors, scaled by their fan-in."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key.replace("__", "."): torch.randn(*shape, generator=generator, dtype=torch.float64)
        * (1.5 / float(np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.4)
        for key, shape in shapes.items()
    }


def layer(i: int, *shape: int) -> dict[str, Sequence[int]]:
    return {f"synapses__{i}__weight": shape, f"synapses__{i}__bias": shape[:1]}


def difference(family: str, tensors: State, settings: dict[str, str], x: Tensor, layers: Sequence[Tensor]) -> float:
    """Largest difference of any layer between the reference and the importer's net."""
    known = all_families()[family]
    values = resolve(known, user=settings, config={}, stated={}, label="file").values
    net = known.build(Tensors("file", {k: v.numpy() for k, v in tensors.items()}), values)
    run = run_reference(net, {"x": x.numpy()})
    pairs = zip(run.states.values(), layers, strict=True)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in pairs)


def image(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("loss", ["mse", "cel"])
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("family", ["P_MLP", "VF_MLP"])
def test_dense_layers(family: str, act: str, loss: str) -> None:
    """Every activation, both losses, with and without feedback weights of its own."""
    state = drawn(
        3, **layer(0, 8, 6), **layer(1, 7, 8), **layer(2, 4, 7), B_syn__0__weight=(8, 7), B_syn__1__weight=(7, 4)
    )

    def primitive(s: Sequence[Tensor]) -> list[Tensor]:
        up = [
            ((s[i] @ state[f"synapses.{i}.weight"].T + state[f"synapses.{i}.bias"]) * s[i + 1]).sum() for i in range(3)
        ]
        if family == "P_MLP":
            return [up[0] + up[1] + up[2]] * 3
        down = [((s[i + 2] @ state[f"B_syn.{i}.weight"].T) * s[i + 1]).sum() for i in range(2)]
        return [up[0] + down[0], up[1] + down[1], up[2]]

    held = {k: v for k, v in state.items() if family == "VF_MLP" or not k.startswith("B_syn")}
    last = (lambda v: v) if loss == "cel" else ACTIVATIONS[act]
    acts = [ACTIVATIONS[act], ACTIVATIONS[act], last]
    x = image(4, 5, 6)
    layers = settled(primitive, x, [(8,), (7,), (4,)], acts, [(1, 2, 3)], 7)
    settings = {"act": act, "loss": loss, "steps": "7"}
    assert difference(f"laborieux.{family}", held, settings, x, layers[1:]) <= BOUND
    for other in ({"steps": "6"}, {"act": "tanh" if act != "tanh" else "sigmoid"}):
        assert difference(f"laborieux.{family}", held, settings | other, x, layers[1:]) > BOUND


SHAPES = [
    ("mm", "1", "1", False),
    ("am", "1,1", "1,0", False),
    ("ii", "2,1", "0,1", False),
    ("ma", "1", "1", True),
    ("mi", "1,2", "0,1", True),
]


@pytest.mark.parametrize(("pools", "strides", "paddings", "softmax"), SHAPES)
@pytest.mark.parametrize("family", ["P_CNN", "VF_CNN"])
def test_convolutional_layers(family: str, pools: str, strides: str, paddings: str, softmax: bool) -> None:
    """Pools, strides and paddings in each direction, and a last layer that only reads out."""
    stride = [int(v) for v in (strides.split(",") * 2)[:2]]
    padding = [int(v) for v in (paddings.split(",") * 2)[:2]]
    kernels = drawn(5, **layer(0, 4, 2, 3, 3), **layer(1, 3, 4, 3, 3), B_syn__0__weight=(3, 4, 3, 3))
    x = image(6, 3, 2, 9, 8)

    def through(i: int, v: Tensor, key: str) -> Tensor:
        whole = f.conv2d(v, kernels[f"{key}.weight"], kernels.get(f"{key}.bias"), stride[i], padding[i])
        return POOLS[pools[i]](whole)

    first = through(0, x, "synapses.0")
    second = through(1, first, "synapses.1")
    units = int(np.prod(second.shape[1:]))
    rest = drawn(7, **layer(2, 5, units), **layer(3, 4, 5), B_syn__1__weight=(5, units), B_syn__2__weight=(4, 5))
    state = kernels | rest
    count = 3 if softmax else 4

    def dense(i: int, s: Sequence[Tensor], weight: Tensor, bias: Tensor | float) -> Tensor:
        return ((s[i].flatten(1) @ weight.T + bias) * s[i + 1]).sum()

    def primitive(s: Sequence[Tensor]) -> list[Tensor]:
        up = [(through(i, s[i], f"synapses.{i}") * s[i + 1]).sum() for i in (0, 1)]
        up += [dense(i, s, state[f"synapses.{i}.weight"], state[f"synapses.{i}.bias"]) for i in range(2, count)]
        if family == "P_CNN":
            return [sum(up[1:], up[0])] * count
        down = [(through(1, s[1], "B_syn.0") * s[2]).sum()]
        down += [dense(i, s, state[f"B_syn.{i - 1}.weight"], 0.0) for i in range(2, count)]
        return [a + b for a, b in zip(up, [*down, torch.zeros(())], strict=True)]

    kept = {"VF_CNN": "B_syn.2" if softmax else "none", "P_CNN": "B_syn"}[family]
    held = {k: v for k, v in state.items() if not k.startswith(kept)}
    shapes = [first.shape[1:], second.shape[1:], (5,), (4,)][:count]
    layers = settled(primitive, x, shapes, [ACTIVATIONS["mysig"]] * count, [range(1, count + 1)], 5)
    settings = {
        **{"act": "mysig", "steps": "5", "height": "9", "width": "8", "softmax": str(softmax).lower()},
        **{"pools": pools, "strides": strides, "paddings": paddings},
    }
    assert difference(f"laborieux.{family}", held, settings, x, layers[1:]) <= BOUND
    assert difference(f"laborieux.{family}", held, settings | {"steps": "4"}, x, layers[1:]) > BOUND


def listed(biases: Sequence[Tensor], weights: Sequence[Tensor]) -> State:
    return {str(i): t for i, t in enumerate([*biases, *weights])}


GROUPS = {
    "asynchronous": lambda n: [range(1, n + 1, 2), range(2, n + 1, 2)],
    "synchronous": lambda n: [range(1, n + 1)],
    "forward": lambda n: [[i] for i in range(1, n + 1)],
    "backward": lambda n: [[i] for i in range(n, 0, -1)],
}
CLIPS: dict[str, Act] = {
    "hard-sigmoid": lambda v: v.clamp(0, 1),
    "sigmoid": lambda v: torch.sigmoid(4 * v - 2),
    "relu6": f.relu6,
    "relu": f.relu,
}


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize(("mode", "act"), list(zip(GROUPS, CLIPS, strict=True)))
def test_convolutional_hopfield_nets(mode: str, act: str, pool: str) -> None:
    """Each order of updates, each activation, both pools."""
    shapes = [(4, 2, 3, 3), (3, 4, 3, 3)]
    weights = list(drawn(8, a=shapes[0], b=shapes[1]).values())
    dense = drawn(9, d=(3, 2, 2, 4))["d"]
    biases = list(drawn(10, a=(4,), b=(3,), c=(4,)).values())
    pooled = POOLS[pool[0]]

    def primitive(s: Sequence[Tensor]) -> list[Tensor]:
        terms = [(pooled(f.conv2d(s[i], weights[i], padding=1)) * s[i + 1]).sum() for i in (0, 1)]
        terms += [(biases[i].reshape(-1, 1, 1) * s[i + 1]).sum() for i in (0, 1)]
        terms += [(torch.tensordot(s[2], dense, dims=3) * s[3]).sum(), (biases[2] * s[3]).sum()]
        return [sum(terms[1:], terms[0])] * 3

    x = image(11, 3, 2, 8, 8)
    acts = [CLIPS[act], CLIPS[act], lambda v: v]
    layers = settled(primitive, x, [(4, 4, 4), (3, 2, 2), (4,)], acts, GROUPS[mode](3), 4)
    settings = {
        **{"mode": mode, "steps": "4", "height": "8", "width": "8", "padding": "1"},
        **{"pool_type": f"conv_{pool}_pool", "activation": act},
    }
    tensors = listed(biases, [*weights, dense])
    for family in ("ConvHopfieldEnergy32", "ConvHopfieldEnergy28"):
        assert difference(f"hopfield.{family}", tensors, settings, x, layers[1:]) <= BOUND
    other = "forward" if mode != "forward" else "backward"
    assert difference("hopfield.ConvHopfieldEnergy32", tensors, settings | {"mode": other}, x, layers[1:]) > BOUND


EDGES = [(0, 1), (1, 2), (0, 2), (2, 3), (2, 4), (3, 4), (4, 5), (4, 6), (5, 6), (6, 7), (6, 8), (7, 8)]
"""Couplings of Hopfield-ResNet13 in the order of its list: the first block is ordered otherwise than the rest."""


@pytest.mark.parametrize("act", ["relu6", "hard-sigmoid"])
def test_hopfield_resnet(act: str) -> None:
    """Skips past two layers, strides, and the order of the list, which differs between the blocks."""
    channels = [2] * 9
    kernels = [
        drawn(20 + k, w=(channels[b], channels[a], *((1, 1) if b - a == 2 else (3, 3))))["w"] * 0.6
        for k, (a, b) in enumerate(EDGES)
    ]
    dense = drawn(40, w=(2, 1, 1, 5))["w"]
    biases = [drawn(50 + i, b=(n,))["b"] for i, n in enumerate([*channels[1:], 5])]

    def primitive(s: Sequence[Tensor]) -> list[Tensor]:
        terms = [(torch.tensordot(s[8], dense, dims=3) * s[9]).sum(), (biases[8] * s[9]).sum()]
        for (a, b), w in zip(EDGES, kernels, strict=True):
            through = f.conv2d(s[a], w, stride=2 if b % 2 == 0 else 1, padding=0 if b - a == 2 else 1)
            terms.append((through * s[b]).sum())
        terms += [(biases[i - 1].reshape(-1, 1, 1) * s[i]).sum() for i in range(1, 9)]
        return [sum(terms[1:], terms[0])] * 9

    x = image(60, 2, 2, 16, 16)
    shapes = [(channels[i], *[16 >> (i // 2)] * 2) for i in range(1, 9)]
    acts = [CLIPS[act]] * 8 + [lambda v: v]
    layers = settled(primitive, x, [*shapes, (5,)], acts, GROUPS["asynchronous"](9), 3)
    settings = {"activation": act, "steps": "3", "height": "16", "width": "16"}
    tensors = listed(biases, [*kernels, dense])
    assert difference("hopfield.ConvHopfieldResEnergy32", tensors, settings, x, layers[1:]) <= BOUND
    swapped = listed(biases, [*kernels[:3], kernels[5], kernels[4], kernels[3], *kernels[6:], dense])
    assert difference("hopfield.ConvHopfieldResEnergy32", swapped, settings, x, layers[1:]) > BOUND


@pytest.mark.parametrize("copies", [1, 2])
def test_binary_activations(copies: int) -> None:
    """Units that send 0 or 1, averaged states that start at 1, and classes of several output units."""
    sizes = (6, 9, 8)  # output, hidden, input
    state = {}
    for i in range(2):
        raw = drawn(70 + i, w=(sizes[i], sizes[i + 1]), b=(sizes[i],))
        state |= {f"W.{i}.weight": torch.sign(raw["w"]) * (0.3 + 0.1 * i), f"W.{i}.bias": raw["b"]}
    x = image(72, 4, 8)
    s = [torch.ones(4, 6, dtype=torch.float64), torch.ones(4, 9, dtype=torch.float64)]
    for _ in range(6):
        sent = [(v >= 0.5).double() for v in s]
        drives = [
            f.linear(sent[1], state["W.0.weight"], state["W.0.bias"]),
            f.linear(x, state["W.1.weight"], state["W.1.bias"]) + sent[0] @ state["W.0.weight"],
        ]
        s = [(0.7 * v + 0.3 * d).clamp(0, 1) for v, d in zip(s, drives, strict=True)]
    settings = {"steps": "6", "gamma_neur": "0.3", "expand_output": str(copies)}
    family = all_families()["laydevant.Network_fc_bin_W_N"]
    values = resolve(family, user=settings, config={}, stated={}, label="file").values
    net = family.build(Tensors("file", {k: v.numpy() for k, v in state.items()}), values)
    run = run_reference(net, {"x": x.numpy()})
    assert np.abs(run.states["h1"] - s[0].numpy()).max() <= BOUND
    assert np.abs(run.states["h0"] - s[1].numpy()).max() <= BOUND
    want = s[0].reshape(4, -1, copies).mean(-1).numpy()
    assert np.abs(run.outputs["logits"] - want).max() <= BOUND
    assert 0.0 < float((s[1] >= 0.5).double().mean()) < 1.0, "a net whose units all send the same shows nothing"


@pytest.mark.parametrize("tau", ["1.0", "0.6"])
def test_plain_steps_of_a_deq(tau: str) -> None:
    """`fx = tau f(x) + (1 - tau) x` from zero, as torchdeq's fixed_point_iter."""
    shapes = {"inject": (5, 6), "cell": (5, 5), "out": (3, 5)}
    state = drawn(
        80, **{f"{k}__weight": v for k, v in shapes.items()}, **{f"{k}__bias": v[:1] for k, v in shapes.items()}
    )
    x = image(81, 4, 6)
    z = torch.zeros(4, 5, dtype=torch.float64)
    for _ in range(9):
        inner = f.linear(z, state["cell.weight"], state["cell.bias"]) + f.linear(
            x, state["inject.weight"], state["inject.bias"]
        )
        z = float(tau) * torch.tanh(inner) + (1 - float(tau)) * z
    settings = {"steps": "9", "tau": tau}
    assert difference("torchdeq.TanhCell", state, settings, x, [z]) <= BOUND
    assert difference("torchdeq.TanhCell", state, settings | {"tau": "0.8"}, x, [z]) > BOUND
