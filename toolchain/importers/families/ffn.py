"""One hidden state driven through a normalised two-layer network: `F(h) = W2 tanh(W1 LN(h) + b1) + b2`.

With `e(x) = embed x + b`, the hidden state starts at e(x) unless a family says otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic
from ...ir import EqNet, Stop, ops
from ..family import Setting
from .build import GAMMA, Builder, family, steps

__all__ = [
    "archive_dimension_scaled",
    "archive_embedding",
    "archive_kernel",
    "archive_modern",
    "archive_projected",
    "archive_spectral_tor",
    "archive_tcep",
    "archive_tor_eq_ode",
    "archive_tp",
    "ffn",
]


def ffn(b: Builder, h: str) -> str:
    """`W2 tanh(W1 LN(h) + b1) + b2`."""
    return b.linear("ffn", b.act("hidden", b.linear("hidden_pre", b.layer_norm("normed", h, "norm"), "W1")), "W2")


def _modern(b: Builder) -> None:
    """`h <- (1-g) h + g (F(h) + e)`."""
    e, h = b.driven("embed", start=True)
    b.relax(h, b.add("target", ffn(b, h), e), "gamma")
    b.read(h, "Head")


_MODERN = "damped loop through a normalised two-layer network"
# The noise of DiffTorEqProp exists in training only.
archive_modern = family("archive.ModernEqProp", _MODERN, GAMMA, twins=("archive.DiffTorEqProp",))(_modern)


def _from(b: Builder, x: str, gamma: float) -> None:
    """`h <- (1-g) h + g (F(h) + e)`, e = embed_layer x + b."""
    e = b.linear("drive", x, "embed_layer")
    h = b.state("h", like=e, init=e)
    b.begin("step")
    b.update(h, b.damp("next", h, b.add("target", ffn(b, h), e), gamma))
    b.read(h, "Head")


@family(
    "archive.DimensionScaledEqProp",
    f"{_MODERN}, the damping scaled by the number of inputs",
    GAMMA,
    Setting("reference_dim", 64, "inputs up to which the damping is gamma; it falls with the root of their number"),
    twins=("archive.AdaptiveBetaEqProp",),
)
def archive_dimension_scaled(b: Builder) -> None:
    """`_from` with `g = gamma min(1, sqrt(reference_dim / inputs))`."""
    inputs = b.matrix("embed_layer.weight").shape[1]
    scale = min(1.0, math.sqrt(b.integer("reference_dim") / inputs))
    _from(b, b.input("x", inputs), b.share("gamma") * scale)


@family("archive.EmbeddingEqProp", f"{_MODERN}, its input compressed by a normalised two-layer network", GAMMA)
def archive_embedding(b: Builder) -> None:
    """`_from` on `LN(W4 tanh(LN(W0 x + b)) + b)`."""
    x = b.input("x", b.matrix("compressor.0.weight").shape[1])
    hidden = b.act("wide", b.layer_norm("wide_normed", b.linear("wide_pre", x, "compressor.0"), "compressor.1"))
    narrow = b.layer_norm("compressed", b.linear("compressed_pre", hidden, "compressor.4"), "compressor.5")
    _from(b, narrow, b.share("gamma"))


@family("archive.ProjectedEqProp", f"{_MODERN}, its input projected by a fixed matrix", GAMMA)
def archive_projected(b: Builder) -> None:
    """`_from` on `x P`."""
    matrix = b.matrix("projection")
    x = b.input("x", len(matrix))
    source = b.tensors.source("projection", "transposed")
    _from(b, b.linear_of("projected", x, "projection_transposed", matrix.T, source), b.share("gamma"))


@family(
    "archive.TPEqProp",
    "damped loop through a normalised two-layer network with the error of a prediction of its state",
    GAMMA,
    Setting("pred_weight", 0.1, "weight of the prediction error"),
    unused=(r"predictors\.[1-9]\d*\.(weight|bias)", r"layer_norms\.[1-9]\d*\.(weight|bias)"),
)
def archive_tp(b: Builder) -> None:
    """`h <- (1-g) h + g (F + e - k (h - P LN0(F)))`; without predictors the last term is absent."""
    e, h = b.driven("embed", start=True)
    out = ffn(b, h)
    target = b.add("target", out, e)
    if not b.has("predictors.0.weight"):
        b.expect("layer_norms.0")
    else:
        predicted = b.linear("predicted", b.layer_norm("ffn_normed", out, "layer_norms.0"), "predictors.0")
        error = b.scale("error", b.sub("surprise", h, predicted), b.real("pred_weight"))
        target = b.sub("corrected", target, error)
    b.relax(h, target, "gamma")
    b.read(h, "Head")


_DT = Setting("dt", 0.1, "time step of the explicit Euler rule")
_DAMPING = Setting("damping", 0.3, "decay rate of the state")


@family(
    "archive.TCEP",
    "Euler steps through a normalised two-layer network with a fading echo of its past",
    _DT,
    _DAMPING,
    Setting("recirc_strength", 0.05, "strength of the echo"),
    Setting("recirc_decay", 0.9, "decay of the echo and of its buffer"),
)
def archive_tcep(b: Builder) -> None:
    """`h <- h + dt (F + e - l h + r d^(t+1) B); B <- d B + (1-d) h_new`, t from 0, B0 = 0.

    `decay` holds d^(t+1).
    """
    d = b.real("recirc_decay", over=0.0, most=1.0)
    e, h = b.driven("embed", start=True)
    buffer = b.state("buffer", like=h)
    decay = b.state("decay", init=b.param("decay_start", d, "setting recirc_decay"))
    echo = b.scale("echo", b.mul("faded", decay, buffer), b.real("recirc_strength"))
    rate = b.add("rate", b.sub("leaky", b.add("target", ffn(b, h), e), b.scale("leak", h, b.real("damping"))), echo)
    new = b.add("next", h, b.scale("moved", rate, b.real("dt")))
    b.update(h, new)
    b.update(buffer, b.add("buffer_next", b.scale("kept", buffer, d), b.scale("taken", new, 1.0 - d)))
    b.update(decay, b.scale("decay_next", decay, d))
    b.read(h, "Head")


@family(
    "archive.TorEqODEProp",
    "Euler steps through a normalised two-layer network, some units on a circle",
    _DT,
    _DAMPING,
    Setting("toroidal_dims", 0, "units that live on a circle, from the first"),
)
def archive_tor_eq_ode(b: Builder) -> None:
    """`h <- h + dt (F + e - l h)`, then the first `toroidal_dims` units modulo 2 * 3.14159 (the source's constant)."""
    e, h = b.driven("embed", start=True)
    circular = b.integer("toroidal_dims", least=0)
    rate = b.sub("rate", b.add("target", ffn(b, h), e), b.scale("leak", h, b.real("damping")))
    new = b.add("next", h, b.scale("moved", rate, b.real("dt")))
    if circular:
        units = b.shape(h)[0]
        marks = b.param("circular", (np.arange(units) < circular).astype(np.float64), "setting toroidal_dims")
        half = b.param("half", 0.5, "threshold between the marks 0 and 1")
        wrapped = b.emit(ops.Mod(out="wrapped", x=new, period=2 * 3.14159))
        is_circular = b.emit(ops.Greater(out="is_circular", a=marks, b=half))
        new = b.emit(ops.Select(out="coordinates", condition=is_circular, a=wrapped, b=new))
    b.update(h, new)
    b.read(h, "Head")


@family(
    "archive.SpectralTorEqProp",
    "damped loop that filters the real part of its own spectrum",
    GAMMA,
)
def archive_spectral_tor(b: Builder) -> None:
    """`f = rfft(h); r = W2 tanh(W1 Re f + b1) + b2; h <- (1-g) h + g (LN(irfft(r + i Im f)) + e)`.

    The transforms are constant matrices: `Re rfft`, `irfft` of a real spectrum, and `irfft(i Im rfft)` in one.
    """
    e, h = b.driven("embed", start=True)
    units = b.shape(h)[0]
    what = f"{units} hidden units: the source's inverse transform needs an even number"
    b.demand("embed.weight", units % 2 == 0, what)
    source = f"derived: real discrete Fourier transform of {units} points"
    spectrum = np.fft.rfft(np.eye(units), axis=0)
    inverse = np.fft.irfft(np.eye(units // 2 + 1), n=units, axis=0)
    real = b.linear_of("real", h, "dft_real", spectrum.real, source)
    # (h[k] - h[-k]) / 2: exact halves, where the transforms there and back would leave noise in place of zeros.
    odd = b.linear_of("odd", h, "dft_odd", (np.eye(units) - np.eye(units)[-np.arange(units)]) / 2.0, source)
    hidden = b.act("hidden", b.linear("hidden_pre", real, "spectral_filter_W1"))
    even = b.linear_of("even", b.linear("filtered", hidden, "spectral_filter_W2"), "dft_inverse", inverse, source)
    b.relax(h, b.add("target", b.layer_norm("normed", b.add("back", even, odd), "norm"), e), "gamma")
    b.read(h, "Head")


@family(
    "archive.EqPropKernel",
    "damped loop through a normalised two-layer network of the NumPy kernel, stopping early as a batch",
    steps(10),
    GAMMA,
    Setting("epsilon", 1e-3, "stop when every sample moved by less than this; 0 never stops"),
    Setting("adaptive_epsilon", True, "twice epsilon after 6 steps"),
    Setting("use_spectral_norm", True, "divide W1 and W2 by the estimate of their spectral norm"),
    unused=(r"sn_state\.W[12]_u",),
    twins=("eqprop_torch.EqPropKernel", "eqprop_torch.EqPropKernelBPTT"),
)
def archive_kernel(b: Builder) -> EqNet:
    """`n = (h - mean) / (std + 1e-5); h <- (1-g) h + g (W2 tanh(W1 n + b1) + b2 + embed x + b)`, h0 = 0.

    With `epsilon` the whole batch stops when no sample's state moved by as much (twice as much after 6 steps). With
    spectral norm, W1 and W2 are divided by its estimate after one power iteration from the stored vector.
    """

    def linear(out: str, x: str, name: str) -> str:
        bias = b.parameter(f"biases.{name}")
        return b.emit(ops.Linear(out=out, x=x, weight=b.parameter(f"weights.{name}"), bias=bias))

    def normalised(out: str, x: str, name: str) -> str:
        if not b.flag("use_spectral_norm"):
            return linear(out, x, name)
        weight = b.matrix(f"weights.{name}")
        sigma = _one_iteration(b, weight, name)
        source = b.tensors.source(f"weights.{name}", f"over the norm {sigma:.9g} after one power iteration")
        return b.linear_of(out, x, f"{name}_normed", weight / sigma, source, f"biases.{name}")

    units, inputs = b.matrix("weights.embed").shape
    drive = linear("drive", b.input("x", inputs), "embed")
    h = b.state("h", units)
    b.begin("step")
    unit = b.emit(ops.Normalize(out="unit", x=h, axes=(-1,), groups=1, eps=1e-5, eps_on="deviation"))
    out = normalised("ffn", b.act("hidden", normalised("hidden_pre", unit, "W1")), "W2")
    b.relax(h, b.add("target", out, drive), "gamma")
    b.begin("readout")
    b.output("logits", linear("logits", h, "head"))
    loose = 2.0 if b.flag("adaptive_epsilon") else 1.0
    epsilon = b.real("epsilon")
    stop = Stop(h, epsilon, loose_after=6, loose=loose) if epsilon > 0.0 else None
    return b.finish(b.integer("steps"), stop=stop)


def _one_iteration(b: Builder, weight: NDArray[np.float64], name: str) -> float:
    """The estimate of the largest singular value after one power iteration from the stored vector."""
    key = f"sn_state.{name}_u"
    if not b.has(key):
        what = f"the file has no {key}: the source would start from a random vector, the deployed weight is not known"
        hint = "save sn_state with the weights, or set use_spectral_norm=false if the kernel ran without it"
        b.faults.append(Diagnostic("spectral-norm-vectors", what, b.tensors.label, hint))
        return 1.0
    u = b.tensor(key)
    b.demand(key, u.shape == (len(weight),), f"{key} has shape {list(u.shape)}, the weight has {len(weight)} rows")
    v = weight.T @ (u / np.linalg.norm(u))
    v = v / (np.linalg.norm(v) + 1e-12)
    new = weight @ v
    new = new / (np.linalg.norm(new) + 1e-12)
    sigma = float(new @ weight @ v) + 1e-12
    positive = math.isfinite(sigma) and sigma > 1e-12
    b.demand(key, positive, f"the estimated spectral norm of weights.{name} is {sigma}")
    return sigma
