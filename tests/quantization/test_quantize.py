"""Lowering a loop end to end: what the integers compute against the float reference, and what proves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import Loop, inputs_of, loop, state_errors

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import VerifyError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import Lowered, QuantizeOptions
from eqcompile.toolchain.ir import Format, IntNet, ops, verify, walk
from eqcompile.toolchain.ir.ops import Op

Array = NDArray[Any]


PROFILE = settings(max_examples=25, deadline=None)


def bound(made: Loop, lowered: Lowered, bits: int, inputs: Array) -> Array:
    """What the error of each unit after each tick can be at most: `[ticks, units]`, from the model and the recorded
    scales, codes and damping.

    tanh and damping do not amplify. Per tick: the weights' errors on the largest operands, half a step of the input
    codes (both twice: a bias that was corrected for their mean adds as much), the mean error of the states' codes,
    three roundings on the pre-activation grid, multipliers rounded to 15 bits of the largest row's, the table within
    one step, half a step in the damping.
    """
    rows = {r["name"]: r for r in lowered.choices}
    reach = np.abs(inputs).max()
    fed, fed_error, fed_multiplier = spread(made.A, lowered, rows["A"])
    held, held_error, held_multiplier = spread(made.W, lowered, rows["W"])
    drive = 2 * fed_error * reach + fed * rows["x"]["scale"] + fed_multiplier * fed * reach
    step = 2.0 ** -(bits - 1)
    fixed = drive + 2 * held_error + held * step + held_multiplier * held + 3 * step / 8 + step
    found = np.zeros((made.net.schedule.steps + 1, len(made.W)))
    for tick, error in enumerate(found[:-1]):
        new = fixed + np.abs(made.W) @ error
        if made.alpha < 1.0:
            new = (1 - made.alpha) * error + made.alpha * new + step / 2 + 2 * abs(rows["next"]["error"])
        found[tick + 1] = new
    return found[1:]


def spread(weight: Array, lowered: Lowered, row: Any) -> tuple[Array, Array, Array]:
    """By row: sum of the coded magnitudes, of the coding errors, and the relative error of the row's multiplier."""
    scale = np.broadcast_to(np.asarray(row["scale"]), len(weight))
    coded = lowered.net.param(row["name"]) * scale[:, None]
    return np.abs(coded).sum(axis=1), np.abs(coded - weight).sum(axis=1), scale.max() / scale * 2.0**-15


loops = st.builds(
    lambda seed, alpha, scale: loop(np.random.default_rng(seed), alpha=alpha, ternary_scale=scale),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 0.5, 0.3]),
    st.sampled_from([None, 0.125, 0.11]),
)


@given(made=loops, bits=st.integers(2, 12), per_row=st.booleans(), seed=st.integers(0, 1000))
@PROFILE
def test_error_is_within_the_derived_bound(made: Loop, bits: int, per_row: bool, seed: int) -> None:
    """A wrong scale, shift, bias or table anywhere in drive or step would leave the bound."""
    x = inputs_of(np.random.default_rng(seed), made.net)
    lowered = lower(made.net, QuantizeOptions(state_bits=bits, per_row=per_row), calibration=x)
    assert (state_errors(lowered.net, made.net, x)["h"] <= bound(made, lowered, bits, x["x"])).all()


def change(lowered: IntNet, block: str, swap: Callable[[Op], Op]) -> IntNet:
    return replace(lowered, **{block: tuple(swap(op) for op in getattr(lowered, block))})


def refit(lowered: IntNet) -> IntNet:
    """Formats wide enough for a mutant."""
    return replace(lowered, formats={n: f if n in ("h", "x") else Format(40, True) for n, f in lowered.formats.items()})


def shifted(by: int) -> Callable[[Op], Op]:
    return lambda op: replace(op, shift=op.shift + by) if isinstance(op, ops.Rescale) else op


def biasless(op: Op) -> Op:
    return replace(op, b=op.a) if isinstance(op, ops.Add) and op.out == "drive" else op


def halved(op: Op) -> Op:
    return replace(op, shift=op.shift + 1) if isinstance(op, ops.DampFixed) else op


def moved(op: Op) -> Op:
    return replace(op, first=op.first + 64) if isinstance(op, ops.Lookup) else op


MUTANTS = {
    "recurrent shift one too many": ("step", shifted(1)),
    "recurrent shift one too few": ("step", shifted(-1)),
    "drive shift one too many": ("drive", shifted(1)),
    "drive added to itself instead of the bias": ("drive", biasless),
    "damping half as strong": ("step", halved),
    "table moved": ("step", moved),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_bound_catches_mutants(name: str) -> None:
    """A bound that a wrong shift, bias, damping or table can meet would prove nothing."""
    block, swap = MUTANTS[name]
    made = loop(np.random.default_rng(3), alpha=0.5, gain=0.9, steps=6)
    x = inputs_of(np.random.default_rng(4), made.net, 32)
    lowered = lower(made.net, QuantizeOptions(state_bits=10), calibration=x)
    allowed = bound(made, lowered, 10, x["x"])
    assert (state_errors(lowered.net, made.net, x)["h"] <= allowed).all()
    mutant = refit(change(lowered.net, block, swap))
    assert (state_errors(mutant, made.net, x)["h"] > allowed).any()


def test_error_shrinks_with_bits() -> None:
    """More state bits must buy accuracy where the weights are exact and the loop contracts."""
    made = loop(np.random.default_rng(0), ternary_scale=0.11, steps=20)
    x = inputs_of(np.random.default_rng(1), made.net, 16)
    options = [QuantizeOptions(state_bits=b, input_bits=b) for b in (4, 8, 12, 16)]
    errors = [state_errors(lower(made.net, o, calibration=x).net, made.net, x)["h"].max() for o in options]
    assert all(b < a / 4 for a, b in zip(errors, errors[1:], strict=False)), errors


@pytest.mark.slow
@given(made=loops, weights=st.sampled_from(["int2", "int4", "int8", "ternary"]), bits=st.integers(2, 16))
@PROFILE
def test_formats_are_proved_and_narrowest(made: Loop, weights: str, bits: int) -> None:
    """Each accumulator is as wide as its codes demand: one bit less must be refused by the verifier."""
    options = QuantizeOptions(weights=weights, state_bits=bits)
    lowered = lower(made.net, options, calibration=None).net
    verify(lowered)
    assert lowered.formats["h"] == Format(bits, True)
    assert lowered.states[0].frac == bits - 1
    for name in ("drive_linear", "recurrent_linear"):
        narrow = {**lowered.formats, name: Format(lowered.formats[name].bits - 1, lowered.formats[name].signed)}
        if lowered.formats[name].bits > 1:
            with pytest.raises(VerifyError, match=name):
                verify(replace(lowered, formats=narrow))


def test_ternary_stays_exact_and_free_of_multipliers() -> None:
    """A ternary tensor keeps its codes whatever the option says; a power-of-two scale needs shifts only."""
    made = loop(np.random.default_rng(5), ternary_scale=0.25)
    x = {"x": np.arange(17.0).repeat(5).reshape(-1, 5)[:16] / 16.0}
    lowered = lower(made.net, QuantizeOptions(weights="int4"), calibration=x)
    assert np.array_equal(lowered.net.param("W"), np.sign(made.W))
    assert {r["kind"] for r in lowered.choices if r["what"] == "tensor"} == {"ternary"}
    assert all(r["max_error"] == 0.0 for r in lowered.choices if r["what"] == "tensor")
    for op in lowered.net.all_ops():
        if isinstance(op, ops.Rescale):
            m = int(lowered.net.param(op.multiplier))
            assert m == 1 or (op.shift == 0 and m & (m - 1) == 0)


@given(made=loops, weights=st.sampled_from(["int2", "int5", "int8", "ternary"]), per_row=st.booleans())
@PROFILE
def test_choices_explain_every_tensor_state_and_input(made: Loop, weights: str, per_row: bool) -> None:
    """The report's rows are plain JSON, name every tensor, and their scale times the codes is the weight."""
    lowered = lower(made.net, QuantizeOptions(weights=weights, per_row=per_row), calibration=None)
    json.dumps(list(lowered.choices), allow_nan=False)
    rows = {r["name"]: r for r in lowered.choices if r["what"] == "tensor"}
    assert set(rows) == {"A", "W", "R"}
    for name, row in rows.items():
        codes, scale = lowered.net.param(name), np.asarray(row["scale"])
        real = codes * (scale[:, None] if scale.ndim else scale)
        assert np.abs(real - made.net.param(name)).max() == pytest.approx(row["max_error"])
        top = 1 if row["kind"] == "ternary" else (1 << (int(row["kind"][3:]) - 1)) - 1
        assert np.abs(codes).max() <= top
    assert np.asarray(rows["R"]["scale"]).ndim == 0
    assert [a.name for a in lowered.assumed] == ["range of input x"]


def test_logits_are_exact_sums_on_one_scale() -> None:
    """Logits may differ from the float readout of the same state by the weight and bias codes only."""
    made = loop(np.random.default_rng(7))
    x = inputs_of(np.random.default_rng(8), made.net)
    lowered = lower(made.net, QuantizeOptions(), calibration=None)
    golden = run(lowered.net, encode(lowered.net, x)[0], trace=True)
    scale = lowered.net.outputs[0].scale
    assert scale is not None
    row = next(r for r in lowered.choices if r["name"] == "R")
    state = golden.states["h"][-1] * 2.0**-7
    want = state @ (lowered.net.param("R") * row["scale"]).T + made.r
    assert np.abs(golden.outputs["out"] * scale - want).max() <= scale / 2 * (1 + 1e-9)


def test_biases_are_added_once_in_the_drive() -> None:
    """Both biases are one constant of the drive: a step holds a linear map, one addition and the table."""
    made = loop(np.random.default_rng(9))
    lowered = lower(made.net, QuantizeOptions(), calibration=None).net
    assert [op.mnemonic for op in lowered.step] == ["linear", "rescale", "add", "lookup"]
    assert [op.mnemonic for op in lowered.drive] == ["linear", "rescale", "add"]


def test_tolerance_and_schedule_are_kept() -> None:
    """The number of steps belongs to the model, the tolerance to the user."""
    made = loop(np.random.default_rng(10), steps=17).net
    lowered = lower(made, QuantizeOptions(tolerance=1), calibration=None).net
    assert (lowered.schedule.steps, lowered.schedule.tolerance) == (17, 1)


def test_lowering_is_deterministic_and_names_sources() -> None:
    """The digest is stable from run to run, and every integer tensor says which tensor it came from and how."""
    made = loop(np.random.default_rng(16)).net
    first, second = (lower(made, QuantizeOptions(), calibration=None).net for _ in range(2))
    assert first.digest == second.digest
    sources = {p.name: p.source for p in first.params}
    assert sources["W"] == "seed:W; int8, per row"
    assert sources["R"] == "seed:R; int8, one scale"
    assert sources["drive_bias"].startswith("seed:b + seed:c; in steps of")
    assert all(sources.values())
    assert not [op for op in walk(first.step) if op.mnemonic == "interpolate"]
