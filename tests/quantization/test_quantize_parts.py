"""The parts of quantization on their own: weights, multipliers, tables, input codes, bounds and hoisting."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_nets import loop, net

from eqcompile.quantization.bounds import Bounds, whole_numbers
from eqcompile.quantization.builder import multiplier_for
from eqcompile.quantization.exact import on_grid
from eqcompile.quantization.hoist import hoist
from eqcompile.quantization.inputs import choose_encoding, encode_error
from eqcompile.quantization.lower import lower
from eqcompile.quantization.operands import Constant, Value, common_scale, is_power_of_two
from eqcompile.quantization.tables import PlainTable, Segments, function, saturation, tabulate
from eqcompile.quantization.weights import quantize_weights
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Format, State, ops, verify
from eqcompile.toolchain.ir.ranges import RangeError
from eqcompile.toolchain.reference import run_reference

PROFILE = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, scale=st.floats(1e-6, 1e6), noise=st.booleans())
@PROFILE
def test_ternary_tensors_are_recognised(seed: int, scale: float, noise: bool) -> None:
    """One magnitude up to float32 noise is ternary, exactly; two magnitudes are not."""
    rng = np.random.default_rng(seed)
    weight = scale * rng.integers(-1, 2, (4, 6)).astype(np.float64)
    weight[0, :2] = scale, -scale
    if noise:
        weight = weight * (1.0 + 1e-7 * rng.random(weight.shape))
    codes = quantize_weights(weight, "int8", per_row=True)
    assert codes.kind == "ternary"
    assert codes.exact
    assert codes.scale.ndim == 0
    assert np.array_equal(codes.codes, np.sign(weight))
    assert codes.max_error <= 2e-7 * scale
    weight[0, 0] *= 1.01
    assert on_grid(weight.reshape(-1), 1) is None


@given(seed=seeds, bits=st.integers(2, 8), spare=st.integers(0, 3), per_row=st.booleans())
@PROFILE
def test_codes_in_a_weight_are_found_again(seed: int, bits: int, spare: int, per_row: bool) -> None:
    """A fine-tuned checkpoint holds float32 products of scales and codes: rounding them anew would change the net."""
    rng = np.random.default_rng(seed)
    top = (1 << (bits - 1)) - 1
    codes = rng.integers(-top, top + 1, (5, 9))
    codes[:, 0], codes[:, 1], codes[3] = top, 1, 0
    scales = (rng.uniform(1e-3, 2.0, 5) if per_row else np.full(5, 0.037)).astype(np.float32)
    weight = (codes.astype(np.float32) * scales[:, None]).astype(np.float64)
    found = quantize_weights(weight, f"int{min(bits + spare, 8)}", per_row=per_row)
    assert np.array_equal(found.codes, codes)
    assert found.exact
    assert found.kind == ("ternary" if bits == 2 else f"int{bits}")
    assert found.scale.ndim == per_row
    assert found.max_error <= 1e-6 * np.abs(weight).max()


def test_rows_that_hold_codes_stay_beside_rows_that_do_not() -> None:
    """One row off the grid must not cost the others their codes; more bits than asked for are not kept."""
    weight = np.array([[0.3, -0.3, 0.0], [0.5, 0.123, -0.4567], [0.7, -0.1, 0.2]])
    found = quantize_weights(weight, "int4", per_row=True)
    assert found.codes[[0, 2]].tolist() == [[1, -1, 0], [7, -1, 2]]
    assert (found.exact_rows, found.exact, found.kind) == (2, False, "int4")
    assert found.label == "int4, per row, 2 of 3 rows exact"
    assert quantize_weights(weight, "int3", per_row=True).exact_rows == 1
    assert quantize_weights(weight, "int4", per_row=False).exact_rows == 0


def test_the_lowest_code_of_twos_complement_is_kept() -> None:
    """A quantizer whose range is not narrow uses -8 at 4 bits."""
    weight = np.array([[-0.8, 0.7, 0.1]])
    found = quantize_weights(weight, "int4", per_row=True)
    assert (found.codes.tolist(), found.kind) == ([[-8, 7, 1]], "int4")
    assert not quantize_weights(-weight, "int4", per_row=True).exact


def test_an_all_zero_tensor_is_ternary() -> None:
    """A tensor that the threshold killed must not divide by zero."""
    codes = quantize_weights(np.zeros((3, 4)), "int8", per_row=True)
    assert codes.kind == "ternary"
    assert not codes.codes.any()
    assert codes.row("W", "s")["density"] == 0.0


@given(ratios=st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=5), bits=st.integers(8, 24))
@PROFILE
def test_multipliers_are_within_their_precision(ratios: list[float], bits: int) -> None:
    """Every ratio is met within 2^-bits of the largest; the multiplier fits `bits` bits where a shift can do that."""
    m, shift = multiplier_for(np.array(ratios), bits)
    assert (np.abs(m / 2.0**shift - ratios) <= max(ratios) * 2.0**-bits * (1 + 1e-9)).all() or shift == 0
    assert shift == 0 or int(np.abs(m).max()) <= 1 << bits
    wrong = m / 2.0 ** (shift + 1)
    assert (np.abs(wrong - ratios) > max(ratios) * 2.0**-bits).any()


def test_powers_of_two_need_no_multiplier() -> None:
    """Exact shifts stay shifts, both ways; a ratio beyond any word is refused."""
    assert [(int(m), k) for m, k in (multiplier_for(np.array(2.0**e), 15) for e in (-9, 0, 3))] == [
        (1, 9),
        (1, 0),
        (8, 0),
    ]
    assert multiplier_for(np.zeros(3), 15) == (pytest.approx(np.zeros(3)), 0)
    with pytest.raises(RangeError):
        multiplier_for(np.array(1e30), 15)


@given(bits=st.integers(2, 12))
@settings(max_examples=11, deadline=None)
def test_tanh_tables_saturate_where_the_code_does(bits: int) -> None:
    """The domain is the smallest power of two whose ends have the codes at infinity: half of it must not do."""
    step, scale, top = 2.0 ** -(bits + 1), 2.0 ** (1 - bits), (1 << (bits - 1)) - 1
    half = saturation(np.tanh, step, scale=scale, top=top)
    ends = np.tanh(np.array([-half, half - 1]) * step) / scale
    assert np.clip(np.rint(ends), -top, top).tolist() == [-top, top]
    if half > 1:
        assert np.rint(np.tanh((half // 2 - 1) * step) / scale) < top
    table = tabulate(np.tanh, -half, half - 1, step, scale=scale, top=top)
    assert isinstance(table, PlainTable)
    assert (np.diff(table.entries) >= 0).all()
    assert table.entries[half] == 0
    assert table.max_error <= 1.0


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "gelu", "exp"])
def test_wide_tables_are_segments_within_one_step(kind: str) -> None:
    """Piecewise-linear tables meet the function at every point of their domain, recomputed here by the equation."""
    step, scale, top = 2.0**-14, 2.0**-9 if kind == "exp" else 2.0**-13, (1 << 16) - 1
    first, last = -(1 << 16), (1 << 16) - 1
    phi = function(kind)  # type: ignore[arg-type]
    table = tabulate(phi, first, last, step, scale=scale, top=top)
    assert isinstance(table, Segments)
    assert len(table.base) << table.shift == last - first + 1
    u = np.arange(last - first + 1)
    i, f = u >> table.shift, u & ((1 << table.shift) - 1)
    codes = table.base[i] + ((table.slope[i] * f + (1 << (table.shift - 1))) >> table.shift)
    error = np.abs(codes - phi((u + first) * step) / scale).max()
    assert error == pytest.approx(table.max_error)
    assert error <= 1.0
    assert np.abs(codes + 1 - phi((u + first) * step) / scale).max() > 1.0


@pytest.mark.parametrize(("parts", "exact"), [(16, True), (255, True), (100, False)])
def test_pixels_become_exact_codes(parts: int, exact: bool) -> None:
    """k/16 asks for a power of two, k/255 for the full scale; nothing fits k/100."""
    data = (np.arange(parts + 1) / parts).astype(np.float32)
    encoding = choose_encoding(8, (0.0, 1.0), data)
    assert encoding.format == Format(8, False)
    assert (encode_error(encoding, data)[1] < 1e-7) == exact


@given(lo=st.floats(-100, 0), span=st.floats(1e-3, 100), bits=st.integers(2, 16))
@PROFILE
def test_codes_cover_the_range(lo: float, span: float, bits: int) -> None:
    """No value of the range is clipped by more than rounding, with either kind of scale."""
    bounds = (lo, lo + span)
    for data in (None, np.linspace(*bounds, 50)):
        encoding = choose_encoding(bits, bounds, data)
        fmt = encoding.format
        assert fmt.signed == (lo < 0.0)
        for end in bounds:
            assert fmt.lo <= np.rint(end / encoding.scale) <= fmt.hi


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_bounds_hold_what_the_reference_sees(seed: int) -> None:
    """A proved interval that a run leaves would let a state saturate unseen."""
    made = loop(np.random.default_rng(seed), alpha=0.5).net
    bounds = Bounds(made, {"x": (-1.0, 1.0)}, {})
    assert not bounds.missing
    assert not bounds.taken
    assert bounds.of["h"] == (-1.0, 1.0)
    seen = run_reference(made, {"x": np.random.default_rng(seed).uniform(-1, 1, (20, 5))}, ranges=True).ranges
    for name, (lo, hi) in seen.items():
        assert bounds.of[name][0] <= lo + 1e-12
        assert hi <= bounds.of[name][1] + 1e-12


@pytest.mark.parametrize(
    ("span", "size"), [((-0.5, 0.25), (0.0, 0.5)), ((-0.5, -0.25), (0.25, 0.5)), ((0.25, 0.5), (0.25, 0.5))]
)
def test_bounds_of_a_size_reach_zero_where_the_sign_changes(
    span: tuple[float, float], size: tuple[float, float]
) -> None:
    """A lower bound above 0 of what may be 0: a format would leave out codes that a run needs."""
    made = net({}, x=(2,), states=[State("h", (2,), "y")], step=[ops.Abs(out="y", x="x")], output="h")
    assert Bounds(made, {"x": span}, {}).of["y"] == size


def test_what_rests_on_calibration_ends_at_a_bounded_activation() -> None:
    """Would break if a certificate called proved what only calibration saw, or the other way round."""
    made = net(
        {},
        x=(2,),
        states=[State("h", (2,), "t")],
        step=[
            ops.Activation(out="g", x="x", kind="gelu"),
            ops.Add(out="s", a="g", b="x"),
            ops.Activation(out="t", x="s", kind="tanh"),
        ],
        output="h",
    )
    assert Bounds(made, {"x": (-1.0, 1.0)}, {"x": (-0.5, 0.5)}).open == {"g", "s"}
    assert Bounds(made, {"x": (-1.0, 1.0)}, {}).open == frozenset()


@pytest.mark.parametrize(
    "op", [ops.Abs(out="y", x="x"), ops.Activation(out="y", x="x", kind="tanh"), ops.Sub(out="y", a="x", b="x")]
)
def test_a_value_keeps_its_name(op: ops.FloatOp) -> None:
    """A report, a fault site or a waveform that speaks of a name which the user's net does not have."""
    made = net({}, x=(2,), states=[State("h", (2,), "y")], step=[op], output="h")
    lowered = lower(made, QuantizeOptions(input_range=(-1.0, 1.0)), calibration=None).net
    assert lowered.step[-1].out == lowered.states[0].update == "y"


def test_flags_and_counters_are_whole() -> None:
    """A flag keeps unit steps; a state fed by a rounded map must not count as whole though it starts at 0."""
    made = net(
        {"one": 1.0, "half": 0.5},
        x=(1,),
        states=[State("flag", (), "one"), State("count", (), "more"), State("mixed", (), "less")],
        step=[ops.Add(out="more", a="count", b="flag"), ops.Add(out="less", a="mixed", b="half")],
        output="count",
    )
    assert whole_numbers(made) >= {"flag", "count", "more"}
    assert not whole_numbers(made) & {"mixed", "less", "half"}


def test_operands_meet_on_the_right_grid() -> None:
    """Equal scales stay; powers of two take the finer; unlike ones and inexact constants the given grid."""
    finest = Fraction(1, 512)
    a, b, odd = Value("a", Fraction(1, 128)), Value("b", Fraction(1, 256)), Value("c", Fraction(1, 255))
    exact, inexact = Constant("k", np.array([0.5]), ""), Constant("k", np.array([0.3]), "")
    assert common_scale([a, a], finest) == a.scale
    assert common_scale([a, b], finest) == b.scale
    assert common_scale([a, odd], finest) == finest
    assert common_scale([a, exact], finest) == a.scale
    assert common_scale([a, inexact], finest) == finest
    assert common_scale([exact, inexact], finest) == finest
    assert [is_power_of_two(s) for s in (Fraction(4), Fraction(1, 8), Fraction(3, 8), Fraction(-2))] == [
        True,
        True,
        False,
        False,
    ]


@given(seed=seeds, alpha=st.sampled_from([1.0, 0.5]))
@settings(max_examples=20, deadline=None)
def test_hoisting_keeps_the_function(seed: int, alpha: float) -> None:
    """Biases move into the drive; every state stays the same up to reassociation."""
    made = loop(np.random.default_rng(seed), alpha=alpha).net
    moved, changed = hoist(made)
    verify(moved)
    assert changed == {"drive", "recurrent"}
    assert not any(isinstance(op, ops.Linear) and op.bias for op in moved.step)
    x = {"x": np.random.default_rng(seed).normal(size=(6, 5))}
    before, after = (run_reference(n, x).states["h"] for n in (made, moved))
    assert np.abs(before - after).max() < 1e-12


def test_hoisting_sums_of_several_terms() -> None:
    """Several maps, a constant, a convolution's bias and a drive that is read twice: all static terms leave the step,
    and a value that someone else reads keeps its meaning."""
    rng = np.random.default_rng(0)
    made = net(
        {
            "K": rng.normal(size=(2, 2, 3)),
            "k": rng.normal(size=2),
            "c": rng.normal(size=(2, 1)),
            "D": rng.normal(size=(4, 4)),
        },
        x=(2, 4),
        states=[State("h", (2, 4), "y"), State("g", (2, 4), "drive")],
        drive=[ops.Linear(out="drive", x="x", weight="D")],
        step=[
            ops.Conv(out="m", x="h", weight="K", bias="k", stride=1, padding=1),
            ops.Conv(out="n", x="g", weight="K", bias="k", stride=1, padding=1),
            ops.Add(out="s0", a="m", b="drive"),
            ops.Add(out="s1", a="s0", b="n"),
            ops.Add(out="s2", a="s1", b="c"),
            ops.Activation(out="y", x="s2", kind="tanh"),
        ],
        output="h",
    )
    moved, changed = hoist(made)
    verify(moved)
    assert "drive" not in changed
    assert sum(isinstance(op, ops.Add) for op in moved.step) == 2
    assert not any(isinstance(op, ops.Conv) and op.bias for op in moved.step)
    x = {"x": rng.normal(size=(5, 2, 4))}
    before, after = (run_reference(n, x).states for n in (made, moved))
    assert all(np.abs(before[s] - after[s]).max() < 1e-12 for s in ("h", "g"))
