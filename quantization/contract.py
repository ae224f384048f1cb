"""Weaker recurrent weights, so that the integer net is proved to contract: only if asked for, and never unsaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eqcompile.toolchain.interfaces import Lowered

from ..toolchain.certificate import Block, certify, recurrent_weights
from ..toolchain.diagnostics import Diagnostic, UsageError
from ..toolchain.ir import EqNet, Param
from ..toolchain.typed_json import JsonObject
from .ground import Ground

__all__ = ["contracted"]

_ROUNDS = 12
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
    for _ in range(_ROUNDS):
        certificate = certify(found.net)
        if certificate.reason:
            raise _refused(f"there is no certificate to obtain: {certificate.reason}", ground.net)
        gated = [g for b in certificate.blocks for g in b.gates]
        if gated:
            raise _refused(f"a gate holds its state whatever the weights are: {', '.join(gated)}", ground.net)
        loose = [b for b in certificate.blocks if b.bound > wanted]
        if not loose:
            return replace(found, choices=(*found.choices, *_rows(lowered, found, wanted, factors)))
        for block in loose:
            names = recurrent_weights(ground.net, block.states)
            if block.states not in floors:
                floors[block.states] = _floor(ground.net, names, block, wanted)
            floor = floors[block.states]
            for name in names:
                factors[name] = factors.get(name, 1.0) * (wanted - floor) / (block.bound - floor) * _MARGIN
        found = ground.lowered(kinds, shrink=factors)
    what = f"after {_ROUNDS} rounds the bound is {certify(found.net).bound:.6g}, asked for is {wanted:g}"
    raise _refused(what, ground.net)


def _floor(net: EqNet, names: Sequence[str], block: Block, wanted: float) -> float:
    """The bound that is left without the block's weights: what damping keeps."""
    silent = tuple(Param(p.name, np.zeros_like(p.value), p.source) if p.name in names else p for p in net.params)
    left = [b.bound for b in certify(replace(net, params=silent)).blocks if set(b.states) & set(block.states)]
    floor = max(left, default=0.0)
    if floor >= wanted:
        what = f"without any weight the bound of {', '.join(block.states)} is {floor:.6g}, asked for is {wanted:g}"
        raise _refused(what, net)
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


def _refused(what: str, net: EqNet) -> UsageError:
    return UsageError(
        Diagnostic("contract-impossible", what, f"{net.family}: --max-lipschitz", "leave --max-lipschitz out")
    )
