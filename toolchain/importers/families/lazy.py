"""Chains of layers that update only when their input moved: one gate for each sample and layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir import EqNet, ops
from ..family import Family, Setting, Tensors
from .build import ALPHA, Builder, layer, steps

__all__ = ["ARCHIVE_LAZY", "MODELS_LAZY"]

_EPSILON = Setting("epsilon", 0.01, "a layer updates when the mean absolute change of its input exceeds this")


def _lazy(b: Builder, head: str, *, nudge: float | None) -> EqNet:
    """Jacobi: `in_0 = embed x + b`, `in_i = h_{i-1}` (old); `active = mean |in_i - in_i of the last step| > epsilon`;
    `h_i <- (1-a) h_i + a tanh(W_i in_i + b_i)` where active. States and remembered inputs start at 0.

    With `nudge` k, from the second step on the last layer's input is moved by `-k (p - mean p) Head.weight`,
    `p = softmax(Head h_last)` of the old state.
    """
    alpha = b.share("alpha")
    epsilon = b.param("epsilon", b.real("epsilon"), f"setting epsilon of {b.family}")
    units, inputs = b.matrix("embed.weight").shape
    drive = b.linear("drive", b.input("x", inputs), "embed")
    n = b.count("layers.{}.weight")
    hidden = [b.state(f"h{i}", b.matrix(f"layers.{i}.weight").shape[0]) for i in range(n)]
    sources = [drive, *hidden[:-1]]
    previous = [b.state(f"previous{i}", *b.shape(source)) for i, source in enumerate(sources)]
    started = None if nudge is None else b.state("started")
    b.begin("step")
    if nudge is not None and started is not None:
        b.update(started, b.param("one", 1.0, f"first-step flag of {b.family}"))
        sources[-1] = b.sub("nudged", sources[-1], b.mul("nudge", started, _pull(b, hidden[-1], head, nudge)))
    for i, (h, source, before) in enumerate(zip(hidden, sources, previous, strict=True)):
        change = b.emit(ops.Abs(out=f"change{i}", x=b.sub(f"difference{i}", source, before)))
        active = b.emit(ops.Greater(out=f"active{i}", a=b.mean(f"activity{i}", change, -1, keep=True), b=epsilon))
        new = b.damp(f"damped{i}", h, b.act(f"new{i}", b.linear(f"pre{i}", source, f"layers.{i}")), alpha)
        b.update(h, b.emit(ops.Select(out=f"next{i}", condition=active, a=new, b=h)))
        b.update(before, source)
    b.begin("readout")
    b.output("logits", b.linear("logits", hidden[-1], head))
    return b.finish(b.integer("steps"))


def _pull(b: Builder, h: str, head: str, strength: float) -> str:
    """`strength (p - mean p) Head.weight`."""
    prediction = b.emit(ops.Softmax(out="prediction", x=b.linear("guess", h, head)))
    centred = b.sub("centred", prediction, b.mean("average", prediction, -1, keep=True))
    key = f"{head}.weight"
    back = b.linear_of("back", centred, f"{head}_transposed", b.matrix(key).T, b.tensors.source(key, "transposed"))
    return b.scale("pull", back, strength)


def _release(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    return _lazy(Builder("models.LazyEqProp", tensors, settings), "head", nudge=None)


def _archive(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    b = Builder("archive.LazyEqProp", tensors, settings)
    return _lazy(b, "Head", nudge=b.real("persistent_nudge_strength"))


MODELS_LAZY = Family(
    key="models.LazyEqProp",
    summary="damped chain whose layers update only when their input moved",
    required=layer("embed", r"layers\.\d+", "head"),
    settings=(steps(30), ALPHA, _EPSILON),
    build=_release,
)

ARCHIVE_LAZY = Family(
    key="archive.LazyEqProp",
    summary="damped chain whose layers update only when their input moved, with a nudge from its own prediction",
    required=layer("embed", r"layers\.\d+", "Head"),
    settings=(
        steps(30),
        ALPHA,
        _EPSILON,
        Setting("persistent_nudge_strength", 0.1, "strength of the nudge on the last layer's input"),
    ),
    build=_archive,
)
