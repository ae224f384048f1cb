"""Weaker recurrent weights, so that the integer net is proved to contract: only if asked for, and never unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eqcompile.toolchain.interfaces import Lowered

from ..toolchain.certificate import Block, Certificate, certify, recurrent_weights
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet, IntNet, Param
from ..toolchain.typed_json import JsonObject
from .ground import Ground

__all__ = ["ROUNDS", "certificate_of", "contracted", "no_contraction", "weight_free_bound"]

ROUNDS = 12
_MARGIN = 1.0 - 1e-6
"""Below the factor that would just do, for the rounding of multipliers."""


def contracted(ground: Ground, kinds: Mapping[str, str], lowered: Lowered, wanted: float) -> Lowered:
    """`lowered`, or the net anew with each recurrent block's weights multiplied until its bound is at most `wanted`.

    What the weights lose in the mean of the calibration data, the biases take. A row `contraction` says the factors.
    Raises UsageError where there is no certificate to obtain: an operation without a bound, a gate, or a bound that
    damping alone holds above `wanted`.
    """
    factors: dict[str, float] = {}
    floors: dict[tuple[str, ...], float] = {}
    found = lowered
    for _ in range(ROUNDS):
        certificate = certificate_of(found.net, ground.net)
        loose = [b for b in certificate.blocks if b.bound > wanted]
        if not loose:
            return replace(found, choices=(*found.choices, *_rows(lowered, found, wanted, factors)))
        for block in loose:
            names = recurrent_weights(ground.net, block.states)
            if block.states not in floors:
                floors[block.states] = weight_free_bound(ground.net, names, block, wanted)
            floor = floors[block.states]
            for name in names:
                factors[name] = factors.get(name, 1.0) * (wanted - floor) / (block.bound - floor) * _MARGIN
        found = ground.lowered(kinds, shrink=factors)
    what = f"after {ROUNDS} rounds the bound is {certify(found.net).bound:.6g}, asked for is {wanted:g}"
    raise no_contraction(what, ground.net)


def certificate_of(lowered: IntNet, net: EqNet) -> Certificate:
    """The certificate of the integers of `net`; UsageError where weaker weights could not make it a contraction."""
    certificate = certify(lowered)
    if certificate.reason:
        raise no_contraction(f"there is no certificate to obtain: {certificate.reason}", net)
    gated = [g for b in certificate.blocks for g in b.gates]
    if gated:
        raise no_contraction(f"a gate holds its state whatever the weights are: {', '.join(gated)}", net)
    return certificate


def weight_free_bound(net: EqNet, names: Sequence[str], block: Block, wanted: float) -> float:
    """The bound that is left without the weights `names` of a block, which damping keeps; UsageError if that is not
    below `wanted`."""
    silent = tuple(Param(p.name, np.zeros_like(p.value), p.source) if p.name in names else p for p in net.params)
    left = [b.bound for b in certify(replace(net, params=silent)).blocks if set(b.states) & set(block.states)]
    floor = max(left, default=0.0)
    if floor >= wanted:
        what = f"without any weight the bound of {', '.join(block.states)} is {floor:.6g}, asked for is {wanted:g}"
        raise no_contraction(what, net)
    return floor


def _rows(before: Lowered, after: Lowered, wanted: float, factors: Mapping[str, float]) -> list[JsonObject]:
    return [
        {
            "what": "contraction",
            "name": ", ".join(factors) or "no weight",
            "asked": wanted,
            "bound_before": certify(before.net).bound,
            "bound": certify(after.net).bound,
            "factors": dict(factors),
        }
    ]


def no_contraction(what: str, net: EqNet) -> UsageError:
    """The error that no contraction as asked for can be had, because of `what`."""
    return UsageError(
        Diagnostic("contract-impossible", what, f"{net.family}: --max-lipschitz", "leave --max-lipschitz out")
    )
