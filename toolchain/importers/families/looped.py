"""Plain loops of one hidden state: looped MLPs and their gated and ring-buffered relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir import EqNet, ops
from ..family import Family, Setting, Tensors
from .build import ALPHA, Builder, layer, steps

__all__ = ["ARCHIVE_GATED_MLP", "ARCHIVE_LOOPED_MLP", "ARCHIVE_TOROIDAL_MLP", "MODELS_KERNEL_BPTT", "MODELS_LOOPED_MLP"]


def _looped(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- tanh(W_in x + b_in + W_rec h + b_rec)`, h0 = 0."""
    b = Builder("models.LoopedMLP", tensors, settings)
    units, inputs = b.matrix("W_in.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "W_in")
    h = b.state("h", units)
    b.begin("step")
    recurrent = b.linear("recurrent", h, "W_rec")
    b.update(h, b.act("new", b.add("pre", drive, recurrent)))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "W_out"))
    return b.finish(b.integer("steps"))


MODELS_LOOPED_MLP = Family(
    key="models.LoopedMLP",
    summary="undamped tanh loop of one hidden state",
    required=layer("W_in", "W_rec", "W_out"),
    settings=(steps(30),),
    build=_looped,
)


def _looped_damped(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- (1-a) h + a tanh(Wx x + b + M h + b_h)`, M = Wh or its symmetric part; h0 = 0."""
    b = Builder("archive.LoopedMLP", tensors, settings)
    units, inputs = b.matrix("Wx.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "Wx")
    h = b.state("h", units)
    b.begin("step")
    if b.flag("symmetric"):
        weight = b.matrix("_Wh.weight")
        if weight.shape[0] != weight.shape[1]:
            raise b.mismatch(f"_Wh.weight is {list(weight.shape)}, a symmetric coupling must be square", "_Wh.weight")
        source = tensors.source("_Wh.weight", "symmetric part")
        from_self = b.linear_of("recurrent", h, "_Wh_symmetric", (weight + weight.T) / 2.0, source, "_Wh.bias")
    else:
        from_self = b.linear("recurrent", h, "_Wh")
    new = b.act("new", b.add("pre", drive, from_self))
    b.update(h, b.damp("next", h, new, b.share("alpha")))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "Head"))
    return b.finish(b.integer("steps"))


ARCHIVE_LOOPED_MLP = Family(
    key="archive.LoopedMLP",
    summary="damped tanh loop of one hidden state, its coupling symmetric on demand",
    required=layer("Wx", "_Wh", "Head"),
    settings=(steps(30), ALPHA, Setting("symmetric", False, "use (W + W^T)/2 as the coupling")),
    build=_looped_damped,
)


def _kernel(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- tanh(W_in x + b_in + W_rec h + b_rec)`, h0 = 0, from the arrays of a NumPy kernel."""
    b = Builder("models.EqPropKernelBPTT", tensors, settings)

    def linear(out: str, x: str, weight: str, bias: str) -> str:
        return b.emit(ops.Linear(out=out, x=x, weight=b.held(weight), bias=b.held(bias)))

    units, inputs = b.matrix("W_in").shape
    drive = linear("drive", b.input("x", inputs), "W_in", "b_in")
    h = b.state("h", units)
    b.begin("step")
    b.update(h, b.act("new", b.add("pre", drive, linear("recurrent", h, "W_rec", "b_rec"))))
    b.begin("readout")
    b.output("logits", linear("logits", h, "W_out", "b_out"))
    return b.finish(b.integer("steps"))


MODELS_KERNEL_BPTT = Family(
    key="models.EqPropKernelBPTT",
    summary="undamped tanh loop of the NumPy kernel trained by backpropagation through time",
    required=("W_in", "W_rec", "W_out", "b_in", "b_rec", "b_out"),
    settings=(steps(30),),
    build=_kernel,
)


def _gated(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`z = sigmoid(Wz_x x + b + Wz_h h + b); h <- (1-z) h + z tanh(Wx x + b + Wh h + b)`, a gate a neuron; h0 = 0."""
    b = Builder("archive.GatedMLP", tensors, settings)
    units, inputs = b.matrix("Wx.weight").shape
    x = b.input("x", inputs)
    drive, gate_drive = b.linear("drive", x, "Wx"), b.linear("gate_drive", x, "Wz_x")
    h = b.state("h", units)
    b.begin("step")
    gate = b.act("gate", b.add("gate_pre", gate_drive, b.linear("gate_recurrent", h, "Wz_h")), "sigmoid")
    new = b.act("new", b.add("pre", drive, b.linear("recurrent", h, "Wh")))
    b.update(h, b.add("next", h, b.mul("moved", gate, b.sub("way", new, h))))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "Head"))
    return b.finish(b.integer("steps"))


ARCHIVE_GATED_MLP = Family(
    key="archive.GatedMLP",
    summary="tanh loop whose damping is a learned gate of each neuron",
    required=layer("Wx", "Wh", "Wz_x", "Wz_h", "Head"),
    settings=(steps(30),),
    build=_gated,
)


def _toroidal(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`s <- (1-a) s + a tanh(Wx x + b + Wh s + b + g sum_k alphas_k s_{t-k})`; the past starts at 0.

    `past1` is the state one step ago, and so on: a ring as registers that shift.
    """
    b = Builder("archive.ToroidalMLP", tensors, settings)
    alphas = b.tensor("alphas")
    if alphas.ndim != 1 or not alphas.size:
        raise b.mismatch(f"alphas has shape {list(alphas.shape)}, must be one weight for each past state", "alphas")
    gain = b.number("buffer_gamma")
    units, inputs = b.matrix("Wx.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "Wx")
    h = b.state("h", units)
    past = [b.state(f"past{k}", units) for k in range(1, len(alphas) + 1)]
    b.begin("step")
    echoes = [b.scale(f"echo{k}", p, gain * float(w)) for k, (p, w) in enumerate(zip(past, alphas, strict=True), 1)]
    new = b.act("new", b.add("pre", drive, b.linear("recurrent", h, "Wh"), *echoes))
    b.update(h, b.damp("next", h, new, b.share("alpha")))
    for older, newer in zip(past, [h, *past], strict=False):
        b.update(older, newer)
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "Head"))
    return b.finish(b.integer("steps"))


ARCHIVE_TOROIDAL_MLP = Family(
    key="archive.ToroidalMLP",
    summary="damped tanh loop that also reads a ring of its past states",
    required=(*layer("Wx", "Wh", "Head"), "alphas", "buffer_gamma"),
    settings=(steps(30), ALPHA),
    build=_toroidal,
)
