"""The float interpreter against the equations of the operations, written out entry by entry."""

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from equations import Array, Shape, naive, one_op
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import (
    LEGAL,
    EqNet,
    Input,
    Output,
    Param,
    Schedule,
    State,
    Stop,
    infer,
    ops,
    verify,
)
from eqcompile.toolchain.ir.ops import ActivationKind, Op
from eqcompile.toolchain.reference import run_reference

RNG = np.random.default_rng(5)


def made(*shape: int) -> Array:
    return RNG.normal(size=shape)


INDEX = np.array([[0, -1, 3], [4, 2, -1], [-1, -1, 1]])
MASK = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 0]])

OPS: list[tuple[Op, dict[str, Shape], dict[str, Array]]] = [
    (ops.Linear(out="y", x="x", weight="w", bias="b"), {"x": (4,)}, {"w": made(3, 4), "b": made(3)}),
    (ops.Linear(out="y", x="x", weight="w"), {"x": (2, 4)}, {"w": made(3, 4)}),
    (
        ops.Stencil(out="y", x="x", weight="w", index="k", bias="b"),
        {"x": (5,)},
        {"w": made(3, 3), "k": INDEX, "b": made(3)},
    ),
    (ops.Stencil(out="y", x="x", weight="w", index="k"), {"x": (5,)}, {"w": made(3, 3), "k": INDEX}),
    (
        ops.Conv(out="y", x="x", weight="w", bias="b", stride=1, padding=1),
        {"x": (2, 4)},
        {"w": made(3, 2, 3), "b": made(3)},
    ),
    (ops.Conv(out="y", x="x", weight="w", stride=2, padding=0), {"x": (2, 5, 6)}, {"w": made(3, 2, 3, 2)}),
    (ops.Conv(out="y", x="x", weight="w", stride=1, padding=1), {"x": (1, 2, 3, 4)}, {"w": made(2, 1, 3, 3, 3)}),
    (ops.MatMul(out="y", a="x", b="z"), {"x": (2, 3, 4), "z": (2, 4, 5)}, {}),
    (ops.Add(out="y", a="x", b="z"), {"x": (2, 3), "z": (3,)}, {}),
    (ops.Add(out="y", a="x", b="p"), {"x": (3,)}, {"p": made(2, 3)}),
    (ops.Sub(out="y", a="z", b="x"), {"x": (2, 3), "z": (2, 1)}, {}),
    (ops.Mul(out="y", a="p", b="x"), {"x": (2, 3)}, {"p": made(3)}),
    (ops.Abs(out="y", x="x"), {"x": (3,)}, {}),
    (ops.Greater(out="g", a="x", b="p"), {"x": (2, 3)}, {"p": np.array(0.1)}),
    (ops.Greater(out="g", a="z", b="x"), {"x": (2, 3), "z": (3,)}, {}),
    (ops.Reduce(out="y", x="x", kind="sum", axes=(-1,), keep=False), {"x": (2, 3)}, {}),
    (ops.Reduce(out="y", x="x", kind="mean", axes=(-2, -1), keep=False), {"x": (2, 3, 2)}, {}),
    (ops.Reduce(out="y", x="x", kind="max", axes=(-2,), keep=True), {"x": (2, 3)}, {}),
    (ops.Reshape(out="y", x="x", shape=(3, 2)), {"x": (2, 3)}, {}),
    (ops.Transpose(out="y", x="x", axes=(2, 0, 1)), {"x": (2, 3, 4)}, {}),
    (ops.Scale(out="y", x="x", factor=-1.5), {"x": (3,)}, {}),
    *[(ops.Activation(out="y", x="x", kind=k), {"x": (9,)}, {}) for k in get_args(ActivationKind)],
    (ops.Damp(out="y", old="x", new="z", alpha=0.3), {"x": (2, 3), "z": (3,)}, {}),
    (ops.Mod(out="y", x="x", period=0.7), {"x": (5,)}, {}),
    (ops.Clip(out="y", x="x", lo=-0.25, hi=0.5), {"x": (2, 9)}, {}),
    (ops.Normalize(out="y", x="x", axes=(-1,), groups=1, eps=1e-2, eps_on="variance"), {"x": (2, 4)}, {}),
    (ops.Normalize(out="y", x="x", axes=(-1,), groups=1, eps=1e-2, eps_on="deviation"), {"x": (2, 4)}, {}),
    (ops.Normalize(out="y", x="x", axes=(-2, -1), groups=2, eps=1e-2, eps_on="variance"), {"x": (4, 3)}, {}),
    (ops.Softmax(out="y", x="x"), {"x": (2, 3)}, {}),
    (ops.Softmax(out="y", x="x", mask="m"), {"x": (2, 3, 3)}, {"m": MASK}),
    (ops.Softmax(out="y", x="x", mask="m"), {"x": (2, 3)}, {"m": np.zeros((2, 3), np.int64)}),
]


def difference(op: Op, net: EqNet, inputs: dict[str, Array], params: dict[str, Array]) -> float:
    """Largest difference between the interpreter's run of `net` and the equation of `op`, over a batch."""
    got = run_reference(net, inputs).outputs["y"]
    shape = infer(net)[net.outputs[0].value].shape
    want = [naive(op, {**params, **{n: a[i] for n, a in inputs.items()}}, shape) for i in range(len(got))]
    return float(np.abs(got - np.stack(want)).max())


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("case", range(len(OPS)))
def test_operation_equals_its_equation(case: int, seed: int) -> None:
    """An operation that computes something else than its docstring says."""
    op, shapes, params = OPS[case]
    rng = np.random.default_rng(seed)
    inputs = {n: rng.normal(scale=2.0, size=(3, *s)) for n, s in shapes.items()}
    assert difference(op, one_op(op, shapes, params), inputs, params) < 1e-12


def test_embedding_equals_its_equation() -> None:
    """Rows of the table in another order."""
    op = ops.Embedding(out="y", x="x", table="t")
    params = {"t": made(6, 3)}
    net = one_op(op, {"x": (4,)}, params, rows=6)
    assert difference(op, net, {"x": np.array([[0, 5, 2, 2], [1, 3, 4, 0]])}, params) == 0.0


def test_every_legal_operation_is_checked() -> None:
    """An operation that becomes legal in an EqNet without an equation here."""
    checked = {type(op) for op, _, _ in OPS} | {ops.Embedding, ops.Select, ops.Repeat}
    assert checked == {kind for kind, levels in LEGAL.items() if "eqnet" in levels}


CHANGED: list[tuple[int, dict[str, Any]]] = [
    (0, {"bias": None}),
    (2, {"bias": None}),
    (4, {"bias": None}),
    (15, {"kind": "max"}),
    (20, {"factor": -1.4}),
    (21, {"kind": "sigmoid"}),
    (24, {"kind": "silu"}),
    (26, {"kind": "sigmoid"}),
    (27, {"alpha": 0.7}),
    (28, {"period": 0.8}),
    (29, {"hi": 0.4}),
    (30, {"eps_on": "deviation"}),
    (31, {"eps": 1e-3}),
    (32, {"groups": 1}),
    (34, {"mask": None}),
]


@pytest.mark.parametrize(("case", "change"), CHANGED)
def test_comparison_sees_another_operation(case: int, change: dict[str, Any]) -> None:
    """The comparison above must fail for an operation with one field changed."""
    op, shapes, params = OPS[case]
    changed = replace(op, **change)
    net = one_op(changed, shapes, {n: p for n, p in params.items() if n in changed.reads})
    inputs = {n: np.random.default_rng(1).normal(size=(3, *s)) for n, s in shapes.items()}
    assert difference(op, net, inputs, params) > 1e-3


def test_extreme_arguments_are_exact_and_silent() -> None:
    """An overflow in exp: a NumPy warning, or NaN where the limit is 0 or 1."""
    x = np.array([[-800.0, -40.0, 0.0, 40.0, 800.0]])
    limits: dict[Any, list[float]] = {
        "sigmoid": [0, math.exp(-40), 0.5, 1, 1],
        "silu": [0, -40 * math.exp(-40), 0, 40, 800],
    }
    for kind, want in limits.items():
        net = one_op(ops.Activation(out="y", x="x", kind=kind), {"x": (5,)}, {})
        assert np.allclose(run_reference(net, {"x": x}).outputs["y"], [want], rtol=1e-15, atol=1e-300)
    net = one_op(ops.Softmax(out="y", x="x"), {"x": (5,)}, {})
    assert run_reference(net, {"x": x}).outputs["y"][0, 4] == 1.0


def relaxing(**changes: Any) -> EqNet:
    """Two coupled scalars and a counter: `a <- x + b`, `b <- a / 2` (old a), `n <- n + 1`."""
    net = EqNet(
        name="pair",
        family="",
        inputs=(Input("x", ()),),
        params=(Param("one", np.array(1.0), "made"), Param("start", np.array(3.0), "made")),
        states=(State("a", (), "a_next"), State("b", (), "b_next", "start"), State("n", (), "n_next")),
        drive=(ops.Scale(out="twice", x="x", factor=2.0),),
        step=(
            ops.Add(out="a_next", a="twice", b="b"),
            ops.Scale(out="b_next", x="a", factor=0.5),
            ops.Add(out="n_next", a="n", b="one"),
        ),
        readout=(ops.Add(out="sum", a="a", b="b"),),
        outputs=(Output("y", "sum", "values"),),
        schedule=Schedule(3),
    )
    net = replace(net, **changes)
    verify(net)
    return net


def test_states_latch_together() -> None:
    """A Jacobi step that reads a value latched in the same tick, and a Gauss-Seidel one that does not."""
    run = run_reference(relaxing(), {"x": np.array([1, 2])}, trace=True)
    assert run.trace is not None
    assert run.trace["a"].tolist() == [[5, 7], [2, 4], [4.5, 7.5]]
    assert run.trace["b"].tolist() == [[0, 0], [2.5, 3.5], [1, 2]]
    assert run.trace["n"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert run.outputs["y"].tolist() == [5.5, 9.5]
    assert run.states["a"].tolist() == [4.5, 7.5]
    assert run.steps.tolist() == [3, 3]
    sweep = relaxing()
    sweep = replace(sweep, step=(sweep.step[0], replace(sweep.step[1], x="a_next"), sweep.step[2]))
    swept = run_reference(sweep, {"x": np.array([1, 2])}, trace=True)
    assert swept.trace is not None
    assert swept.trace["b"].tolist() == [[2.5, 3.5], [2.25, 3.75], [2.125, 3.875]]


@pytest.mark.parametrize("emit", ["last", "every"])
def test_frames_clamp_anew_and_carry_states(emit: Any) -> None:
    """A state that starts anew with each frame, a drive that keeps the first frame, outputs on the wrong axis."""
    net = relaxing(schedule=Schedule(2, frames=True, emit=emit))
    run = run_reference(net, {"x": np.array([[1.0, 10.0], [0.0, 0.0]])}, trace=True)
    assert run.trace is not None
    assert run.trace["a"][:, 0].tolist() == [5, 2, 22.5, 21]
    assert run.trace["n"][:, 0].tolist() == [1, 2, 3, 4]
    want = [[4.5, 32.25], [1.5, 0.75]]
    assert run.outputs["y"].tolist() == (want if emit == "every" else [w[-1] for w in want])
    assert run.steps.tolist() == [4, 4]


def test_stop_rule_waits_for_the_whole_batch() -> None:
    """A rule per sample, on another state, or one that is loosened a tick too early."""
    fading = EqNet(
        name="fading",
        family="",
        inputs=(Input("x", (2,)),),
        params=(),
        states=(State("h", (2,), "next", "kept"),),
        drive=(ops.Scale(out="kept", x="x", factor=1.0),),
        step=(ops.Scale(out="next", x="h", factor=0.5),),
        readout=(),
        outputs=(Output("y", "h", "values"),),
        schedule=Schedule(40, stop=Stop("h", 0.06, loose_after=3, loose=2.0)),
    )
    verify(fading)
    # (0.6, 0.8) moves by 0.5, 0.25, 0.125, 0.0625, ...: below 0.12 from the fourth step on, below 0.06 from the fifth.
    x = np.array([[0.6, 0.8], [0.0, 0.0]])
    assert run_reference(fading, {"x": x}).steps.tolist() == [4, 4]
    late = replace(fading, schedule=replace(fading.schedule, stop=Stop("h", 0.06, loose_after=4, loose=2.0)))
    assert run_reference(late, {"x": x}).steps.tolist() == [5, 5]
    assert run_reference(late, {"x": x[1:]}).steps.tolist() == [1]
    assert run_reference(replace(late, schedule=Schedule(40)), {"x": x}).steps.tolist() == [40, 40]


def nested() -> EqNet:
    """`h <- g after three times g <- g/2 + h + x`, g from 1."""
    body = (
        ops.Scale(out="half", x="g", factor=0.5),
        ops.Add(out="more", a="half", b="h"),
        ops.Add(out="g_next", a="more", b="x"),
    )
    net = EqNet(
        name="nested",
        family="",
        inputs=(Input("x", ()),),
        params=(Param("g0", np.array(1.0), "made"),),
        states=(State("h", (), "core"),),
        drive=(),
        step=(ops.Repeat(out="core", init="g0", count=3, carry="g", body=body, result="g_next"),),
        readout=(),
        outputs=(Output("y", "h", "values"),),
        schedule=Schedule(2),
    )
    verify(net)
    return net


def test_repeat_carries_its_value() -> None:
    """A nested loop with one turn more or less, or one that starts from its last value."""
    run = run_reference(nested(), {"x": np.array([0.0, 4.0])}, trace=True)
    assert run.trace is not None
    first = [0.125, 0.125 + 1.75 * 4]
    second = [0.125 + 1.75 * (h + x) for h, x in zip(first, (0.0, 4.0), strict=True)]
    assert run.trace["h"].tolist() == [first, second]


def test_ranges_cover_every_value_at_every_tick() -> None:
    """A range that forgets a nested value, the initial state, or an early tick: the quantizer would clip there."""
    seen = run_reference(nested(), {"x": np.array([-1.0, 4.0])}, ranges=True).ranges
    assert set(seen) == {"x", "h", "g", "half", "more", "g_next", "core"}
    assert seen["x"] == (-1.0, 4.0)
    assert seen["h"][0] == min(0.0, seen["core"][0])
    # g: 1, then 1/2 + h + x and so on; the lowest and highest of both ticks and samples by hand.
    values = []
    for x in (-1.0, 4.0):
        h = 0.0
        for _ in range(2):
            g = 1.0
            for _ in range(3):
                values.append(g)
                g = g / 2 + h + x
            h = g
    assert seen["g"] == (min(values), max(values))
    gated = one_op(OPS[13][0], OPS[13][1], OPS[13][2])
    assert set(run_reference(gated, {"x": made(2, 2, 3)}, ranges=True).ranges) == {"x", "shown"}
    assert run_reference(nested(), {"x": np.array([1.0])}).ranges == {}


def test_progress_counts_ticks() -> None:
    """A progress bar that never ends or starts beyond its end."""
    calls: list[tuple[int, int]] = []
    net = relaxing(schedule=Schedule(2, frames=True))
    run_reference(net, {"x": np.zeros((1, 2))}, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint8, np.bool_])
def test_numbers_of_any_dtype_become_float64(dtype: Any) -> None:
    """Integer pixels computed in integers."""
    run = run_reference(relaxing(), {"x": np.array([1, 0], dtype)})
    assert run.outputs["y"].dtype == np.float64
    assert run.outputs["y"].tolist() == [5.5, 1.5]


TOKENS = one_op(ops.Embedding(out="y", x="x", table="t"), {"x": (2,)}, {"t": np.ones((6, 3))}, rows=6)
VECTOR = one_op(ops.Add(out="y", a="x", b="z"), {"x": (3,), "z": (3,)}, {})
GOOD = np.ones((2, 3))


@pytest.mark.parametrize(
    ("net", "inputs", "codes"),
    [
        (VECTOR, {"x": GOOD}, ["input-missing"]),
        (VECTOR, {"x": GOOD, "z": GOOD, "q": GOOD}, ["input-unknown"]),
        (VECTOR, {"x": GOOD, "z": np.ones((2, 4))}, ["input-shape"]),
        (VECTOR, {"x": np.ones(3), "z": GOOD}, ["input-shape"]),
        (VECTOR, {"x": GOOD, "z": np.ones((1, 3))}, ["input-batch"]),
        (VECTOR, {"x": np.ones((0, 3)), "z": np.ones((0, 3))}, ["input-empty", "input-empty"]),
        (VECTOR, {"x": GOOD * np.nan, "z": GOOD * np.inf}, ["input-not-finite", "input-not-finite"]),
        (VECTOR, {"x": GOOD.astype(complex), "z": GOOD.astype(str)}, ["input-dtype", "input-dtype"]),
        (TOKENS, {"x": np.ones((1, 2))}, ["input-dtype"]),
        (TOKENS, {"x": np.array([[0, 6]])}, ["input-range"]),
        (TOKENS, {"x": np.array([[-1, 5]])}, ["input-range"]),
        (relaxing(schedule=Schedule(1, frames=True)), {"x": np.ones(3)}, ["input-shape"]),
    ],
)
def test_unfit_inputs_are_all_reported(net: EqNet, inputs: dict[str, Array], codes: list[str]) -> None:
    """An input of another net that runs anyway, or an error that shows one fault at a time."""
    with pytest.raises(UsageError) as caught:
        run_reference(net, inputs)
    assert [d.code for d in caught.value.diagnostics] == codes


def test_divergence_names_state_and_tick() -> None:
    """Infinite states that come out as results or as a warning of NumPy."""
    grown = (ops.Add(out="grown", a="n", b="start"), ops.Mul(out="n_next", a="grown", b="grown"))
    growing = relaxing(step=(*relaxing().step[:2], *grown), schedule=Schedule(30))
    with pytest.raises(UsageError) as caught:
        run_reference(growing, {"x": np.zeros(2)})
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "diverged"
    assert "2 of 2 entries of state n are not finite after 10 ticks" in diagnostic.what
