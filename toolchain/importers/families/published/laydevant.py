"""Binary-weight nets of Laydevant et al. 2021, "Training dynamical binary neural networks with equilibrium
propagation", code Binary-Equilibrium-Propagation.

Layers are numbered from the output: `W.0` leads to the output, the last to the layer behind the input. A file holds the
weights as they are used, one magnitude a layer. All layers are updated together.
"""

from __future__ import annotations

from functools import partial

from ....ir import ops
from ...family import Setting
from ..build import Builder, family, steps
from .coupled import Dense, relax

__all__ = ["fc_bin_w", "fc_bin_w_n"]


@family("laydevant.Network_fc_bin_W", "dense layers with weights of one magnitude and hard sigmoids", steps(150))
def fc_bin_w(b: Builder) -> None:
    """`s_i <- clip(W_i s_{i+1} + b_i + W_{i-1}^T s_{i-1}, 0, 1)`, s_0 the output; from zero."""
    couplings = _couplings(b)
    x = b.input("x", couplings[0].weight.shape[1])
    hard = partial(Builder.clip, lo=0.0, hi=1.0)
    states = relax(b, x, couplings, [hard] * len(couplings), [range(1, len(couplings) + 1)])
    b.begin("readout")
    b.output("logits", states[-1])


def _couplings(b: Builder) -> list[Dense]:
    """The file's weights from the input on."""
    count = b.count("W.{}.weight")
    for i in range(count):
        b.expect(f"W.{i}")
    keys = [f"W.{i}" for i in reversed(range(count))]
    return [
        Dense(i, i + 1, b.matrix(f"{key}.weight"), b.tensors.source(f"{key}.weight"), f"{key}.bias")
        for i, key in enumerate(keys)
    ]


@family(
    "laydevant.Network_fc_bin_W_N",
    "dense layers with weights of one magnitude that send a binary activation",
    steps(150),
    Setting("gamma_neur", 0.5, "damping: share of the new value in each step"),
    Setting("expand_output", 1, "output units for each class, whose mean is its logit"),
)
def fc_bin_w_n(b: Builder) -> None:
    """`s_i <- clip((1-g) s_i + g (W_i H(s_{i+1}) + b_i + W_{i-1}^T H(s_{i-1})), 0, 1)`, `H(s) = [s >= 1/2]`, from 1;
    the input is sent as it is. The code's threshold on states is 1/2, the only one at which it never stops a unit."""
    couplings = _couplings(b)
    share, copies = b.share("gamma_neur"), b.integer("expand_output")
    x = b.input("x", couplings[0].weight.shape[1])
    clamped = couplings[0].forward(b, x)
    one = b.param("one", 1.0, "initial state of the source code")
    states = [b.state(f"h{i}", c.weight.shape[0], init=one) for i, c in enumerate(couplings)]
    b.begin("step")
    half, zero = b.param("half", 0.5, "threshold of the binary activation"), b.param("zero", 0.0, "constant")
    below = [b.emit(ops.Greater(out=f"below{i}", a=half, b=h)) for i, h in enumerate(states)]
    sent = [b.emit(ops.Select(out=f"sent{i}", condition=c, a=zero, b=one)) for i, c in enumerate(below)]
    for i, (h, coupling) in enumerate(zip(states, couplings, strict=True)):
        terms = [clamped if i == 0 else coupling.forward(b, sent[i - 1])]
        if i + 1 < len(states):
            terms.append(couplings[i + 1].backward(b, sent[i], sent[i + 1]))
        moved = b.damp(f"moved{i}", h, b.add(f"pre{i}", *terms), share)
        b.update(h, b.clip(f"new{i}", moved, 0.0, 1.0))
    b.begin("readout")
    units = b.shape(states[-1])[0]
    b.demand("W.0.weight", units % copies == 0, f"{units} output units are no whole number of {copies} a class")
    grouped = states[-1] if copies == 1 else b.reshape("grouped", states[-1], units // copies, copies)
    b.output("logits", grouped if copies == 1 else b.mean("logits", grouped, -1))
