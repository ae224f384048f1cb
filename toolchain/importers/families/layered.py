"""Several hidden states, one for each layer, and loops with a loop inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...ir import EqNet
from ..family import Family, Setting, Tensors
from .build import ALPHA, Builder, layer, steps

__all__ = [
    "ARCHIVE_DEEP_RECURSIVE",
    "ARCHIVE_HOMEOSTATIC",
    "ARCHIVE_RECURSIVE_BLOCK",
    "MODELS_DEEP_DFA",
    "MODELS_DFA",
    "MODELS_HOMEOSTATIC",
]


def _homeostatic(key: str) -> Family:
    def build(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
        """Jacobi: `h_i <- (1-a) h_i + a tanh(s_i W_i in_i + b_i)`, `in_0 = W_in x + b`, `in_i = h_{i-1}` (old).

        The scales s are those of the file, as the call with `apply_homeostasis=False` uses them; they are folded into
        the weights.
        """
        b = Builder(key, tensors, settings)
        alpha = b.share("alpha")
        inputs = b.matrix("W_in.weight").shape[1]
        drive = b.linear("drive", b.input("x", inputs), "W_in")
        n = b.count("layers.{}.weight")
        scales = b.tensor("layer_scales")
        if scales.shape != (n,):
            raise b.mismatch(f"layer_scales has shape {list(scales.shape)} for {n} layers", "layer_scales")
        hidden = [b.state(f"h{i}", b.matrix(f"layers.{i}.weight").shape[0]) for i in range(n)]
        b.begin("step")
        for i, (h, source) in enumerate(zip(hidden, [drive, *hidden[:-1]], strict=True)):
            weight = f"layers.{i}.weight"
            note = tensors.source(weight, f"times layer_scales[{i}] = {scales[i]:.9g}")
            scaled = b.tensor(weight) * scales[i]
            pre = b.linear_of(f"pre{i}", source, f"layers_{i}_scaled", scaled, note, f"layers.{i}.bias")
            b.update(h, b.damp(f"next{i}", h, b.act(f"new{i}", pre), alpha))
        b.begin("readout")
        b.output("logits", b.linear("logits", hidden[-1], "head"))
        return b.finish(b.integer("steps"))

    return Family(
        key=key,
        summary="damped chain with a scale for each layer, as with apply_homeostasis=False",
        required=(*layer("W_in", r"layers\.\d+", "head"), "layer_scales"),
        settings=(steps(30), ALPHA),
        build=build,
    )


MODELS_HOMEOSTATIC = _homeostatic("models.HomeostaticEqProp")
ARCHIVE_HOMEOSTATIC = replace(_homeostatic("archive.HomeostaticEqProp"), same_as="models.HomeostaticEqProp")


def _swept(b: Builder, *, normalised: bool) -> EqNet:
    """Gauss-Seidel: `h_i <- (1-a) h_i + a tanh(in_i + W_i h_i + b_i)`, `in_0 = W_in x + b`, `in_i = h_{i-1}` (new).

    If `normalised`, each layer is then `h_i <- LN_i(h_i)`.
    """
    alpha = b.share("alpha")
    inputs = b.matrix("W_in.weight").shape[1]
    source = b.linear("drive", b.input("x", inputs), "W_in")
    n = b.count("layers.{}.weight")
    hidden = [b.state(f"h{i}", b.matrix(f"layers.{i}.weight").shape[0]) for i in range(n)]
    b.begin("step")
    for i, h in enumerate(hidden):
        new = b.act(f"new{i}", b.add(f"pre{i}", source, b.linear(f"recurrent{i}", h, f"layers.{i}")))
        source = b.damp(f"next{i}", h, new, alpha)
        if normalised:
            source = b.layer_norm(f"normed{i}", source, f"layer_norms.{i}")
        b.update(h, source)
    b.begin("readout")
    b.output("logits", b.linear("logits", hidden[-1], "head"))
    return b.finish(b.integer("steps"))


def _dfa(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    return _swept(Builder("models.DirectFeedbackAlignmentEqProp", tensors, settings), normalised=False)


def _deep_dfa(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    return _swept(Builder("models.DeepDFAEqProp", tensors, settings), normalised=True)


MODELS_DFA = Family(
    key="models.DirectFeedbackAlignmentEqProp",
    summary="damped tanh sweep over a chain of self-coupled layers",
    required=layer("W_in", r"layers\.\d+", "head"),
    settings=(steps(30), ALPHA),
    build=_dfa,
    unused=(r"feedback_projections\.\d+\.weight",),
)

MODELS_DEEP_DFA = Family(
    key="models.DeepDFAEqProp",
    summary="damped tanh sweep over a chain of self-coupled layers, each normalised",
    required=layer("W_in", r"layers\.\d+", r"layer_norms\.\d+", "head"),
    settings=(steps(30), ALPHA),
    build=_deep_dfa,
    unused=(r"feedback_projections\.\d+\.weight",),
)

_OUTER = Setting("outer_alpha", 0.5, "damping of the outer loop")
_INNER_STEPS = Setting("inner_steps", 5, "steps of the inner loop in each outer step")


def _core(b: Builder, name: str, u: str, layer: str, count: int, alpha: float) -> str:
    """`g = 0; count times g <- (1-c) g + c tanh(W g + b + u)`."""
    zero = b.param(f"{name}_zero", np.zeros(b.shape(u)), "initial state of the inner loop")

    def body(g: str) -> str:
        new = b.act(f"{name}_new", b.add(f"{name}_pre", b.linear(f"{name}_recurrent", g, layer), u))
        return b.damp(f"{name}_next", g, new, alpha)

    return b.repeat(name, zero, count, body)


def _recursive(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h <- (1-a) h + a core(h + embed x + b)`, h0 = 0."""
    b = Builder("archive.RecursiveBlock", tensors, settings)
    units, inputs = b.matrix("embed.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "embed")
    h = b.state("h", units)
    b.begin("step")
    core = _core(b, "core", b.add("u", h, drive), "inner_core.W", b.integer("inner_steps"), b.share("inner_alpha"))
    b.update(h, b.damp("next", h, core, b.share("outer_alpha")))
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "Head"))
    return b.finish(b.integer("steps"))


ARCHIVE_RECURSIVE_BLOCK = Family(
    key="archive.RecursiveBlock",
    summary="damped loop whose step is itself a short damped tanh loop",
    required=layer("embed", r"inner_core\.W", "Head"),
    settings=(steps(30), _OUTER, Setting("inner_alpha", 0.5, "damping of the inner loop"), _INNER_STEPS),
    build=_recursive,
)


def _deep_recursive(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """Jacobi: `h_i <- (1-a) h_i + a core_i(h_i + in_i)`, `in_0 = embed x + b`, `in_i = h_{i-1}` (old); a damps both."""
    b = Builder("archive.DeepRecursiveNetwork", tensors, settings)
    alpha, inner = b.share("outer_alpha"), b.integer("inner_steps")
    inputs = b.matrix("embed.weight").shape[1]
    drive = b.linear("drive", b.input("x", inputs), "embed")
    n = b.count("blocks.{}.W.weight")
    hidden = [b.state(f"h{i}", b.matrix(f"blocks.{i}.W.weight").shape[0]) for i in range(n)]
    b.begin("step")
    for i, (h, source) in enumerate(zip(hidden, [drive, *hidden[:-1]], strict=True)):
        core = _core(b, f"core{i}", b.add(f"u{i}", h, source), f"blocks.{i}.W", inner, alpha)
        b.update(h, b.damp(f"next{i}", h, core, alpha))
    b.begin("readout")
    b.output("logits", b.linear("logits", hidden[-1], "Head"))
    return b.finish(b.integer("steps"))


ARCHIVE_DEEP_RECURSIVE = Family(
    key="archive.DeepRecursiveNetwork",
    summary="chain of damped blocks, each step of each block a short damped tanh loop",
    required=layer("embed", r"blocks\.\d+\.W", "Head"),
    settings=(steps(30), _OUTER, _INNER_STEPS),
    build=_deep_recursive,
)
