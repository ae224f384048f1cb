"""Golden against an independent interpreter in Python integers, and against itself computed in other ways."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from observe import observed
from strategies import int_runs, op_counts, random_inputs, random_net, small_net, with_formats

from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import SimulatorError, UsageError, VerifyError
from eqcompile.toolchain.golden import interpreter
from eqcompile.toolchain.golden.event import ConvMap, LinearMap, StencilMap, exact_dtype
from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.ir import (
    LEGAL,
    Encoding,
    Format,
    Input,
    Interval,
    IntNet,
    Output,
    Param,
    Schedule,
    ops,
    value_ranges,
)

Array = NDArray[np.int64]
IDENTITY = list(range(-128, 128))


def same(run: Run, states: dict[str, Array], outputs: dict[str, Array]) -> None:
    assert run.states.keys() == states.keys()
    for name, want in states.items():
        np.testing.assert_array_equal(run.states[name], want, name, strict=True)
    assert run.outputs.keys() == outputs.keys()
    for name, want in outputs.items():
        np.testing.assert_array_equal(run.outputs[name], want, name, strict=True)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(int_runs())
def test_golden_equals_the_scalar_interpreter(case: tuple[IntNet, dict[str, Array]]) -> None:
    """Any operation, latching, settling or frame rule of golden that differs from its equation."""
    net, inputs = case
    run = golden.run(net, inputs)
    states, outputs, steps = oracle.run(net, inputs)
    same(run, states, outputs)
    np.testing.assert_array_equal(run.steps, steps)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(int_runs(tolerance=0))
def test_settling_at_tolerance_0_changes_nothing(case: tuple[IntNet, dict[str, Array]]) -> None:
    """A sample ended too early: all ticks made without any end must give the same codes."""
    net, inputs = case
    states, outputs, _ = oracle.run(net, inputs, settle=False)
    same(golden.run(net, inputs), states, outputs)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(int_runs())
def test_event_driven_evaluation_gives_the_same_bits(case: tuple[IntNet, dict[str, Array]]) -> None:
    """A lost or doubled change of an accumulator, over ticks, frames, nested repeats and samples that ended."""
    net, inputs = case
    dense, event = golden.run(net, inputs), golden.run(net, inputs, evaluation="event")
    same(event, dict(dense.states), dict(dense.outputs))
    np.testing.assert_array_equal(event.steps, dense.steps)
    assert event.details == dense.details


def test_each_evaluation_goes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if both were one: a fault of the accumulators would then be compared with itself."""
    net, inputs = small_net([[1, 1], [0, 1]], table=range(-8, 8), first=-8, steps=2), {"x": np.array([[1, 1]])}
    right = golden.run(net, inputs)
    monkeypatch.setattr(LinearMap, "change", lambda self, delta: self.product(delta) + 1)
    assert np.array_equal(golden.run(net, inputs).states["h"], right.states["h"])
    assert not np.array_equal(golden.run(net, inputs, evaluation="event").states["h"], right.states["h"])


@settings(max_examples=40, deadline=None)
@given(int_runs())
def test_a_sample_does_not_depend_on_its_batch(case: tuple[IntNet, dict[str, Array]]) -> None:
    """Samples mixed up when some of them have ended."""
    net, inputs = case
    whole = golden.run(net, inputs, evaluation="event")
    for b in range(len(whole.steps)):
        alone = golden.run(net, {n: v[b : b + 1] for n, v in inputs.items()}, evaluation="event")
        same(
            alone, {n: v[:, b : b + 1] for n, v in whole.states.items()}, {n: v[[b]] for n, v in whole.outputs.items()}
        )
        assert alone.steps[0] == whole.steps[b]


def test_random_nets_cover_every_integer_operation() -> None:
    """A strategy that stopped making an operation would leave it untested without a sign."""
    seen: dict[str, int] = {}
    kinds, endings = set(), set()
    for seed in range(150):
        net = random_net(random.Random(seed))
        for name, count in op_counts(net).items():
            seen[name] = seen.get(name, 0) + count
        kinds |= {(op.kind, op.keep) for op in net.all_ops() if isinstance(op, ops.Reduce)}
        endings.add((net.schedule.frames, net.schedule.emit, min(net.schedule.tolerance, 1)))
    assert set(seen) == {kind.mnemonic for kind, levels in LEGAL.items() if "intnet" in levels}
    assert kinds == {("sum", True), ("sum", False), ("max", True)}
    assert len(endings) == 6


def test_random_runs_settle_at_different_ticks() -> None:
    """Property tests of settling that never see a sample end early would prove nothing."""
    early = spread = 0
    for seed in range(60):
        rng = random.Random(seed)
        net = random_net(rng, tolerance=0, frames=False)
        steps = golden.run(net, random_inputs(net, rng, batch=4)).steps
        early += int((steps < net.schedule.steps).sum())
        spread += len(set(steps.tolist())) > 1
    assert early >= 20
    assert spread >= 5


def chain(size: int) -> IntNet:
    """A delay line: the input arrives at unit n after n + 1 ticks."""
    weight = np.eye(size, k=-1, dtype=np.int64)
    net = small_net(weight.tolist(), table=IDENTITY, first=-128, steps=20)
    return replace(net, schedule=Schedule(20))


def test_step_counts_are_the_ticks_of_each_sample() -> None:
    """A count off by one, or one count for the whole batch. In a delay line of 4, a code entering unit i moves units
    until it has left the last one: ticks 1 to 4 - i, and one more finds that nothing moved."""
    codes = np.array([[9, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 0], [0, 0, 0, 9]])
    run = golden.run(chain(4), {"x": codes})
    assert run.steps.tolist() == [5, 3, 1, 2]
    assert (run.states["h"][5:] == run.states["h"][4]).all()


def test_additions_are_counted_over_nonzero_weights() -> None:
    """A count that charges zero weights, settled samples or unchanged operands."""
    run = golden.run(chain(4), {"x": np.array([[9, 0, 0, 0], [0, 0, 0, 0]])})
    # Dense: three nonzero weights in each of 5 + 1 ticks. Event: units 0, 1, 2 change once, before they are read; unit
    # 3 has no reader.
    assert run.details == {"additions_dense": 18, "additions_event": 3}


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3])
def test_tolerance_ends_at_the_first_small_move(tolerance: int) -> None:
    """A tolerance compared with `<` instead of `<=`, or with another state's distance."""
    net = small_net([[0]], table=IDENTITY, first=-128, steps=6, tolerance=tolerance)
    # h halves its distance to x = 7 in each tick: 4, 6, 7, 7.
    step = (*net.step, ops.DampFixed(out="z", old="h", new="y", multiplier=1, shift=1))
    net = with_formats(replace(net, step=step, states=(replace(net.states[0], update="z"),)))
    run = golden.run(net, {"x": np.array([[7]])})
    assert run.states["h"].ravel().tolist() == {0: [4, 6, 7, 7, 7, 7], 1: [4, 6, 7, 7, 7, 7], 2: [4] + [6] * 5}.get(
        tolerance, [4] + [6] * 5
    )
    assert run.steps.tolist() == [{0: 4, 1: 3, 2: 2, 3: 2}[tolerance]]


def test_frames_start_again_and_sum_their_ticks() -> None:
    """States lost between frames, a drive kept from the first frame, or a settled sample asleep in the next frame."""
    net = small_net([[0]], table=IDENTITY, first=-128, steps=3, frames=True)
    net = replace(net, schedule=replace(net.schedule, emit="every"))
    run = golden.run(net, {"x": np.array([[[5], [5], [6]], [[0], [0], [0]]])})
    assert run.steps.tolist() == [2 + 1 + 2, 3]
    assert run.outputs["o"].tolist() == [[[5], [5], [6]], [[0], [0], [0]]]
    assert run.states["h"][:, 0, 0].tolist() == [5] * 6 + [6] * 3


def test_a_net_without_states_is_one_tick() -> None:
    """A feed-forward net has nothing to relax: it must neither crash nor count more than one tick."""
    net = small_net([[2]], table=IDENTITY, first=-128, steps=4)
    weights = (ops.Linear(out="w", x="x", weight="W"),)
    net = replace(net, states=(), step=(), readout=weights, outputs=(Output("o", "w", "values", 1.0),), formats={})
    run = golden.run(with_formats(net), {"x": np.array([[3], [4]])})
    assert run.states == {}
    assert run.outputs["o"].tolist() == [[6], [8]]
    assert run.steps.tolist() == [1, 1]


def test_no_trace_keeps_outputs_and_reports_progress() -> None:
    """A run for accuracy alone that differs from the traced one, or a progress bar that never ends."""
    net, calls = chain(3), []
    inputs = {"x": np.array([[1, 2, 3]])}
    run = golden.run(net, inputs, trace=False, progress=lambda done, total: calls.append((done, total)))
    assert run.states == {}
    np.testing.assert_array_equal(run.outputs["o"], golden.run(net, inputs).outputs["o"])
    assert calls == [(tick, 20) for tick in range(1, 21)]


def test_labels_break_ties_to_the_lowest_index() -> None:
    """A tie to the highest index would flip labels between backends."""
    assert golden.labels(np.array([[1, 5, 5], [0, 0, 0], [-3, -2, -1]])).tolist() == [1, 0, 2]


# Formats


@pytest.mark.slow
def test_a_code_outside_its_stated_format_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong bound that the verifier let through must not pass silently: every value, carry and state is checked."""
    tried = 0
    for seed in range(25):
        rng = random.Random(seed)
        net = random_net(rng, frames=False)
        inputs = random_inputs(net, rng)
        seen = observed(net, inputs)
        assert seen.keys() == net.formats.keys() - inputs.keys()
        ranges = value_ranges(net)
        for name, codes in seen.items():
            need = Format.holding(codes.lo, codes.hi)
            narrow = Format(need.bits - 1, need.signed) if need.bits > 1 else Format(1, not need.signed)
            if narrow.lo <= codes.lo and codes.hi <= narrow.hi:
                continue
            wrong = replace(net, formats={**net.formats, name: narrow})
            with monkeypatch.context() as patch:
                patch.setattr(interpreter, "verify", lambda net: None)
                patch.setattr(interpreter, "value_ranges", lambda net, ranges=ranges: ranges)
                with pytest.raises(SimulatorError, match=rf"\b{name} takes codes .* its format {narrow} holds"):
                    golden.run(wrong, inputs)
            tried += 1
    assert tried > 200


def test_an_invalid_net_is_not_run() -> None:
    """A net that breaks a rule has no meaning; running it would define one."""
    net = small_net([[1]], table=[0], first=0, steps=1)
    with pytest.raises(VerifyError, match="ir-steps"):
        golden.run(replace(net, schedule=Schedule(0)), {"x": np.array([[0]])})


# Inputs


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({}, "input-missing"),
        ({"x": np.zeros((1, 2), np.int64), "z": np.zeros(1, np.int64)}, "input-unknown"),
        ({"x": np.zeros((1, 2))}, "input-dtype"),
        ({"x": np.zeros((1, 2), bool)}, "input-dtype"),
        ({"x": np.zeros((1, 3), np.int64)}, "input-shape"),
        ({"x": np.zeros(2, np.int64)}, "input-shape"),
        ({"x": np.zeros((1, 1, 2), np.int64)}, "input-shape"),
        ({"x": np.zeros((0, 2), np.int64)}, "input-empty"),
        ({"x": np.array([[0, 128]])}, "input-range"),
        ({"x": np.array([[-129, 0]])}, "input-range"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, Array], code: str) -> None:
    """Codes that no host could produce would give results that no hardware gives."""
    net = small_net([[1, 0], [0, 1]], table=[0], first=0, steps=1)
    with pytest.raises(UsageError) as caught:
        golden.run(net, inputs)
    assert [d.code for d in caught.value.diagnostics] == [code]


def test_every_wrong_input_is_named_at_once() -> None:
    """Faults reported one run at a time; tokens outside the table read other rows."""
    net = IntNet(
        name="two",
        family="test",
        inputs=(Input("x", (2,), encoding=Encoding(Format(4, True), 1.0)), Input("t", (), "index", rows=3)),
        params=(Param("E", np.array([[1], [2], [3]]), "test"),),
        states=(),
        drive=(ops.Embedding(out="e", x="t", table="E"), ops.Add(out="y", a="x", b="e")),
        step=(),
        readout=(),
        outputs=(Output("o", "y", "values", 1.0),),
        schedule=Schedule(1),
    )
    net = with_formats(net)
    assert golden.run(net, {"x": np.array([[1, 2]]), "t": np.array([2])}).outputs["o"].tolist() == [[4, 5]]
    for token in (-1, 3):
        with pytest.raises(UsageError) as caught:
            golden.run(net, {"x": np.zeros((1, 3), np.int64), "t": np.array([token])})
        assert [d.code for d in caught.value.diagnostics] == ["input-shape", "input-range"]
    with pytest.raises(UsageError, match="input-batch"):
        golden.run(net, {"x": np.zeros((2, 2), np.int64), "t": np.array([0])})


# Exact products


@pytest.mark.parametrize(("top", "dtype"), [((1 << 52) - 1, "float64"), (1 << 52, "int64")])
def test_products_leave_float64_before_it_rounds(top: int, dtype: str) -> None:
    """A bound off by a factor of two: float64 holds every integer below 2**53 and not all above."""
    weight = np.array([[top, 1], [3, -4]])
    assert exact_dtype(weight, Interval(0, 1)) == np.dtype(dtype)
    assert exact_dtype(weight, Interval(-1, 1)) == np.dtype(np.int64)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_float_and_integer_products_agree(bits: int, seed: int) -> None:
    """A product in float64 that rounds: both paths against Python integers, up to the largest sums."""
    source = np.random.default_rng(seed)
    top = (1 << bits) // 6
    weight = source.integers(-top, top, (3, 5), endpoint=True)
    x = source.integers(-1, 1, (4, 5), endpoint=True)
    linear = LinearMap(weight, Interval(-1, 1), (5,))
    want = [[sum(int(a) * int(b) for a, b in zip(r, w, strict=True)) for w in weight] for r in x]
    assert linear.product(x).tolist() == want
    assert linear.change(x).tolist() == want
    linear.columns = weight.T
    assert linear.product(x).tolist() == want


def test_both_kinds_of_product_are_reached() -> None:
    """A bound so loose that BLAS is never used, or so lax that int64 never is."""
    assert LinearMap(np.full((2, 784), 127), Interval(-128, 127), (784,)).columns.dtype == np.float64
    assert LinearMap(np.full((2, 784), 1 << 40), Interval(-128, 127), (784,)).columns.dtype == np.int64


def test_fanout_counts_the_nonzero_weights_that_read_an_entry() -> None:
    """Additions charged for weights on the padding or outside the lattice."""
    assert LinearMap(np.array([[1, 0], [2, 3]]), Interval(0, 1), (2,)).fanout.tolist() == [2, 1]
    stencil = StencilMap(np.array([[1, 1], [0, 1]]), np.array([[0, -1], [0, 1]]), (2,))
    assert stencil.fanout.tolist() == [1, 1]
    # Kernel 3, padding 1: the two ends are read by two positions, the middle by three.
    assert ConvMap(np.ones((1, 1, 3), np.int64), 1, 1, Interval(0, 1), (1, 4)).fanout.tolist() == [[2, 3, 3, 2]]
    assert ConvMap(np.ones((2, 1, 3), np.int64), 2, 1, Interval(0, 1), (1, 3)).fanout.tolist() == [[2, 4, 2]]
