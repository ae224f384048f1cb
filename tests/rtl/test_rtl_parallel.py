"""The parallel engine against golden in Amaranth's simulator: every state at every tick, outputs, ticks made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from amaranth import Const, Module, Signal, signed
from amaranth.hdl import Fragment
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st
from rtl_engines import differences, lazy_net, simulate
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.rtl.boards.link import Protocol
from eqcompile.rtl.datapath import shape_of
from eqcompile.rtl.parallel import build
from eqcompile.rtl.parallel.engine import ParallelEngine, check
from eqcompile.rtl.parallel.graph import AdderGraph
from eqcompile.rtl.parallel.intake import Intake
from eqcompile.rtl.parallel.tables import CoreTable, blocks, in_logic, table_of
from eqcompile.rtl.parallel.wires import Wire, composed
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.ir import Format, Interval, IntNet, Output, Param, Schedule, ops

IDENTITY = list(range(-128, 128))


def nets(**limits: object) -> st.SearchStrategy[tuple[IntNet, random.Random]]:
    """Random nets that the engine takes, and the generator for the rest of the example."""

    def draw(seed: int) -> tuple[IntNet, random.Random]:
        rng = random.Random(seed)
        while True:
            net = random_net(rng, frames=False, max_steps=5, **limits)  # type: ignore[arg-type]
            if not check(net):
                return net, rng

    return st.integers(0, 2**32 - 1).map(draw)


def settling_net(tolerance: int = 0) -> IntNet:
    """A ternary loop that damps out in a few ticks, with a table long enough for block RAM."""
    table = [int(np.clip(v // 2, -128, 127)) for v in range(-300, 300)]
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=table, first=-300, steps=12, tolerance=tolerance)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    nets(),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from([(1, 1), (1, 3), (2, None), (3, 1), (1000, 1000)]),
    st.booleans(),
)
def test_equals_golden(
    case: tuple[IntNet, random.Random],
    levels: int | None,
    step_levels: int | None,
    stream: tuple[int, int | None],
    stalls: bool,
) -> None:
    """Wrong widths, registers that come too late, a broken hand-over between samples, a code lost under stalls or put
    into the wrong lane of a beat."""
    net, rng = case
    x = random_inputs(net, rng, batch=3)
    beat, result_beat = stream
    engine = ParallelEngine(net, trace=True, levels=levels, step_levels=step_levels, beat=beat, result_beat=result_beat)
    seen = simulate(engine, net, x, stall=lambda: stalls and rng.random() < 0.4)
    assert differences(net, x, seen) == []


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("tolerance", [0, 1])
def test_settling_ends_the_run(levels: int | None, tolerance: int) -> None:
    """Settling found a tick late or early, or a step latched that was not needed."""
    net, rng = settling_net(tolerance), np.random.default_rng(5)
    x = {"x": rng.integers(-128, 128, (6, 3))}
    x["x"][0] = 0
    seen = simulate(ParallelEngine(net, trace=True, levels=levels, step_levels=levels), net, x)
    assert differences(net, x, seen) == []
    assert min(seen.made) < net.schedule.steps
    assert len(set(seen.made)) > 1


def test_a_map_that_is_an_output_too_is_made() -> None:
    """Would break if the map were fused with the addition behind it, so that an output had no value."""
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-4, -2, 0, 2, 3], first=-2, steps=3)
    readout = (ops.Linear(out="r", x="h", weight="W"), ops.Add(out="s", a="r", b="x"))
    outputs = tuple(Output(name, name, "values", 1.0) for name in ("r", "s"))
    net = with_formats(replace(net, readout=readout, outputs=outputs))
    x = {"x": np.array([[1, 0, -1], [127, -128, 3]])}
    assert differences(net, x, simulate(ParallelEngine(net, trace=True), net, x)) == []


@pytest.mark.parametrize("levels", [None, 2])
def test_gates_damping_and_several_states(levels: int | None) -> None:
    """A gate that opens for the wrong population, or a state that reads another's new code."""
    net = lazy_net()
    x = {"x": np.random.default_rng(3).integers(0, 16, (5, 3))}
    assert (
        differences(net, x, simulate(ParallelEngine(net, trace=True, levels=levels, step_levels=levels), net, x)) == []
    )


@pytest.mark.parametrize("at", [1, 3, 5, 9, 17, 30])
def test_restart_drops_everything(at: int) -> None:
    """A restart in any phase that leaves codes, sums or a result of the dropped sample behind."""
    net = settling_net()
    x = {"x": np.array([[100, -7, 3], [-128, 127, 5]])}
    assert differences(net, x, simulate(ParallelEngine(net, trace=True), net, x, restart_at=at)) == []


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 0), (3, 0), (40, 2), (5, 0xFFFF)])
def test_schedule_comes_from_the_ports(steps: int, tolerance: int) -> None:
    """Steps or tolerance built in, or a large tolerance cut to a small one."""
    net = settling_net()
    x = {"x": np.array([[100, -7, 3], [-128, 127, 5]])}
    seen = simulate(ParallelEngine(net, trace=True), net, x, steps=steps, tolerance=tolerance)
    other = replace(net, schedule=replace(net.schedule, steps=steps, tolerance=tolerance))
    assert differences(other, x, seen) == []


def clocks(engine: ParallelEngine, made: int, steps: int) -> int:
    """Clocks from the last beat of a sample to its first result, the engine idle and `made` of `steps` ticks made."""
    noticed = 0 if made == steps or engine.ahead else 1
    relaxing = made * engine.step_clocks + engine.ahead
    before: int = engine.intake.latency + engine.drive_clocks + 1
    return before + relaxing + max(engine.read_clocks, noticed) + 1


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("beat", [1, 2])
def test_clock_model(levels: int | None, beat: int) -> None:
    """Clocks that the description promises and the engine does not keep."""
    net = settling_net()
    engine = ParallelEngine(net, trace=True, levels=levels, step_levels=levels, beat=beat)
    x = {"x": np.array([[100, -7, 3]])}
    seen = simulate(engine, net, x)
    # One sample alone: its codes, the engine's clocks, its results.
    beats, results = engine.signature.x_port.beats, engine.signature.y_port.beats
    assert seen.clocks == beats - 1 + clocks(engine, seen.made[0], net.schedule.steps) + results
    assert engine.describe()["step_clocks"] == engine.step_clocks


PLUS = build.Builder.plus


def lost_sign(self: build.Builder, a: Wire, b: Wire, interval: Interval, name: str, *, subtract: bool = False) -> Wire:
    return PLUS(self, a, b, interval, name)


def always_moving(self: object, *args: object) -> Const:
    return Const(1)


INTERVALS = AdderGraph.intervals


def halved_intervals(self: AdderGraph, operands: Sequence[Interval]) -> list[Interval]:
    found = INTERVALS(self, operands)
    return [*found[: self.inputs], *(Interval(i.lo // 2, i.hi // 2) for i in found[self.inputs :])]


@pytest.mark.parametrize(
    "mutant",
    [
        mock.patch.object(ParallelEngine, "_moved", always_moving),
        mock.patch.object(build.Builder, "plus", lost_sign),
        mock.patch.object(Intake, "ready", property(lambda self: ~self.full)),
        mock.patch("eqcompile.rtl.parallel.engine._stages", return_value=0),
        mock.patch.object(AdderGraph, "intervals", halved_intervals),
    ],
    ids=["never-settled", "sign-lost", "second-sample-too-early", "registers-not-waited-for", "widths-too-small"],
)
def test_mutants_are_caught(mutant: object) -> None:
    """A comparison that would pass for a broken engine."""
    net = small_net([[-1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=IDENTITY, first=-128, steps=9)
    net = replace(
        net,
        params=(*net.params, Param("V", np.array([[-1, -1, 0], [1, 1, 1], [1, 0, -1]]), "test")),
        drive=(ops.Linear(out="d", x="x", weight="V"),),
        step=tuple(replace(op, b="d") if isinstance(op, ops.Add) else op for op in net.step),
        formats={"h": net.formats["h"]},
    )
    net = with_formats(net)
    x = {"x": np.array([[100, -7, 3], [-128, 127, 5], [0, 0, 0], [1, 0, 0]])}
    engine = ParallelEngine(net, trace=True, levels=1, step_levels=1)
    assert differences(net, x, simulate(engine, net, x)) == []
    with mutant:  # type: ignore[attr-defined]
        try:
            found = differences(
                net, x, simulate(ParallelEngine(net, trace=True, levels=1, step_levels=1), net, x, limit=2000)
            )
        except (AssertionError, IndexError):
            found = ["the engine hangs or counts wrongly"]
    assert found


def test_refusals_name_the_nodes() -> None:
    """A net beyond the engine that fails inside, or only its first fault shown."""
    net = settling_net()
    net = with_formats(
        replace(
            net,
            step=(*net.step[:-1], ops.Divide(out="y", a="a", b="one", shift=0)),
            params=(*net.params, Param("one", np.array(3), "test")),
            formats={"h": Format(9, True)},
            schedule=Schedule(2, frames=True),
        )
    )
    with pytest.raises(UnsupportedError) as caught:
        ParallelEngine(net, trace=False, levels=0, beat=2)
    assert {(d.code, d.where) for d in caught.value.diagnostics} == {
        ("rtl-operation", "y"),
        ("rtl-frames", "small"),
        ("rtl-levels", "small"),
    }


def test_without_trace_there_are_no_trace_ports() -> None:
    """A trace that costs wires although it was not asked for."""
    engine = ParallelEngine(settling_net(), trace=False)
    Fragment.get(engine, None)
    assert not [name for name in engine.signature.members if name.startswith("trace")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-128, 127), min_size=1, max_size=300), st.booleans())
def test_tables_in_blocks(entries: list[int], smooth: bool) -> None:
    """A table entry that its block and pattern do not give back."""
    table = np.array(sorted(entries) if smooth else entries)
    low, first, pattern, patterns = blocks(table)
    index = np.arange(len(table))
    assert (first[index >> low] + patterns[pattern[index >> low], index % (1 << low)]).tolist() == table.tolist()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-128, 127), min_size=1, max_size=200),
    st.booleans(),
    st.integers(-150, 100),
    st.sampled_from([(-40, 39), (0, 63), (-500, 500), (300, 700), (-3, -2)]),
    st.sampled_from([(0, 0), (2, 0), (2, 3)]),
)
def test_table_by_core(
    entries: list[int], smooth: bool, first: int, span: tuple[int, int], fixed: tuple[int, int]
) -> None:
    """A code that meets another entry once bits that never change, or runs at the ends, are left out."""
    table, (low, offset) = np.array(sorted(entries) if smooth else entries), fixed
    core = Signal(shape_of(Format.holding(*span)))
    wire = Wire(
        composed(core, low, offset), Interval(span[0] << low | offset, span[1] << low | offset), 0, 0, low, offset
    )
    made: CoreTable = table_of(table, first, wire)
    m, found = Module(), Signal(signed(9))
    m.d.comb += found.eq(in_logic(m, made, wire.core()))
    cores = [*range(span[0], span[1] + 1, max((span[1] - span[0]) // 40, 1)), span[1]]

    async def bench(ctx: object) -> None:
        for code in cores:
            ctx.set(core, code)  # type: ignore[attr-defined]
            await ctx.delay(1e-6)  # type: ignore[attr-defined]
            want = table[np.clip(((code << low) + offset) - first, 0, len(table) - 1)]
            assert ctx.get(found) == want, code  # type: ignore[attr-defined]

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("levels", [None, 2])
def test_bits_that_never_change(levels: int | None) -> None:
    """A carry out of the constant low bits of a shifted sum that is lost, or an operand fused with the wrong factor."""
    net = settling_net()
    shift = Param("four", np.array(4), "test")
    bias = Param("c", np.array([5, -3, 2]), "test")
    net = with_formats(
        replace(
            net,
            params=(*net.params, shift, bias),
            drive=(
                ops.Rescale(out="wide", x="x", multiplier="four", shift=0),
                ops.Add(out="d", a="wide", b="c"),
            ),
            step=tuple(
                new
                for op in net.step
                for new in (
                    (ops.Rescale(out="scaled", x=op.a, multiplier="four", shift=0), replace(op, a="scaled", b="d"))
                    if isinstance(op, ops.Add)
                    else (op,)
                )
            ),
            formats={"h": net.formats["h"]},
        )
    )
    x = {"x": np.random.default_rng(1).integers(-128, 128, (6, 3))}
    engine = ParallelEngine(net, trace=True, levels=2, step_levels=levels, beat=3)
    assert differences(net, x, simulate(engine, net, x)) == []


@pytest.mark.parametrize(("beat", "result_beat"), [(2, None), (1, 2)])
def test_a_uart_takes_one_code_at_a_time(beat: int, result_beat: int | None) -> None:
    """A board whose link reads the first code of each beat alone."""
    engine = ParallelEngine(settling_net(), trace=False, beat=beat, result_beat=result_beat)
    Fragment.get(engine, None)
    with pytest.raises(UnsupportedError, match="a beat has 2 codes, a UART takes 1"):
        Protocol(engine.signature, identity=0, steps=1, tolerance=0)
