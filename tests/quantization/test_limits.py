"""Saturations, hard sigmoids and relu in integers: no tables, and a range that is proved or said to be calibrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.quantization import nonlinear
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.interfaces import Lowered, QuantizeOptions
from eqcompile.toolchain.ir import EqNet, ops, verify
from eqcompile.toolchain.reference import run_reference

RNG = np.random.default_rng(5)
A, W = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 6))
W *= 0.8 / np.linalg.norm(W, 2)


def on_drive(act: Callable[[Builder, str], str], *, steps: int = 1) -> EqNet:
    """The output is `act` of the drive A x."""
    b = Builder("test.Net", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 4), "A", A, "test")
    still = b.state("still", 1)
    b.update(still, still)
    b.output("o", act(b, drive), "values")
    return finished(b, steps)


def looped(act: Callable[[Builder, str], str], *, steps: int = 30, gain: float = 1.0) -> EqNet:
    """`h <- act(W h + A x)`."""
    b = Builder("test.Net", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 4), "A", A, "test")
    h = b.state("h", 6)
    b.begin("step")
    b.update(h, act(b, b.add("pre", drive, b.linear_of("recurrent", h, "W", gain * W, "test"))))
    b.output("o", h, "values")
    return finished(b, steps)


def finished(b: Builder, steps: int) -> EqNet:
    net = b.finish(steps)
    verify(net)
    return net


def samples(count: int = 64, size: float = 1.0) -> dict[str, Any]:
    return {"x": np.random.default_rng(6).uniform(-size, size, (count, 4))}


def rows(lowered: Lowered, what: str) -> dict[str, dict[str, Any]]:
    return {str(row["name"]): dict(row) for row in lowered.choices if row["what"] == what}


def clipped_and_expected(lo: float, hi: float, bits: int) -> tuple[Any, Any]:
    """Codes of a clipped drive, and those of the drive itself, limited to the nearest codes of both ends."""
    options = QuantizeOptions(state_bits=bits)
    plain = lower(on_drive(lambda b, v: v), options, calibration=samples()).net
    clipped = lower(on_drive(lambda b, v: b.clip("y", v, lo, hi)), options, calibration=samples()).net
    codes, _ = encode(plain, samples())
    scale = clipped.outputs[0].scale
    assert scale is not None
    assert scale == plain.outputs[0].scale
    assert not [op for op in clipped.all_ops() if isinstance(op, ops.Lookup)]
    return run(clipped, codes).outputs["o"], np.clip(
        run(plain, codes).outputs["o"], round(lo / scale), round(hi / scale)
    )


@settings(max_examples=40, deadline=None)
@given(st.floats(-3.0, 3.0), st.floats(0.1, 4.0), st.integers(6, 12))
def test_a_clip_is_its_operand_between_the_nearest_codes_of_its_ends(lo: float, width: float, bits: int) -> None:
    """Any ends, above and below all that the operand takes: the value is the operand's own code, or an end."""
    assert np.array_equal(*clipped_and_expected(lo, lo + width, bits))


def test_the_comparison_notices_an_end_that_is_a_code_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant of the test above."""
    assert np.array_equal(*clipped_and_expected(-0.3, 0.4, 8))
    monkeypatch.setattr(nonlinear, "round", lambda v: int(np.floor(v)), raising=False)
    assert not np.array_equal(*clipped_and_expected(-0.3, 0.4, 8))


def test_a_hard_sigmoid_loop_stays_near_a_code() -> None:
    """One operation and no table, proved: what is left are the roundings of weights and states, and that 1 is a code
    short."""
    net = looped(lambda b, v: b.hard_sigmoid("y", v, 0.5, 0.5), gain=0.9)
    x = samples(256)
    lowered = lower(net, QuantizeOptions(), calibration=x)
    codes, _ = encode(lowered.net, x)
    exact = run_reference(net, x).states["h"]
    assert (str(lowered.net.formats["h"]), lowered.net.states[0].frac) == ("u8", 8)
    errors = run(lowered.net, codes).states["h"][-1] - exact * 2**8
    assert float(np.sqrt((errors**2).mean())) < 1.0
    assert [type(op) for op in lowered.net.step if isinstance(op, ops.Lookup | ops.Interpolate)] == [ops.Interpolate]
    assert rows(lowered, "limits")["y"]["range_from"] == "proved"
    assert not rows(lowered, "table")


def test_a_relu_is_proved_where_that_is_cheap() -> None:
    """Inputs as large as their codes, of which calibration saw a half, pass: the format holds the proof."""
    net = on_drive(lambda b, v: b.act("y", v, "relu"))
    seen = {"x": np.sign(A[[int(np.argmax(np.abs(A).sum(axis=1)))]]) * 0.75}
    lowered = lower(net, QuantizeOptions(), calibration=None)
    assert rows(lowered, "limits")["y"]["range_from"] == "proved"
    known = lower(net, QuantizeOptions(), calibration=seen, ranges={"x": (-1.0, 1.0)})
    row = rows(known, "limits")["y"]
    assert row["range_from"] == "proved"
    x = {"x": seen["x"] / 0.75}
    codes, _ = encode(known.net, x)
    output = known.net.outputs[0]
    exact = run_reference(net, x).outputs["o"]
    assert exact.max() > run_reference(net, seen).outputs["o"].max() * 1.2
    np.testing.assert_allclose(run(known.net, codes).outputs["o"] * float(output.scale or 0), exact, atol=0.03)


def test_a_relu_that_saturates_at_what_calibration_saw_is_not_called_proved() -> None:
    """A loop whose interval has no end: the state rests on calibration, and so does its row, though nothing cuts up to
    the end of its format."""
    net = looped(lambda b, v: b.act("y", v, "relu"))
    x = samples(64, 0.1)
    lowered = lower(net, QuantizeOptions(), calibration=x, ranges={"x": (-1.0, 1.0)})
    assert rows(lowered, "limits")["y"]["range_from"] == "calibrated"
    assert rows(lowered, "state")["h"]["range_from"] == "calibrated"
    assert not rows(lowered, "table")


def test_what_rests_on_calibration_is_said_of_all_that_reads_it() -> None:
    """A silu ends its table at the calibrated maximum; a state that adds its value is not proved either, one behind a
    tanh is."""
    b = Builder("test.Net", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 4), "A", A, "test")
    for name in ("added", "bounded"):
        b.state(name, 6)
    b.begin("step")
    s = b.act("s", drive, "silu")
    b.update("added", b.add("a", s, drive))
    b.update("bounded", b.act("t", s))
    b.output("o", "added", "values")
    net = finished(b, 1)
    found = rows(lower(net, QuantizeOptions(), calibration=samples(16, 0.5), ranges={"x": (-1.0, 1.0)}), "state")
    assert {name: row["range_from"] for name, row in found.items()} == {"added": "calibrated", "bounded": "proved"}


def test_hard_functions_are_those_of_pytorch() -> None:
    """A slope, an offset or a side that is mistaken."""
    functional = torch.nn.functional
    for act, function in (
        (lambda b, v: b.clip("y", v), functional.hardtanh),
        (lambda b, v: b.hard_sigmoid("y", v), functional.hardsigmoid),
        (lambda b, v: b.leaky_relu("y", v), functional.leaky_relu),
        (lambda b, v: b.clip("y", v, 0.0, 6.0), functional.relu6),
    ):
        net = on_drive(act)
        x = samples(64, 4.0)
        expected = function(torch.from_numpy(x["x"] @ A.T)).numpy()
        np.testing.assert_allclose(run_reference(net, x).outputs["o"], expected, rtol=0, atol=1e-14)
        lowered = lower(net, QuantizeOptions(), calibration=x).net
        codes, _ = encode(lowered, x)
        exact = run_reference(net, {"x": codes["x"] * float(lowered.inputs[0].encoding.scale)}).outputs["o"]  # type: ignore[union-attr]
        assert np.abs(run(lowered, codes).outputs["o"] * float(lowered.outputs[0].scale or 0) - exact).max() < 0.05
