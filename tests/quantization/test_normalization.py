"""Normalisation, masked softmax, modulo and stop rules in integers, against float64 on the same codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import loop, net

from eqcompile.quantization import normalization
from eqcompile.quantization.lower import lower
from eqcompile.quantization.search import search
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import Lowered, QuantizeOptions
from eqcompile.toolchain.ir import EqNet, State, Stop, ops
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.reference import run_reference

Array = NDArray[np.float64]
KINDS = ("variance", "deviation")


def stopping() -> EqNet:
    """A loop that its source stops as a batch."""
    source = loop(np.random.default_rng(0), steps=12, gain=0.5).net
    return replace(source, schedule=replace(source.schedule, stop=Stop("h", 0.05, 5, 2.0)))


def drive_of(step: Sequence[Op], shape: tuple[int, ...], params: dict[str, Any] | None = None) -> EqNet:
    """A net that evaluates `step` on its input x; the value y is its output."""
    return net(
        {"unused": np.ones(1), **(params or {})},
        x=shape,
        states=[State("still", (1,), "still")],
        drive=step,
        step=(),
        output="y",
        steps=1,
    )


def decoded(lowered: Lowered, codes: dict[str, NDArray[Any]]) -> dict[str, Array]:
    """The real numbers that input codes stand for."""
    scales = {i.name: i.encoding.scale for i in lowered.net.inputs if i.encoding is not None}
    return {name: codes[name] * scales[name] for name in codes}


def errors(float_net: EqNet, lowered: Lowered, inputs: dict[str, Array]) -> Array:
    """Distance of golden's output from the float net's on the very inputs that the codes stand for."""
    codes, _ = encode(lowered.net, inputs)
    output = lowered.net.outputs[0]
    assert output.scale is not None
    exact = run_reference(float_net, decoded(lowered, codes)).outputs[output.name]
    return np.asarray(np.abs(run(lowered.net, codes).outputs[output.name] * output.scale - exact))


def normalization_row(lowered: Lowered) -> dict[str, Any]:
    return next(dict(row) for row in lowered.choices if row["what"] == "normalization")


def normalizing(shape: tuple[int, ...], groups: int, eps: float, eps_on: Any) -> EqNet:
    axes = tuple(range(-len(shape), 0)) if groups > 1 else (-1,)
    return drive_of([ops.Normalize(out="y", x="x", axes=axes, groups=groups, eps=eps, eps_on=eps_on)], shape)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([((1,), 1), ((2,), 1), ((7,), 1), ((64,), 1), ((3, 5), 1), ((4, 3, 3), 2), ((8, 2, 2), 8)]),
    st.sampled_from([1e-12, 1e-5, 1e-2, 3.0]),
    st.sampled_from(KINDS),
    st.integers(2, 9),
    st.sampled_from(["noise", "constant", "one stands out", "one code apart", "large mean"]),
    st.integers(0, 2**32 - 1),
)
def test_normalisation_keeps_the_bound_that_its_row_states(
    case: tuple[tuple[int, ...], int], eps: float, eps_on: str, bits: int, data: str, seed: int
) -> None:
    """The result is within one code of the exact quotient for every group, tiny deviations and huge eps included: a
    mean that is rounded, a root with too few bits or an eps on the wrong scale shows here."""
    shape, groups = case
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, (6, *shape))
    if data == "constant":
        x = np.broadcast_to(x[:, :1, ...].reshape(6, -1)[:, 0].reshape(6, *[1] * len(shape)), x.shape).copy()
    elif data == "one stands out":
        x = np.full_like(x, -1.0)
        x.reshape(6, -1)[:, 0] = 1.0
    elif data == "one code apart":
        x = np.zeros_like(x)
        x.reshape(6, -1)[:, -1] = 2.0 ** -(bits - 1)
    elif data == "large mean":
        x = 0.9 + 0.1 * x
    float_net = normalizing(shape, groups, eps, eps_on)
    calibration = {"x": np.stack([np.full(shape, -1.0), np.full(shape, 1.0)])}
    lowered = lower(float_net, QuantizeOptions(input_bits=bits), calibration=calibration)
    row = normalization_row(lowered)
    assert row["max_error_lsb"] <= 1.0
    assert row["lsb"] == 2.0**-9
    # The last half of a code is the rounding to the grid of whoever reads the result; here nobody does.
    assert (errors(float_net, lowered, {"x": x}) <= (row["max_error_lsb"] - 0.5) * row["lsb"]).all()


def test_bound_notices_a_root_without_fraction_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above: with fraction bits left out the stated bound does not hold."""
    float_net = normalizing((64,), 1, 1e-5, "variance")
    x = {"x": np.random.default_rng(0).uniform(-0.05, 0.05, (50, 64))}
    options = QuantizeOptions(input_bits=6)
    calibration = {"x": np.stack([np.full(64, -1.0), np.full(64, 1.0)])}
    limit = normalization_row(lower(float_net, options, calibration=calibration))
    monkeypatch.setattr(normalization, "_ROOT_ERROR", 1e9)
    monkeypatch.setattr(normalization, "_LARGEST_ROOT_ERROR", 1e9)
    mutant = lower(float_net, options, calibration=calibration)
    assert errors(float_net, mutant, x).max() > (limit["max_error_lsb"] - 0.5) * limit["lsb"]


def test_normalisation_that_no_word_holds_is_refused() -> None:
    """Entries so many and so fine that exact sums leave 62 bits end in a diagnostic with the numbers, not in a wrap."""
    float_net = normalizing((4096,), 1, 1e-12, "variance")
    calibration = {"x": np.random.default_rng(1).uniform(-1.0, 1.0, (4, 4096))}
    with pytest.raises(UnsupportedError, match=r"the variance of 4096 entries takes \d+ bits of 62"):
        lower(float_net, QuantizeOptions(input_bits=16, state_bits=16), calibration=calibration)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(4, 10), st.integers(0, 2**32 - 1))
def test_masked_softmax_is_within_two_codes(n: int, bits: int, seed: int) -> None:
    """Entries that take no part are exactly 0, the others within two codes of the float softmax; a row in which none
    takes part is 0 throughout."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2, (n, n))
    mask[0] = 0
    mask[1, 0] = 1
    float_net = drive_of([ops.Softmax(out="y", x="x", mask="mask")], (n, n), {"mask": mask})
    x = {"x": rng.uniform(-4.0, 4.0, (5, n, n))}
    lowered = lower(float_net, QuantizeOptions(state_bits=bits, input_bits=bits), calibration=x)
    apart = errors(float_net, lowered, x)
    assert apart.max() <= 2.0 * 2.0 ** -(bits + 1)
    assert (apart[:, mask == 0] == 0.0).all()


def test_masked_softmax_notices_an_entry_that_should_not_count() -> None:
    """The mutant: against a mask with one more entry the bound of two codes is broken."""
    mask = np.tril(np.ones((4, 4), np.int64))
    x = {"x": np.random.default_rng(3).uniform(-1.0, 1.0, (5, 4, 4))}
    right = drive_of([ops.Softmax(out="y", x="x", mask="mask")], (4, 4), {"mask": mask})
    mask = mask.copy()
    mask[0, 3] = 1
    wrong = drive_of([ops.Softmax(out="y", x="x", mask="mask")], (4, 4), {"mask": mask})
    lowered = lower(wrong, QuantizeOptions(), calibration=x)
    assert errors(right, lowered, x).max() > 2.0 * 2.0**-9


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1.0, 6.28318, 0.7]), st.integers(0, 2**32 - 1))
def test_modulo_is_exact_on_its_grid(period: float, seed: int) -> None:
    """A coordinate on a circle comes back to its place to within a step, for negative ones and many turns too."""
    rng = np.random.default_rng(seed)
    x = {"x": rng.uniform(-20.0, 20.0, (40, 3))}
    float_net = drive_of([ops.Mod(out="y", x="x", period=period)], (3,))
    lowered = lower(float_net, QuantizeOptions(input_bits=12), calibration=x)
    distance = errors(float_net, lowered, x)
    apart = np.minimum(distance, period - distance)
    # Half a step of the finest grid, and what a multiplier of 16 bits does to 20 units.
    assert apart.max() <= 2.0**-9 + 20.0 * 2.0**-15


def test_stop_rule_of_the_batch_becomes_one_of_each_sample() -> None:
    """The rule goes, what it changes is measured and stated, and no sample's result depends on its companions."""
    source = stopping()
    x = {"x": np.random.default_rng(1).uniform(-1.0, 1.0, (9, 5))}
    lowered = lower(source, QuantizeOptions(), calibration=x)
    row = next(row for row in lowered.choices if row["what"] == "stop")
    alone = replace(source, schedule=replace(source.schedule, stop=None))
    difference = np.abs(run_reference(source, x).outputs["out"] - run_reference(alone, x).outputs["out"]).max()
    assert row["max_output_difference"] == difference > 0.0
    assert row["samples"] == 9
    codes, _ = encode(lowered.net, x)
    together = run(lowered.net, codes).outputs["out"]
    one = run(lowered.net, {"x": codes["x"][3:4]}).outputs["out"]
    np.testing.assert_array_equal(together[3:4], one)


def test_stop_rule_without_data_states_no_number() -> None:
    """Nothing is measured where there is nothing to measure on."""
    row = next(row for row in lower(stopping(), QuantizeOptions(), calibration=None).choices if row["what"] == "stop")
    assert "max_output_difference" not in row


def test_widths_of_a_net_with_a_stop_rule_are_searched() -> None:
    """The search prepares its nets itself: the rule must not reach the integers on that road either."""
    source = stopping()
    source = replace(source, outputs=(replace(source.outputs[0], kind="classes"),))
    x = {"x": np.random.default_rng(1).uniform(-1.0, 1.0, (40, 5))}
    result = search(source, QuantizeOptions(), calibration=None, inputs=x, target=0.5)
    assert result.meets_target


def test_a_constant_mask_is_made_once_an_input() -> None:
    """Two softmaxes of a step share the condition, which stands in the drive and costs no tick."""
    softmaxes = [ops.Softmax(out=out, x=x, mask="mask") for out, x in (("once", "h"), ("twice", "once"))]
    made = net(
        {"mask": np.tril(np.ones((3, 3), np.int64))},
        x=(3, 3),
        states=[State("h", (3, 3), "twice")],
        step=softmaxes,
        output="h",
    )
    lowered = lower(made, QuantizeOptions(), calibration={"x": np.ones((1, 3, 3))}).net
    assert [op.mnemonic for op in lowered.drive] == ["abs", "greater"]
    assert not any(isinstance(op, ops.Greater) for op in lowered.step)
