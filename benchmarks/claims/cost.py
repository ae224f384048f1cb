"""Claims of what a net saves: ternary weights, fewer bit operations, lazy updates, local connections."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from common import Claim, Reals, Row, digits, integers, interval, net, percent, right

from eqcompile.quantization.lower import lower
from eqcompile.sim.campaign.statistics import wilson
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.options import QuantizeOptions
from eqcompile.toolchain.reference import run_reference

__all__ = ["bit_operations", "connections", "lazy", "sparsity"]

ZEROS, POINT = 0.47, 0.01
FAN_IN = 784
LAZY_SHARE, CUBE_SHARE = 0.95, 0.91
PARTS = 12
"""Of the test images, for intervals of what golden counts a batch."""


def sparsity() -> Claim:
    """47 % of each matrix 0 and the rest of one magnitude: made of a float net, and trained so."""
    rows = []
    for name in ("digits_looped", "digits_eqprop", "digits_eqprop_layered"):
        rows.append(_beside(name, "made ternary without training", _ternarized(net(name)), net(name)))
    for ternary, peer in (("digits_certified", "digits_eqprop"), ("digits_layered", "digits_eqprop_layered")):
        zeros = np.mean([(p.value == 0).mean() for p in net(ternary).params if p.value.ndim == 2])
        words = f"trained ternary, {zeros:.0%} zeros, beside the float net of the same shape"
        rows.append(_beside(f"{ternary}, {peer}", words, net(ternary), net(peer)))
    return Claim("47 % of ternary weights are 0 at full accuracy", "within 1 point of float", "measured", rows)


def _beside(case: str, words: str, ternary: EqNet, peer: EqNet) -> Row:
    """Accuracy of two nets on the same images, seed 0 of each; the interval is that of the difference over images."""
    found, beside = right(ternary), right(peer)
    difference = interval(found - beside)
    words += f": {found.mean():.1%} for {beside.mean():.1%}, difference {percent(difference)} over {len(found)} images"
    data = {"ternary": float(found.mean()), "float": float(beside.mean()), "difference": difference}
    return Row(case, words, bool(difference[0] >= -POINT), data)


def _ternarized(of: EqNet) -> EqNet:
    """Each matrix: its smallest 47 % become 0, the others their sign times their mean magnitude."""

    def ternary(value: Reals) -> Reals:
        size = np.abs(value)
        kept = size > np.quantile(size, ZEROS)
        return np.where(kept, np.sign(value) * size[kept].mean(), 0.0)

    params = tuple(replace(p, value=ternary(p.value)) if p.value.ndim == 2 else p for p in of.params)
    return replace(of, params=params)


def bit_operations() -> Claim:
    """Of a multiply-accumulate, by the formula of Baskin et al. 2021 (UNIQ, arXiv:1804.10969):
    `b_w b_a + b_w + b_a + log2(fan-in)`."""

    def count(weight: int, activation: int) -> float:
        return weight * activation + weight + activation + math.log2(FAN_IN)

    ours = count(2, 8)
    rows = []
    for peer, weight, activation in (("float32", 32, 32), ("int8 weights and activations", 8, 8)):
        ratio = count(weight, activation) / ours
        words = f"{count(weight, activation):.0f} bit operations to {ours:.0f}: {ratio:.1f} times fewer"
        rows.append(Row(f"ternary, 8-bit states, beside {peer}", words, ratio >= 32, {"ratio": ratio}))
    for peer, bits in (("float32", 32), ("int8", 8)):
        words = f"stored in 2 bits: {bits / 2:.0f} times smaller; 5 in a byte: {bits / 1.6:.0f} times"
        rows.append(Row(f"storage of a ternary weight beside {peer}", words, bits / 1.6 >= 32, {"ratio": bits / 1.6}))
    return Claim("32 times fewer bit operations", "a ratio of 32 or more", "computed", rows)


def lazy() -> Claim:
    """Layers that update only when their input changed, beside exact event-driven evaluation of the same layers."""
    x, labels = digits()
    gated = net("digits_lazy")
    run = run_reference(gated, {"x": x}, trace=True)
    assert run.trace is not None
    layers = [name for name in run.trace if name.startswith("h")]
    saved = interval(1.0 - np.mean([_fired(run.trace[name]) for name in layers], axis=0))
    open_ = replace(
        gated, params=tuple(replace(p, value=p.value - 1.0) if p.name == "epsilon" else p for p in gated.params)
    )
    relaxed_labels = run_reference(open_, {"x": x}).outputs["logits"].argmax(axis=1)
    gated_labels = run.outputs["logits"].argmax(axis=1)
    same = wilson(int((relaxed_labels == gated_labels).sum()), len(x), confidence=0.95)
    rows = [
        Row(
            "digits_lazy, gates as trained",
            f"{percent(saved)} of the layer updates of 30 steps are left out",
            bool(saved[0] >= LAZY_SHARE),
            {"saved": saved},
        ),
        Row(
            "the same net without gates",
            f"labels equal to the gated net's: {percent((same.estimate, same.low, same.high))}; accuracy "
            f"{(gated_labels == labels).mean():.1%} gated, {(relaxed_labels == labels).mean():.1%} relaxed",
            bool((relaxed_labels == gated_labels).all()),
            {"labels_equal": same.to_json()},
        ),
    ]
    ungated = lower(open_, QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net
    cases = {"digits_lazy without gates": ungated} | {
        n: integers(n) for n in ("digits_layered", "digits_eqprop", "digits_looped")
    }
    for name, of in cases.items():
        saved = interval(_event_share(of, part) for part in np.array_split(x, PARTS))
        words = f"exact event-driven evaluation, the same bits: {percent(saved)} of the recurrent additions left out"
        rows.append(Row(name, words, saved[0] >= LAZY_SHARE, {"saved": saved}))
    rule = "95 % of the operations of 30 steps are left out, and no label changes"
    return Claim("Lazy updates save 95 % of the operations", rule, "simulated", rows)


def _fired(trace: Reals) -> Reals:
    """Share of the steps in which a layer moved, for each image."""
    before = np.concatenate([np.zeros_like(trace[:1]), trace[:-1]])
    share: Reals = (trace != before).any(axis=2).mean(axis=0)
    return share


def _event_share(of: IntNet, x: Reals) -> float:
    details = golden.run(of, encode(of, {"x": x})[0], evaluation="event", trace=False).details
    event, dense = details["additions_event"], details["additions_dense"]
    assert isinstance(event, int)
    assert isinstance(dense, int)
    return 1.0 - event / dense


def connections() -> Claim:
    """Of a cube whose units read their 26 neighbours and themselves, beside all pairs."""
    rows = []
    for side in (3, 4, 5, 6, 8, 10):
        share = 1.0 - (3 * side - 2) ** 3 / side**6
        rows.append(Row(f"{side}^3 units", f"{share:.1%} fewer", share >= CUBE_SHARE, {"fewer": share}))
    return Claim("A cube has 91 % fewer connections", "91 % or more", "computed", rows)
