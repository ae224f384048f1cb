"""Networks whose float shadow weights become ternary in the forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ir import EqNet
from ..family import Family, Setting, Tensors
from .build import ALPHA, Builder, layer, steps

__all__ = ["ARCHIVE_TERNARY", "MODELS_TERNARY", "ternary_codes"]

_THRESHOLD = Setting("threshold", 0.5, "weights above it become +, below its negative -, others 0")


def ternary_codes(weight: NDArray[Any], threshold: float) -> NDArray[np.float64]:
    """+1 where `weight > threshold`, -1 where `weight < -threshold`, else 0, compared in the dtype of `weight`.

    The source framework rounds the threshold to the weight's dtype; in float64 a weight equal to float32(0.1) would
    count as above 0.1.
    """
    bound = weight.dtype.type(threshold)
    return np.asarray((weight > bound).astype(np.float64) - (weight < -bound))


def _codes(b: Builder, key: str, threshold: float) -> NDArray[np.float64]:
    b.matrix(key)
    return ternary_codes(np.asarray(b.tensors.arrays[key]), threshold)


def _pure(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- tanh(Q(W_in) x + b + Q(W_rec) h + b)`, Q in {-1, 0, +1} without a scale, also in the readout; h0 = 0."""
    b = Builder("models.TernaryEqProp", tensors, settings)
    threshold = b.real("threshold", over=0.0)

    def ternary(out: str, x: str, name: str) -> str:
        key = f"{name}.weight"
        source = tensors.source(key, f"ternarized at {threshold:g}")
        return b.linear_of(out, x, f"{name}_ternary", _codes(b, key, threshold), source, f"{name}.bias")

    units, inputs = b.matrix("W_in.weight").shape
    drive = ternary("drive", b.input("x", inputs), "W_in")
    h = b.state("h", units)
    b.begin("step")
    recurrent = ternary("recurrent", h, "W_rec")
    b.update(h, b.act("new", b.add("pre", drive, recurrent)))
    b.begin("readout")
    b.output("logits", ternary("logits", h, "W_out"))
    return b.finish(b.integer("steps"))


MODELS_TERNARY = Family(
    key="models.TernaryEqProp",
    summary="undamped tanh loop with weights in {-1, 0, +1}",
    required=layer("W_in", "W_rec", "W_out"),
    settings=(steps(30), _THRESHOLD),
    build=_pure,
    spectral_norm=False,
)


def _scaled(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- (1-a) h + a tanh(Q(W_in) x + b + sum_l [Q(W_l) tanh(h) + b_l])`, h0 = 0.

    Q is `s {-1, 0, +1}` with `s = mean(|w| where |w| > threshold)` of each matrix; the readout is a float layer.
    """
    b = Builder("archive.TernaryEqProp", tensors, settings)
    threshold = b.real("threshold", over=0.0)

    def ternary(out: str, x: str, name: str) -> str:
        key = f"{name}.weight"
        codes = _codes(b, key, threshold)
        kept = np.abs(b.tensor(key)[codes != 0.0])
        magnitude = float(kept.mean()) if kept.size else 0.0
        source = tensors.source(key, f"ternarized at {threshold:g}, scale {magnitude:.9g}")
        param = f"{name.replace('.', '_')}_ternary"
        return b.linear_of(out, x, param, codes * magnitude, source, f"{name}.bias")

    units, inputs = b.matrix("W_in.weight").shape
    drive = ternary("drive", b.input("x", inputs), "W_in")
    h = b.state("h", units)
    b.begin("step")
    rate = b.act("rate", h)
    terms = [ternary(f"recurrent{i}", rate, f"layers.{i}") for i in range(b.count("layers.{}.weight"))]
    new = b.act("new", b.add("pre", drive, *terms))
    b.update(h, b.damp("next", h, new, b.share("alpha")))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "head"))
    return b.finish(b.integer("steps"))


ARCHIVE_TERNARY = Family(
    key="archive.TernaryEqProp",
    summary="damped tanh loop with ternary weights of one magnitude a matrix and a float readout",
    required=layer("W_in", r"layers\.\d+", "head"),
    settings=(steps(30), ALPHA, _THRESHOLD),
    build=_scaled,
    spectral_norm=False,
)
