"""Transformers whose hidden sequence relaxes, weights shared over the steps."""

from __future__ import annotations

import math

import numpy as np

from ...ir import EqNet, ops
from ...ir.ops import ActivationKind
from ..family import Family, Setting
from .build import ALPHA, Builder, family, steps
from .feedforward import ONE_TICK

__all__ = [
    "models_attention_only_lm",
    "models_backprop_lm",
    "models_causal_transformer",
    "models_full_lm",
    "models_hybrid_lm",
    "models_looped_lm",
    "models_recurrent_lm",
    "models_transformer",
]

_HEADS = Setting("num_heads", 4, "attention heads; no tensor reveals them")
_LENGTH = Setting("length", 0, "tokens of a sequence; 0 takes every position that the file has", "input")


def _embedded(b: Builder, out: str = "drive") -> str:
    """Input `x` of token ids and its embedding `token_emb[x] + pos_emb`, `[length, width]`."""
    rows = b.matrix("token_emb.weight").shape[0]
    positions = b.matrix("pos_emb.weight")
    length = b.integer("length", least=0) or len(positions)
    if length > len(positions):
        length = b.reject("length", f"{length}, the file has {len(positions)} positions", len(positions))
    x = b.input("x", length, rows=rows)
    tokens = b.emit(ops.Embedding(out="tokens", x=x, table=b.parameter("token_emb.weight")))
    source = b.tensors.source("pos_emb.weight", f"first {length} positions")
    return b.add(out, tokens, b.param("positions", positions[:length], source))


def _attention(b: Builder, out: str, x: str, prefix: str, *, causal: bool) -> str:
    """`W_o softmax(Q K^T / sqrt d) V` over heads of width d; with `causal` no position sees a later one."""
    length, width = b.shape(x)
    heads = b.integer("num_heads")
    if width % heads:
        heads = b.reject("num_heads", f"{heads} does not divide the width {width}", 1)

    def split(name: str, axes: tuple[int, int, int]) -> str:
        projected = b.linear(f"{out}_{name}", x, f"{prefix}.W_{name}")
        by_head = b.reshape(f"{out}_{name}_heads", projected, length, heads, width // heads)
        return b.emit(ops.Transpose(out=f"{out}_{name}_split", x=by_head, axes=axes))

    q, k, v = split("q", (1, 0, 2)), split("k", (1, 2, 0)), split("v", (1, 0, 2))
    scores = b.scale(f"{out}_scores", b.emit(ops.MatMul(out=f"{out}_qk", a=q, b=k)), 1.0 / math.sqrt(width // heads))
    lower = np.tril(np.ones((length, length), np.int64))
    mask = b.param("causal", lower, "derived: causal mask") if causal else None
    weights = b.emit(ops.Softmax(out=f"{out}_weights", x=scores, mask=mask))
    mixed = b.emit(ops.MatMul(out=f"{out}_mixed", a=weights, b=v))
    together = b.emit(ops.Transpose(out=f"{out}_joined", x=mixed, axes=(1, 0, 2)))
    return b.linear(out, b.reshape(f"{out}_flat", together, length, width), f"{prefix}.W_o")


def _feed(b: Builder, out: str, x: str, prefix: str, kind: ActivationKind, *, last: int = 2) -> str:
    hidden = b.act(f"{out}_hidden", b.linear(f"{out}_pre", x, f"{prefix}.0"), kind)
    return b.linear(out, hidden, f"{prefix}.{last}")


def _block(b: Builder, h: str, i: int, prefix: str, *, last: int) -> str:
    """`h' = h + attention(LN1 h); h' + W gelu(W0 LN2 h')`, causal, without a relaxation."""
    attended = _attention(
        b, f"attended{i}", b.layer_norm(f"normed{i}", h, f"{prefix}.norm1"), f"{prefix}.attention", causal=True
    )
    residual = b.add(f"kept{i}", h, attended)
    normed = b.layer_norm(f"kept_normed{i}", residual, f"{prefix}.norm2")
    return b.add(f"block{i}", residual, _feed(b, f"ffn{i}", normed, f"{prefix}.ffn", "gelu", last=last))


def _sweep(b: Builder, h: str, drive: str, i: int, names: tuple[str, str, str, str], *, causal: bool) -> str:
    """`h' = h + attention(LN1 h); (1-a) h' + a tanh(h' + FFN(LN2 h') + drive)`."""
    attention, feed, norm1, norm2 = names
    attended = _attention(b, f"attended{i}", b.layer_norm(f"normed{i}", h, norm1), attention, causal=causal)
    residual = b.add(f"kept{i}", h, attended)
    update = _feed(b, f"ffn{i}", b.layer_norm(f"kept_normed{i}", residual, norm2), feed, "relu")
    new = b.act(f"new{i}", b.add(f"target{i}", residual, update, drive))
    return b.damp(f"swept{i}", residual, new, b.share("alpha"))


def _layers(b: Builder) -> int:
    return b.count("attentions.{}.W_q.weight")


def _names(i: int) -> tuple[str, str, str, str]:
    return f"attentions.{i}", f"ffns.{i}", f"norms1.{i}", f"norms2.{i}"


def _transformer(
    key: str,
    summary: str,
    default_steps: int,
    *,
    causal: bool,
    stacked: bool = True,
    unused: tuple[str, ...] = (),
    twins: tuple[str, ...] = (),
) -> Family:
    """One step is a sweep over the layers; h0 = 0. Logits for each position if `causal`, else of the mean position."""
    head = "lm_head" if causal else "head"

    def compose(b: Builder) -> None:
        drive = _embedded(b)
        h = b.state("h", *b.shape(drive))
        b.begin("step")
        swept = h
        blocks = [_names(i) for i in range(_layers(b))] if stacked else [("attention", "ffn", "norm1", "norm2")]
        for i, names in enumerate(blocks):
            swept = _sweep(b, swept, drive, i, names, causal=causal)
        b.update(h, swept)
        b.begin("readout")
        b.output("logits", b.linear("logits", h if causal else b.mean("pooled", h, -2), head))

    return family(key, summary, steps(default_steps), ALPHA, _HEADS, _LENGTH, unused=unused, twins=twins)(compose)


_CLASSIFIER = "relaxing transformer that classifies the mean position"
_LANGUAGE = "relaxing transformer with a causal mask and logits for each position"
_ONE_BLOCK = "one relaxing transformer block with a causal mask and logits for each position"
models_transformer = _transformer(
    "models.TransformerEqProp",
    _CLASSIFIER,
    20,
    causal=False,
    twins=("archive.TransformerEqProp", "eqprop_torch.TransformerEqProp"),
)
models_causal_transformer = _transformer(
    "models.CausalTransformerEqProp", _LANGUAGE, 20, causal=True, unused=("causal_mask",)
)
models_full_lm = _transformer("models.FullEqPropLM", _LANGUAGE, 15, causal=True, twins=("eqprop_torch.FullEqPropLM",))
models_recurrent_lm = _transformer(
    "models.RecurrentEqPropLM", _ONE_BLOCK, 20, causal=True, stacked=False, twins=("eqprop_torch.RecurrentEqPropLM",)
)


@family(
    "models.HybridEqPropLM",
    "transformer blocks passed once, then one relaxing block, with a causal mask and logits for each position",
    steps(10),
    ALPHA,
    _HEADS,
    _LENGTH,
    twins=("eqprop_torch.HybridEqPropLM",),
)
def models_hybrid_lm(b: Builder) -> None:
    """One step is a sweep of the relaxing block; h0 and what drives it are what the other blocks make of the input."""
    drive = _embedded(b, "embedded")
    blocks = b.count("standard_blocks.{}.attention.W_q.weight", least=0)
    for i in range(blocks):
        drive = _block(b, drive, i, f"standard_blocks.{i}", last=2)
    h = b.state("h", like=drive, init=drive)
    b.begin("step")
    names = ("eq_attention", "eq_ffn", "eq_norm1", "eq_norm2")
    b.update(h, _sweep(b, h, drive, blocks, names, causal=True))
    b.read(h, "lm_head")


@family(
    "models.LoopedMLPForLM",
    "undamped tanh loop at each position, none of which sees another, with logits for each position",
    steps(20),
    _LENGTH,
    twins=("eqprop_torch.LoopedMLPForLM",),
)
def models_looped_lm(b: Builder) -> None:
    """`h <- tanh(W_in e + b_in + W_rec h + b_rec)`, e the embedding of the position; h0 = 0."""
    drive = b.linear("drive", _embedded(b, "embedded"), "W_in")
    h = b.state("h", like=drive)
    b.begin("step")
    b.update(h, b.act("new", b.add("pre", drive, b.linear("recurrent", h, "W_rec"))))
    b.read(h, "lm_head")


@family(
    "models.BackpropTransformerLM",
    "feed-forward transformer with a causal mask and logits for each position",
    ONE_TICK,
    _HEADS,
    _LENGTH,
    unused=("causal_mask",),
)
def models_backprop_lm(b: Builder) -> None:
    """`_block` after `_block` on the embedding, then `lm_head LN(.)`."""
    value = _embedded(b, "embedded")
    h = b.state("h", *b.shape(value))
    b.begin("step")
    for i in range(b.count("blocks.{}.attention.W_q.weight")):
        value = _block(b, value, i, f"blocks.{i}", last=3)
    b.update(h, value)
    b.begin("readout")
    b.output("logits", b.linear("logits", b.layer_norm("final", h, "norm_f"), "lm_head"))


@family(
    "models.EqPropAttentionOnlyLM",
    "transformer whose attention relaxes inside each layer, with logits for each position",
    Setting("steps", 10, "relaxation steps of each layer's attention"),
    ALPHA,
    _HEADS,
    _LENGTH,
    twins=("eqprop_torch.EqPropAttentionOnlyLM",),
)
def models_attention_only_lm(b: Builder) -> EqNet:
    """For each layer `z = h; steps times z <- (1-a) z + a (h + attention(LN1 z)); h <- z + W2 gelu(W1 LN2 z)`.

    The relaxation is inside each layer, so the whole net is one tick. h starts at the embedding.
    """
    alpha, inner = b.share("alpha"), b.integer("steps")
    drive = _embedded(b)
    h = b.state("h", *b.shape(drive))
    b.begin("step")
    value = drive
    for i in range(_layers(b)):
        attention, feed, norm1, norm2 = _names(i)

        def relax(z: str, i: int = i, source: str = value, attention: str = attention, norm: str = norm1) -> str:
            attended = _attention(b, f"attended{i}", b.layer_norm(f"normed{i}", z, norm), attention, causal=True)
            return b.damp(f"relaxed{i}", z, b.add(f"target{i}", source, attended), alpha)

        settled = b.repeat(f"settled{i}", value, inner, relax)
        update = _feed(b, f"ffn{i}", b.layer_norm(f"settled_normed{i}", settled, norm2), feed, "gelu")
        value = b.add(f"layer{i}", settled, update)
    b.update(h, value)
    b.read(h, "lm_head")
    return b.finish(1)
