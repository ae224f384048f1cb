"""Loops through a normalised two-layer network with a second state: a coarser scale, a buffer, a linear filter."""

from __future__ import annotations

import numpy as np

from ..family import Setting
from .build import GAMMA, Builder, family
from .ffn import ffn

__all__ = ["archive_htsep", "archive_mstep", "archive_tepssr"]


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
    normed = b.layer_norm("coarse_normed", coarse, "coarse_ffn.0")
    hidden = b.act("coarse_hidden", b.linear("coarse_pre", normed, "coarse_ffn.1"))
    inner = b.linear("coarse_ffn", hidden, "coarse_ffn.4")
    coarse_new = b.damp("coarse_next", coarse, b.add("coarse_target", inner, coarse_drive), 1.5 * gamma)
    b.update(coarse, coarse_new)
    apart = b.sub("apart", b.linear("upsampled", coarse_new, "upsample"), h)
    target = b.add("target", ffn(b, h), e, b.scale("pull", apart, b.real("coupling_strength")))
    b.relax(h, target, "gamma")
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
