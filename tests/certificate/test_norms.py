"""Contraction in several norms, against every pair of settings of small nets."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance_nets import plain
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import loop, net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.certificate.certificate import Block
from eqcompile.toolchain.certificate.gates import hold
from eqcompile.toolchain.certificate.norm import NoBoundError
from eqcompile.toolchain.certificate.norms import Contraction, contractions
from eqcompile.toolchain.certificate.spread import spread_of
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, IntNet, State, ops

EXAMPLES = Path(__file__).parents[2] / "examples"
Array = NDArray[Any]
seeds = st.integers(0, 2**32 - 1)


def integers(made: EqNet, bits: int = 3) -> IntNet:
    return lower(made, QuantizeOptions(state_bits=bits), calibration=None).net


def every_setting(lowered: IntNet, rng: np.random.Generator, names: Sequence[str], ticks: int) -> list[Array]:
    """All settings of these states, or 400 of them, and what becomes of each: [ticks + 1] of [settings, units]."""
    codes = [
        np.arange(lowered.formats[s.name].lo, lowered.formats[s.name].hi + 1)
        for s in lowered.states
        if s.name in names
        for _ in range(int(np.prod(s.shape)))
    ]
    count = int(np.prod([len(c) for c in codes]))
    if count <= 400:
        start = np.array(list(product(*codes)))
    else:
        start = np.stack([rng.choice(c, 400) for c in codes], axis=1)
        start[:40] = np.stack([rng.choice([c[0], c[-1]], 40) for c in codes], axis=1)
    inputs = {
        i.name: np.broadcast_to(rng.integers(i.limits[0], i.limits[1] + 1, i.shape), (len(start), *i.shape))
        for i in lowered.inputs
    }
    clamped, batch, _ = golden.clamped_codes(lowered, inputs)
    machine, every = golden.Machine(lowered, batch, "dense"), np.arange(batch)
    first = {name: v[:, 0] for name, v in clamped.items()}
    machine.evaluate(lowered.drive, first, every)
    states, at = machine.initial(first), 0
    for s in lowered.states:
        if s.name in names:
            size = int(np.prod(s.shape))
            states[s.name] = start[:, at : at + size].reshape(-1, *s.shape).astype(np.int64)
            at += size
    rows = [start]
    for _ in range(ticks):
        states, _ = machine.tick(first, states, every)
        rows.append(np.concatenate([states[s.name].reshape(batch, -1) for s in lowered.states if s.name in names], 1))
    return rows


def distances(bound: Contraction, codes: Array) -> Array:
    """Of all pairs of settings [settings, units]."""
    d = (codes[:, None] - codes[None]).astype(np.float64)
    if bound.kind == "maximum":
        return np.asarray((np.abs(d) / bound.weights).max(axis=2))
    return np.sqrt(((d * bound.weights) ** 2).sum(axis=2))


def refuted(bound: Contraction, rows: Sequence[Array]) -> bool:
    """Whether a pair of settings moves further apart in one tick, or is further apart, than the bound allows."""
    before, after = distances(bound, rows[0]), distances(bound, rows[1])
    codes = {t: n for t, n in bound.codes.items() if t < len(rows)}
    return bool(
        (after > (bound.bound * before + bound.slack) * (1 + 1e-12)).any()
        or before.max() > bound.diameter
        or any(np.ptp(rows[t], axis=0).max() > n for t, n in codes.items())
    )


def ring(rng: np.random.Generator, scale: float) -> EqNet:
    """Two populations that read each other, the second damped."""
    return net(
        {"A": scale * rng.normal(size=(2, 1)), "B": scale * rng.normal(size=(1, 2)), "C": rng.normal(size=(2, 2))},
        x=(2,),
        states=[State("a", (2,), "next_a"), State("b", (1,), "next_b")],
        drive=[ops.Linear(out="drive", x="x", weight="C")],
        step=[
            ops.Linear(out="down", x="b", weight="A"),
            ops.Add(out="pre_a", a="down", b="drive"),
            ops.Activation(out="next_a", x="pre_a", kind="tanh"),
            ops.Linear(out="up", x="a", weight="B"),
            ops.Activation(out="new_b", x="up", kind="sigmoid"),
            ops.Damp(out="next_b", old="b", new="new_b", alpha=0.5),
        ],
        output="a",
        steps=7,
    )


def gated(rng: np.random.Generator, scale: float, *, of_change: bool = True) -> EqNet:
    """Units that move only where they would move by more than a threshold, or that a state switches."""
    watched = "size" if of_change else "h"
    return net(
        {"W": scale * rng.normal(size=(2, 2)), "C": rng.normal(size=(2, 2)), "limit": np.array([0.3, 0.3])},
        x=(2,),
        states=[State("h", (2,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="C")],
        step=[
            ops.Linear(out="recurrent", x="h", weight="W"),
            ops.Add(out="pre", a="recurrent", b="drive"),
            ops.Activation(out="new", x="pre", kind="tanh"),
            ops.Sub(out="change", a="new", b="h"),
            ops.Abs(out="size", x="change"),
            ops.Greater(out="open", a=watched, b="limit"),
            ops.Select(out="next", condition="open", a="new", b="h"),
        ],
        output="h",
        steps=7,
    )


@pytest.mark.slow
@given(
    seed=seeds,
    kind=st.sampled_from(["loop", "damped", "ternary", "ring", "gate", "switch"]),
    scale=st.floats(0.05, 1.5),
    bits=st.integers(3, 5),
)
@settings(max_examples=60, deadline=None)
def test_no_pair_of_settings_moves_further_apart_than_any_norm_says(
    seed: int, kind: str, scale: float, bits: int
) -> None:
    """Damped or not, of one or two populations, with gates that a state opens; from all pairs of settings."""
    rng = np.random.default_rng(seed)
    if kind == "ring":
        made = ring(rng, scale)
    elif kind in ("gate", "switch"):
        made = gated(rng, scale, of_change=kind == "gate")
    else:
        ternary = min(scale, 0.4) if kind == "ternary" else None
        made = loop(
            rng, units=2, steps=7, gain=scale, alpha=0.5 if kind == "damped" else 1.0, ternary_scale=ternary
        ).net
    lowered = integers(made, bits)
    for block in certify(lowered).blocks:
        rows = every_setting(lowered, rng, block.states, 6)
        for bound in contractions(lowered, block.states):
            assert not refuted(bound, rows), bound
        far = (
            np.linalg.norm(rows[0][:, None] - rows[0][None], axis=2),
            np.linalg.norm(rows[1][:, None] - rows[1], axis=2),
        )
        if len(block.states) == 1 and not block.gates:
            assert (far[1] <= (block.bound * far[0] + block.slack / block.lsb) * (1 + 1e-12)).all()


@pytest.mark.parametrize("kind", ["2", "weighted 2", "maximum"])
@pytest.mark.parametrize("part", ["bound", "slack", "diameter", "codes"])
def test_a_smaller_bound_is_refuted(kind: str, part: str) -> None:
    """The comparison above notices each figure of each norm that is too small: where the map is nearly linear, the
    bounds leave little room."""
    rng = np.random.default_rng(1)
    made = loop(rng, units=2, inputs=1, steps=7, gain=0.9)
    quiet = replace(made.net, params=tuple(replace(p, value=p.value * (p.name == "W")) for p in made.net.params))
    lowered = integers(quiet, 4)
    (bound,) = (b for b in contractions(lowered, ["h"]) if b.kind == kind)
    rows = every_setting(lowered, rng, ["h"], 6)
    assert not refuted(bound, rows)
    if part == "codes":
        wrong = replace(bound, codes={t: n // 2 for t, n in bound.codes.items()})
    elif part == "slack":
        wrong = replace(bound, slack=-bound.slack)
    elif part == "bound":
        wrong = replace(bound, bound=bound.bound * 0.4)
    else:
        wrong = replace(bound, diameter=bound.diameter * 0.99)
    assert refuted(wrong, rows)


@given(seed=seeds, units=st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_bounds_are_near_the_norms_that_they_bound(seed: int, units: int) -> None:
    """Within 3 % of the norm in exact arithmetic; the maximum norm is within 3 % of the spectral radius, which no
    weights can go below; the search for weights is no worse than the powers that it looks at."""
    rng = np.random.default_rng(seed)
    lowered = integers(loop(rng, units=units, steps=2, gain=1.3).net, 8)
    spread = spread_of(lowered, ["h"])
    (term,) = spread.terms
    matrix = term.scale * term.value()
    by_kind = {b.kind: b for b in contractions(lowered, ["h"])}
    for kind in ("2", "weighted 2"):
        w = by_kind[kind].weights.astype(np.float64)
        true = np.linalg.norm(w[:, None] * matrix / w, 2)
        assert true <= by_kind[kind].bound * (1 + 1e-12)
        assert by_kind[kind].bound <= 1.03 * true
    # Weights lower the trace of the eighth power, whose root is at most units**(1/8) above the norm.
    assert by_kind["weighted 2"].bound <= by_kind["2"].bound * units**0.125 * 1.001
    radius = np.abs(np.linalg.eigvals(np.abs(matrix))).max()
    assert radius * (1 - 1e-9) <= by_kind["maximum"].bound <= 1.03 * radius


def test_units_in_a_chain_contract_in_weighted_norms_alone() -> None:
    """What passes on in one direction dies out after as many ticks as there are units, however much it grows before:
    the 2-norm does not see that, weights do, and the verdict names the norm."""
    chain = net(
        {"W": np.diag(1.6 * np.ones(3), k=-1)},
        x=(4,),
        states=[State("h", (4,), "new")],
        step=[
            ops.Linear(out="recurrent", x="h", weight="W"),
            ops.Add(out="pre", a="recurrent", b="x"),
            ops.Activation(out="new", x="pre", kind="tanh"),
        ],
        output="h",
        steps=10,
    )
    lowered = integers(chain, 10)
    (plain,) = certify(lowered).blocks
    (block,) = certify(lowered, norms=True).blocks
    assert plain.bound > 1.5
    assert not plain.certified
    assert block.certified
    assert block.norms[0].bound < 0.1
    assert block.verdict.startswith("certified: contracts, L = ")
    assert "weighted" in block.verdict


def test_gates_on_the_change_of_a_unit_contract_with_their_threshold_as_slack() -> None:
    """While such a gate is closed the unit is at most the threshold from where it would go; a gate on anything else
    may hold an upset, and nothing contracts."""
    rng = np.random.default_rng(0)
    verdicts = []
    for of_change in (True, False):
        (block,) = certify(integers(gated(rng, 0.05, of_change=of_change), 8), norms=True).blocks
        assert bool(block.gates) is not of_change
        verdicts.append(block.verdict)
    assert verdicts[0].startswith("certified")
    assert verdicts[1].startswith("not certified: next holds the state")


def test_a_gate_that_is_left_out_of_the_slack_is_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of all pairs notices a gate that is said to hold nothing."""
    spread = importlib.import_module("eqcompile.toolchain.certificate.spread")
    monkeypatch.setattr(spread, "hold", lambda net, op: 0.0 * hold(net, op))  # type: ignore[operator]
    rng = np.random.default_rng(0)
    lowered = integers(gated(rng, 0.3), 4)
    rows = every_setting(lowered, rng, ["h"], 6)
    assert all(refuted(bound, rows) for bound in contractions(lowered, ["h"]))


def test_the_certificate_says_within_how_many_codes_or_that_it_says_nothing() -> None:
    """A user reads a theorem; of a net of which none holds for a unit, that it is vacuous."""
    words = []
    for name in ("digits_layered.npz", "digits_cube.pt"):
        with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
            x = file["x"].astype(np.float64)
        source = import_model(EXAMPLES / "checkpoints" / name).net
        certificate = certify(lower(source, QuantizeOptions(), calibration={"x": x}).net, norms=True)
        (block,) = certificate.blocks
        words.append(certificate.lines()[-1])
        assert [n["bound"] for n in block.to_json()["norms"]] == sorted(n.bound for n in block.norms)  # type: ignore[call-overload,index,union-attr]
    assert words[0].startswith("an upset of any size in any number of its states leaves each unit within ")
    assert words[1].startswith("vacuous for a single unit")


def test_what_an_upset_leaves_is_stated_from_the_first_tick_on() -> None:
    """A net of one tick has no other; that of three has fewer codes to state the later it is."""
    for steps in (1, 3):
        made = loop(np.random.default_rng(0), units=3, steps=steps, gain=0.5).net
        for bound in contractions(integers(made, 8), ["h"]):
            assert list(bound.codes) == list(range(1, steps + 1))
            assert sorted(bound.codes.values(), reverse=True) == list(bound.codes.values())


def test_a_block_without_norms_is_as_it_was() -> None:
    """Norms are made where they are asked for."""
    block = Block(("h",), 4, bound=0.5, slack=0.25, lsb=1.0, diameter=100.0)
    assert block.codes_after == {}
    assert block.to_json()["norms"] == []


def test_a_block_whose_weights_are_all_zero_has_every_norm() -> None:
    """Codes can all be 0 at few bits: nothing may be divided by the largest of them."""
    silent = loop(np.random.default_rng(0), units=3, steps=3, gain=1.0).net
    silent = replace(silent, params=tuple(replace(p, value=p.value * (p.name != "W")) for p in silent.params))
    with np.errstate(divide="raise", invalid="raise"):
        bounds = contractions(integers(silent), ["h"])
    assert len(bounds) == 3
    assert all(b.bound < 1e-300 for b in bounds)


def test_more_units_than_a_matrix_may_have_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the limit the certificate of a large net takes all memory."""
    net, _ = plain()
    names = [s.name for s in net.states]
    assert spread_of(net, names).terms
    monkeypatch.setattr(importlib.import_module("eqcompile.toolchain.certificate.spread"), "_LARGEST_MATRIX", 1)
    with pytest.raises(NoBoundError, match="units: matrices of more than 1 entries"):
        spread_of(net, names)
