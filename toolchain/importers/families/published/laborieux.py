"""Layered nets of Laborieux et al. 2021, "Scaling equilibrium propagation to deep convnets by drastically reducing its
gradient estimator bias", code Equilibrium-Propagation.

All layers are updated together: `s_i <- activation(dPhi/ds_i)`, from zero, `Phi = sum_i <s_i, W_i s_{i-1} + b_i>`.
Vector-field nets have feedback weights of their own in place of `W^T`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ....arrays import Reals
from ...family import Setting
from ..build import Builder, family, steps
from .coupled import Activate, Convolution, Coupling, Dense, Pool, choose, each, option, relax

__all__ = ["p_cnn", "p_mlp", "vf_cnn", "vf_mlp"]


def _mysig(b: Builder, out: str, x: str) -> str:
    """`1 / (1 + exp(-4 (x - 1/2)))`."""
    steep = b.sub(f"{out}_shifted", b.scale(f"{out}_steep", x, 4.0), b.param("two", 2.0, "constant"))
    return b.act(out, steep, "sigmoid")


def _my_hard_sig(b: Builder, out: str, x: str) -> str:
    return b.clip(out, b.scale(f"{out}_half", x, 0.5), 0.0, 1.0)


_ACTIVATIONS: dict[str, Activate] = {
    "mysig": _mysig,
    "sigmoid": lambda b, out, x: b.act(out, x, "sigmoid"),
    "tanh": lambda b, out, x: b.act(out, x, "tanh"),
    "hard_sigmoid": partial(Builder.clip, lo=0.0, hi=1.0),
    "ctrd_hard_sig": partial(Builder.clip, lo=-0.5, hi=0.5),
    "my_hard_sig": _my_hard_sig,
}
"""As `model_utils.py` defines them; the values of its argument `--act`."""
_ACT = option("act", tuple(_ACTIVATIONS), "activation of every layer")
_LOSS = option("loss", ("mse", "cel"), "what it was trained with; with cel the output layer is linear", "mse")
_STEPS = steps(20)
_CONV = (
    Setting("height", None, "rows of the input image"),
    Setting("width", None, "columns of the input image"),
    Setting("pools", None, "a letter for each convolution: m for max, a for average, i for none", example="mm"),
    Setting("strides", None, "stride of the convolutions: one for all, or one each, separated by commas", example=1),
    Setting("paddings", None, "padding of the convolutions: one for all, or one each, separated by commas", example=0),
    Setting("softmax", False, "the last layer only reads out: it does not act on the others"),
)
_POOLS: dict[str, Pool] = {"m": "max", "a": "avg", "i": "none"}


@family("laborieux.P_MLP", "layers coupled by a weight and its transpose, updated together", _STEPS, _ACT, _LOSS)
def p_mlp(b: Builder) -> None:
    """`s_i <- act(W_i s_{i-1} + b_i + W_{i+1}^T s_{i+1})`; the last layer is the output."""
    _mlp(b, feedback=False)


@family("laborieux.VF_MLP", "layers coupled by forward and feedback weights, updated together", _STEPS, _ACT, _LOSS)
def vf_mlp(b: Builder) -> None:
    """`s_i <- act(W_i s_{i-1} + b_i + B_i s_{i+1})`; the last layer is the output."""
    _mlp(b, feedback=True)


@family(
    "laborieux.P_CNN", "convolutional layers with pools, then dense ones, updated together", _STEPS, _ACT, _LOSS, *_CONV
)
def p_cnn(b: Builder) -> None:
    """`s_i <- act(pool(W_i * s_{i-1} + b_i) + W_{i+1}^T * unpool(s_{i+1}))`, at last as `p_mlp`."""
    _cnn(b, feedback=False)


@family("laborieux.VF_CNN", "convolutional layers with feedback kernels, updated together", _STEPS, _ACT, _LOSS, *_CONV)
def vf_cnn(b: Builder) -> None:
    """As `p_cnn` with `B_i` for `W_{i+1}` on the way back, also in the convolution that says where a maximum is."""
    _cnn(b, feedback=True)


def _mlp(b: Builder, *, feedback: bool) -> None:
    count = _expect(b, feedback=feedback)
    couplings = [_dense(b, i, feedback=feedback and i > 0) for i in range(count)]
    _settle(b, b.input("x", couplings[0].weight.shape[1]), couplings)


def _cnn(b: Builder, *, feedback: bool) -> None:
    softmax = b.flag("softmax")
    count = _expect(b, feedback=feedback, silent=int(softmax))
    ranks = [b.tensor(f"synapses.{i}.weight").ndim for i in range(count)]
    convolutions = ranks.index(2) if 2 in ranks else count
    first = "synapses.0.weight"
    b.demand(first, ranks[0] == 4, f"{first} has {ranks[0]} axes, the kernel of a convolution has 4")
    what = "after the convolutions come dense layers, at least one"
    dense = ranks == [4] * convolutions + [2] * (count - convolutions) and convolutions < count
    b.demand(f"synapses.{count - 1}.weight", dense, what)
    pools, strides = _pools(b, convolutions), each(b, "strides", convolutions, least=1)
    paddings = each(b, "paddings", convolutions, least=0)
    couplings: list[Coupling] = []
    for i in range(count):
        own = feedback and i > 0 and not (softmax and i == count - 1)
        if i >= convolutions:
            couplings.append(_dense(b, i, feedback=own, transposed=True))
            continue
        key = f"synapses.{i}"
        back = _feedback(b, i) if own else None
        weight, source = b.tensor(f"{key}.weight"), b.tensors.source(f"{key}.weight")
        couplings.append(Convolution(i, i + 1, weight, source, f"{key}.bias", back, strides[i], paddings[i], pools[i]))
    image = b.input("x", couplings[0].weight.shape[1], b.integer("height"), b.integer("width"))
    _settle(b, image, couplings, softmax=softmax)


def _expect(b: Builder, *, feedback: bool, silent: int = 0) -> int:
    """How many layers the file has; every tensor that is missing is noted."""
    count = b.count("synapses.{}.weight")
    for i in range(count):
        b.expect(f"synapses.{i}")
    for i in range(count - 1 - silent if feedback else 0):
        b.find(f"B_syn.{i}.weight")
    return count


def _feedback(b: Builder, i: int) -> tuple[Reals, str]:
    key = f"B_syn.{i - 1}.weight"
    return b.tensor(key), b.tensors.source(key)


def _dense(b: Builder, i: int, *, feedback: bool, transposed: bool = False) -> Dense:
    """Coupling i; of `VF_MLP` the feedback weight is stored as it is applied, of `VF_CNN` transposed."""
    key = f"synapses.{i}"
    weight, source = b.matrix(f"{key}.weight"), b.tensors.source(f"{key}.weight")
    if not feedback:
        return Dense(i, i + 1, weight, source, f"{key}.bias")
    back, origin = _feedback(b, i)
    back = back if transposed else back.T
    what = f"{origin} makes {list(back.shape)} of a weight {list(weight.shape)}"
    b.demand(f"B_syn.{i - 1}.weight", back.shape == weight.shape, what)
    return Dense(i, i + 1, weight, source, f"{key}.bias", (back, origin))


def _pools(b: Builder, count: int) -> list[Pool]:
    letters = str(b.settings["pools"])
    if len(letters) == count and set(letters) <= set(_POOLS):
        return [_POOLS[letter] for letter in letters]
    what = f"is {letters!r}, must be {count} of the letters {', '.join(_POOLS)}"
    return b.reject("pools", what, ["none"] * count)


def _settle(b: Builder, x: str, couplings: Sequence[Coupling], *, softmax: bool = False) -> None:
    act = _ACTIVATIONS[choose(b, "act", tuple(_ACTIVATIONS))]
    linear = choose(b, "loss", ("mse", "cel")) == "cel" and not softmax
    inner = couplings[: len(couplings) - softmax]
    activations = [_identity if linear and c is inner[-1] else act for c in inner]
    sizes = ("height", "width", "pools", "strides", "paddings") if isinstance(inner[0], Convolution) else ()
    states = relax(b, x, inner, activations, [range(1, len(inner) + 1)], sizes)
    b.begin("readout")
    b.output("logits", couplings[-1].forward(b, states[-1]) if softmax else states[-1])


def _identity(b: Builder, out: str, x: str) -> str:
    return x
