"""Three-dimensional lattices of neurons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir import ops
from .build import ALPHA, Builder, family

__all__ = ["archive_neural_cube", "models_neural_cube"]


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
