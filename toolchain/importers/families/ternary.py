"""Networks whose float shadow weights become ternary in the forward pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..family import Array, Setting
from .build import ALPHA, Builder, family

__all__ = ["archive_ternary", "models_ternary", "ternary_codes"]

_THRESHOLD = Setting("threshold", 0.5, "weights above it become +, below its negative -, others 0", "weights")


def ternary_codes(weight: Array, threshold: float) -> NDArray[np.float64]:
    """+1 where `weight > threshold`, -1 where `weight < -threshold`, else 0, in the shape of `weight`; compared in its
    dtype.

    The source framework rounds the threshold to the weight's dtype; in float64 a weight equal to float32(0.1) would
    count as above 0.1.
    """
    bound = weight.dtype.type(threshold)
    above, below = np.greater(weight, bound), np.less(weight, np.negative(bound))
    return np.asarray(above.astype(np.float64) - below)


def _ternary(b: Builder, out: str, x: str, name: str, *, scaled: bool) -> str:
    """The file's linear layer with codes for weights, times the mean magnitude of the weights that are not 0 if
    `scaled`."""
    threshold, key = b.real("threshold", over=0.0), f"{name}.weight"
    b.matrix(key)
    codes, note = ternary_codes(b.stored(key), threshold), f"ternarized at {threshold:g}"
    if scaled:
        magnitudes = np.abs(b.tensor(key)[codes != 0.0])
        magnitude = float(magnitudes.mean()) if magnitudes.size else 0.0
        codes, note = codes * magnitude, f"{note}, scale {magnitude:.9g}"
    param = f"{name.replace('.', '_')}_ternary"
    return b.linear_of(out, x, param, codes, b.tensors.source(key, note), f"{name}.bias")


@family(
    "models.TernaryEqProp",
    "undamped tanh loop with weights in {-1, 0, +1}",
    _THRESHOLD,
    spectral_norm=False,
)
def models_ternary(b: Builder) -> None:
    """`h <- tanh(Q(W_in) x + b + Q(W_rec) h + b)`, Q in {-1, 0, +1} without a scale, also in the readout; h0 = 0."""
    units, inputs = b.matrix("W_in.weight").shape
    drive = _ternary(b, "drive", b.input("x", inputs), "W_in", scaled=False)
    h = b.state("h", units)
    b.begin("step")
    recurrent = _ternary(b, "recurrent", h, "W_rec", scaled=False)
    b.update(h, b.act("new", b.add("pre", drive, recurrent)))
    b.begin("readout")
    b.output("logits", _ternary(b, "logits", h, "W_out", scaled=False))


@family(
    "archive.TernaryEqProp",
    "damped tanh loop with ternary weights of one magnitude a matrix and a float readout",
    ALPHA,
    _THRESHOLD,
    spectral_norm=False,
)
def archive_ternary(b: Builder) -> None:
    """`h <- (1-a) h + a tanh(Q(W_in) x + b + sum_l [Q(W_l) tanh(h) + b_l])`, h0 = 0.

    Q is `s {-1, 0, +1}` with `s = mean(|w| where |w| > threshold)` of each matrix; the readout is a float layer.
    """
    units, inputs = b.matrix("W_in.weight").shape
    drive = _ternary(b, "drive", b.input("x", inputs), "W_in", scaled=True)
    h = b.state("h", units)
    b.begin("step")
    rate = b.act("rate", h)
    count = b.count("layers.{}.weight")
    terms = [_ternary(b, f"recurrent{i}", rate, f"layers.{i}", scaled=True) for i in range(count)]
    b.relax(h, b.act("new", b.add("pre", drive, *terms)), "alpha")
    b.read(h, "head")
