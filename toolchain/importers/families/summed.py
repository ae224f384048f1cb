"""Loops of one hidden state whose new value sums or chains several couplings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...ir import EqNet
from ..family import Family, Setting, Tensors
from .build import ALPHA, Builder, layer, steps

__all__ = [
    "ARCHIVE_FEEDBACK_ALIGNMENT",
    "ARCHIVE_TEMPORAL_RESONANCE",
    "MODELS_CHL",
    "MODELS_CHL_AUTOENCODER",
    "MODELS_FEEDBACK_ALIGNMENT",
    "MODELS_TEMPORAL_RESONANCE",
]


def _swept(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """One step is a Gauss-Seidel sweep over l: `h <- (1-a) h + a tanh(W_in x + b + W_l h + b_l)`; h0 = 0."""
    b = Builder("models.FeedbackAlignmentEqProp", tensors, settings)
    alpha = b.share("alpha")
    units, inputs = b.matrix("W_in.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "W_in")
    h = b.state("h", units)
    b.begin("step")
    swept = h
    for i in range(b.count("layers.{}.weight")):
        new = b.act(f"new{i}", b.add(f"pre{i}", drive, b.linear(f"recurrent{i}", swept, f"layers.{i}")))
        swept = b.damp(f"swept{i}", swept, new, alpha)
    b.update(h, swept)
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "head"))
    return b.finish(b.integer("steps"))


MODELS_FEEDBACK_ALIGNMENT = Family(
    key="models.FeedbackAlignmentEqProp",
    summary="damped tanh sweep over several couplings of one hidden state",
    required=layer("W_in", r"layers\.\d+", "head"),
    settings=(steps(30), ALPHA),
    build=_swept,
    unused=(r"layers\.\d+\.feedback_weight",),
)


def _summed(b: Builder, *, oscillation: bool, frames: bool = False) -> EqNet:
    """`h <- (1-a) h + a tanh(W_in x + b + sum_l [W_l tanh(h) + b_l] (+ W_osc h))`; h0 = 0, kept over frames."""
    units, inputs = b.matrix("W_in.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "W_in")
    h = b.state("h", units)
    b.begin("step")
    rate = b.act("rate", h)
    terms = [b.linear(f"recurrent{i}", rate, f"layers.{i}") for i in range(b.count("layers.{}.weight"))]
    if oscillation:
        terms.append(b.linear("oscillation", h, "osc_coupling"))
    new = b.act("new", b.add("pre", drive, *terms))
    b.update(h, b.damp("next", h, new, b.share("alpha")))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "head"))
    return b.finish(b.integer("steps"), frames=frames)


def _summed_alignment(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    return _summed(Builder("archive.FeedbackAlignmentEqProp", tensors, settings), oscillation=False)


ARCHIVE_FEEDBACK_ALIGNMENT = Family(
    key="archive.FeedbackAlignmentEqProp",
    summary="damped tanh loop that sums several couplings of tanh(h)",
    required=layer("W_in", r"layers\.\d+", "head"),
    settings=(steps(30), ALPHA),
    build=_summed_alignment,
    unused=(r"layers\.\d+\.feedback_weight",),
)


def _resonance(key: str) -> Family:
    def build(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
        b = Builder(key, tensors, settings)
        return _summed(b, oscillation=True, frames=b.flag("frames"))

    return Family(
        key=key,
        summary="damped tanh loop that sums several couplings and an oscillatory one, on an input or on frames",
        required=(*layer("W_in", r"layers\.\d+", "head"), r"osc_coupling\.weight"),
        settings=(
            Setting("steps", 30, "relaxation steps for each input; the source's default for each frame is 5"),
            ALPHA,
            Setting("frames", False, "the input is a sequence of frames, the state carried over; logits of the last"),
        ),
        build=build,
    )


MODELS_TEMPORAL_RESONANCE = _resonance("models.TemporalResonanceEqProp")
ARCHIVE_TEMPORAL_RESONANCE = replace(
    _resonance("archive.TemporalResonanceEqProp"), same_as="models.TemporalResonanceEqProp"
)


def _contrastive(key: str, *, unused: tuple[str, ...] = ()) -> Family:
    def build(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
        """`r = W_hidden h + b; for l: r <- r + W_l tanh(r) + b_l; h <- (1-a) h + a tanh(W_in x + b + r)`; h0 = 0."""
        b = Builder(key, tensors, settings)
        units, inputs = b.matrix("W_in.weight").shape
        drive = b.linear("drive", b.input("x", inputs), "W_in")
        h = b.state("h", units)
        b.begin("step")
        recurrent = b.linear("recurrent", h, "W_hidden")
        n = b.count("layers.{}.weight") if any(key.startswith("layers.") for key in tensors) else 0
        for i in range(n):
            more = b.linear(f"chained{i}", b.act(f"rate{i}", recurrent), f"layers.{i}")
            recurrent = b.add(f"recurrent{i}", recurrent, more)
        new = b.act("new", b.add("pre", drive, recurrent))
        b.update(h, b.damp("next", h, new, b.share("alpha")))
        b.begin("readout")
        b.output("logits", b.linear("logits", h, "W_out"))
        return b.finish(b.integer("steps"))

    return Family(
        key=key,
        summary="damped tanh loop whose recurrent part passes a residual chain of layers",
        required=layer("W_in", "W_hidden", "W_out"),
        optional=layer(r"layers\.\d+"),
        settings=(steps(30), ALPHA),
        build=build,
        unused=unused,
    )


MODELS_CHL = _contrastive("models.ContrastiveHebbianLearning")
MODELS_CHL_AUTOENCODER = _contrastive("models.CHLAutoencoder", unused=layer("decoder"))
