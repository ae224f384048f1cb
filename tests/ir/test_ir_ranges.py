"""Interval arithmetic: sound on every run, exact where it is claimed to be, and loud where it cannot bound."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from observe import observed
from strategies import int_runs, small_net, with_formats

from eqcompile.toolchain.ir import Format, Interval, IntNet, Param, RangeError, ops, value_ranges
from eqcompile.toolchain.ir.ops import Op
from eqcompile.toolchain.ir.ranges import op_range

Array = NDArray[np.int64]
SMALL = st.tuples(st.integers(-9, 9), st.integers(0, 6)).map(lambda p: Interval(p[0], p[0] + p[1]))


@settings(max_examples=60, deadline=None)
@given(int_runs())
def test_every_code_of_a_run_lies_in_its_interval(case: tuple[IntNet, dict[str, Array]]) -> None:
    """An interval too narrow is a false proof: golden checks formats, this checks the intervals behind them."""
    net, inputs = case
    ranges = value_ranges(net)
    for name, codes in observed(net, inputs).items():
        assert codes.within(ranges[name]), name


def values(op: Op, scope: dict[str, Interval], params: dict[str, Array]) -> Interval:
    """Interval of all results over every combination of operand codes, by the scalar interpreter."""
    names = sorted(scope)
    found = []
    for codes in itertools.product(*(range(scope[n].lo, scope[n].hi + 1) for n in names)):
        tensors = {n: oracle.Tensor((), {(): c}) for n, c in zip(names, codes, strict=True)}
        tensors |= {n: oracle.Tensor.of(p) for n, p in params.items()}
        found.append(oracle.apply(op, tensors).at[()])
    return Interval(min(found), max(found))


def claimed(op: Op, scope: dict[str, Interval], params: dict[str, Array]) -> Interval:
    known = {n: Interval(int(p.min()), int(p.max())) for n, p in params.items()}
    sizes = {name: () for name in scope} | {n: p.shape for n, p in params.items()}
    return op_range(op, {**known, **scope}, sizes, lambda name: params[name])


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, st.integers(0, 4), st.integers(-7, 7))
def test_elementwise_intervals_are_exact(a: Interval, b: Interval, shift: int, multiplier: int) -> None:
    """A corner that is not tried: over independent operands each interval is exactly the set's hull."""
    scope = {"a": a, "b": b}
    params = {"m": np.array(multiplier)}
    exact: list[tuple[Op, Sequence[str]]] = [
        (ops.Add(out="y", a="a", b="b"), "ab"),
        (ops.Sub(out="y", a="a", b="b"), "ab"),
        (ops.Mul(out="y", a="a", b="b"), "ab"),
        (ops.Abs(out="y", x="a"), "a"),
        (ops.Rescale(out="y", x="a", multiplier="m", shift=shift), "a"),
        (ops.Mul(out="y", a="a", b="a"), "a"),
        (ops.Isqrt(out="y", x="a"), "a"),
    ]
    if b.lo >= 1:
        exact.append((ops.Divide(out="y", a="a", b="b", shift=shift), "ab"))
    for op, names in exact:
        operands = {n: scope[n] for n in names}
        assert claimed(op, operands, params) == values(op, operands, params), op


@settings(max_examples=60, deadline=None)
@given(SMALL, SMALL, st.integers(0, 4), st.data())
def test_damping_stays_between_old_and_new(old: Interval, new: Interval, shift: int, data: st.DataObject) -> None:
    """The claim that damping needs no wider format than its operands."""
    op = ops.DampFixed(out="y", old="a", new="b", multiplier=data.draw(st.integers(1, 1 << shift)), shift=shift)
    scope = {"a": old, "b": new}
    assert values(op, scope, {}).within(claimed(op, scope, {}))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=4), st.integers(0, 3))
def test_interpolation_is_bounded_exactly(segments: list[tuple[int, int]], shift: int) -> None:
    """The largest value may stand inside the last segment or at its end, with either sign of the slope."""
    params = {"base": np.array([b for b, _ in segments]), "slope": np.array([s for _, s in segments])}
    op = ops.Interpolate(out="y", x="x", base="base", slope="slope", first=-3, shift=shift)
    scope = {"x": Interval(-10, 40)}
    assert claimed(op, scope, params) == values(op, scope, params)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), SMALL)
def test_weighted_sums_are_bounded_exactly(seed: int, x: Interval) -> None:
    """A row bound that forgets a sign, the bias or the other rows: both ends are attained by some operand."""
    source = np.random.default_rng(seed)
    weight, bias = source.integers(-8, 8, (2, 3)), source.integers(-20, 20, 2)
    op = ops.Linear(out="y", x="x", weight="W", bias="b")
    known = {"x": x, "W": Interval(-8, 8), "b": Interval(-20, 20)}
    found = op_range(op, known, {"x": (3,)}, {"W": weight, "b": bias}.__getitem__)
    corners = np.array(list(itertools.product((x.lo, x.hi), repeat=3)))
    sums = corners @ weight.T + bias
    assert found == Interval(int(sums.min()), int(sums.max()))


def test_padding_and_outside_taps_count_as_zero() -> None:
    """With an operand that is never 0, a tap on the padding still is."""
    one = np.ones((1, 1, 3), np.int64)
    positive = {"x": Interval(5, 6), "W": Interval(1, 1)}
    conv = ops.Conv(out="y", x="x", weight="W", stride=1, padding=1)
    assert op_range(conv, positive, {"x": (1, 4)}, {"W": one}.__getitem__) == Interval(0, 18)
    stencil = ops.Stencil(out="y", x="x", weight="W", index="J")
    arrays = {"W": np.array([[1, 1], [1, 1]]), "J": np.array([[0, -1], [1, 0]])}
    assert op_range(stencil, positive, {"x": (2,)}, arrays.__getitem__) == Interval(5, 12)


def test_huge_weights_do_not_wrap_the_proof() -> None:
    """A bound computed in 64 bits wraps exactly where it matters."""
    weight = np.full((1, 4), 1 << 61)
    op = ops.Linear(out="y", x="x", weight="W")
    found = op_range(op, {"x": Interval(0, 1), "W": Interval(0, 1 << 61)}, {"x": (4,)}, {"W": weight}.__getitem__)
    assert found == Interval(0, 1 << 63)


def test_sums_and_products_count_their_terms() -> None:
    """A reduction bounded by one term."""
    scope = {"x": Interval(-2, 3), "y": Interval(0, 5)}
    total = ops.Reduce(out="z", x="x", kind="sum", axes=(-1, -2), keep=False)
    assert op_range(total, scope, {"x": (2, 3)}, {}.__getitem__) == Interval(-12, 18)
    largest = replace(total, kind="max")
    assert op_range(largest, scope, {"x": (2, 3)}, {}.__getitem__) == Interval(-2, 3)
    product = ops.MatMul(out="z", a="x", b="y")
    assert op_range(product, scope, {"x": (2, 3), "y": (3, 2)}, {}.__getitem__) == Interval(-30, 45)


def raising() -> list[tuple[Op, dict[str, Array], str]]:
    far = 1 << 62
    return [
        (ops.Divide(out="y", a="x", b="x", shift=0), {}, "divisor x may be -128, must be at least 1"),
        (ops.DampFixed(out="y", old="x", new="x", multiplier=5, shift=2), {}, "multiplier 5, must be in 1..4"),
        (ops.DampFixed(out="y", old="x", new="x", multiplier=0, shift=2), {}, "multiplier 0, must be in 1..4"),
        (ops.DampFixed(out="y", old="x", new="x", multiplier=1 << 60, shift=62), {}, "must fit 63 bits"),
        (ops.Rescale(out="y", x="x", multiplier="p", shift=1), {"p": np.array(1 << 60)}, "must fit 63 bits"),
        (ops.Lookup(out="y", x="x", table="p", first=far), {"p": np.zeros(3, np.int64)}, "must fit 63 bits"),
        (ops.Lookup(out="y", x="x", table="p", first=-far - 1), {"p": np.zeros(3, np.int64)}, "must fit 63 bits"),
        (
            ops.Interpolate(out="y", x="x", base="p", slope="q", first=0, shift=40),
            {"p": np.array([0]), "q": np.array([1 << 40])},
            "must fit 63 bits",
        ),
        (ops.Scale(out="y", x="x", factor=2.0), {}, "scale is not an integer operation"),
    ]


@pytest.mark.parametrize(("op", "params", "message"), raising())
def test_what_cannot_be_bounded_is_an_error(op: Op, params: dict[str, Array], message: str) -> None:
    """An inner product that leaves the 64-bit word would wrap in golden and pass every check after it."""
    scope = {"x": Interval(-128, 127), **{n: Interval(int(p.min()), int(p.max())) for n, p in params.items()}}
    with pytest.raises(RangeError, match=message):
        op_range(op, scope, {"x": ()}, params.__getitem__)


def test_states_and_carries_need_a_format_to_start_from() -> None:
    """Without a stated format the induction has no start."""
    net = small_net([[1]], table=[0, 1], first=0, steps=1)
    with pytest.raises(RangeError, match="state h has no format"):
        value_ranges(replace(net, formats={}))
    table = (ops.Lookup(out="k", x="g", table="T", first=0),)
    nested = ops.Repeat(out="r", init="y", count=2, carry="g", body=table, result="k")
    net = replace(net, step=(*net.step, nested))
    with pytest.raises(RangeError, match="the value g carried by repeat r has no format"):
        value_ranges(net)
    assert with_formats(replace(net, formats={**net.formats, "g": Format(1, False)}))
    wide = replace(net, params=(net.params[0], Param("T", np.array([0, 2]), "test")))
    with pytest.raises(RangeError, match=r"repeat r: y is in \[0, 2\], carried format holds \[0, 1\]"):
        value_ranges(replace(wide, formats={**net.formats, "g": Format(1, False)}))
