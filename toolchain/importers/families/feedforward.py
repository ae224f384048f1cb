"""Networks without a relaxation of their own, as one tick, and one whose relaxation starts at its end."""

from __future__ import annotations

from typing import get_args

from ...ir.ops import ActivationKind
from ..family import Setting
from .build import Builder, family, steps

__all__ = ["algorithms_momentum", "models_backprop_mlp", "models_hebbian_chain"]

_ONE_TICK = Setting("steps", 1, "the net is feed-forward: one tick computes it", "nothing")


@family("models.BackpropMLP", "feed-forward tanh network", _ONE_TICK)
def models_backprop_mlp(b: Builder) -> None:
    """`h = tanh(W_0 x + b)`, `h <- tanh(W_i h + b)`, logits = last layer; the layers are every second of a list."""
    n = b.count("net.{}.weight", least=2, every=2)
    units, inputs = b.matrix(f"net.{2 * n - 4}.weight").shape[0], b.matrix("net.0.weight").shape[1]
    value = b.input("x", inputs)
    h = b.state("h", units)
    # All but the last hidden layer are the drive: cores whose step reads states and the drive alone take the net.
    for i in range(n - 1):
        if i == n - 2:
            b.begin("step")
        value = b.act(f"layer{i}", b.linear(f"pre{i}", value, f"net.{2 * i}"))
    b.update(h, value)
    b.read(h, f"net.{2 * n - 2}")


@family(
    "models.DeepHebbianChain",
    "feed-forward chain of tanh layers without biases",
    _ONE_TICK,
)
def models_hebbian_chain(b: Builder) -> None:
    """`h = tanh(W_in x + b)`, then `h <- tanh(W_i h)` for each link of the chain."""
    drive, links = b.drive("W_in"), b.count("chain.{}.weight")
    h = b.state("h", len(b.matrix(f"chain.{links - 1}.weight")))
    b.begin("step")
    value = b.act("first", drive)
    for i in range(links):
        value = b.act(f"link{i}", b.linear(f"pre{i}", value, f"chain.{i}", bias=False))
    b.update(h, value)
    b.read(h, "head")


@family(
    "algorithms.MomentumEquilibrium",
    "feed-forward network that settles onto its own pass with momentum",
    steps(20),
    Setting("activation", "silu", "activation of the hidden layers"),
)
def algorithms_momentum(b: Builder) -> None:
    """Sweep over i: `v_i <- .5 v_i + .5 (phi(W_i in + b) - a_i); a_i <- a_i + v_i`, in = x or the new a_{i-1}.

    The activities start at the feed-forward pass and the velocities at 0.
    """
    kind = _activation(b)
    hidden = b.count("layers.{}.weight", least=2) - 1
    x = b.input("x", b.matrix("layers.0.weight").shape[1])
    value = x
    activities = []
    for i in range(hidden):
        value = b.act(f"forward{i}", b.linear(f"forward_pre{i}", value, f"layers.{i}"), kind)
        activities.append(b.state(f"h{i}", like=value, init=value))
    velocities = [b.state(f"velocity{i}", like=a) for i, a in enumerate(activities)]
    b.begin("step")
    value = x
    for i, (a, v) in enumerate(zip(activities, velocities, strict=True)):
        target = b.act(f"target{i}", b.linear(f"pre{i}", value, f"layers.{i}"), kind)
        velocity = b.damp(f"velocity_next{i}", v, b.sub(f"way{i}", target, a), 0.5)
        value = b.add(f"next{i}", a, velocity)
        b.update(v, velocity)
        b.update(a, value)
    b.read(activities[-1], f"layers.{hidden}")


def _activation(b: Builder) -> ActivationKind:
    kinds: tuple[ActivationKind, ...] = get_args(ActivationKind)
    for kind in kinds:
        if b.settings["activation"] == kind:
            return kind
    return b.reject("activation", f"is {b.settings['activation']!r}, must be one of {', '.join(kinds)}", kinds[0])
