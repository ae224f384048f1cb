"""The lattice engine against golden in Amaranth's simulator, and its walks."""

from __future__ import annotations

import random
from dataclasses import replace
from math import prod
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from amaranth.hdl import Fragment
from hypothesis import given, settings
from hypothesis import strategies as st
from rtl_engines import cube_net, differences, neighbours, simulate
from strategies import random_inputs, random_net, with_formats

from eqcompile.rtl.lattice import plan as planning
from eqcompile.rtl.lattice.engine import LatticeEngine, check, resources
from eqcompile.rtl.lattice.walk import Walk, walk_of
from eqcompile.rtl.parallel.engine import ParallelEngine
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.synth.parse import cell_counts
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.golden import run
from eqcompile.toolchain.ir import Format, Schedule, ops


def walked(walk: Walk, x: np.ndarray) -> np.ndarray:
    """What the cells compute, one block and one place of the walk after the other."""
    _, passes, cells = walk.weights.shape
    held = np.zeros(passes * cells, np.int64)
    held[: len(x)] = x
    blocks = held.reshape(passes, cells)
    total, code = np.zeros((passes, cells), np.int64), blocks[0]
    for p in range(passes):
        for place, weights in zip(walk.places, walk.weights, strict=True):
            code = np.roll(code, -place.move) if place.block is None else blocks[(p + place.block) % passes]
            total[p] += weights[p] * code
    return total.reshape(-1)[: len(x)]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.data())
def test_walk_is_the_matrix(sites: int, seed: int, data: st.DataObject) -> None:
    """A place of the walk that is left out, weighed twice or reached with the wrong code or block."""
    rng = np.random.default_rng(seed)
    passes = data.draw(st.integers(1, sites))
    matrix = np.where(rng.random((sites, sites)) < 0.6, 0, rng.integers(-9, 10, (sites, sites)))
    x = rng.integers(-128, 128, sites)
    assert walked(walk_of(matrix, passes), x).tolist() == (matrix @ x).tolist()


@pytest.mark.parametrize("side", [3, 4, 5])
@pytest.mark.parametrize("planes", [False, True])
def test_a_cube_walks_past_27_neighbours(side: int, planes: bool) -> None:
    """A walk with detours, or with wires to others than the neighbours."""
    index = neighbours(side)
    matrix = np.zeros((side**3, side**3), np.int64)
    site, tap = np.nonzero(index >= 0)
    matrix[site, index[site, tap]] = 1 + tap
    walk = walk_of(matrix, side if planes else 1)
    assert (walk.side, walk.axes) == (side, 2 if planes else 3)
    # 27 places form a bipartite graph with the centre in its smaller half: no path from there meets each just once; of
    # 9 it is in the larger half.
    assert len(walk.places) == (3 * 9 if planes else 28)
    assert set(map(abs, walk.moves)) == ({1, side} if planes else {1, side, side * side})
    x = np.random.default_rng(side).integers(-128, 128, side**3)
    assert walked(walk, x).tolist() == (matrix @ x).tolist()


@pytest.mark.parametrize(("passes", "units"), [(1, None), (3, None), (3, 2), (9, 3)])
def test_a_cube_equals_golden(passes: int, units: int | None) -> None:
    """Weights, bias or activation of another site, a code of another plane, a sum that leaves too early."""
    net = cube_net(steps=3)
    x = {"x": np.random.default_rng(1).integers(0, 16, (2, 3))}
    engine = LatticeEngine(net, trace=True, passes=passes, units=units)
    rng = random.Random(0)
    seen = simulate(engine, net, x, stall=lambda: rng.random() < 0.2)
    assert differences(net, x, seen) == []
    assert engine.describe()["cells"] == 27 // passes


@pytest.mark.parametrize(("passes", "units"), [(1, 3), (2, None), (3, None), (7, 1), (8, None)])
def test_uneven_blocks_and_shares(passes: int, units: int | None) -> None:
    """Cells of the last, shorter block, or of the last, smaller share of a unit, that get another's code."""
    net = cube_net(2, steps=2)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    engine = LatticeEngine(net, trace=True, passes=passes, units=units)
    assert differences(net, x, simulate(engine, net, x)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("passes", "units"), [(1, None), (1, 3), (3, None), (3, 2)])
def test_step_clocks_are_the_clocks_of_a_step(passes: int, units: int | None) -> None:
    """A figure that others multiply with clock periods, and that is wrong."""
    x = {"x": np.random.default_rng(1).integers(0, 16, (1, 3))}
    clocks = []
    for steps in (2, 5):
        engine = LatticeEngine(cube_net(steps=steps), trace=True, passes=passes, units=units)
        seen = simulate(engine, cube_net(steps=steps), x)
        assert seen.made == [steps]
        clocks.append(seen.clocks)
    assert clocks[1] - clocks[0] == 3 * engine.describe()["step_clocks"]


@pytest.mark.parametrize("engine", [LatticeEngine, ParallelEngine])
def test_a_weight_of_minus_two_is_not_a_ternary_one(engine: type[LatticeEngine | ParallelEngine]) -> None:
    """Two bits hold -2 too, but where weights are -1, 0 and 1 their bits choose instead of multiplying."""
    net = cube_net(2, steps=3)
    maps = {"V", "W", "U"}
    params = tuple(replace(p, value=p.value % 4 - 2) if p.name in maps else p for p in net.params)
    net = with_formats(replace(net, params=params))
    assert {int(net.param(name).min()) for name in maps} == {-2}
    assert {int(net.param(name).max()) for name in maps} == {1}
    x = {"x": np.random.default_rng(3).integers(0, 16, (3, 3))}
    assert differences(net, x, simulate(engine(net, trace=True), net, x)) == []


@pytest.mark.parametrize("passes", [1, 3])
def test_states_without_a_sign_equal_golden(passes: int) -> None:
    """A neighbour's code of the upper half that is read as a negative one."""
    net = cube_net(2, steps=4)
    [table] = {op.table for op in net.step if isinstance(op, ops.Lookup)}
    params = tuple(replace(p, value=np.clip(p.value + 128, 0, 255)) if p.name == table else p for p in net.params)
    net = with_formats(replace(net, params=params, formats={"h": Format(8, False)}))
    x = {"x": np.random.default_rng(6).integers(0, 16, (3, 3))}
    assert run(net, x).states["h"].max() > 127
    assert differences(net, x, simulate(LatticeEngine(net, trace=True, passes=passes), net, x)) == []


@pytest.mark.parametrize("tolerance", [0, 3, 40, 70000 % 65536])
def test_settling_equals_golden(tolerance: int) -> None:
    """A code that moves by the tolerance, or a move that is noticed a clock too late."""
    net = replace(cube_net(2, steps=9), schedule=Schedule(9, tolerance=tolerance))
    x = {"x": np.random.default_rng(4).integers(0, 16, (3, 3))}
    seen = simulate(LatticeEngine(net, trace=True, passes=2), net, x)
    assert differences(net, x, seen) == []
    assert tolerance != 40 or min(seen.made) < 9


def test_places_without_an_element_do_not_keep_a_sample_from_settling() -> None:
    """A place past the last element, whose code moves while those of all elements rest, that counts as a move."""
    cube = cube_net(2, steps=4)
    table = np.array([100 if code == 0 else 0 for code in range(-200, 200)])
    changed = {"V": np.ones((8, 3), np.int64), "b": np.zeros(8, np.int64), "T": table}
    params = tuple(replace(p, value=changed.get(p.name, p.value)) for p in cube.params)
    net = with_formats(replace(cube, params=params, schedule=Schedule(4, tolerance=1)))
    x = {"x": np.array([[1, 2, 3], [0, 0, 0]])}
    seen = simulate(LatticeEngine(net, trace=True, passes=3), net, x)
    assert differences(net, x, seen) == []
    assert seen.made == [1, 4]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_nets_equal_golden(seed: int) -> None:
    """Any square map: stencils, convolutions, dense rows; several states, dampings, tables, shapes."""
    rng = random.Random(seed)
    while True:
        net = random_net(rng, spaces=("vector", "sites", "image"), extras=(), frames=False, max_steps=4, max_states=2)
        sites = prod(net.states[0].shape)
        passes = rng.randint(1, min(sites, 4))
        units = rng.choice([None, rng.randint(1, -(-sites // passes))])
        if not check(net, passes=passes, units=units):
            break
    x = random_inputs(net, rng, batch=2)
    engine = LatticeEngine(net, trace=True, passes=passes, units=units)
    assert differences(net, x, simulate(engine, net, x, stall=lambda: rng.random() < 0.2)) == []


@pytest.mark.parametrize("at", [4, 20, 45, 70, 110, 140])
def test_restart_in_mid_walk(at: int) -> None:
    """A walk of the dropped sample that goes on."""
    net = cube_net(2, steps=3)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    assert differences(net, x, simulate(LatticeEngine(net, trace=True), net, x, restart_at=at)) == []


def swapped_moves(matrix: np.ndarray, passes: int) -> Walk:
    walk = walk_of(matrix, passes)
    return replace(walk, places=tuple(replace(p, move=-p.move) for p in walk.places))


def shifted_weights(matrix: np.ndarray, passes: int) -> Walk:
    walk = walk_of(matrix, passes)
    return replace(walk, weights=np.roll(walk.weights, 1, axis=2))


def other_planes(matrix: np.ndarray, passes: int) -> Walk:
    walk = walk_of(matrix, passes)
    return replace(walk, places=tuple(replace(p, block=p.block and passes - p.block) for p in walk.places))


@pytest.mark.parametrize("mutant", [swapped_moves, shifted_weights, other_planes])
def test_wrong_walks_are_caught(mutant: object) -> None:
    """A comparison that a walk in the wrong direction or with the neighbour's weights or planes passes."""
    net = cube_net(steps=2)
    x = {"x": np.array([[1, 15, 7], [0, 3, 9]])}
    with mock.patch.object(planning, "walk_of", mutant):
        assert differences(net, x, simulate(LatticeEngine(net, trace=True, passes=3), net, x))


@pytest.mark.parametrize("weights", ["int8", "ternary"])
@pytest.mark.simulator
def test_resources_are_what_yosys_finds(weights: str, tmp_path: Path) -> None:
    """An estimate that refuses a net for a part that is large enough."""
    net = cube_net()
    if weights == "ternary":
        params = tuple(replace(p, value=np.sign(p.value)) if p.name in "VWU" else p for p in net.params)
        net = with_formats(replace(net, params=params, formats={"h": Format(8, True)}))
    engine = LatticeEngine(net, trace=False, passes=3, units=2)
    path = tmp_path / "core.v"
    path.write_text(emit_verilog(engine, name="core"), encoding="utf-8")
    script = "read_verilog core.v; synth_ecp5 -top core; tee -q -o stat.json stat -json"
    status, log = run_tool("yosys", ["-q", "-p", script], cwd=tmp_path, deadline=Deadline.after(300.0))
    assert status == 0, log
    found = cell_counts((tmp_path / "stat.json").read_text(encoding="utf-8"), "core")
    least = resources(net, passes=3, units=2)
    assert least["dsp"] == found.get("MULT18X18D", 0)
    assert 0.3 * found["TRELLIS_FF"] < least["ff"] <= found["TRELLIS_FF"]


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
    with pytest.raises(UnsupportedError, match="units is 5, must be in 1..4"):
        LatticeEngine(net, trace=False, passes=2, units=5)
    Fragment.get(LatticeEngine(net, trace=False), None)
