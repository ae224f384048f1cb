"""Loops through a normalised two-layer network with a second state: a coarser scale, a buffer, a linear filter."""

from __future__ import annotations

import numpy as np

from ...ir import ops
from ..family import Setting
from .build import GAMMA, Builder, family
from .ffn import ffn

__all__ = ["archive_enhanced_mstep", "archive_htsep", "archive_mstep", "archive_tepssr"]


@family(
    "archive.MSTEP",
    "two coupled scales, each a damped loop through a normalised two-layer network",
    GAMMA,
    Setting("coupling_strength", 0.1, "pull of the coarse scale on the fine one"),
)
def archive_mstep(b: Builder) -> None:
    """`c <- (1 - 1.5 g) c + 1.5 g (Fc(c) + D e); h <- (1-g) h + g (F + e + k (U c_new - h))`; c0 = D h0, h0 = e."""
    gamma = b.real("gamma", over=0.0, most=2.0 / 3.0)
    e = b.drive("embed")
    h = b.state("h", like=e, init=e)
    coarse_drive = b.linear("coarse_drive", e, "downsample")
    coarse = b.state("coarse", like=coarse_drive, init=coarse_drive)
    b.begin("step")
    inner = _inner(b, "coarse", coarse)
    coarse_new = b.damp("coarse_next", coarse, b.add("coarse_target", inner, coarse_drive), 1.5 * gamma)
    b.update(coarse, coarse_new)
    apart = b.sub("apart", b.linear("upsampled", coarse_new, "upsample"), h)
    target = b.add("target", ffn(b, h), e, b.scale("pull", apart, b.real("coupling_strength")))
    b.relax(h, target, "gamma")
    b.read(h, "Head")


def _inner(b: Builder, scale: str, value: str) -> str:
    """`W4 tanh(W1 LN(value) + b) + b` of a scale's own layers."""
    normed = b.layer_norm(f"{scale}_normed", value, f"{scale}_ffn.0")
    hidden = b.act(f"{scale}_hidden", b.linear(f"{scale}_pre", normed, f"{scale}_ffn.1"))
    return b.linear(f"{scale}_ffn", hidden, f"{scale}_ffn.4")


def _guided(b: Builder, layer: str, fine: str, coarse: str) -> str:
    """`k sigmoid(q(fine) . k(coarse) / sqrt d) v(coarse)`, one number a sample as the weight; d units of `fine`."""
    query, key = b.linear(f"{layer}_query", fine, f"{layer}.query"), b.linear(f"{layer}_key", coarse, f"{layer}.key")
    product = b.mul(f"{layer}_product", query, key)
    match = b.emit(ops.Reduce(out=f"{layer}_match", x=product, kind="sum", axes=(-1,), keep=True))
    weight = b.act(f"{layer}_weight", b.scale(f"{layer}_score", match, b.shape(query)[0] ** -0.5), "sigmoid")
    mixed = b.mul(layer, weight, b.linear(f"{layer}_value", coarse, f"{layer}.value"))
    return b.scale(f"{layer}_pull", mixed, b.real("coupling_strength"))


@family(
    "archive.EnhancedMSTEP",
    "three scales, each a damped loop through a normalised two-layer network, the coarser guiding the finer",
    GAMMA,
    Setting("coupling_strength", 0.15, "pull of a coarser scale on the next finer one"),
    unused=(r"up_(coarse_to_medium|medium_to_fine)\.(weight|bias)",),
)
def archive_enhanced_mstep(b: Builder) -> None:
    """Damped by 1.8 g, 1.4 g and g: `c -> z_c Fc(c) + D' D e`, `m -> z_m Fm(m) + D e + guide(m, c_new)` and
    `h -> F(h) + e + guide(h, m_new)`; h0 = e, m0 = D e, c0 = D' D e.

    `z_c = sigmoid(coarse_gate c + b)`, one number a sample, and so `z_m`; a file without gates has none.
    """
    gamma = b.real("gamma", over=0.0, most=1.0 / 1.8)
    adaptive = b.has("coarse_gate.weight") or b.has("medium_gate.weight")
    e = b.drive("embed")
    drives = {"medium": b.linear("medium_drive", e, "down_fine_to_medium")}
    drives["coarse"] = b.linear("coarse_drive", drives["medium"], "down_medium_to_coarse")
    h = b.state("h", like=e, init=e)
    states = {scale: b.state(scale, like=drive, init=drive) for scale, drive in drives.items()}
    b.begin("step")

    def moved(scale: str, rate: float, *guides: str) -> str:
        state, inner = states[scale], _inner(b, scale, states[scale])
        if adaptive:
            gate = b.act(f"{scale}_gate", b.linear(f"{scale}_gate_pre", state, f"{scale}_gate"), "sigmoid")
            inner = b.mul(f"{scale}_gated", gate, inner)
        target = b.add(f"{scale}_target", inner, drives[scale], *guides)
        b.update(state, b.damp(f"{scale}_next", state, target, rate * gamma))
        return f"{scale}_next"

    guide = _guided(b, "medium_to_coarse_attn", states["medium"], moved("coarse", 1.8))
    guide = _guided(b, "fine_to_medium_attn", h, moved("medium", 1.4, guide))
    b.relax(h, b.add("target", ffn(b, h), e, guide), "gamma")
    b.read(h, "Head")


@family(
    "archive.HTSEP",
    "damped loop through a normalised two-layer network mixed with a running mean of its state",
    GAMMA,
    Setting("buffer_decay", 0.9, "decay of the running mean"),
)
def archive_htsep(b: Builder) -> None:
    """`n = (1-g) h + g (F + e); h <- (1-w) n + w B; B <- d B + (1-d) h_new`, w = sigmoid(buffer_weight), B0 = 0."""
    d = b.real("buffer_decay", over=0.0, most=1.0)
    share = float(1.0 / (1.0 + np.exp(-b.number("buffer_weight"))))
    e, h = b.driven("embed", start=True)
    buffer = b.state("buffer", like=h)
    relaxed = b.damp("relaxed", h, b.add("target", ffn(b, h), e), b.share("gamma"))
    new = b.damp("next", relaxed, buffer, share)
    b.update(h, new)
    b.update(buffer, b.add("buffer_next", b.scale("kept", buffer, d), b.scale("taken", new, 1.0 - d)))
    b.read(h, "Head")


@family(
    "archive.TEPSSR",
    "damped loop that mixes a normalised two-layer network with a linear state-space filter",
    GAMMA,
)
def archive_tepssr(b: Builder) -> None:
    """`q <- sigmoid(log_A) q + B LN'(h) + b; y = C q_new + D LN'(h); z = sigmoid(gate h);`
    `h <- (1-g) h + g (z F + (1-z) y + e)`, q0 = 0."""
    e, h = b.driven("embed", start=True)
    rates = 1.0 / (1.0 + np.exp(-b.tensor("ssm.log_A")))
    q = b.state("q", *rates.shape)
    normed = b.layer_norm("ssm_normed", h, "ssm_norm")
    keep = b.param("ssm_A", rates, b.tensors.source("ssm.log_A", "sigmoid"))
    q_new = b.add("q_next", b.mul("q_kept", keep, q), b.linear("q_drive", normed, "ssm.B"))
    b.update(q, q_new)
    y = b.add("y", b.linear("y_state", q_new, "ssm.C"), b.linear("y_direct", normed, "ssm.D"))
    gate = b.act("mix", b.linear("mix_pre", h, "gate"), "sigmoid")
    mixed = b.add("mixed", y, b.mul("mixed_way", gate, b.sub("difference", ffn(b, h), y)))
    b.relax(h, b.add("target", mixed, e), "gamma")
    b.read(h, "Head")
