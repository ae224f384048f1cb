"""Lowering of single operations: gates, shapes, products, tables, registers, against the float reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from quantize_nets import inputs_of, loop, net, state_errors

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import EqNet, Format, Input, IntNet, State, ops
from eqcompile.toolchain.ir.ops import Op

Array = NDArray[Any]


def leaky() -> EqNet:
    """A linear state: no interval of it stays inside itself."""
    return net(
        {"W": 0.9 * np.eye(3) + 0.2, "A": np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Linear(out="recurrent", x="h", weight="W"),
            ops.Add(out="new", a="drive", b="recurrent"),
            ops.Damp(out="next", old="h", new="new", alpha=0.25),
        ],
        output="h",
        steps=8,
    )


def opened(lowered: IntNet, rows: list[list[float]]) -> list[bool]:
    golden = run(lowered, encode(lowered, {"x": np.array(rows)})[0], trace=True)
    return [bool(v) for v in (golden.states["h"][0] != 0).any(axis=1)]


@pytest.mark.parametrize("exceeds", [True, False])
def test_a_gate_opens_on_exactly_the_same_codes(exceeds: bool) -> None:
    """`mean |change| > epsilon` at the grid points next to epsilon, both ways round: off by one would flip a layer."""
    n, epsilon = 4, 0.25
    order = {"a": "activity", "b": "epsilon"} if exceeds else {"a": "epsilon", "b": "activity"}
    made = net(
        {"epsilon": epsilon, "A": np.eye(n)},
        x=(n,),
        states=[State("h", (n,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Abs(out="change", x="drive"),
            ops.Reduce(out="activity", x="change", kind="mean", axes=(-1,), keep=True),
            ops.Greater(out="active", **order),
            ops.Activation(out="new", x="drive", kind="tanh"),
            ops.Select(out="next", condition="active", a="new", b="h"),
        ],
        output="h",
        steps=1,
    )
    lsb = 2.0**-7
    rows = [[epsilon] * n, [epsilon] * 3 + [epsilon + lsb], [epsilon] * 3 + [epsilon - lsb], [-epsilon] * n]
    x = {"x": np.array([*rows, [-1.0] * n])}
    lowered = lower(made, QuantizeOptions(), calibration=x).net
    mean = np.abs(rows).mean(axis=1)
    want = (mean > epsilon) if exceeds else (epsilon > mean)
    assert want.any()
    assert not want.all()
    assert opened(lowered, rows) == want.tolist()
    off_by_one = {"epsilon_threshold": -1 if exceeds else 1}
    params = (replace(p, value=p.value + off_by_one.get(p.name, 0)) for p in lowered.params)
    assert opened(replace(lowered, params=tuple(params)), rows) != want.tolist()


def test_two_moving_values_are_compared_on_one_grid() -> None:
    """A comparison in which neither side is a constant has no threshold to compute: both codes get one scale."""
    made = net(
        {"A": np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Activation(out="new", x="drive", kind="tanh"),
            ops.Greater(out="above", a="new", b="h"),
            ops.Select(out="next", condition="above", a="new", b="h"),
        ],
        output="h",
        steps=1,
    )
    lowered = lower(made, QuantizeOptions(), calibration={"x": np.array([[-1.0, 0.5, 1.0]])}).net
    golden = run(lowered, encode(lowered, {"x": np.array([[-1.0, 0.5, 0.0]])})[0], trace=True)
    assert golden.states["h"][0, 0].tolist() == [0, round(128 * np.tanh(0.5)), 0]


def test_a_state_and_its_multiples_keep_their_scales() -> None:
    """An Euler step reads the state itself and a fraction of it: both stand for the same codes at different scales, and
    one must not be taken for the other where they are brought to a common grid."""
    made = net(
        {"A": np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Scale(out="leak", x="h", factor=0.3),
            ops.Sub(out="rate", a="drive", b="leak"),
            ops.Scale(out="moved", x="rate", factor=0.1),
            ops.Add(out="next", a="h", b="moved"),
        ],
        output="h",
        steps=8,
    )
    x = {"x": np.random.default_rng(0).uniform(-1.0, 1.0, (16, 3))}
    lowered = lower(made, QuantizeOptions(state_bits=12, input_bits=12), calibration=x).net
    assert state_errors(lowered, made, x)["h"].max() < 8 * 2.0**-10


def averaging() -> EqNet:
    """A slow average of a constant: near its end it moves by less than a step of eight bits."""
    return net(
        {"A": np.eye(3), "W": -np.eye(3)},
        x=(3,),
        states=[State("h", (3,), "next")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Linear(out="recurrent", x="h", weight="W"),
            ops.Scale(out="half", x="recurrent", factor=-0.5),
            ops.Add(out="pre", a="drive", b="half"),
            ops.Activation(out="new", x="pre", kind="tanh"),
            ops.Damp(out="next", old="h", new="new", alpha=0.1),
        ],
        output="h",
        steps=60,
    )


def test_guard_bits_let_a_slow_average_arrive() -> None:
    """With rounding to a step of eight bits the average stops short of its end; two guard bits bring it four times as
    near, while the weights still read eight bits."""
    made = averaging()
    x = {"x": np.random.default_rng(0).uniform(-1.0, 1.0, (64, 3))}
    errors = {}
    for guard in (0, 2):
        lowered = lower(made, QuantizeOptions(guard_bits=guard), calibration=x).net
        assert lowered.formats["h"].bits == 8 + guard
        [weighted] = [op for op in lowered.step if isinstance(op, ops.Linear)]
        assert lowered.formats[weighted.x].bits == 8
        errors[guard] = state_errors(lowered, made, x)["h"][-1].max()
    assert errors[2] < errors[0] / 2


def test_guard_bits_go_to_states_that_average_alone() -> None:
    """A state that is replaced at each tick gains nothing from bits that its weights do not read."""
    made = loop(np.random.default_rng(0)).net
    x = {"x": np.random.default_rng(0).uniform(-1.0, 1.0, (8, 5))}
    plain, guarded = (lower(made, QuantizeOptions(guard_bits=g), calibration=x).net for g in (0, 2))
    assert guarded == plain


def test_a_relu_that_is_never_open_is_zero() -> None:
    """A table whose largest entry is zero has no power of two that covers it."""
    made = net(
        {"A": 0.5 * np.eye(2), "b": np.full(2, -3.0)},
        x=(2,),
        states=[State("h", (2,), "y")],
        drive=[ops.Linear(out="drive", x="x", weight="A", bias="b")],
        step=[ops.Activation(out="y", x="drive", kind="relu")],
        output="h",
        steps=1,
    )
    lowered = lower(made, QuantizeOptions(), calibration={"x": np.array([[1.0, -1.0]])}).net
    golden = run(lowered, encode(lowered, {"x": np.array([[1.0, -1.0]])})[0], trace=True)
    assert not golden.states["h"].any()


def one_step(drive: list[Op], out: str, params: dict[str, Any], x: tuple[int, ...], y: tuple[int, ...]) -> EqNet:
    """A net whose only state latches `out` of operations on the input."""
    return net(params, x=x, states=[State("h", y, out)], step=drive, output="h", steps=2)


RNG = np.random.default_rng(11)
COMPOSITIONS: dict[str, EqNet] = {
    "conv": one_step(
        [
            ops.Conv(out="c", x="x", weight="K", bias="k", stride=2, padding=1),
            ops.Activation(out="y", x="c", kind="tanh"),
        ],
        "y",
        {"K": RNG.normal(size=(3, 2, 3, 3)) / 4, "k": RNG.normal(size=3)},
        (2, 5, 5),
        (3, 3, 3),
    ),
    "stencil": one_step(
        [
            ops.Stencil(out="c", x="x", weight="S", index="i", bias="s"),
            ops.Activation(out="y", x="c", kind="sigmoid"),
        ],
        "y",
        {"S": RNG.normal(size=(6, 3)), "i": RNG.integers(-1, 4, (6, 3)), "s": RNG.normal(size=6)},
        (4,),
        (6,),
    ),
    "attention": one_step(
        [
            ops.Linear(out="q", x="x", weight="Q"),
            ops.Transpose(out="k", x="x", axes=(1, 0)),
            ops.MatMul(out="qk", a="q", b="k"),
            ops.Scale(out="scores", x="qk", factor=0.5),
            ops.Softmax(out="p", x="scores"),
            ops.MatMul(out="mixed", a="p", b="x"),
            ops.Reshape(out="y", x="mixed", shape=(12,)),
        ],
        "y",
        {"Q": RNG.normal(size=(3, 3))},
        (4, 3),
        (12,),
    ),
    "open activations": one_step(
        [
            ops.Linear(out="a", x="x", weight="A"),
            ops.Activation(out="r", x="a", kind="relu"),
            ops.Activation(out="g", x="a", kind="gelu"),
            ops.Activation(out="s", x="a", kind="silu"),
            ops.Add(out="rg", a="r", b="g"),
            ops.Sub(out="y", a="rg", b="s"),
        ],
        "y",
        {"A": RNG.normal(size=(5, 4))},
        (4,),
        (5,),
    ),
    "products": one_step(
        [
            ops.Linear(out="a", x="x", weight="A"),
            ops.Activation(out="z", x="a", kind="sigmoid"),
            ops.Activation(out="t", x="a", kind="tanh"),
            ops.Mul(out="zt", a="z", b="t"),
            ops.Mul(out="gained", a="zt", b="gain"),
            ops.Scale(out="y", x="gained", factor=-0.7),
        ],
        "y",
        {"A": RNG.normal(size=(5, 4)), "gain": RNG.normal(size=5)},
        (4,),
        (5,),
    ),
    "repeat": net(
        {"A": RNG.normal(size=(4, 4)), "W": RNG.normal(size=(4, 4)) / 8},
        x=(4,),
        states=[State("h", (4,), "y", init="start")],
        drive=[
            ops.Linear(out="drive", x="x", weight="A"),
            ops.Activation(out="start", x="drive", kind="tanh"),
        ],
        step=[
            ops.Repeat(
                out="y",
                init="h",
                count=3,
                carry="g",
                body=(
                    ops.Linear(out="m", x="g", weight="W"),
                    ops.Add(out="u", a="m", b="drive"),
                    ops.Activation(out="t", x="u", kind="tanh"),
                    ops.Damp(out="d", old="g", new="t", alpha=0.5),
                ),
                result="d",
            )
        ],
        output="h",
    ),
    "counter and memory": net(
        {"one": 1.0, "three": 3.0, "A": RNG.normal(size=(4, 4))},
        x=(4,),
        states=[State("n", (), "started"), State("before", (4,), "drive"), State("h", (4,), "y")],
        drive=[ops.Linear(out="drive", x="x", weight="A")],
        step=[
            ops.Mul(out="started", a="one", b="one"),
            ops.Mul(out="kept", a="n", b="before"),
            ops.Sub(out="moved", a="drive", b="kept"),
            ops.Activation(out="y", x="moved", kind="tanh"),
        ],
        output="h",
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.slow
def test_every_composition_follows_the_reference(name: str, bits: int) -> None:
    """Operations that no plain loop has: a wrong scale or axis would be an error of order one."""
    made = COMPOSITIONS[name]
    x = inputs_of(np.random.default_rng(12), made, 16)
    lowered = lower(made, QuantizeOptions(state_bits=bits, input_bits=bits), calibration=x).net
    worst = max(e.max() for e in state_errors(lowered, made, x).values())
    assert worst < {8: 0.12, 12: 0.04, 16: 0.03}[bits]
    if name == "counter and memory":
        assert lowered.formats["n"] == Format(1, False)
        assert lowered.states[0].frac == 0


def test_an_input_memory_compares_exactly() -> None:
    """A register that remembers the drive has the drive's own grid: the difference of a steady input is zero, not a
    rounding residue that could hold a gate open."""
    made = COMPOSITIONS["counter and memory"]
    x = inputs_of(np.random.default_rng(13), made, 16)
    lowered = lower(made, QuantizeOptions(state_bits=5), calibration=x).net
    golden = run(lowered, encode(lowered, x)[0], trace=True)
    assert (golden.states["h"][1:] == 0).all()
    assert (golden.states["h"][0] != 0).any()


def test_tokens_are_embedded() -> None:
    """An index input has no encoding; its table becomes codes."""
    made = net(
        {"T": RNG.normal(size=(5, 3)), "W": RNG.normal(size=(3, 3)) / 4},
        x=Input("x", (2,), "index", rows=5),
        states=[State("h", (2, 3), "y")],
        drive=[ops.Embedding(out="drive", x="x", table="T")],
        step=[
            ops.Linear(out="m", x="h", weight="W"),
            ops.Add(out="u", a="m", b="drive"),
            ops.Activation(out="y", x="u", kind="tanh"),
        ],
        output="h",
    )
    x = {"x": np.random.default_rng(0).integers(0, 5, (6, 2))}
    lowered = lower(made, QuantizeOptions(), calibration=x)
    assert lowered.assumed == ()
    assert state_errors(lowered.net, made, x)["h"].max() < 0.03


def test_frames_are_kept() -> None:
    """A sequence model keeps its frame axis, its emission and its carried state."""
    made = loop(np.random.default_rng(14)).net
    framed = replace(made, schedule=replace(made.schedule, frames=True, emit="every", steps=2))
    x = {"x": np.random.default_rng(15).uniform(-1, 1, (4, 3, 5))}
    lowered = lower(framed, QuantizeOptions(), calibration=x).net
    assert lowered.schedule.frames
    assert state_errors(lowered, framed, x)["h"].max() < 0.1
    assert run(lowered, encode(lowered, x)[0]).outputs["out"].shape == (4, 3, 3)


def test_an_unproved_range_needs_calibration_and_saturates() -> None:
    """Without data the state's range must not be guessed; with data, what leaves the range saturates, never wraps."""
    made = leaky()
    with pytest.raises(UsageError, match="range-unknown(.|\n)*--calibrate"):
        lower(made, QuantizeOptions(), calibration=None)
    rng = np.random.default_rng(0)
    x = {"x": rng.uniform(-0.1, 0.1, (32, 3))}
    lowered = lower(made, QuantizeOptions(state_bits=10), calibration=x, ranges={"x": (-1.0, 1.0)})
    row = next(r for r in lowered.choices if r["what"] == "state")
    assert row["range_from"] == "calibrated"
    assert state_errors(lowered.net, made, x)["h"].max() < 0.02
    golden = run(lowered.net, encode(lowered.net, {"x": np.ones((1, 3))})[0], trace=True)
    assert (golden.states["h"][-1] == lowered.net.formats["h"].hi).all()
