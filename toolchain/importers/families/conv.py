"""Convolutional states."""

from __future__ import annotations

import numpy as np

from ...ir import ops
from ..family import Setting
from .build import GAMMA, Builder, family, steps

__all__ = ["models_conv", "torch_conv", "models_diffusion", "models_modern_conv", "models_simple_conv"]

_SIZE = (Setting("height", None, "rows of the input image"), Setting("width", None, "columns of the input image"))
_GROUPS = 8


def _image(b: Builder, key: str, height: int, width: int) -> str:
    """The input image, its channels read off the first convolution."""
    weight = b.find(key)
    if weight is None:
        return b.unknown("x")
    b.demand(key, weight.ndim == 4, f"{key} has shape {list(weight.shape)}, must have four axes")
    return b.input("x", weight.shape[1], height, width)


def _sized(b: Builder, layer: str) -> str:
    return _image(b, f"{layer}.weight", b.integer("height"), b.integer("width"))


def _pooled(b: Builder, h: str) -> str:
    return b.emit(ops.Reduce(out="pooled", x=h, kind="mean", axes=(-2, -1), keep=False))


def _read(b: Builder, h: str, layer: str) -> None:
    b.begin("readout")
    b.output("logits", b.linear("logits", _pooled(b, h), layer))


def _relaxed(b: Builder, x: str, prefix: str = "") -> str:
    """`h <- (1-g) h + g (W2 * tanh(W1 * GN(h)) + E * x)`, h0 = 0; returns h. The step block is open afterwards."""
    drive = b.conv("drive", x, f"{prefix}embed")
    h = b.state("h", like=drive)
    b.begin("step")
    normed = b.group_norm("normed", h, f"{prefix}norm", groups=_GROUPS)
    hidden = b.act("hidden", b.conv("hidden_pre", normed, f"{prefix}W1"))
    b.relax(h, b.add("target", b.conv("ffn", hidden, f"{prefix}W2"), drive), "gamma")
    return h


_CONV = "damped loop through two convolutions of a group-normalised state"


@family(
    "models.ConvEqProp",
    _CONV,
    steps(25),
    GAMMA,
    *_SIZE,
    twins=("archive.ConvEqProp",),
)
def models_conv(b: Builder) -> None:
    """`_relaxed` on an image, read from the mean of each channel."""
    _read(b, _relaxed(b, _sized(b, "embed")), "Head.2")


@family("eqprop_torch.ConvEqProp", _CONV, steps(25), GAMMA, *_SIZE)
def torch_conv(b: Builder) -> None:
    """`models_conv` with the readout under another name."""
    _read(b, _relaxed(b, _sized(b, "embed")), "head.2")


@family(
    "models.SimpleConvEqProp",
    "damped tanh loop through one convolution of a group-normalised state",
    steps(20),
    GAMMA,
    *_SIZE,
)
def models_simple_conv(b: Builder) -> None:
    """`h <- (1-g) h + g tanh(W * GN(h) + b + E * x)`, h0 = 0."""
    drive = b.conv("drive", _sized(b, "embed"), "embed")
    h = b.state("h", like=drive)
    b.begin("step")
    recurrent = b.conv("recurrent", b.group_norm("normed", h, "norm", groups=_GROUPS), "W_rec")
    b.relax(h, b.act("new", b.add("pre", recurrent, drive)), "gamma")
    _read(b, h, "head.2")


@family(
    "models.ModernConvEqProp",
    "damped tanh loop through one convolution, started from a three-stage feature extractor",
    steps(15),
    GAMMA,
    *_SIZE,
)
def models_modern_conv(b: Builder) -> None:
    """h0 = three stages `tanh(GN(conv))` with strides 1, 2, 2; `h <- (1-g) h + g tanh(W * GN(h) + b)`.

    The input enters through h0 only.
    """
    value = _sized(b, "stage1.0")
    for i, stride in ((1, 1), (2, 2), (3, 2)):
        conv = b.conv(f"stage{i}_conv", value, f"stage{i}.0", stride=stride)
        value = b.act(f"stage{i}", b.group_norm(f"stage{i}_normed", conv, f"stage{i}.1", groups=_GROUPS))
    h = b.state("h", like=value, init=value)
    b.begin("step")
    b.relax(h, b.act("new", b.conv("pre", b.group_norm("normed", h, "eq_norm", groups=_GROUPS), "eq_conv")), "gamma")
    _read(b, h, "fc")


_SIDE = 28


@family(
    "models.EqPropDiffusion",
    "denoising steps with a damped convolutional loop as the predictor",
    steps(25),
    GAMMA,
    Setting("denoise_steps", 10, "steps of the way from the noisy to the predicted image"),
)
def models_diffusion(b: Builder) -> None:
    """`pred` = the relaxed convolutional loop on (noisy image, time); result `.8^S x + (1 - .8^S) pred`.

    The source calls the same loop S times on the same input and moves the image by .2 of the way to its prediction
    each time, which is this. Input: the image's channels, then one that holds the time everywhere.
    """
    x = _image(b, "denoiser.embed.weight", _SIDE, _SIDE)
    channels = b.shape(x)[0] - 1
    h = _relaxed(b, x, "denoiser.")
    b.begin("readout")
    flat = b.linear("flat", _pooled(b, h), "denoiser.Head.2")
    what = f"the head has {b.shape(flat)[0]} outputs for {channels} channels of {_SIDE} by {_SIDE}"
    b.demand("denoiser.Head.2.weight", b.shape(flat) == (channels * _SIDE * _SIDE,), what)
    predicted = b.reshape("predicted", flat, channels, _SIDE, _SIDE)
    select = b.param("select_image", np.eye(channels, channels + 1)[:, :, None, None], "derived: image channels")
    noisy = b.emit(ops.Conv(out="noisy", x=x, weight=select, stride=1, padding=0))
    left = 0.8 ** b.integer("denoise_steps")
    denoised = b.add("denoised", b.scale("rest", noisy, left), b.scale("moved", predicted, 1.0 - left))
    b.output("image", denoised, "values")
