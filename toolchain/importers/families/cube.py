"""Three-dimensional lattices of neurons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir import ops
from ..family import Setting
from .build import ALPHA, Builder, family
from .feedforward import ONE_TICK

__all__ = ["archive_neural_cube", "models_hebbian_cube", "models_neural_cube"]


@family(
    "models.NeuralCube",
    "undamped tanh lattice of 27 neighbours with weights of its own at each site",
)
def models_neural_cube(b: Builder) -> None:
    """`h <- tanh(W_in x + b + sum_k W_local[n, k] h[neighbour(n, k)])`, weights of its own at each site; h0 = 0."""
    drive, h = b.driven("W_in")
    near = ops.Stencil(out="near", x=h, weight=b.parameter("W_local"), index=b.parameter("neighbor_indices"))
    b.update(h, b.act("new", b.add("pre", drive, b.emit(near))))
    b.read(h, "W_out")


@family(
    "archive.NeuralCube",
    "damped tanh lattice with one shared 3x3x3 kernel, input on one face",
    ALPHA,
    unused=("synapse_mask", "activity_history", "nudge_history"),
)
def archive_neural_cube(b: Builder) -> None:
    """`c <- (1-a) c + a tanh(K * c + inject(x) + bias)`, one zero-padded 3x3x3 kernel K; c0 = 0.

    The input reaches the face of z = 0 only, z the first of the three axes.
    """
    bias = b.tensor("neuron_bias")
    n = bias.shape[-1]
    weight, offset = b.matrix("input_projection.weight"), b.tensor("input_projection.bias")
    shapes = f"neuron_bias is {list(bias.shape)} and input_projection {list(weight.shape)}, {list(offset.shape)}"
    good = bias.shape == (1, 1, n, n, n) and len(weight) == n * n and offset.shape == (n * n,)
    b.demand("neuron_bias", good, f"{shapes}: need [1, 1, n, n, n], [n*n, inputs], [n*n]")
    at = "rows of the face z=0, 0 elsewhere"
    face = b.param("face_weight", _on_face(weight, n), b.tensors.source("input_projection.weight", at))
    shift = b.param("face_bias", _on_face(offset, n), b.tensors.source("input_projection.bias", at))
    injected = b.emit(ops.Linear(out="injected", x=b.input("x", weight.shape[1]), weight=face, bias=shift))
    cube = b.reshape("injected_cube", injected, 1, n, n, n)
    drive = b.add("drive", cube, b.parameter("neuron_bias", shape=(1, n, n, n)))
    h = b.state("h", 1, n, n, n)
    b.begin("step")
    b.relax(h, b.act("new", b.add("pre", drive, b.conv("near", h, "local_conv", bias=False))), "alpha")
    b.begin("readout")
    b.output("logits", b.linear("logits", b.reshape("flat", h, n**3), "readout"))


def _on_face(rows: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    full = np.zeros((n**3, *rows.shape[1:]))
    full[: n * n] = rows
    return full


@family(
    "models.HebbianCube",
    "feed-forward lattice of 3x3x3 convolutions with tanh",
    ONE_TICK,
    Setting("cube_size", 8, "sites along an edge of the lattice; a smaller hidden layer fills its first sites"),
)
def models_hebbian_cube(b: Builder) -> None:
    """`c = tanh(input_proj x + b)` on the first sites of the lattice, then `c <- tanh(K_i * c)`; head on those sites.

    Sites without a unit start at 0, and the head does not see them; so they do with rows and columns of zeros.
    """
    layers = b.count("conv_layers.{}.weight")
    kernel, weight = b.tensor("conv_layers.0.weight"), b.matrix("input_proj.weight")
    what = f"conv_layers.0.weight has shape {list(kernel.shape)}, must have five axes"
    b.demand("conv_layers.0.weight", kernel.ndim == 5, what)
    channels, units, side = len(kernel), len(weight), b.integer("cube_size")
    if side**3 < units or (channels > 1 and side**3 > units):
        least = next(n for n in range(1, units + 1) if n**3 >= units)
        shown = f"{units} units" if channels == 1 else f"{units} units a channel"
        side = b.reject("cube_size", f"{side} gives {side**3} sites, the file has {shown}", least)
    sites = channels * side**3
    offset, head = b.tensor("input_proj.bias"), b.matrix("head.weight")
    b.demand("input_proj.bias", offset.shape == (units,), f"input_proj.bias has shape {list(offset.shape)}")
    what = f"head.weight has shape {list(head.shape)}, the lattice {units} units"
    b.demand("head.weight", head.shape[1] == units, what)
    empty, at = sites - units, f"{units} of {sites} sites, 0 elsewhere"
    rows = b.param("site_weight", np.pad(weight, ((0, empty), (0, 0))), b.tensors.source("input_proj.weight", at))
    shift = b.param("site_bias", np.pad(offset, (0, empty)), b.tensors.source("input_proj.bias", at))
    drive = b.emit(ops.Linear(out="drive", x=b.input("x", weight.shape[1]), weight=rows, bias=shift))
    h = b.state("h", channels, side, side, side)
    b.begin("step")
    value = b.act("first", b.reshape("lattice", drive, channels, side, side, side))
    for i in range(layers):
        value = b.act(f"layer{i}", b.conv(f"pre{i}", value, f"conv_layers.{i}", bias=False))
    b.update(h, value)
    b.begin("readout")
    seen = b.tensors.source("head.weight", at)
    flat = b.reshape("flat", h, sites)
    b.output("logits", b.linear_of("logits", flat, "site_head", np.pad(head, ((0, 0), (0, empty))), seen, "head.bias"))
