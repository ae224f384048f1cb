"""Loops of one hidden state whose new value sums or chains several couplings."""

from __future__ import annotations

from ...ir import EqNet
from ..family import Setting
from .build import ALPHA, Builder, family

__all__ = [
    "archive_feedback_alignment",
    "models_chl",
    "models_chl_autoencoder",
    "models_feedback_alignment",
    "models_temporal_resonance",
]

_FEEDBACK = (r"layers\.\d+\.feedback_weight",)


@family(
    "models.FeedbackAlignmentEqProp",
    "damped tanh sweep over several couplings of one hidden state",
    ALPHA,
    unused=_FEEDBACK,
)
def models_feedback_alignment(b: Builder) -> None:
    """One step is a Gauss-Seidel sweep over l: `h <- (1-a) h + a tanh(W_in x + b + W_l h + b_l)`; h0 = 0."""
    alpha = b.share("alpha")
    drive, h = b.driven("W_in")
    swept = h
    for i in range(b.count("layers.{}.weight")):
        new = b.act(f"new{i}", b.add(f"pre{i}", drive, b.linear(f"recurrent{i}", swept, f"layers.{i}")))
        swept = b.damp(f"swept{i}", swept, new, alpha)
    b.update(h, swept)
    b.read(h, "head")


def _summed(b: Builder, *, oscillation: bool) -> None:
    """`h <- (1-a) h + a tanh(W_in x + b + sum_l [W_l tanh(h) + b_l] (+ W_osc h))`; h0 = 0, kept over frames."""
    drive, h = b.driven("W_in")
    rate = b.act("rate", h)
    terms = [b.linear(f"recurrent{i}", rate, f"layers.{i}") for i in range(b.count("layers.{}.weight"))]
    if oscillation:
        terms.append(b.linear("oscillation", h, "osc_coupling", bias=False))
    b.relax(h, b.act("new", b.add("pre", drive, *terms)), "alpha")
    b.read(h, "head")


@family(
    "archive.FeedbackAlignmentEqProp",
    "damped tanh loop that sums several couplings of tanh(h)",
    ALPHA,
    unused=_FEEDBACK,
)
def archive_feedback_alignment(b: Builder) -> None:
    """`_summed` without an oscillatory coupling."""
    _summed(b, oscillation=False)


@family(
    "models.TemporalResonanceEqProp",
    "damped tanh loop that sums several couplings and an oscillatory one, on an input or on frames",
    Setting("steps", 30, "relaxation steps for each input; the source's default for each frame is 5"),
    ALPHA,
    Setting("frames", False, "the input is a sequence of frames, the state carried over; logits of the last", "input"),
    twins=("archive.TemporalResonanceEqProp",),
)
def models_temporal_resonance(b: Builder) -> EqNet:
    """`_summed` with an oscillatory coupling, on an input or on frames."""
    _summed(b, oscillation=True)
    return b.finish(b.integer("steps"), frames=b.flag("frames"))


def _contrastive(b: Builder) -> None:
    """`r = W_hidden h + b; for l: r <- r + W_l tanh(r) + b_l; h <- (1-a) h + a tanh(W_in x + b + r)`; h0 = 0."""
    drive, h = b.driven("W_in")
    recurrent = b.linear("recurrent", h, "W_hidden")
    for i in range(b.count("layers.{}.weight", least=0)):
        more = b.linear(f"chained{i}", b.act(f"rate{i}", recurrent), f"layers.{i}")
        recurrent = b.add(f"recurrent{i}", recurrent, more)
    b.relax(h, b.act("new", b.add("pre", drive, recurrent)), "alpha")
    b.read(h, "W_out")


_CONTRASTIVE = "damped tanh loop whose recurrent part passes a residual chain of layers"
models_chl = family("models.ContrastiveHebbianLearning", _CONTRASTIVE, ALPHA)(_contrastive)
models_chl_autoencoder = family("models.CHLAutoencoder", _CONTRASTIVE, ALPHA, unused=(r"decoder\.(weight|bias)",))(
    _contrastive
)
