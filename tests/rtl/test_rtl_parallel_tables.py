"""Tables of the parallel engine in block RAM, and drives cut to what those tables tell apart."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from rtl_engines import differences, simulate
from strategies import small_net, with_formats

from eqcompile.rtl.datapath import shape_of
from eqcompile.rtl.parallel.build import Builder
from eqcompile.rtl.parallel.engine import ParallelEngine
from eqcompile.rtl.parallel.saturate import useful_drives
from eqcompile.rtl.parallel.wires import Wire, composed
from eqcompile.rtl.shell import Shell
from eqcompile.rtl.verilog import emit_verilog
from eqcompile.targets.rtl.synth.parse import cell_counts
from eqcompile.targets.rtl.synth.tools import Deadline, run_tool
from eqcompile.toolchain.ir import Format, Interval, IntNet, Output, State, ops

WEIGHTS = np.array([[1, -1, 0], [0, 1, 1], [-1, 0, 1]])
NARROW = [int(np.clip(v // 2, -60, 60)) for v in range(-300, 300)]


def net_of(table: list[int], **more: object) -> IntNet:
    return small_net(WEIGHTS.tolist(), table=table, first=-len(table) // 2, steps=12, **more)  # type: ignore[arg-type]


def extremes() -> dict[str, np.ndarray]:
    rows = [[127, -128, 127], [-128, 127, -128], [-128] * 3, [127] * 3, [0, 0, 0]]
    return {"x": np.concatenate([rows, np.random.default_rng(2).integers(-128, 128, (8, 3))])}


def test_a_state_is_the_output_register_of_its_table() -> None:
    """Entries that come a clock late, or a state that starts from the last sample's code."""
    net = net_of(NARROW)
    engine = ParallelEngine(net, trace=True)
    assert (engine.describe()["block_tables"], engine.step_clocks) == (3, 1)
    assert differences(net, extremes(), simulate(engine, net, extremes())) == []


def read_twice() -> IntNet:
    """Two states that take the same entries."""
    net = net_of(NARROW)
    states = (*net.states, replace(net.states[0], name="g"))
    return replace(net, states=states, formats=dict(net.formats) | {"g": Format(8, True)})


@pytest.mark.parametrize(
    "net",
    [net_of(NARROW, init=[3, -2, 1]), read_twice(), net_of([0, 1, 2, 3])],
    ids=["starts-elsewhere", "read-twice", "short"],
)
def test_what_a_memory_cannot_hold_stays_in_logic(net: IntNet) -> None:
    """A memory whose register would need another reset, or whose entry something else needs in the same clock."""
    engine = ParallelEngine(net, trace=True)
    assert engine.describe()["block_tables"] == 0
    assert differences(net, extremes(), simulate(engine, net, extremes())) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_cut_drive_gives_the_same_entries(seed: int) -> None:
    """A bound one code too near, or one of a row taken for another's: for every drive and every recurrent sum."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-2, 2, (3, 3), endpoint=True)
    table = np.sort(rng.integers(-9, 9, rng.integers(1, 40), endpoint=True))
    first = int(rng.integers(-20, 5))
    net = small_net(weight.tolist(), table=table.tolist(), first=first, steps=2)

    def entry(code: np.ndarray) -> np.ndarray:
        return table[np.clip(code - first, 0, len(table) - 1)]

    for row, within in zip(weight, useful_drives(net, net.step)["x"], strict=True):
        # The sums that make most of a row and least of it, and some between.
        sums = np.array([np.where(row > 0, 127, -128) @ row, np.where(row > 0, -128, 127) @ row, 0, row.sum()])
        drives = np.arange(-1500, 1500)
        cut = np.clip(drives, within.lo, within.hi)
        assert np.array_equal(entry(drives[:, None] + sums), entry(cut[:, None] + sums))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_codes_beyond_an_interval_stay_beyond_it(seed: int) -> None:
    """A cut that moves a code which is needed, or one to the wrong side, with constant low bits and without."""
    rng = random.Random(seed)
    low = rng.choice([0, 2])
    offset, span = rng.randrange(1 << low), sorted(rng.randint(-90, 90) for _ in range(2))
    within = Interval(*sorted(rng.randint(-200, 200) for _ in range(2)))
    core = Signal(shape_of(Format.holding(*span)))
    bounds = Interval((span[0] << low) + offset, (span[1] << low) + offset)
    m, net = Module(), net_of(NARROW)
    wire = Wire(composed(core, low, offset), bounds, 0, 0, low, offset)
    cut = Builder(m, net, levels=None).saturated(wire, within)

    async def bench(ctx: object) -> None:
        for code in range(span[0], span[1] + 1):
            ctx.set(core, code)  # type: ignore[attr-defined]
            await ctx.delay(1e-6)  # type: ignore[attr-defined]
            was, found = (code << low) + offset, ctx.get(cut.value)  # type: ignore[attr-defined]
            assert cut.range.lo <= found <= cut.range.hi
            if within.lo <= was <= within.hi:
                assert found == was
            elif found != was:
                assert found <= within.lo if was < within.lo else found >= within.hi

    m.d.comb += Signal(core.shape()).eq(core)
    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_drive_cut_too_far_is_noticed() -> None:
    """A comparison with golden whose inputs never reach the bounds."""
    net = net_of(NARROW)

    def tight(*args: object) -> dict[str, list[Interval]]:
        found = useful_drives(*args)  # type: ignore[arg-type]
        return {name: [Interval(i.lo + 300, i.hi - 300) for i in rows] for name, rows in found.items()}

    with mock.patch("eqcompile.rtl.parallel.engine.useful_drives", tight):
        engine = ParallelEngine(net, trace=True)
    assert differences(net, extremes(), simulate(engine, net, extremes())) != []


def read_elsewhere(reader: str) -> IntNet:
    """A loop whose table saturates, so that its drive would be cut, but something else reads the drive or the sum."""
    net = small_net(WEIGHTS.tolist(), table=[-4, -2, 0, 2, 3], first=-2, steps=3)
    formats = {name: f for name, f in net.formats.items() if name not in ("a", "w")} | {"h": Format(3, True)}
    if reader == "state of the sum":
        states = (*net.states, State("g", (3,), "a", frac=7))
        outputs = (*net.outputs, Output("p", "g", "values", 1.0))
        return with_formats(replace(net, states=states, outputs=outputs, formats=formats | {"g": Format(10, True)}))
    if reader == "output of the drive":
        return with_formats(replace(net, outputs=(*net.outputs, Output("p", "x", "values", 1.0)), formats=formats))
    readout = (ops.Linear(out="r", x="h", weight="W"), ops.Add(out="s", a="r", b="x"))
    outputs = (*net.outputs, Output("p", "s", "values", 1.0))
    return with_formats(replace(net, readout=readout, outputs=outputs, formats=formats))


@pytest.mark.parametrize("reader", ["sum of the readout", "state of the sum", "output of the drive"])
def test_a_drive_that_something_else_reads_is_not_cut(reader: str) -> None:
    """Would break if an output, a state or a second sum got the cut code: then it is not golden's."""
    net = read_elsewhere(reader)
    x = {"x": np.array([[1, 0, -1], [127, -128, 3], [100, 90, -70], [0, 0, 0]])}
    assert differences(net, x, simulate(ParallelEngine(net, trace=True), net, x)) == []
    assert useful_drives(net, net.step) == {}


def test_the_same_drive_is_cut_where_nothing_else_reads_it() -> None:
    """Would break if the nets above had nothing to cut, so that they could not tell."""
    net = small_net(WEIGHTS.tolist(), table=[-4, -2, 0, 2, 3], first=-2, steps=3)
    assert list(useful_drives(net, net.step)) == ["x"]


@pytest.mark.simulator
def test_synthesis_makes_block_ram_of_table_and_state(tmp_path: Path) -> None:
    """A register beside the memory, or a table in LUTs: 3 readers of one table need two block RAMs with two ports."""
    net = net_of(NARROW)
    text = emit_verilog(Shell(ParallelEngine(net, trace=False), schedule=net.schedule), name="core")
    (tmp_path / "core.v").write_text(text, encoding="utf-8")
    script = "read_verilog core.v; synth_ecp5 -top core -run begin:map_gates; tee -q -o stat.json stat -json"
    status, log = run_tool("yosys", ["-q", "-p", script], cwd=tmp_path, deadline=Deadline.after(120))
    assert status == 0, log
    assert cell_counts((tmp_path / "stat.json").read_text(encoding="utf-8"), "core")["DP16KD"] == 2
