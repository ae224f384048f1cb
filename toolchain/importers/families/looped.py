"""Plain loops of one hidden state: looped MLPs and their gated and ring-buffered relatives."""

from __future__ import annotations

from ...ir import ops
from ..family import Setting
from .build import ALPHA, Builder, family

__all__ = ["archive_gated_mlp", "archive_looped_mlp", "archive_toroidal_mlp", "models_kernel_bptt", "models_looped_mlp"]


@family("models.LoopedMLP", "undamped tanh loop of one hidden state", twins=("eqprop_torch.LoopedMLP",))
def models_looped_mlp(b: Builder) -> None:
    """`h <- tanh(W_in x + b_in + W_rec h + b_rec)`, h0 = 0."""
    drive, h = b.driven("W_in")
    b.update(h, b.act("new", b.add("pre", drive, b.linear("recurrent", h, "W_rec"))))
    b.read(h, "W_out")


@family(
    "archive.LoopedMLP",
    "damped tanh loop of one hidden state, its coupling symmetric on demand",
    ALPHA,
    Setting("symmetric", False, "use (W + W^T)/2 as the coupling"),
)
def archive_looped_mlp(b: Builder) -> None:
    """`h <- (1-a) h + a tanh(Wx x + b + M h + b_h)`, M = Wh or its symmetric part; h0 = 0."""
    drive, h = b.driven("Wx")
    if b.flag("symmetric"):
        weight = b.matrix("_Wh.weight")
        square = weight.shape[0] == weight.shape[1]
        b.demand("_Wh.weight", square, f"_Wh.weight is {list(weight.shape)}, a symmetric coupling must be square")
        source = b.tensors.source("_Wh.weight", "symmetric part")
        from_self = b.linear_of("recurrent", h, "_Wh_symmetric", (weight + weight.T) / 2.0, source, "_Wh.bias")
    else:
        from_self = b.linear("recurrent", h, "_Wh")
    b.relax(h, b.act("new", b.add("pre", drive, from_self)), "alpha")
    b.read(h, "Head")


@family(
    "models.EqPropKernelBPTT",
    "undamped tanh loop of the NumPy kernel trained by backpropagation through time",
    twins=("models.EqPropKernel",),
)
def models_kernel_bptt(b: Builder) -> None:
    """`h <- tanh(W_in x + b_in + W_rec h + b_rec)`, h0 = 0, from the arrays of a NumPy kernel."""

    def linear(out: str, x: str, weight: str, bias: str) -> str:
        return b.emit(ops.Linear(out=out, x=x, weight=b.parameter(weight), bias=b.parameter(bias)))

    units, inputs = b.matrix("W_in").shape
    drive = linear("drive", b.input("x", inputs), "W_in", "b_in")
    h = b.state("h", units)
    b.begin("step")
    b.update(h, b.act("new", b.add("pre", drive, linear("recurrent", h, "W_rec", "b_rec"))))
    b.begin("readout")
    b.output("logits", linear("logits", h, "W_out", "b_out"))


@family(
    "archive.GatedMLP",
    "tanh loop whose damping is a learned gate of each neuron",
)
def archive_gated_mlp(b: Builder) -> None:
    """`z = sigmoid(Wz_x x + b + Wz_h h + b); h <- (1-z) h + z tanh(Wx x + b + Wh h + b)`, a gate a neuron; h0 = 0."""
    drive = b.drive("Wx")
    gate_drive = b.linear("gate_drive", "x", "Wz_x")
    h = b.state("h", like=drive)
    b.begin("step")
    gate = b.act("gate", b.add("gate_pre", gate_drive, b.linear("gate_recurrent", h, "Wz_h")), "sigmoid")
    new = b.act("new", b.add("pre", drive, b.linear("recurrent", h, "Wh")))
    b.update(h, b.add("next", h, b.mul("moved", gate, b.sub("way", new, h))))
    b.read(h, "Head")


@family(
    "archive.ToroidalMLP",
    "damped tanh loop that also reads a ring of its past states",
    ALPHA,
)
def archive_toroidal_mlp(b: Builder) -> None:
    """`s <- (1-a) s + a tanh(Wx x + b + Wh s + b + g sum_k alphas_k s_{t-k})`; the past starts at 0.

    `past1` is the state one step ago, and so on: a ring as registers that shift.
    """
    alphas = b.tensor("alphas")
    what = f"alphas has shape {list(alphas.shape)}, must be one weight for each past state"
    b.demand("alphas", alphas.ndim == 1 and alphas.size > 0, what)
    gain = b.number("buffer_gamma")
    drive, h = b.driven("Wx")
    past = [b.state(f"past{k}", like=h) for k in range(1, len(alphas) + 1)]
    echoes = [b.scale(f"echo{k}", p, gain * float(w)) for k, (p, w) in enumerate(zip(past, alphas, strict=True), 1)]
    b.relax(h, b.act("new", b.add("pre", drive, b.linear("recurrent", h, "Wh"), *echoes)), "alpha")
    for older, newer in zip(past, [h, *past], strict=False):
        b.update(older, newer)
    b.read(h, "Head")
