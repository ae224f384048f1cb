"""Post-training quantization: scales and codes of least error, on weights alone and on calibration data."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import inputs_of, loop

from eqcompile.quantization.fit import best_scale, descend, nearest
from eqcompile.quantization.ground import Ground
from eqcompile.quantization.lower import lower
from eqcompile.quantization.metric import Dense, Factor
from eqcompile.quantization.moments import Moments, Samples
from eqcompile.quantization.plan import make_plan
from eqcompile.quantization.weights import quantize_weights
from eqcompile.toolchain.interfaces import QuantizeOptions

Array = NDArray[Any]
PROFILE = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def moments_of(data: Array) -> Moments:
    return Moments(len(data), data.mean(axis=0), data.mean(axis=0), data.T @ data / len(data))


def error_of(weights: Array, importance: Array, scale: float, top: int) -> float:
    return float((importance * (weights - scale * nearest(weights, scale, top)) ** 2).sum())


@given(seed=seeds, top=st.sampled_from([1, 3, 7, 15]), n=st.integers(1, 12), weighted=st.booleans())
@example(seed=581678496, top=15, n=1, weighted=False)
@PROFILE
def test_no_scale_is_better(seed: int, top: int, n: int, weighted: bool) -> None:
    """The sweep claims the optimum over all scales: a fine grid of them must find nothing better."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=n)
    importance = rng.uniform(0.1, 3.0, n) if weighted else np.ones(n)
    scale = best_scale(weights, importance, top)
    found = error_of(weights, importance, scale, top)
    for other in np.linspace(1e-3, 2.0 * np.abs(weights).max(), 700):
        assert found <= error_of(weights, importance, float(other), top) * (1 + 1e-9) + 1e-15
    # A weight that is alone has many scales of which it is a multiple.
    assert n == 1 or error_of(weights, importance, 1.3 * scale, top) > found


def test_ternary_is_the_exact_optimum() -> None:
    """Every assignment of -1, 0, +1 with its best scale, tried one by one, is no better."""
    weights = np.random.default_rng(1).normal(size=(3, 6))
    made = quantize_weights(weights, "ternary", per_row=True)
    for row, codes, scale in zip(weights, made.codes, made.scale, strict=True):
        errors = []
        for q in product((-1, 0, 1), repeat=6):
            q = np.array(q)
            s = (q @ row) / max(q @ q, 1)
            errors.append(((row - s * q) ** 2).sum())
        assert ((row - scale * codes) ** 2).sum() == pytest.approx(min(errors), rel=1e-12)


def test_wide_groups_are_within_a_hair_of_the_optimum() -> None:
    """For a tensor of many codes some scales are tried: the best must be as good as that of a fine grid."""
    weights = np.random.default_rng(2).normal(size=3000)
    ones = np.ones_like(weights)
    found = error_of(weights, ones, best_scale(weights, ones, 127), 127)
    best = min(error_of(weights, ones, float(s), 127) for s in np.linspace(0.01, 0.04, 400))
    assert found <= best * 1.02


@given(seed=seeds, shape=st.sampled_from(["normal", "heavy", "lattice", "flat"]), top=st.sampled_from([127, 2047]))
@PROFILE
def test_a_bound_leaves_out_no_scale_that_is_best(seed: int, shape: str, top: int) -> None:
    """Of 300 scales only those are summed that a bound allows: the answer is that of all 300, to the last bit."""
    rng = np.random.default_rng(seed)
    n = (1 << 14) // top + int(rng.integers(1, 400))
    drawn = {"normal": rng.normal(size=n), "heavy": rng.standard_t(2, n), "lattice": np.rint(rng.normal(size=n) * 20)}
    size = np.abs(drawn.get(shape, rng.uniform(0.5, 1.0, n)))
    size = size[size > 0.0]
    importance = rng.uniform(0.0, 3.0, len(size)) + 1e-9
    tried = [nearest(size, float(s), top) for s in size.max() / top * 0.985 ** np.arange(300)]
    a = np.array([(importance * size * q).sum() for q in tried])
    b = np.array([(importance * q * q).sum() for q in tried])
    best = int(np.argmax(a * (a / b)))
    if size.size * top > 1 << 14:
        assert best_scale(size, importance, top) == a[best] / b[best]


@given(seed=seeds, top=st.sampled_from([1, 7]), shared=st.booleans(), one=st.booleans())
@PROFILE
def test_descent_never_raises_the_error(seed: int, top: int, shared: bool, one: bool) -> None:
    """Coordinate descent is monotone for one scale or many and for moments of a matrix or of each row; and its codes
    stay in range."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 6))
    data = rng.normal(size=(4, 9, 6)) @ rng.normal(size=(6, 6))
    moment = np.einsum("rsn,rsm->rnm", data, data) + 0.1 * np.eye(6)
    if shared:
        moment = moment[0]

    def error(codes: Array, scale: Array) -> float:
        e = weights - np.broadcast_to(scale, (4,))[:, None] * codes
        return float(np.einsum("rn,rnm,rm->", e, np.broadcast_to(moment, (4, 6, 6)), e))

    scale = np.array([0.4]) if one else rng.uniform(0.2, 0.6, 4)
    codes = np.clip(np.rint(weights / (scale[:, None] if scale.size > 1 else scale)), -top, top)
    after, fitted = descend(weights, codes, scale, Dense(moment), top)
    assert error(after, fitted) <= error(codes, scale) * (1 + 1e-9)
    assert np.abs(after).max() <= top
    assert fitted.shape == scale.shape


def test_codes_make_up_for_one_another() -> None:
    """With correlated inputs the error of the sums falls well below that of nearest codes: else calibration is idle."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(8, 40))
    data = rng.normal(size=(500, 5)) @ rng.normal(size=(5, 40)) + 0.1 * rng.normal(size=(500, 40))

    def error(codes: Array, scale: Array) -> float:
        return float(((data @ (weights - scale[:, None] * codes).T) ** 2).mean())

    plain = quantize_weights(weights, "int3", per_row=True)
    fitted = quantize_weights(weights, "int3", per_row=True, moments=moments_of(data))
    assert error(fitted.codes, fitted.scale) < 0.3 * error(plain.codes, plain.scale)
    assert (plain.metric, fitted.metric) == ("weights", "sums")


def test_inputs_that_never_occur_do_not_set_the_scale() -> None:
    """A pixel that is always 0 may have any weight: a large one must not coarsen the codes of the others."""
    rng = np.random.default_rng(4)
    data = np.concatenate([rng.normal(size=(200, 5)), np.zeros((200, 1))], axis=1)
    weights = np.concatenate([rng.uniform(0.5, 1.0, (3, 5)), np.full((3, 1), 3.0)], axis=1)
    plain = quantize_weights(weights, "int3", per_row=True)
    fitted = quantize_weights(weights, "int3", per_row=True, moments=moments_of(data))
    assert (fitted.scale < 0.8 * plain.scale).all()
    assert (np.abs(fitted.codes[:, 5]) == 3).all()


def test_moments_are_those_of_the_float_run() -> None:
    """What is minimised is measured on what reaches the weights: input codes in the drive, states of every tick."""
    made = loop(np.random.default_rng(5), steps=4)
    x = inputs_of(np.random.default_rng(6), made.net, 20)
    found = Ground.of(made.net, QuantizeOptions(state_bits=4), calibration=x, ranges={}).moments
    h = np.zeros((20, len(made.W)))
    ticks = []
    for _ in range(4):
        ticks.append(h)
        h = np.tanh(x["x"] @ made.A.T + made.b + made.c + h @ made.W.T)
    states = np.concatenate(ticks)
    read = np.clip(np.rint(states * 8), -7, 7) / 8
    np.testing.assert_allclose(found["recurrent"].mean_x, states.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found["recurrent"].mean_y, read.mean(axis=0), atol=1e-12)
    assert found["recurrent"].centred
    np.testing.assert_allclose(found["recurrent"].second, np.cov(read.T, bias=True), atol=1e-12)
    assert np.abs(found["drive"].mean_x - x["x"].mean(axis=0)).max() < 1e-12
    assert found["recurrent"].count == 80
    assert found["logits"].count == 20


def test_biases_take_the_mean_of_the_error() -> None:
    """Coarse weights shift the mean of a sum; the corrected bias takes it back, and the report says which did."""
    made = loop(np.random.default_rng(7), units=16, inputs=12)
    x = {"x": np.random.default_rng(8).uniform(0.5, 1.0, (200, 12))}
    lowered = lower(made.net, QuantizeOptions(weights="ternary"), calibration=x)
    rows = {r["name"]: r for r in lowered.choices if r["what"] == "bias"}
    assert set(rows) == {"b", "c", "r"}
    assert all(r["largest_change"] > 0.0 for r in rows.values())
    assert not [r for r in lower(made.net, QuantizeOptions(), calibration=None).choices if r["what"] == "bias"]
    exact = loop(np.random.default_rng(9), ternary_scale=0.11)
    again = lower(exact.net, QuantizeOptions(), calibration=inputs_of(np.random.default_rng(0), exact.net))
    assert not [r for r in again.choices if r["what"] == "bias"]


def test_weights_whose_bias_takes_the_mean_are_fitted_to_what_is_left() -> None:
    """Fitted to the whole second moment, codes would spend their error on a mean that the bias takes anyway."""
    made = loop(np.random.default_rng(7), units=16, inputs=12)
    x = {"x": np.random.default_rng(8).uniform(0.5, 1.0, (200, 12))}
    moments = Ground.of(made.net, QuantizeOptions(), calibration=x, ranges={}).moments
    kinds = dict.fromkeys("AWR", "int3")
    plan = make_plan(made.net, kinds, per_row=True, moments=moments, source=made.net, known={})
    drive = moments["drive"]
    raw = replace(drive, products=drive.second + np.outer(drive.mean_y, drive.mean_y), centred=False)
    centred, whole = (
        quantize_weights(made.A, "int3", per_row=True, moments=m, centred=m.centred) for m in (drive, raw)
    )
    np.testing.assert_array_equal(plan.codes["A", True].codes, centred.codes)
    assert not np.array_equal(centred.codes, whole.codes)


def test_a_fit_leaves_the_moments_as_they_were() -> None:
    """The diagonal is raised in place while a fit lasts: another fit of the same weights has to see the same moments,
    and one that wants the covariance of moments that are not centred works on a copy."""
    rng = np.random.default_rng(2)
    moments = moments_of(rng.normal(1.0, 1.0, size=(50, 9)))
    before, weights = moments.second.copy(), rng.normal(size=(4, 9))
    first, second = (
        [quantize_weights(weights, "int3", per_row=True, moments=moments, centred=c) for c in (False, True)]
        for _ in range(2)
    )
    np.testing.assert_array_equal(moments.second, before)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.codes, b.codes)
        np.testing.assert_array_equal(a.scale, b.scale)


@pytest.mark.parametrize("count", [1, 7])
def test_moments_of_parts_are_those_of_the_whole(count: int) -> None:
    """Sums are made in the memory of the first part, so that a matrix of moments is there once; `+` copies."""
    data = np.random.default_rng(3).normal(size=(12, 5))
    parts = [moments_of(data[:count]), moments_of(data[count:])]
    before = parts[0].second.copy()
    total = parts[0] + parts[1]
    np.testing.assert_array_equal(parts[0].second, before)
    joined = parts[0].joined(parts[1])
    assert joined.second is parts[0].second
    for made in (total, joined):
        np.testing.assert_allclose(made.second, moments_of(data).second, atol=1e-12)
        np.testing.assert_allclose(made.mean_x, data.mean(axis=0), atol=1e-12)


@given(seed=seeds, scales=st.sampled_from([1, 4]), ridge=st.sampled_from([0.0, 0.3]))
@PROFILE
def test_a_factor_descends_as_its_matrix_does(seed: int, scales: int, ridge: float) -> None:
    """Of many columns and few vectors the matrix is never made: the codes are those that it would give, over several
    blocks of columns, and with rows that stop at different sweeps."""
    rng = np.random.default_rng(seed)
    vectors, weights = rng.normal(size=(5, 150)), rng.normal(size=(4, 150))
    scale = np.full(scales, 0.4)
    codes = np.clip(np.rint(weights / 0.4), -7, 7)
    factor, dense = Factor(vectors, ridge), Dense(vectors.T @ vectors + ridge * np.eye(150))
    np.testing.assert_allclose(factor.diagonal, dense.diagonal)
    np.testing.assert_allclose(factor.inner(slice(64, 128)), dense.inner(slice(64, 128)), atol=1e-12)
    (a, found), (b, expected) = (descend(weights, codes, scale, metric, 7) for metric in (factor, dense))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    without = descend(weights, codes, scale, Factor(0.5 * vectors[:-1], ridge), 7)[0]
    assert not np.array_equal(without, a)


@pytest.mark.parametrize("centred", [False, True])
def test_few_vectors_say_what_their_matrix_says(centred: bool) -> None:
    """Vectors that are kept instead of a matrix give the same fit, whether a bias takes their mean or not; joined with
    others they become the matrix."""
    data = np.random.default_rng(4).normal(1.0, 1.0, size=(9, 600))
    kept = replace(moments_of(data), products=Samples(data))
    weights = np.random.default_rng(5).normal(size=(3, 600))
    assert isinstance(kept.metric(centred=centred), Factor)
    a, b = (
        quantize_weights(weights, "int4", per_row=True, moments=m, centred=centred) for m in (kept, moments_of(data))
    )
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-9)
    np.testing.assert_allclose(kept.without_means().second, np.cov(data.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(
        (kept + moments_of(data[:4])).second, moments_of(np.concatenate([data, data[:4]])).second
    )


def test_the_descent_ends_after_six_sweeps() -> None:
    """Artifacts are bits: one sweep more or fewer gives other codes, where the codes still move."""
    rng = np.random.default_rng(0)
    ends: set[int] = set()
    for _ in range(60):
        factor = rng.normal(size=(24, 24))
        moment = factor @ factor.T / 24 + 0.02 * np.eye(24)
        weights, codes, scale = rng.normal(size=(1, 24)), np.zeros((1, 24)), np.array([0.2])
        traces = [(codes, scale)]
        for _ in range(9):
            with_one = descend_once(weights, *traces[-1], moment, 7)
            traces.append(with_one)
        got_codes, got_scale = descend(weights, codes, scale, Dense(moment), 7)
        settled = next((k for k in range(1, 10) if np.array_equal(traces[k][0], traces[k - 1][0])), 10)
        ends.add(settled)
        at = min(settled, 6)
        np.testing.assert_array_equal(got_codes, traces[at][0])
        np.testing.assert_allclose(got_scale, traces[at][1], rtol=1e-12)
    assert {k for k in ends if k < 6}
    assert {k for k in ends if k > 7}


def test_rows_are_descended_as_if_alone() -> None:
    """Blocks of columns, groups of rows and rows that are left once they stay change speed and memory, never a code."""
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(150, 150))
    moment = factor @ factor.T / 150 + 0.02 * np.eye(150)
    weights = rng.normal(size=(40, 150))
    scale = rng.uniform(0.1, 0.4, 40)
    codes = np.clip(np.rint(weights / scale[:, None]), -7, 7)
    together, scales = descend(weights, codes, scale, Dense(moment), 7)
    for row in range(40):
        alone, own = descend(weights[[row]], codes[[row]], scale[[row]], Dense(moment), 7)
        trace = (codes[[row]], scale[[row]])
        for _ in range(6):
            trace = descend_once(weights[[row]], *trace, moment, 7)
        np.testing.assert_array_equal(together[[row]], trace[0])
        np.testing.assert_array_equal(alone, trace[0])
        np.testing.assert_allclose([scales[row], own[0]], trace[1][0], rtol=1e-9)


def descend_once(weights: Array, codes: Array, scale: Array, moment: Array, top: int) -> tuple[Array, Array]:
    """One sweep of coordinate descent over the only row, written out, and the scale of least error."""
    codes = codes.copy()
    (w,), (q,), s = weights, codes, float(scale[0])
    for k in range(len(w)):
        rest = w - s * q
        q[k] = np.clip(np.rint(q[k] + (rest @ moment[k]) / (s * moment[k, k])), -top, top)
    best = (q @ moment @ w) / (q @ moment @ q)
    return codes, np.array([best if best > 0.0 else s])
