"""A multiple of the identity inside a weight: taken out, so that it does not spoil the scale of every row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eqcompile.quantization import ground
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.interfaces import Lowered, QuantizeOptions
from eqcompile.toolchain.ir import EqNet, verify
from eqcompile.toolchain.reference import run_reference

UNITS, SHARE = 12, 0.1
RNG = np.random.default_rng(8)
V = RNG.normal(size=(UNITS, 5))
W = RNG.normal(size=(UNITS, UNITS))
W *= 0.7 / np.linalg.norm(W, 2)
U = 1.0 + 0.2 * RNG.normal(size=UNITS)
FOLDED = (1.0 - SHARE) * np.eye(UNITS) + SHARE * W
X = {"x": np.random.default_rng(9).uniform(-1.0, 1.0, (64, 5))}


def loop(weight: Any = FOLDED, *, damped: bool = False) -> EqNet:
    """`h <- clip((1-a) h + a (W h + V x))`, the first part folded into the weight, or as a damping."""
    b = Builder("test.Loop", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 5), "V", V if damped else SHARE * V, "test")
    h = b.state("h", UNITS)
    b.begin("step")
    near = b.linear_of("near", h, "W", W if damped else weight, "test")
    pre = b.add("pre", drive, near)
    b.update(h, b.clip("next", b.damp("mean", h, pre, SHARE) if damped else pre))
    b.output("o", h, "values")
    net = b.finish(80)
    verify(net)
    return net


def error(lowered: Lowered) -> float:
    """Root mean square distance of the last state from float64, in steps of 2^-7."""
    codes, _ = encode(lowered.net, X)
    s = lowered.net.states[0]
    last = run(lowered.net, codes).states["h"][-1] * 2.0 ** -(s.frac or 0)
    return float(np.sqrt(((last - run_reference(loop(), X).states["h"]) ** 2).mean()) * 2**7)


def identities(lowered: Lowered) -> list[dict[str, Any]]:
    return [dict(row) for row in lowered.choices if row["what"] == "identity"]


def test_a_folded_identity_costs_no_more_than_a_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two nets are the same in real numbers; with the identity in the weight's codes the error is a multiple."""
    np.testing.assert_allclose(
        run_reference(loop(), X).states["h"], run_reference(loop(damped=True), X).states["h"], rtol=0, atol=1e-12
    )
    options = QuantizeOptions(state_bits=12)  # so that rounding the state is small against the error of the weights
    split, damped = (lower(loop(damped=d), options, calibration=X) for d in (False, True))
    [row] = identities(split)
    assert row == {"what": "identity", "name": "W", "share": float(np.diagonal(FOLDED).min())}
    assert not identities(damped)
    monkeypatch.setattr(ground, "without_identities", lambda net: (net, ()))
    folded = lower(loop(), options, calibration=X)
    assert error(split) < error(folded) / 5.0
    assert error(split) < 1.1 * error(damped)


def test_the_certificate_holds_the_sum_of_both_parts() -> None:
    """As two terms the bound would be the sum of their norms; the two are added exactly, in the float net and in
    integers, and the bound is no smaller than the true norm."""
    weight = 0.9 * np.eye(UNITS) - 0.9 * np.outer(U, U) / (U @ U)
    true = float(np.linalg.norm(weight, 2))
    lowered = lower(loop(weight), QuantizeOptions(), calibration=X)
    assert len(identities(lowered)) == 1
    [block] = certify(lowered.net).blocks
    share = identities(lowered)[0]["share"]
    assert true - 0.01 < block.bound < true + 0.02
    assert block.bound < share + float(np.linalg.norm(weight - share * np.eye(UNITS), 2)) - 0.3


def test_other_weights_stay_as_they_are() -> None:
    """A weight without such a diagonal, one that is codes already, and one that another map reads too."""
    codes = (np.random.default_rng(3).integers(-3, 4, (UNITS, UNITS)) + 90 * np.eye(UNITS)) / 128.0
    for weight in (W, -FOLDED, codes):
        assert not identities(lower(loop(weight), QuantizeOptions(), calibration=X))
    net = loop()
    twice = replace(net, readout=(replace(net.step[0], out="again"),))
    verify(twice)
    assert not identities(lower(twice, QuantizeOptions(), calibration=X))


def test_the_split_net_is_the_same_net() -> None:
    """Exact in real numbers, names of values kept."""
    split, rows = ground.without_identities(loop())
    verify(split)
    assert len(rows) == 1
    np.testing.assert_allclose(
        run_reference(split, X).states["h"], run_reference(loop(), X).states["h"], rtol=0, atol=1e-12
    )
