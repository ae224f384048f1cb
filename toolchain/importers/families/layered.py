"""Several hidden states, one for each layer, and loops with a loop inside."""

from __future__ import annotations

import numpy as np

from ..family import Setting
from .build import ALPHA, Builder, family

__all__ = [
    "archive_deep_recursive",
    "archive_recursive_block",
    "models_deep_dfa",
    "models_dfa",
    "models_homeostatic",
]


@family(
    "models.HomeostaticEqProp",
    "damped chain with a scale for each layer, as with apply_homeostasis=False",
    ALPHA,
    twins=("archive.HomeostaticEqProp",),
)
def models_homeostatic(b: Builder) -> None:
    """Jacobi: `h_i <- (1-a) h_i + a tanh(s_i W_i in_i + b_i)`, `in_0 = W_in x + b`, `in_i = h_{i-1}` (old).

    The scales s are those of the file, as the call with `apply_homeostasis=False` uses them; they are folded into the
    weights.
    """
    alpha = b.share("alpha")
    drive, scales = b.drive("W_in"), b.tensor("layer_scales")
    hidden = b.chain("layers.{}")
    what = f"layer_scales has shape {list(scales.shape)} for {len(hidden)} layers"
    b.demand("layer_scales", scales.shape == (len(hidden),), what)
    b.begin("step")
    for i, (h, source) in enumerate(zip(hidden, [drive, *hidden[:-1]], strict=True)):
        weight = f"layers.{i}.weight"
        note = b.tensors.source(weight, f"times layer_scales[{i}] = {scales[i]:.9g}")
        scaled = b.tensor(weight) * scales[i]
        pre = b.linear_of(f"pre{i}", source, f"layers_{i}_scaled", scaled, note, f"layers.{i}.bias")
        b.update(h, b.damp(f"next{i}", h, b.act(f"new{i}", pre), alpha))
    b.read(hidden[-1], "head")


def _swept(b: Builder, *, normalised: bool) -> None:
    """Gauss-Seidel: `h_i <- (1-a) h_i + a tanh(in_i + W_i h_i + b_i)`, `in_0 = W_in x + b`, `in_i = h_{i-1}` (new).

    If `normalised`, each layer is then `h_i <- LN_i(h_i)`.
    """
    alpha = b.share("alpha")
    source, hidden = b.drive("W_in"), b.chain("layers.{}")
    b.begin("step")
    for i, h in enumerate(hidden):
        new = b.act(f"new{i}", b.add(f"pre{i}", source, b.linear(f"recurrent{i}", h, f"layers.{i}")))
        source = b.damp(f"next{i}", h, new, alpha)
        if normalised:
            source = b.layer_norm(f"normed{i}", source, f"layer_norms.{i}")
        b.update(h, source)
    b.read(hidden[-1], "head")


_PROJECTIONS = (r"feedback_projections\.\d+\.weight",)


@family(
    "models.DirectFeedbackAlignmentEqProp",
    "damped tanh sweep over a chain of self-coupled layers",
    ALPHA,
    unused=_PROJECTIONS,
)
def models_dfa(b: Builder) -> None:
    """`_swept` as it is."""
    _swept(b, normalised=False)


@family(
    "models.DeepDFAEqProp",
    "damped tanh sweep over a chain of self-coupled layers, each normalised",
    ALPHA,
    unused=_PROJECTIONS,
)
def models_deep_dfa(b: Builder) -> None:
    """`_swept` with a normalisation of each layer."""
    _swept(b, normalised=True)


_OUTER = Setting("outer_alpha", 0.5, "damping of the outer loop")
_INNER_STEPS = Setting("inner_steps", 5, "steps of the inner loop in each outer step")


def _core(b: Builder, name: str, u: str, layer: str, count: int, alpha: float) -> str:
    """`g = 0; count times g <- (1-c) g + c tanh(W g + b + u)`."""
    zero = b.param(f"{name}_zero", np.zeros(b.shape(u)), "initial state of the inner loop")

    def body(g: str) -> str:
        new = b.act(f"{name}_new", b.add(f"{name}_pre", b.linear(f"{name}_recurrent", g, layer), u))
        return b.damp(f"{name}_next", g, new, alpha)

    return b.repeat(name, zero, count, body)


@family(
    "archive.RecursiveBlock",
    "damped loop whose step is itself a short damped tanh loop",
    _OUTER,
    Setting("inner_alpha", 0.5, "damping of the inner loop"),
    _INNER_STEPS,
)
def archive_recursive_block(b: Builder) -> None:
    """`h <- (1-a) h + a core(h + embed x + b)`, h0 = 0."""
    drive, h = b.driven("embed")
    core = _core(b, "core", b.add("u", h, drive), "inner_core.W", b.integer("inner_steps"), b.share("inner_alpha"))
    b.relax(h, core, "outer_alpha")
    b.read(h, "Head")


@family(
    "archive.DeepRecursiveNetwork",
    "chain of damped blocks, each step of each block a short damped tanh loop",
    _OUTER,
    _INNER_STEPS,
)
def archive_deep_recursive(b: Builder) -> None:
    """Jacobi: `h_i <- (1-a) h_i + a core_i(h_i + in_i)`, `in_0 = embed x + b`, `in_i = h_{i-1}` (old); a damps both."""
    alpha, inner = b.share("outer_alpha"), b.integer("inner_steps")
    drive, hidden = b.drive("embed"), b.chain("blocks.{}.W")
    b.begin("step")
    for i, (h, source) in enumerate(zip(hidden, [drive, *hidden[:-1]], strict=True)):
        core = _core(b, f"core{i}", b.add(f"u{i}", h, source), f"blocks.{i}.W", inner, alpha)
        b.update(h, b.damp(f"next{i}", h, core, alpha))
    b.read(hidden[-1], "Head")
