"""Networks without a relaxation of their own, as one tick, and one whose relaxation starts at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from ...ir import ops
from ...ir.ops import ActivationKind
from ..family import Setting
from .build import Builder, family, steps
from .ranks import top_k

__all__ = [
    "ONE_TICK",
    "algorithms_adaptive_feedback",
    "algorithms_momentum",
    "algorithms_predictive_coding",
    "algorithms_sparse",
    "algorithms_stack",
    "models_backprop_mlp",
    "models_hebbian_chain",
]

ONE_TICK = Setting("steps", 1, "the net is feed-forward: one tick computes it", "nothing")
_ACTIVATION = Setting("activation", "silu", "activation of the hidden layers")


def _stack(b: Builder, layers: Sequence[str], kind: ActivationKind, *, sparse: bool = False) -> None:
    """`h = phi(W_0 x + b)`, `h <- phi(W_i h + b)`, logits = last layer; if `sparse`, the larger half of each `h`."""
    units, inputs = b.matrix(f"{layers[-2]}.weight").shape[0], b.matrix(f"{layers[0]}.weight").shape[1]
    value = b.input("x", inputs)
    h = b.state("h", units)
    # All but the last hidden layer are the drive: cores whose step reads states and the drive alone take the net.
    for i, layer in enumerate(layers[:-1]):
        if i == len(layers) - 2:
            b.begin("step")
        value = b.act(f"layer{i}", b.linear(f"pre{i}", value, layer), kind)
        if sparse:
            count = b.shape(value)[0] // 2
            b.demand(f"{layer}.weight", count > 0, f"{layer} has 1 unit: half of it, rounded down, is none")
            size = b.emit(ops.Abs(out=f"kept{i}_size", x=value))
            value = top_k(b, f"kept{i}", value, count, key=size)
    b.update(h, value)
    b.read(h, layers[-1])


@family(
    "models.BackpropMLP",
    "feed-forward tanh network",
    ONE_TICK,
    twins=("archive.BackpropMLP", "eqprop_torch.BackpropMLP"),
)
def models_backprop_mlp(b: Builder) -> None:
    """`_stack` of tanh; the layers are every second of a list."""
    _stack(b, [f"net.{2 * i}" for i in range(b.count("net.{}.weight", least=2, every=2))], "tanh")


def _layers(b: Builder) -> list[str]:
    return [f"layers.{i}" for i in range(b.count("layers.{}.weight", least=2))]


_PASS = "feed-forward network; what the source calls settling computes the same pass again"


@family(
    "algorithms.BackpropBaseline",
    _PASS,
    ONE_TICK,
    _ACTIVATION,
    twins=(
        "algorithms.StandardEqProp",
        "algorithms.StandardFA",
        "algorithms.EquilibriumAlignment",
        "algorithms.ContrastiveFeedbackAlignment",
        "algorithms.ContrastiveFA",
        "algorithms.LayerwiseEquilibriumFA",
        "algorithms.EnergyGuidedFA",
        "algorithms.StochasticFA",
        "algorithms.EnergyMinimizingFA",
    ),
)
def algorithms_stack(b: Builder) -> None:
    """`_stack`. The classes differ in how they learn."""
    _stack(b, _layers(b), _activation(b))


@family(
    "algorithms.AdaptiveFeedbackAlignment",
    f"{_PASS}; its feedback weights learn",
    ONE_TICK,
    _ACTIVATION,
    twins=("algorithms.AdaptiveFA",),
)
def algorithms_adaptive_feedback(b: Builder) -> None:
    """`_stack`; feedback weights are in the file, inference does not use them."""
    for i in range(b.count("feedback_weights.{}", least=2)):
        b.find(f"feedback_weights.{i}")
    _stack(b, _layers(b), _activation(b))


@family("algorithms.PredictiveCodingHybrid", f"{_PASS}; its predictions go downwards", ONE_TICK, _ACTIVATION)
def algorithms_predictive_coding(b: Builder) -> None:
    """`_stack`; top-down predictors are in the file, inference does not use them."""
    for i in range(b.count("top_down.{}.weight", least=2)):
        b.expect(f"top_down.{i}")
    _stack(b, _layers(b), _activation(b))


@family(
    "algorithms.SparseEquilibrium",
    "feed-forward network that keeps the half of each hidden layer's units that is largest in magnitude",
    ONE_TICK,
    _ACTIVATION,
)
def algorithms_sparse(b: Builder) -> None:
    """`_stack`, sparse. The first settling step computes it and the others repeat it; the pass before them is lost."""
    _stack(b, _layers(b), _activation(b), sparse=True)


@family(
    "models.DeepHebbianChain",
    "feed-forward chain of tanh layers without biases",
    ONE_TICK,
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
    "feed-forward network that settles with momentum onto its own pass, where it starts",
    steps(20),
    _ACTIVATION,
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
