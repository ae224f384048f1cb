"""Adder graphs against the matrix product."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from amaranth import Module, Signal, signed
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import random_net

from eqcompile.rtl.parallel.build import Builder
from eqcompile.rtl.parallel.graph import AdderGraph
from eqcompile.rtl.parallel.solve import signed_digits, solve
from eqcompile.rtl.parallel.wires import Wire, composed, source
from eqcompile.toolchain.ir import Format, Interval

BYTE = Interval(-128, 127)


def evaluate(graph: AdderGraph, x: np.ndarray) -> list[int]:
    """The graph by its definition, in Python integers."""
    nodes = [int(v) for v in x]
    for a in graph.adders:
        right = nodes[a.b] << a.shift_b
        nodes.append((nodes[a.a] << a.shift_a) + (-right if a.subtract else right))
    return [0 if t is None else (nodes[t.node] << t.shift) * (-1 if t.negative else 1) for t in graph.outputs]


def matrices() -> st.SearchStrategy[np.ndarray]:
    """Ternary, small and 16-bit matrices, sparse and dense, with empty rows and columns."""

    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        top = rng.choice([1, 1, 3, 127, 32767])
        m = rng.integers(-top, top, rng.integers(1, 10, 2), endpoint=True)
        return np.where(rng.random(m.shape) < rng.choice([0, 0.5, 0.9]), 0, m)

    return st.integers(0, 2**32 - 1).map(draw)


@settings(max_examples=150, deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1))
def test_graph_is_the_matrix(matrix: np.ndarray, seed: int) -> None:
    """A shared pair with the wrong sign or shift, an interval that a node leaves, a path deeper than it must be."""
    graph = solve(matrix)
    rng = np.random.default_rng(seed)
    extremes = [np.where(row > 0, 127, -128) for row in matrix] + [np.where(row > 0, -128, 127) for row in matrix]
    for x in [*extremes, *rng.integers(-128, 128, (5, matrix.shape[1]))]:
        assert evaluate(graph, x) == (matrix @ x).tolist()
    assert np.array_equal(graph.matrix, matrix)
    terms = [sum(len(signed_digits(int(w))) for w in row) for row in matrix]
    assert graph.depth <= max((max(t, 1) - 1).bit_length() for t in terms)
    assert len(graph.adders) <= sum(max(t - 1, 0) for t in terms)


def test_shared_pairs_are_added_once() -> None:
    """Sub-expressions that are found but not shared."""
    shared = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [-1, -1, 0, 0], [2, 2, 0, 0]])
    assert len(solve(shared).adders) == 3


@pytest.mark.parametrize("value", [0, 1, -1, 7, -7, 127, -128, 23, 32767])
def test_signed_digits(value: int) -> None:
    """Digits that are not the value, or more than the canonic form has."""
    digits = signed_digits(value)
    assert sum(-(1 << s) if negative else 1 << s for s, negative in digits) == value
    assert all(b - a > 1 for (a, _), (b, _) in zip(digits, digits[1:], strict=False))


def test_a_wrong_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver's mistake that reaches the hardware."""
    good = solve(np.array([[1, 1], [1, -1]]))
    bad = replace(good, adders=(replace(good.adders[0], subtract=True), *good.adders[1:]))
    monkeypatch.setattr("eqcompile.rtl.parallel.solve._Sharing.graph", lambda sharing: bad)
    with pytest.raises(AssertionError, match="another matrix"):
        solve(np.array([[1, 1], [1, -1]]))


@settings(max_examples=15, deadline=None)
@given(matrices(), st.integers(0, 2**32 - 1))
def test_emitted_adders(matrix: np.ndarray, seed: int) -> None:
    """Adders emitted too narrow, above all at extreme operands."""

    net = random_net(random.Random(0), frames=False)
    m = Module()
    builder = Builder(m, net, levels=None)
    inputs = [Signal(signed(8)) for _ in range(matrix.shape[1])]
    graph = solve(matrix)
    wires = builder.product(graph, [source(s, Format(8, True)) for s in inputs], "y")
    outputs = [Signal(signed(32)) for _ in wires]
    m.d.comb += [o.eq(w.value) for o, w in zip(outputs, wires, strict=True)]
    rng = np.random.default_rng(seed)
    extremes = [np.where(matrix[0] > 0, 127, -128), np.where(matrix[0] > 0, -128, 127)]

    async def bench(ctx: object) -> None:
        for x in [*extremes, *rng.integers(-128, 128, (3, matrix.shape[1]))]:
            for s, v in zip(inputs, x, strict=True):
                ctx.set(s, int(v))  # type: ignore[attr-defined]
            await ctx.delay(1e-6)  # type: ignore[attr-defined]
            assert [ctx.get(o) for o in outputs] == (matrix @ x).tolist()  # type: ignore[attr-defined]

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    "fixed", [((2, 3), (2, 3)), ((2, 0), (3, 5)), ((1, 1), (3, 6)), ((3, 4), (0, 0)), ((2, 1), (2, 2))]
)
@pytest.mark.parametrize("subtract", [False, True])
def test_constant_low_bits_add_up(fixed: tuple[tuple[int, int], tuple[int, int]], subtract: bool) -> None:
    """A carry or a borrow of bits that never change, lost because no adder has them."""
    m = Module()
    builder = Builder(m, random_net(random.Random(0), frames=False), levels=None)
    cores = [Signal(signed(3)) for _ in fixed]
    a, b = (
        Wire(composed(core, low, offset), Interval(-4 << low | offset, 3 << low | offset), 0, 0, low, offset)
        for core, (low, offset) in zip(cores, fixed, strict=True)
    )
    low, high = (b.range.hi, b.range.lo) if subtract else (b.range.lo, b.range.hi)
    sign = -1 if subtract else 1
    wire = builder.plus(a, b, Interval(a.range.lo + sign * low, a.range.hi + sign * high), "y", subtract=subtract)
    minus = builder.negated(wire)
    found, negated = Signal(signed(16)), Signal(signed(16))
    m.d.comb += [found.eq(wire.value), negated.eq(minus.value)]

    async def bench(ctx: object) -> None:
        for codes in itertools.product(range(-4, 4), repeat=2):
            for core, code in zip(cores, codes, strict=True):
                ctx.set(core, code)  # type: ignore[attr-defined]
            await ctx.delay(1e-6)  # type: ignore[attr-defined]
            x, y = ((code << low) + offset for code, (low, offset) in zip(codes, fixed, strict=True))
            want = x - y if subtract else x + y
            assert (ctx.get(found), ctx.get(negated)) == (want, -want)  # type: ignore[attr-defined]

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
