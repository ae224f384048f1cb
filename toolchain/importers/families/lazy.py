"""Nets that leave updates out: layers that wait until their input moves, and loops whose units wait for themselves."""

from __future__ import annotations

from ...ir import ops
from ..family import Setting
from .build import ALPHA, Builder, family

__all__ = ["archive_lazy", "examples_lazy_loop", "models_lazy"]

_EPSILON = Setting("epsilon", 0.01, "a layer updates when the mean absolute change of its input exceeds this")


@family(
    "models.LazyEqProp",
    "damped chain whose layers update only when their input moved",
    ALPHA,
    _EPSILON,
)
def models_lazy(b: Builder) -> None:
    """`_lazy` without a nudge."""
    _lazy(b, "head", nudge=None)


@family(
    "archive.LazyEqProp",
    "damped chain whose layers update only when their input moved, with a nudge from its own prediction",
    ALPHA,
    _EPSILON,
    Setting("persistent_nudge_strength", 0.1, "strength of the nudge on the last layer's input"),
)
def archive_lazy(b: Builder) -> None:
    """`_lazy` with a nudge."""
    _lazy(b, "Head", nudge=b.real("persistent_nudge_strength"))


def _lazy(b: Builder, head: str, *, nudge: float | None) -> None:
    """Jacobi: `in_0 = embed x + b`, `in_i = h_{i-1}` (old); `active = mean |in_i - in_i of the last step| > epsilon`;
    `h_i <- (1-a) h_i + a tanh(W_i in_i + b_i)` where active. States and remembered inputs start at 0.

    With `nudge` k, from the second step on the last layer's input is moved by `-k (p - mean p) Head.weight`,
    `p = softmax(Head h_last)` of the old state.
    """
    alpha = b.share("alpha")
    epsilon = b.param("epsilon", b.real("epsilon"), f"setting epsilon of {b.family}")
    drive = b.drive("embed")
    hidden = [b.state(f"h{i}", like=drive) for i in range(b.count("layers.{}.weight"))]
    sources = [drive, *hidden[:-1]]
    previous = [b.state(f"previous{i}", like=source) for i, source in enumerate(sources)]
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
    b.read(hidden[-1], head)


def _pull(b: Builder, h: str, head: str, strength: float) -> str:
    """`strength (p - mean p) Head.weight`."""
    prediction = b.emit(ops.Softmax(out="prediction", x=b.linear("guess", h, head)))
    centred = b.sub("centred", prediction, b.mean("average", prediction, -1, keep=True))
    key = f"{head}.weight"
    back = b.linear_of("back", centred, f"{head}_transposed", b.matrix(key).T, b.tensors.source(key, "transposed"))
    return b.scale("pull", back, strength)


@family("examples.LazyLoop", "undamped tanh loop whose units move only where they would move by more than a threshold")
def examples_lazy_loop(b: Builder) -> None:
    """`new = tanh(W_in x + b_in + W_rec h + b_rec)`; h <- new where `|new - h| > threshold`, a number a unit; h0 = 0.

    Unlike a gate on the input of a layer, this one holds no unit further than the threshold from where it would go.
    """
    drive, h = b.driven("W_in")
    new = b.act("new", b.add("pre", drive, b.linear("recurrent", h, "W_rec")))
    change = b.emit(ops.Abs(out="change", x=b.sub("difference", new, h)))
    moves = b.emit(ops.Greater(out="moves", a=change, b=b.parameter("threshold")))
    b.update(h, b.emit(ops.Select(out="next", condition=moves, a=new, b=h)))
    b.read(h, "W_out")
