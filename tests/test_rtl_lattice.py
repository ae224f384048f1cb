"""The lattice engine against golden in Amaranth's simulator, and its walks."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Fragment
from hypothesis import given, settings
from hypothesis import strategies as st
from rtl_engines import differences, simulate
from strategies import random_inputs, random_net, with_formats

from eqcompile.rtl.lattice import engine as lattice
from eqcompile.rtl.lattice.engine import LatticeEngine, check, describe
from eqcompile.rtl.lattice.walk import Walk, walk_of
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops


def neighbours(side: int) -> np.ndarray:
    """Sites `[side**3, 27]` around each site of a cube, -1 outside."""
    sites = np.indices((side,) * 3).reshape(3, -1).T
    rows = []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        near = sites + offset
        inside = ((near >= 0) & (near < side)).all(axis=1)
        rows.append(np.where(inside, near @ [side * side, side, 1], -1))
    return np.array(rows).T


def cube_net(side: int = 3, *, steps: int = 4, seed: int = 0) -> IntNet:
    """A neural cube: weights of its own at each site, a rescale per site, an activation, damping."""
    rng, sites = np.random.default_rng(seed), side**3
    return with_formats(
        IntNet(
            name="cube",
            family="test",
            inputs=(Input("x", (3,), encoding=Encoding(Format(4, False), 1.0)),),
            params=(
                Param("V", rng.integers(-9, 10, (sites, 3)), "test"),
                Param("W", rng.integers(-127, 128, (sites, 27)), "test"),
                Param("N", neighbours(side), "test"),
                Param("b", rng.integers(-99, 100, sites), "test"),
                Param("m", rng.integers(1, 9, sites), "test"),
                Param("T", np.clip(np.arange(-200, 200), -128, 127), "test"),
                Param("U", rng.integers(-3, 4, (2, sites)), "test"),
            ),
            states=(State("h", (sites,), "next", frac=7),),
            drive=(ops.Linear(out="d", x="x", weight="V"),),
            step=(
                ops.Stencil(out="near", x="h", weight="W", index="N", bias="b"),
                ops.Rescale(out="scaled", x="near", multiplier="m", shift=8),
                ops.Add(out="pre", a="scaled", b="d"),
                ops.Lookup(out="new", x="pre", table="T", first=-200),
                ops.DampFixed(out="next", old="h", new="new", multiplier=3, shift=2),
            ),
            readout=(ops.Linear(out="logits", x="h", weight="U"),),
            outputs=(Output("o", "logits", "classes", 1.0),),
            schedule=Schedule(steps),
            formats={"h": Format(8, True)},
        )
    )


def walked(walk: Walk, x: np.ndarray) -> np.ndarray:
    """What the cells compute, one place of the walk after the other."""
    total, code = np.zeros(len(x), np.int64), x
    for weights, move in zip(walk.weights, (*walk.moves, 0), strict=True):
        total = total + weights * code
        code = np.roll(code, -move)
    return total


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_walk_is_the_matrix(sites: int, seed: int) -> None:
    """A place of the walk that is left out, weighed twice or reached with the wrong code."""
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((sites, sites)) < 0.6, 0, rng.integers(-9, 10, (sites, sites)))
    x = rng.integers(-128, 128, sites)
    assert walked(walk_of(matrix), x).tolist() == (matrix @ x).tolist()


@pytest.mark.parametrize("side", [3, 4, 5])
def test_a_cube_walks_past_27_neighbours(side: int) -> None:
    """A walk with detours, or with wires to others than the neighbours."""
    index = neighbours(side)
    matrix = np.zeros((side**3, side**3), np.int64)
    site, tap = np.nonzero(index >= 0)
    matrix[site, index[site, tap]] = 1 + tap
    walk = walk_of(matrix)
    assert (walk.side, walk.axes) == (side, 3)
    # 27 places form a bipartite graph with the centre in its smaller half: no path from there meets each just once.
    assert len(walk.weights) == 30
    assert set(map(abs, walk.directions)) == {1, side, side * side}
    x = np.random.default_rng(side).integers(-128, 128, side**3)
    assert walked(walk, x).tolist() == (matrix @ x).tolist()


@pytest.mark.parametrize("passes", [1, 3])
def test_a_cube_equals_golden(passes: int) -> None:
    """Weights, bias or activation of another site, a code from the far side of the ring, a sum read too early."""
    net = cube_net(steps=3)
    x = {"x": np.random.default_rng(1).integers(0, 16, (2, 3))}
    engine = LatticeEngine(net, trace=True, passes=passes)
    rng = random.Random(0)
    seen = simulate(engine, net, x, stall=lambda: rng.random() < 0.2)
    assert differences(net, x, seen) == []
    assert describe(engine)["multipliers"] == 27 // passes


@pytest.mark.parametrize("passes", [2, 3, 7, 8])
def test_passes_over_uneven_blocks(passes: int) -> None:
    """Sites of the last, shorter pass that get another's product."""
    net = cube_net(2, steps=2)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    assert differences(net, x, simulate(LatticeEngine(net, trace=True, passes=passes), net, x)) == []


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 2]))
def test_random_nets_equal_golden(seed: int, levels: int | None) -> None:
    """Any square map in a line of cells: stencils, convolutions, dense rows."""
    rng = random.Random(seed)
    while True:
        net = random_net(rng, frames=False, max_steps=4, max_states=2)
        if not check(net):
            break
    x = random_inputs(net, rng, batch=2)
    seen = simulate(LatticeEngine(net, trace=True, levels=levels), net, x, stall=lambda: rng.random() < 0.2)
    assert differences(net, x, seen) == []


@pytest.mark.parametrize("at", [4, 20, 45, 70])
def test_restart_in_mid_walk(at: int) -> None:
    """A walk of the dropped sample that goes on."""
    net = cube_net(2, steps=3)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    assert differences(net, x, simulate(LatticeEngine(net, trace=True), net, x, restart_at=at)) == []


def swapped_moves(matrix: np.ndarray) -> Walk:
    walk = walk_of(matrix)
    return replace(walk, moves=tuple(-m for m in walk.moves))


def shifted_weights(matrix: np.ndarray) -> Walk:
    walk = walk_of(matrix)
    return replace(walk, weights=np.roll(walk.weights, 1, axis=1))


@pytest.mark.parametrize("mutant", [swapped_moves, shifted_weights])
def test_wrong_walks_are_caught(mutant: object) -> None:
    """A comparison that a walk in the wrong direction or with the neighbour's weights passes."""
    net = cube_net(2, steps=2)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    with mock.patch.object(lattice, "walk_of", mutant):
        assert differences(net, x, simulate(LatticeEngine(net, trace=True), net, x))


def test_sums_read_too_early_are_caught() -> None:
    """A step that latches before the last product is added."""
    net = cube_net(2, steps=2)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    real = lattice.build_cells

    def early(*args: object) -> object:
        return replace(real(*args), clocks=4)  # type: ignore[arg-type]

    with mock.patch.object(lattice, "build_cells", early):
        assert differences(net, x, simulate(LatticeEngine(net, trace=True, levels=None), net, x))


def test_refusals_name_the_nodes() -> None:
    """A net with two maps, or none, that fails inside the engine."""
    net = cube_net(2)
    two = with_formats(
        replace(
            net,
            step=(
                *net.step[:2],
                ops.Stencil(out="far", x="h", weight="W", index="N"),
                replace(net.step[2], b="far"),
                *net.step[3:],
            ),
            formats={"h": Format(8, True)},
        )
    )
    with pytest.raises(UnsupportedError) as caught:
        LatticeEngine(two, trace=False)
    assert [(d.code, d.where) for d in caught.value.diagnostics] == [("rtl-lattice-maps", "near, far")]
    with pytest.raises(UnsupportedError, match="passes is 9, must be in 1..8"):
        LatticeEngine(net, trace=False, passes=9)
    Fragment.get(LatticeEngine(net, trace=False), None)
