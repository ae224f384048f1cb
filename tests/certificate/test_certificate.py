"""The certificate: bounds that hold for every run, against the norms and the distances that are seen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import inputs_of, loop, net

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.certificate import Block, certify, norm, recurrent_weights, spectral_bound
from eqcompile.toolchain.certificate.tables import growth
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import IntNet, Param, State, ops, verify

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
Array = NDArray[Any]
seeds = st.integers(0, 2**32 - 1)
PROFILE = settings(max_examples=40, deadline=None)


@given(
    seed=seeds,
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    kind=st.sampled_from(["normal", "ternary", "rank one", "orthogonal"]),
    size=st.integers(-250, 250),
)
@PROFILE
def test_the_norm_is_never_above_its_bound(seed: int, rows: int, columns: int, kind: str, size: int) -> None:
    """A bound below the true norm certifies what does not hold; one far above it is of no use."""
    rng = np.random.default_rng(seed)
    matrix: Array = rng.normal(size=(rows, columns))
    if kind == "ternary":
        matrix = rng.integers(-1, 2, (rows, columns))
    elif kind == "rank one":
        matrix = np.outer(matrix[:, 0], matrix[0])
    elif kind == "orthogonal":
        matrix = np.linalg.qr(rng.normal(size=(rows, rows)))[0]
    true = float(np.linalg.norm(matrix.astype(np.float64), 2))
    if matrix.dtype.kind == "f":
        matrix, true = np.ldexp(matrix, size), math.ldexp(true, size)
    bound = spectral_bound(matrix)
    assert bound >= true * (1 - 1e-14)
    assert bound <= true * 1.001


def test_the_bound_does_not_depend_on_how_numpy_reports() -> None:
    """Some libraries make NumPy raise when a product underflows; powers of a matrix with a small second singular value
    always underflow, and the bound counts it."""
    matrix = np.diag([1.0, 0.5, 1e-3])
    with np.errstate(all="raise"):
        assert spectral_bound(matrix) == pytest.approx(1.0, rel=1e-4)


def test_the_norm_of_integers_is_bounded_exactly() -> None:
    """Norms that are known: 5 of one entry, n of ones, 1 of a permutation, 0 of nothing; too wide a code is refused."""
    assert spectral_bound(np.array([[5]])) == pytest.approx(5.0, rel=1e-12)
    assert spectral_bound(np.ones((7, 7), np.int64)) == pytest.approx(7.0, rel=1e-9)
    assert 1.0 <= spectral_bound(np.eye(64, dtype=np.int64)[::-1]) < 1.0001
    assert spectral_bound(np.zeros((3, 2))) == 0.0
    with pytest.raises(ValueError, match="53 bits"):
        spectral_bound(np.array([[1 << 60]]))


@given(seed=seeds, n=st.integers(2, 60), smooth=st.booleans())
@PROFILE
def test_tables_grow_no_faster_than_said(seed: int, n: int, smooth: bool) -> None:
    """Every pair of entries, not neighbours alone: and a slope a little smaller must be refuted by some pair."""
    rng = np.random.default_rng(seed)
    x = np.arange(n)
    table = np.rint(20 * np.tanh((x - n / 2) / 17)).astype(np.int64) if smooth else rng.integers(-9, 10, n)
    slope, jump = growth(table)
    far = np.abs(table[:, None] - table)
    gap = np.abs(x[:, None] - x)
    assert (far <= slope * gap + jump).all()
    if slope > 0.0:
        assert (far > (slope - 1e-5) * gap + jump).any()


def test_a_rounded_tanh_has_the_slope_of_tanh() -> None:
    """Neighbours differ by 0 or 1 where the slope is a quarter: their largest difference says four times too much."""
    table = np.rint(128 * np.tanh(np.arange(-1024, 1024) / 512)).astype(np.int64)
    slope, jump = growth(table)
    assert jump == 1
    assert 0.23 < slope <= 0.25


def started(lowered: IntNet, codes: Array) -> IntNet:
    """The net with its state starting elsewhere."""
    made = replace(
        lowered,
        params=(*lowered.params, Param("start", codes, "test")),
        states=tuple(replace(s, init="start") for s in lowered.states),
    )
    verify(made)
    return made


def distances(lowered: IntNet, x: dict[str, Array], first: Array, second: Array) -> Array:
    """Distance in LSB of two golden runs after 0, 1, 2, .. ticks, [ticks + 1, batch]."""
    codes = encode(lowered, x)[0]
    a, b = (run(started(lowered, start), codes, trace=True).states["h"] for start in (first, second))
    begin = np.full((1, a.shape[1]), np.linalg.norm(first - second))
    return np.concatenate([begin, np.linalg.norm(a - b, axis=-1)])


@given(seed=seeds, bits=st.integers(3, 9), alpha=st.sampled_from([1.0, 0.5]), scale=st.sampled_from([None, 0.12]))
@settings(max_examples=25, deadline=None)
def test_golden_runs_stay_within_the_bound(seed: int, bits: int, alpha: float, scale: float | None) -> None:
    """From any two states, with real rounding and damping, no tick and no sequence of ticks spreads a distance more
    than is proved."""
    rng = np.random.default_rng(seed)
    made = loop(rng, alpha=alpha, ternary_scale=scale, steps=8)
    lowered = lower(made.net, QuantizeOptions(state_bits=bits), calibration=None).net
    (block,) = certify(lowered).blocks
    top = (1 << (bits - 1)) - 1
    first, second = rng.integers(-top, top + 1, (2, 8))
    seen = distances(lowered, inputs_of(rng, made.net, 4), first, second)
    for before, after in zip(seen, seen[1:], strict=False):
        assert (after <= block.bound * before + block.slack / block.lsb + 1e-9).all()
    for ticks, found in enumerate(seen):
        assert (found * block.lsb <= block.after(ticks, float(seen[0, 0]) * block.lsb) + 1e-9).all()


def test_a_smaller_bound_would_be_refuted() -> None:
    """The comparison above can fail: half the bound and half the slack do not hold where the map is nearly linear."""
    made = loop(np.random.default_rng(0), units=1, inputs=1, steps=1, gain=0.9)
    quiet = replace(made.net, params=tuple(replace(p, value=p.value * (p.name == "W")) for p in made.net.params))
    lowered = lower(quiet, QuantizeOptions(state_bits=12), calibration=None).net
    (block,) = certify(lowered).blocks
    seen = distances(lowered, {"x": np.zeros((1, 1))}, np.array([300]), np.array([-300]))[:, 0]
    assert seen[1] <= block.bound * seen[0] + block.slack / block.lsb
    assert seen[1] > 0.5 * (block.bound * seen[0] + block.slack / block.lsb)


def test_the_budget_of_steps_is_enough_and_not_too_large() -> None:
    """The stated number of steps brings the largest distance below the wanted one, one step less does not."""
    block = Block(("h",), 4, bound=0.5, slack=0.25, lsb=1.0, diameter=100.0)
    steps = block.steps_to(1.0)
    assert steps == 7
    assert block.diameter * 0.5**steps <= 1.0 < block.diameter * 0.5 ** (steps - 1)
    assert block.ball == pytest.approx(0.5)
    assert block.ball >= 0.5
    assert block.after(3, 8.0) == pytest.approx(1.0 + 0.25 * 1.75)
    assert replace(block, bound=1.0).steps_to(1.0) is None
    assert replace(block, bound=1.0).ball == math.inf


def test_verdicts_are_plain() -> None:
    """L >= 1 is no certificate, and neither is a ball of half the state space: a bound of 127 LSB at 8 bits was one."""
    block = Block(("h",), 4, bound=0.5, slack=0.25, lsb=1.0, diameter=100.0)
    assert block.verdict == "certified: contracts, L = 0.5"
    assert replace(block, bound=1.0).verdict.startswith("not certified; non-expansive")
    assert replace(block, bound=1.2).verdict.startswith("not certified: no contraction is proved")
    vacuous = replace(block, slack=25.0)
    assert vacuous.verdict.startswith("not certified: contracts before rounding, L = 0.5, but")
    assert "25 LSB a unit apart" in vacuous.verdict
    assert (vacuous.contracts, vacuous.certified) == (True, False)
    assert replace(block, slack=24.9).certified
    assert "while its gate is closed" in replace(block, gates=("g",)).verdict


@pytest.mark.parametrize("name", ["looped", "ternary", "cube"])
@pytest.mark.parametrize("weights", ["int8", "ternary"])
def test_the_examples_are_bounded_by_their_matrices(name: str, weights: str) -> None:
    """L is the norm of the scaled codes times the slope of the table: recomputed here by SVD, it must not be above."""
    source = import_model(CHECKPOINTS / f"digits_{name}.pt").net
    lowered = lower(source, QuantizeOptions(weights=weights), calibration=None)
    (block,) = certify(lowered.net).blocks
    (tensor,) = recurrent_weights(lowered.net, ["h"])
    row = next(r for r in lowered.choices if r["what"] == "tensor" and r["name"] == tensor)
    real = lowered.net.param(tensor) * np.asarray(row["scale"]).reshape(-1, 1)
    lattice = [op for op in lowered.net.step if isinstance(op, ops.Stencil)]
    if lattice:
        index, taps = lowered.net.param(lattice[0].index), real
        real = np.zeros((len(taps), len(taps)))
        rows = np.broadcast_to(np.arange(len(taps))[:, None], index.shape)
        np.add.at(real, (rows, np.maximum(index, 0)), np.where(index >= 0, taps, 0.0))
    norm = float(np.linalg.norm(real, 2))
    assert 0.97 * norm <= block.bound <= 1.002 * norm
    assert certify(source).bound >= (0.999 if name == "looped" else 1.0)


def test_what_an_upset_leaves_is_stated_for_the_step_it_names() -> None:
    """One factor L too few or too many is a bound of another step."""
    block = Block(("h",), 4, bound=0.5, slack=0.0, lsb=1.0, diameter=256.0, bits=8)
    stated = block.to_json()
    assert stated["upset_lsb"] == 128.0
    assert stated["upset_adds_lsb"] == {
        "1": pytest.approx(64.0),
        "10": pytest.approx(128.0 / 2**10),
        "30": pytest.approx(128.0 / 2**30),
    }


def test_an_absolute_value_moves_no_further_than_its_operand() -> None:
    """Its slope is 1: a looser bound would refuse a net that is proved to contract."""
    made = net(
        {"W": 0.5 * np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "y")],
        step=[ops.Linear(out="w", x="h", weight="W"), ops.Abs(out="y", x="w")],
        output="h",
    )
    assert certify(made).bound == pytest.approx(0.5, rel=1e-9)


def test_one_short_side_is_enough_for_the_tight_bound() -> None:
    """The Gram matrix has the shorter side: a long flat map must not fall back to row and column sums."""
    matrix = np.random.default_rng(4).normal(size=(20, 2100))
    true = float(np.linalg.norm(matrix, 2))
    assert true * (1 - 1e-14) <= spectral_bound(matrix) <= 1.001 * true


def test_the_bound_of_large_matrices_is_that_of_row_and_column_sums() -> None:
    """Above a side of 2048 there is no tighter one: it must not be looser than its own formula."""
    matrix = np.eye(2060) + np.eye(2060, k=1) / 4
    assert 1.25 * (1 - 1e-12) <= spectral_bound(matrix) <= 1.25 * (1 + 1e-9)


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.999, 1.0 + 1e-6, 3.0])
def test_no_guess_is_trusted(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Whatever an iteration says of the norm, the decomposition proves a bound: a guess that is too small must not
    come out as one."""
    guess = norm._largest_eigenvalue
    monkeypatch.setattr(norm, "_largest_eigenvalue", lambda h: factor * guess(h))
    matrix = np.random.default_rng(5).normal(size=(40, 30))
    true = float(np.linalg.norm(matrix, 2))
    assert true * (1 - 1e-14) <= spectral_bound(matrix) <= np.linalg.norm(matrix) * (1 + 1e-9)


@pytest.mark.parametrize("side", [40, 300])
def test_the_bound_is_within_a_millionth(side: int) -> None:
    """Matrices whose largest singular values lie close together, where a power iteration would stop short."""
    matrix = np.random.default_rng(6).normal(size=(side, side))
    assert spectral_bound(matrix) <= float(np.linalg.norm(matrix, 2)) * (1 + 1e-6)


def test_the_bound_of_one_singular_value_is_tight() -> None:
    """With one singular value nothing but rounding may be added, where row and column sums are no help."""
    matrix = np.outer([1.0, 2.0], [1.0, 3.0])
    true = math.sqrt(50.0)
    assert true * (1 - 1e-15) <= spectral_bound(matrix) <= true * (1 + 1e-9)


def test_gates_are_no_contraction() -> None:
    """A lazy layer keeps an upset while its gate is closed: its bound while open must not pass for a certificate."""
    source = import_model(CHECKPOINTS / "digits_lazy.pt").net
    for level in (source, lower(source, QuantizeOptions(), calibration=None).net):
        certificate = certify(level)
        assert len(certificate.blocks) == 3
        assert not certificate.certified
        assert all(b.gates and b.bound < 1.0 for b in certificate.blocks)


def test_an_operation_without_a_bound_is_named() -> None:
    """A product of two moving values has no Lipschitz constant here: no number may be given for it."""
    made = net(
        {"W": np.eye(2)},
        x=(2,),
        states=[State("h", (2,), "y")],
        step=[ops.Mul(out="square", a="h", b="h"), ops.Activation(out="y", x="square", kind="tanh")],
        output="h",
    )
    certificate = certify(made)
    assert certificate.reason.startswith("mul square: no bound")
    assert certificate.bound == math.inf
    assert certificate.lines() == [f"no certificate: {certificate.reason}"]


def test_blocks_are_what_reads_itself() -> None:
    """A chain of two layers is two blocks; a ring of two states is one; a state that only copies the drive is none."""
    rng = np.random.default_rng(0)
    chain = net(
        {"A": 0.4 * np.eye(3), "B": rng.normal(size=(3, 3)), "C": 0.3 * np.eye(3)},
        x=(3,),
        states=[State("a", (3,), "next_a"), State("b", (3,), "next_b"), State("copy", (3,), "drive")],
        drive=[ops.Linear(out="drive", x="x", weight="B")],
        step=[
            ops.Linear(out="next_a", x="a", weight="A"),
            ops.Linear(out="self_b", x="b", weight="C"),
            ops.Linear(out="from_a", x="a", weight="B"),
            ops.Add(out="next_b", a="self_b", b="from_a"),
        ],
        output="b",
    )
    blocks = certify(chain).blocks
    assert [(b.states, round(b.bound, 4)) for b in blocks] == [(("a",), 0.4), (("b",), 0.3)]
    assert recurrent_weights(chain, ["b"]) == ("C",)
    ring = net(
        {"A": 0.5 * np.eye(3), "B": 0.25 * np.eye(3)},
        x=(3,),
        states=[State("a", (3,), "next_a"), State("b", (3,), "next_b")],
        step=[ops.Linear(out="next_a", x="b", weight="A"), ops.Linear(out="next_b", x="a", weight="B")],
        output="b",
    )
    (block,) = certify(ring).blocks
    assert block.states == ("a", "b")
    assert block.bound == pytest.approx(0.5, rel=1e-3)
    assert recurrent_weights(ring, block.states) == ("A", "B")
