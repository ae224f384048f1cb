"""What is proved of upsets that leave t ticks, against runs that really start elsewhere."""

from __future__ import annotations

import importlib
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import holding, inputs_of, loop
from strategies import with_formats

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import golden
from eqcompile.toolchain.certificate import Recovery, certify, recovery, spectral_bounds
from eqcompile.toolchain.certificate.gates import hold
from eqcompile.toolchain.certificate.norm import NoBoundError
from eqcompile.toolchain.certificate.recovery import _scaled_norms
from eqcompile.toolchain.certificate.tables import Windows
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions, Run
from eqcompile.toolchain.ir import IntNet, Param, ops

EXAMPLES = Path(__file__).parents[2] / "examples"
Array = NDArray[Any]
seeds = st.integers(0, 2**32 - 1)


def after(net: IntNet, codes: dict[str, Array], ticks: int, start: dict[str, Array]) -> Run:
    """A run of that many ticks from these states, the same in all samples."""
    started = replace(
        net,
        params=(*net.params, *(Param(f"start_{name}", value, "test") for name, value in start.items())),
        states=tuple(replace(s, init=f"start_{s.name}") for s in net.states),
        schedule=replace(net.schedule, steps=ticks),
    )
    return golden.run(started, codes)


def violations(net: IntNet, codes: dict[str, Array], proved: Recovery, starts: list[dict[str, Array]]) -> int:
    """Runs from `starts` that a bound excludes: a code further off than `apart`, or another label where `safe`."""
    whole = golden.run(net, codes)
    (name,) = (o.name for o in net.outputs)
    labels = golden.labels(whole.outputs[name])
    count = 0
    for ticks in range(1, proved.safe.shape[1] + 1):
        for start in starts:
            run = after(net, codes, ticks, start)
            far = [np.abs(run.states[n][-1] - whole.states[n][-1]).reshape(len(labels), -1).max(axis=1) for n in start]
            count += int((np.maximum.reduce(far) > proved.apart[:, ticks - 1]).sum())
            count += int((proved.safe[:, ticks - 1] & (golden.labels(run.outputs[name]) != labels)).sum())
    return count


def draws(net: IntNet, rng: np.random.Generator, count: int) -> list[dict[str, Array]]:
    """States anywhere in their formats, and at their ends."""
    starts = []
    for number in range(count):
        start = {}
        for s in net.states:
            ends = net.formats[s.name]
            codes = [ends.lo, ends.hi] if number % 2 else np.arange(ends.lo, ends.hi + 1)
            start[s.name] = rng.choice(codes, s.shape)
        starts.append(start)
    return starts


@pytest.mark.slow
@given(
    seed=seeds,
    bits=st.integers(3, 8),
    alpha=st.sampled_from([1.0, 0.5]),
    scale=st.sampled_from([None, 0.12, 0.3]),
    units=st.sampled_from([2, 8]),
    threshold=st.sampled_from([None, 0.02, 0.3]),
)
@settings(max_examples=30, deadline=None)
def test_no_run_leaves_what_is_proved(
    seed: int, bits: int, alpha: float, scale: float | None, units: int, threshold: float | None
) -> None:
    """From any states, contracting or not, damped or not, with gates on the change of units or not, settled or not."""
    rng = np.random.default_rng(seed)
    made = loop(rng, alpha=alpha, ternary_scale=scale, steps=7, units=units)
    source = made.net if threshold is None else holding(made.net, threshold)
    net = lower(source, QuantizeOptions(state_bits=bits), calibration=None).net
    codes = encode(net, inputs_of(rng, made.net, 6))[0]
    proved = recovery(net, codes, ticks=6)
    assert violations(net, codes, proved, draws(net, rng, 6)) == 0


def test_a_bound_that_is_one_code_or_one_label_too_small_is_refuted() -> None:
    """The comparison above can fail. All 64 settings of two units of three bits are run."""
    rng = np.random.default_rng(4)
    made = loop(rng, units=2, steps=4, gain=3.0)
    net = lower(made.net, QuantizeOptions(state_bits=3), calibration=None).net
    codes = encode(net, inputs_of(rng, made.net, 6))[0]
    proved = recovery(net, codes, ticks=3)
    ends = net.formats["h"]
    every = [{"h": np.array(h)} for h in product(range(ends.lo, ends.hi + 1), repeat=2)]
    assert violations(net, codes, proved, every) == 0
    assert violations(net, codes, replace(proved, apart=proved.apart - 1), every) > 0
    assert violations(net, codes, replace(proved, safe=np.ones_like(proved.safe)), every) > 0


@pytest.mark.parametrize("seed", [0, 4, 8])
def test_votes_of_units_are_proved_by_every_setting(seed: int) -> None:
    """Would break if units that speak against a label were not counted in full: weights of 1 and -1 show it, where
    larger ones hide it."""
    rng = np.random.default_rng(seed)
    made = loop(rng, units=2, steps=4, gain=3.0)
    net = lower(made.net, QuantizeOptions(state_bits=3), calibration=None).net
    votes = ops.Linear(out="logits", x="h", weight="votes")
    formats = {name: f for name, f in net.formats.items() if not name.startswith("logits")}
    params = (*net.params, Param("votes", rng.integers(-1, 2, (3, 2)), "test"))
    net = with_formats(replace(net, params=params, readout=(votes,), formats=formats))
    codes = encode(net, inputs_of(rng, made.net, 6))[0]
    proved = recovery(net, codes, ticks=3)
    ends = net.formats["h"]
    every = [{"h": np.array(h)} for h in product(range(ends.lo, ends.hi + 1), repeat=2)]
    assert proved.safe.any()
    assert violations(net, codes, proved, every) == 0


@pytest.mark.parametrize("name", ["digits_layered.npz", "digits_certified.npz"])
def test_nets_that_contract_are_proved_to_recover(name: str) -> None:
    """Any upset that leaves ten ticks is harmless on nearly all images, and that is no accident of few upsets: runs
    from states drawn anywhere agree."""
    source = import_model(EXAMPLES / "checkpoints" / name).net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"][:40].astype(np.float64)
    net = lower(source, QuantizeOptions(), calibration={"x": x}).net
    codes = encode(net, {"x": x})[0]
    proved = recovery(net, codes, ticks=12)
    assert proved.safe[:, 9].mean() >= 0.9
    assert np.median(proved.apart[:, 9]) <= 8
    assert not proved.safe[:, 0].any()
    assert set(proved.harmless_from()) <= set(range(13))
    # What is still possible shrinks from tick to tick.
    assert (np.diff(proved.apart[proved.settled], axis=1) <= 0).all()
    assert violations(net, codes, proved, draws(net, np.random.default_rng(0), 2)) == 0


def test_differences_of_logits_prove_labels_that_single_logits_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A readout that is not seen to be one linear map costs proofs, and nothing that is proved would be wrong."""
    source = import_model(EXAMPLES / "checkpoints" / "digits_layered.npz").net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"][:20].astype(np.float64)
    net = lower(source, QuantizeOptions(), calibration={"x": x}).net
    codes = encode(net, {"x": x})[0]
    proved = recovery(net, codes, ticks=8).safe
    module = importlib.import_module("eqcompile.toolchain.certificate.recovery")
    monkeypatch.setattr(module, "_affine", lambda *_: None)
    alone = recovery(net, codes, ticks=8).safe
    assert (proved >= alone).all()
    assert proved.sum() > alone.sum()


@pytest.mark.parametrize("place", ["flow", "boxes", "recovery"])
def test_a_gate_that_is_said_to_hold_less_is_refuted(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three bounds that a gate widens: a mutant that forgets it excludes runs that golden makes."""
    module = importlib.import_module(f"eqcompile.toolchain.certificate.{place}")
    monkeypatch.setattr(module, "hold", lambda net, op: 0.0 * hold(net, op))  # type: ignore[operator]
    count = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        made = loop(rng, steps=7, units=8, gain=0.7)
        net = lower(holding(made.net, 0.1), QuantizeOptions(), calibration=None).net
        codes = encode(net, inputs_of(rng, made.net, 4))[0]
        count += violations(net, codes, recovery(net, codes, ticks=6), draws(net, rng, 4))
    assert count > 0


def test_a_lazy_net_whose_gates_do_not_lock_is_proved_to_recover() -> None:
    """Its units hold changes of two codes back, for ever if they stay as small, and it forgets every larger upset: no
    run from another state leaves what is proved, and one leaves a bound of a code."""
    source = import_model(EXAMPLES / "checkpoints" / "digits_holding.npz").net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"][:16].astype(np.float64)
    net = lower(source, QuantizeOptions(), calibration={"x": x}).net
    codes = encode(net, {"x": x})[0]
    proved = recovery(net, codes, ticks=10)
    assert proved.safe[:, 9].mean() >= 0.8
    starts = draws(net, np.random.default_rng(0), 6)
    assert violations(net, codes, proved, starts) == 0
    assert violations(net, codes, replace(proved, apart=np.minimum(proved.apart, 1)), starts[:2]) > 0


def test_nets_of_several_states_and_gates_have_boxes() -> None:
    """Three layers that a gate holds: an upset may stay for ever, and no label is safe where one may change."""
    source = import_model(EXAMPLES / "checkpoints" / "digits_lazy.pt").net
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        x = file["x"][:6].astype(np.float64)
    net = lower(source, QuantizeOptions(), calibration={"x": x}).net
    codes = encode(net, {"x": x})[0]
    proved = recovery(net, codes, ticks=3)
    assert violations(net, codes, proved, draws(net, np.random.default_rng(0), 4)) == 0


def test_what_has_no_bound_is_refused_by_name() -> None:
    """More ticks than the net runs, and a tolerance that may end a run before."""
    made = loop(np.random.default_rng(0), steps=3)
    net = lower(made.net, QuantizeOptions(), calibration=None).net
    codes = encode(net, inputs_of(np.random.default_rng(0), made.net, 2))[0]
    with pytest.raises(NoBoundError, match="1 to 2"):
        recovery(net, codes, ticks=3)
    with pytest.raises(NoBoundError, match="tolerance 1"):
        recovery(replace(net, schedule=replace(net.schedule, tolerance=1)), codes, ticks=2)
    with pytest.raises(NoBoundError, match="0 outputs of classes"):
        recovery(net, codes, ticks=2, output="other")


@given(seed=seeds, n=st.integers(1, 50), kind=st.sampled_from(["tanh", "walk", "any"]))
@settings(max_examples=60, deadline=None)
def test_windows_of_tables_against_every_pair(seed: int, n: int, kind: str) -> None:
    """Least and largest entry exactly, and a slope that no pair of the window refutes."""
    rng = np.random.default_rng(seed)
    if kind == "tanh":
        table = np.rint(20 * np.tanh((np.arange(n) - n / 2) / 17)).astype(np.int64)
    else:
        table = np.cumsum(rng.integers(-1, 2, n)) if kind == "walk" else rng.integers(-9, 10, n)
    windows = Windows(table)
    first = rng.integers(0, n, 30)
    last = np.minimum(first + rng.integers(0, n, 30), n - 1)
    for a, b, least, largest, slope in zip(
        first,
        last,
        windows.least(first, last),
        windows.largest(first, last),
        windows.slope(first, last),
        strict=True,
    ):
        part = table[a : b + 1]
        assert (least, largest) == (part.min(), part.max())
        i = np.arange(len(part))
        allowed = slope * np.abs(i[:, None] - i) + windows.jump + 1e-12
        assert (np.abs(part[:, None] - part) <= allowed).all()


@given(seed=seeds, rows=st.integers(1, 20), columns=st.integers(1, 20), zero=st.booleans())
@settings(max_examples=40, deadline=None)
def test_norms_of_stacks_are_never_above_their_bounds(seed: int, rows: int, columns: int, zero: bool) -> None:
    """Below the true norm they would certify what does not hold; far above they would be of no use."""
    rng = np.random.default_rng(seed)
    stack = rng.normal(size=(4, rows, columns)) * 10.0 ** rng.integers(-9, 9, (4, 1, 1))
    if zero:
        stack[0] = 0.0
    true, bounds = np.linalg.norm(stack, 2, axis=(1, 2)), spectral_bounds(stack)
    assert (bounds >= true * (1 - 1e-14)).all()
    assert (bounds <= true * 1.25 + 1e-100).all()


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_norms_of_the_parts_that_count_are_above_numpys(seed: int) -> None:
    """Would break if a row with a gain, or a column that moved, were left out of a norm that is called a bound."""
    rng = np.random.default_rng(seed)
    rows, columns, samples = rng.integers(1, 20, 3)
    matrix = rng.integers(-127, 128, (rows, columns)).astype(np.float64)
    gain = rng.uniform(0.0, 0.01, (samples, rows)) * (rng.random((samples, rows)) < 0.7)
    moved = rng.random((samples, columns)) < 0.7
    bounds = _scaled_norms(matrix, gain, moved)
    for bound, scale, column in zip(bounds, gain, moved, strict=True):
        norm = np.linalg.norm((scale[:, None] * matrix)[:, column], 2) if column.any() else 0.0
        assert norm * (1.0 - 1e-12) <= bound <= 1.1 * norm + 1e-100


def test_no_proof_depends_on_how_numpy_reports() -> None:
    """Some libraries make NumPy raise at every underflow; sums of zeros that are rounded up are one."""
    rng = np.random.default_rng(3)
    source = loop(rng, ternary_scale=0.12).net
    net = lower(source, QuantizeOptions(), calibration=None).net
    codes = encode(net, inputs_of(rng, source, 2))[0]
    quiet = certify(net, norms=True), recovery(net, codes, ticks=2)
    with np.errstate(all="raise"):
        raised = certify(net, norms=True), recovery(net, codes, ticks=2)
    assert quiet[0].to_json() == raised[0].to_json()
    assert (quiet[1].apart == raised[1].apart).all()
