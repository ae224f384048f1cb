"""Networks without a relaxation of their own, as one tick, and one whose relaxation starts at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ...diagnostics import Diagnostic, UsageError
from ...ir import EqNet
from ...ir.ops import ActivationKind
from ..family import Family, Setting, Tensors
from .build import Builder, layer, steps

__all__ = ["ALGORITHMS_MOMENTUM", "MODELS_BACKPROP_MLP", "MODELS_HEBBIAN_CHAIN"]

_ONE_TICK = Setting("steps", 1, "the net is feed-forward: one tick computes it")


def _mlp(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h = tanh(W_0 x + b)`, `h <- tanh(W_i h + b)`, logits = last layer; the layers are every second of a list."""
    b = Builder("models.BackpropMLP", tensors, settings)
    n = 0
    while f"net.{2 * n}.weight" in tensors:
        n += 1
    if n < 2 or sum(key.endswith(".weight") for key in tensors) != n:
        raise b.mismatch(f"{n} layers net.0, net.2, ... without a gap: need at least 2 and no other", "net.0.weight")
    units, inputs = b.matrix(f"net.{2 * n - 4}.weight").shape[0], b.matrix("net.0.weight").shape[1]
    value = b.input("x", inputs)
    h = b.state("h", units)
    # All but the last hidden layer are the drive: cores whose step reads states and the drive alone take the net.
    for i in range(n - 1):
        if i == n - 2:
            b.begin("step")
        value = b.act(f"layer{i}", b.linear(f"pre{i}", value, f"net.{2 * i}"))
    b.update(h, value)
    b.begin("readout")
    b.output("logits", b.linear("logits", h, f"net.{2 * n - 2}"))
    return b.finish(b.integer("steps"))


MODELS_BACKPROP_MLP = Family(
    key="models.BackpropMLP",
    summary="feed-forward tanh network",
    required=layer(r"net\.\d*[02468]"),
    settings=(_ONE_TICK,),
    build=_mlp,
)


def _chain(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """`h = tanh(W_in x + b)`, then `h <- tanh(W_i h)` for each link of the chain."""
    b = Builder("models.DeepHebbianChain", tensors, settings)
    inputs = b.matrix("W_in.weight").shape[1]
    drive = b.linear("drive", b.input("x", inputs), "W_in")
    links = b.count("chain.{}.weight")
    h = b.state("h", b.matrix(f"chain.{links - 1}.weight").shape[0])
    b.begin("step")
    value = b.act("first", drive)
    for i in range(links):
        value = b.act(f"link{i}", b.linear(f"pre{i}", value, f"chain.{i}"))
    b.update(h, value)
    b.begin("readout")
    b.output("logits", b.linear("logits", h, "head"))
    return b.finish(b.integer("steps"))


MODELS_HEBBIAN_CHAIN = Family(
    key="models.DeepHebbianChain",
    summary="feed-forward chain of tanh layers without biases",
    required=(*layer("W_in", "head"), r"chain\.\d+\.weight"),
    settings=(_ONE_TICK,),
    build=_chain,
)


def _momentum(tensors: Tensors, settings: Mapping[str, Any]) -> EqNet:
    """Sweep over i: `v_i <- .5 v_i + .5 (phi(W_i in + b) - a_i); a_i <- a_i + v_i`, in = x or the new a_{i-1}.

    The activities start at the feed-forward pass and the velocities at 0.
    """
    b = Builder("algorithms.MomentumEquilibrium", tensors, settings)
    kind = _activation(b)
    hidden = b.count("layers.{}.weight") - 1
    if hidden < 1:
        raise b.mismatch("1 layer, need a hidden one and the output", "layers.0.weight")
    x = b.input("x", b.matrix("layers.0.weight").shape[1])
    value = x
    activities = []
    for i in range(hidden):
        value = b.act(f"forward{i}", b.linear(f"forward_pre{i}", value, f"layers.{i}"), kind)
        activities.append(b.state(f"h{i}", *b.shape(value), init=value))
    velocities = [b.state(f"velocity{i}", *b.shape(a)) for i, a in enumerate(activities)]
    b.begin("step")
    value = x
    for i, (a, v) in enumerate(zip(activities, velocities, strict=True)):
        target = b.act(f"target{i}", b.linear(f"pre{i}", value, f"layers.{i}"), kind)
        velocity = b.damp(f"velocity_next{i}", v, b.sub(f"way{i}", target, a), 0.5)
        value = b.add(f"next{i}", a, velocity)
        b.update(v, velocity)
        b.update(a, value)
    b.begin("readout")
    b.output("logits", b.linear("logits", activities[-1], f"layers.{hidden}"))
    return b.finish(b.integer("steps"))


def _activation(b: Builder) -> ActivationKind:
    for kind in get_args(ActivationKind):
        if b.settings["activation"] == kind:
            found: ActivationKind = kind
            return found
    raise UsageError(
        Diagnostic(
            "setting-value",
            f"activation is {b.settings['activation']!r}, must be one of {', '.join(get_args(ActivationKind))}",
            b.family,
        )
    )


ALGORITHMS_MOMENTUM = Family(
    key="algorithms.MomentumEquilibrium",
    summary="feed-forward network that settles onto its own pass with momentum",
    required=layer(r"layers\.\d+"),
    settings=(steps(20), Setting("activation", "silu", "activation of the hidden layers")),
    build=_momentum,
)
