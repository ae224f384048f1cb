"""The serial engine against golden: every state of every tick, outputs and ticks made, in Amaranth's simulator."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from amaranth import Elaboratable, Module, Signal, Value, unsigned
from amaranth.lib.memory import Memory
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rtl_serial_sim import Array, Load, differences, simulate, stream
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.quantization.lower import lower
from eqcompile.rtl.datapath import Clocked, decode
from eqcompile.rtl.memory import SPRAM_WORDS, Ram, spram_blocks
from eqcompile.rtl.serial import columns, core, sweep
from eqcompile.rtl.serial.changes import ChangeList
from eqcompile.rtl.serial.engine import SerialEngine, check
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain import golden
from eqcompile.toolchain.diagnostics import UnsupportedError
from eqcompile.toolchain.importers.families.build import Builder
from eqcompile.toolchain.importers.families.ranks import top_k
from eqcompile.toolchain.importers.family import Tensors
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops
from eqcompile.toolchain.options import QuantizeOptions

SPACES = ("vector", "sites", "tokens")
EXTRAS = ("gate", "interpolate", "select", "reduce", "mul", "copy", "shape")


def loop(
    rng: np.random.Generator, *, top: int, inputs: int = 6, units: int = 7, steps: int = 8, damped: bool = False
) -> IntNet:
    """The digits nets in small: a drive, one recurrent map with a multiplier by row, tanh-like table, logits.

    Weights are up to `top`: 1 is ternary."""

    def codes(shape: tuple[int, ...]) -> Array:
        return np.where(rng.random(shape) < 0.3, 0, rng.integers(-top, top, shape, endpoint=True))

    table = np.rint(127 * np.tanh((np.arange(512) - 256) / 100)).astype(np.int64)
    params = {
        "win": codes((units, inputs)),
        "wrec": codes((units, units)),
        "wout": codes((3, units)),
        "bias": rng.integers(-90, 90, units),
        "mrec": rng.integers(20, 90, units),
        "table": table,
    }
    update: tuple[ops.Op, ...] = (ops.Lookup(out="new", x="pre", table="table", first=-256),)
    if damped:
        update += (ops.DampFixed(out="next", old="h", new="new", multiplier=3, shift=2),)
    net = IntNet(
        name="loop",
        family="test",
        inputs=(Input("x", (inputs,), encoding=Encoding(Format(8, False), 1.0)),),
        params=tuple(Param(n, v, "test") for n, v in params.items()),
        states=(State("h", (units,), update[-1].out, frac=7),),
        drive=(ops.Linear(out="fed", x="x", weight="win"), ops.Add(out="drive", a="fed", b="bias")),
        step=(
            ops.Linear(out="held", x="h", weight="wrec"),
            ops.Rescale(out="scaled", x="held", multiplier="mrec", shift=5 if top == 1 else 12),
            ops.Add(out="pre", a="drive", b="scaled"),
            *update,
        ),
        readout=(ops.Linear(out="logits", x="h", weight="wout"),),
        outputs=(Output("logits", "logits", "classes", 1.0),),
        schedule=Schedule(steps),
        formats={"h": Format(8, True)},
    )
    return with_formats(net)


def batch(rng: np.random.Generator, net: IntNet, count: int = 3) -> dict[str, Array]:
    """Samples with many zeros; one all zero, one at the top of the format."""
    size = net.inputs[0].shape
    codes = np.where(rng.random((count, *size)) < 0.5, 0, rng.integers(0, 255, (count, *size), endpoint=True))
    return {"x": np.concatenate([codes, np.zeros((1, *size), np.int64), np.full((1, *size), 255, np.int64)])}


@pytest.mark.slow
@pytest.mark.parametrize("top", [1, 7, 127])
@pytest.mark.parametrize(("lanes", "width"), [(1, 1), (4, 1), (4, 2), (16, 4)])
def test_a_loop_equals_golden(top: int, lanes: int, width: int) -> None:
    """A wrong sum, rounding, table entry or latch in any lane; zero and saturating inputs among the samples."""
    rng = np.random.default_rng(top + lanes + width)
    net = loop(rng, top=top, damped=width == 2)
    inputs = batch(rng, net)
    seen, _ = simulate(SerialEngine(net, trace=True, lanes=lanes, width=width), stream(net, inputs))
    assert differences(net, inputs, seen) == []


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_any_net_that_check_takes_equals_golden(rng: random.Random) -> None:
    """Gates, reductions, several states and maps, stencils, initial states and stalls in any mixture."""
    net = random_net(rng, spaces=SPACES, extras=EXTRAS, frames=False)
    lanes, width = rng.choice(((1, 1), (2, 1), (2, 2), (8, 2)))
    assume(not check(net, lanes=lanes, width=width))
    inputs = random_inputs(net, rng, batch=2)
    stall = rng.choice((0.0, 0.4))
    seen, _ = simulate(SerialEngine(net, trace=True, lanes=lanes, width=width), stream(net, inputs), stall=stall)
    assert differences(net, inputs, seen) == []


def test_stalls_change_nothing() -> None:
    """A code lost or doubled when a stream pauses."""
    rng = np.random.default_rng(3)
    net = loop(rng, top=1)
    inputs = batch(rng, net)
    for stall in (0.2, 0.8):
        seen, _ = simulate(SerialEngine(net, trace=True), stream(net, inputs), stall=stall, seed=1)
        assert differences(net, inputs, seen) == []


@pytest.mark.parametrize("clocks", [3, 9, 60, 150, 333])
def test_a_restart_drops_the_sample_at_hand(clocks: int) -> None:
    """Sums, lists or counters that outlive a restart, whatever it cuts off."""
    rng = np.random.default_rng(4)
    net = loop(rng, top=1)
    inputs = batch(rng, net, 1)
    seen, _ = simulate(SerialEngine(net, trace=True), stream(net, inputs), restart_after=clocks)
    assert differences(net, inputs, seen) == []


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_budget_is_the_ports(steps: int) -> None:
    """A budget baked into the hardware, or one tick too many."""
    rng = np.random.default_rng(5)
    net = loop(rng, top=7, steps=30)
    inputs = batch(rng, net, 1)
    seen, _ = simulate(SerialEngine(net, trace=True), stream(net, inputs), steps=steps)
    assert differences(replace(net, schedule=Schedule(steps)), inputs, seen) == []


@pytest.mark.parametrize("tolerance", [0, 2])
def test_settling_ends_a_sample(tolerance: int) -> None:
    """A tolerance off by one, or a tick that is not counted."""
    rng = np.random.default_rng(6)
    net = loop(rng, top=1, steps=40)
    net = replace(net, schedule=Schedule(40, tolerance=tolerance))
    inputs = batch(rng, net)
    seen, _ = simulate(SerialEngine(net, trace=True), stream(net, inputs))
    assert differences(net, inputs, seen) == []
    assert min(s.made for s in seen) < 40


def masked(net: IntNet, rng: np.random.Generator) -> IntNet:
    """The net with a third of its weights zeroed: its formats still hold."""
    kept = {p.name: p.value * (rng.random(p.value.shape) < 0.66) if p.name[0] == "w" else p.value for p in net.params}
    return replace(net, params=tuple(replace(p, value=kept[p.name]) for p in net.params))


@pytest.mark.parametrize(("top", "lanes"), [(1, 8), (1, 32), (127, 8)])
def test_weights_reload_between_samples(top: int, lanes: int) -> None:
    """A word at the wrong address, or in the wrong part of a word wider than 32 bits."""
    rng = np.random.default_rng(7)
    net = loop(rng, top=top)
    other = masked(net, rng)
    inputs = batch(rng, net)
    engine = SerialEngine(net, trace=True, lanes=lanes)
    words = engine.load_words(other)
    assert engine.load_words(net) != words
    seen, _ = simulate(engine, stream(net, inputs), load=Load(words, after=2))
    assert differences(net, {"x": inputs["x"][:2]}, seen[:2]) == []
    assert differences(other, {"x": inputs["x"][2:]}, seen[2:]) == []


def test_constant_weights_need_no_port() -> None:
    """The engine without its load port is another circuit; it must compute the same."""
    rng = np.random.default_rng(8)
    net = loop(rng, top=7)
    inputs = batch(rng, net, 1)
    engine = SerialEngine(net, trace=True, loadable=False)
    assert "load_data" not in engine.signature.members
    seen, _ = simulate(engine, stream(net, inputs))
    assert differences(net, inputs, seen) == []


class SpramModel(Elaboratable):
    """What one SB_SPRAM256KA does with whole words: a write leaves the output as it was."""

    def __init__(self, address: Value, data: Value, write: Value, out: Signal) -> None:
        self.address, self.data, self.write, self.out = address, data, write, out

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.words = words = Memory(shape=unsigned(16), depth=SPRAM_WORDS, init=[])
        read, write = words.read_port(), words.write_port()
        m.d.comb += [
            read.addr.eq(self.address),
            read.en.eq(~self.write),
            self.out.eq(read.data),
            write.addr.eq(self.address),
            write.data.eq(self.data),
            write.en.eq(self.write),
        ]
        return m


def test_single_port_memory_is_loaded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The UP5K's SPRAM: a wrong block, or a read that needs what powers up undefined."""
    # Amaranth's simulator knows no vendor's primitive.
    monkeypatch.setattr(Ram, "_block", lambda ram, *ports: SpramModel(*ports))
    rng = np.random.default_rng(9)
    net = loop(rng, top=1)
    inputs = batch(rng, net, 1)
    engine = SerialEngine(net, trace=True, lanes=16, family="up5k")
    seen, _ = simulate(engine, stream(net, inputs), load=Load(engine.load_words(net), after=0))
    assert differences(net, inputs, seen) == []


def clocks_of_columns(engine: SerialEngine, number: int) -> Array:
    """Clocks of an event of each unit, from the matrix: its words that hold something, in a legal order."""
    matrix, lanes = engine.plan.maps[number].matrix, engine.plan.lanes
    padded = np.pad(matrix, ((0, -len(matrix) % lanes), (0, 0)))
    held = (padded.reshape(-1, lanes, matrix.shape[1]) != 0).any(axis=1)
    even, odd = held[::2].sum(axis=0), held[1::2].sum(axis=0)
    count = np.maximum(even, 1) + np.where(even + odd > 1, np.maximum(odd, 1), odd)
    return np.maximum(count, 3 if "secded" in engine.design.harden else 2)


@pytest.mark.slow
@pytest.mark.parametrize(("lanes", "harden", "most"), [(4, (), 8), (16, ("secded", "residue", "tmr"), 3)])
def test_events_cost_what_describe_says(lanes: int, harden: tuple[str, ...], most: int) -> None:
    """Cycles that do not depend on activity, or a model of cycles that is wrong: zeros must be free."""
    rng = np.random.default_rng(10)
    net = loop(rng, top=1, inputs=40, units=32)
    engine = SerialEngine(net, trace=True, lanes=lanes, harden=harden)
    few, many = np.zeros((1, 40), np.int64), np.full((1, 40), 255, np.int64)
    cost = engine.describe()["clocks"]
    assert cost["per_event"]["fed"]["most"] == most
    fed, held, shown = (clocks_of_columns(engine, number) for number in range(3))
    assert fed.mean() == cost["per_event"]["fed"]["mean"]
    for codes in (few, many):
        run = golden.run(net, {"x": codes})
        states = np.concatenate([np.zeros((1, 1, 32), np.int64), run.states["h"][: run.steps[0]]])
        # The last tick's changes are never applied.
        changes = int((held * (np.diff(states[:-1], axis=0) != 0)).sum())
        final = int((shown * (states[-1] != 0)).sum())
        sweeps = cost["sweeps"]
        ticks = int(run.steps[0])
        model = int((codes == 0).sum()) + int((fed * (codes != 0)).sum()) + changes + final
        model += sweeps["drive_32"] + ticks * sweeps["step_32"] + sweeps["scan_h"]
        _, clocks = simulate(SerialEngine(net, lanes=lanes, harden=harden), stream(net, {"x": codes}))
        assert model <= clocks <= model + 12 * ticks + 120


@pytest.mark.slow
def test_the_dense_schedule_computes_the_same() -> None:
    """What the events are compared with: no fewer clocks, other bits."""
    rng = np.random.default_rng(13)
    net = loop(rng, top=1, units=12)
    inputs = batch(rng, net)
    seen, clocks = simulate(SerialEngine(net, trace=True, dense=True), stream(net, inputs))
    assert differences(net, inputs, seen) == []
    assert clocks > simulate(SerialEngine(net, trace=True), stream(net, inputs))[1]


def test_no_trace_port_without_a_trace() -> None:
    """The trace is for benches: the parameter must remove it."""
    net = loop(np.random.default_rng(1), top=1)
    assert not any(n.startswith("trace") for n in SerialEngine(net).signature.members)
    assert [name for name, _, _ in SerialEngine(net, trace=True).signature.states] == ["h"]


# What it does not take


def test_check_names_the_node() -> None:
    """A refusal that does not say which node."""
    net = loop(np.random.default_rng(1), top=1)
    odd = with_formats(
        replace(
            net,
            step=(*net.step, ops.Divide(out="odd", a="new", b="mrec", shift=1), ops.Abs(out="odder", x="odd")),
            params=tuple(replace(p, value=np.minimum(p.value, 5)) if p.name == "mrec" else p for p in net.params),
            states=(*net.states, State("g", (7,), "odder", frac=None)),
            formats={"h": Format(8, True), "g": Format(16, False)},
        )
    )
    (fault,) = check(odd)
    assert "divide" in fault.what
    assert fault.where == "odd"
    with pytest.raises(UnsupportedError, match="no divide"):
        SerialEngine(odd)
    (fault,) = check(replace(net, schedule=Schedule(3, frames=True)))
    assert "frames" in fault.what


def test_check_says_what_does_not_fit() -> None:
    """Resources: needed and available, and the option that changes it."""
    net = loop(np.random.default_rng(1), top=127)
    (fault,) = check(net, lanes=16, family="up5k")
    assert "need 10 blocks of SPRAM, the UP5K has 4" in fault.what
    assert check(net, lanes=2, family="up5k") == []
    assert [f.code for f in check(net, lanes=3, width=8)] == ["rtl-lanes", "rtl-serial"]
    with pytest.raises(UnsupportedError, match="loadable is off"):
        SerialEngine(net, family="up5k", loadable=False)


# Mutants: the comparison must be able to fail


def up_or_down(column: dict[int, int]) -> columns.Entries:
    """Words in no order: one column may end with the word that the next begins with."""
    found = sorted(column.items()) or [(0, 0)]
    return tuple(reversed(found) if sum(column.values()) % 2 else found)


def without_wipes(original: Callable[..., Module]) -> Callable[..., Module]:
    """Accumulators that keep the sums of the sample before."""

    def elaborate(self: Ram, platform: object) -> Module:
        if self.wipes:
            self.read_zero = Signal()
        return original(self, platform)

    return elaborate


def without_first(original: Callable[..., Module]) -> Callable[..., Module]:
    """A list that drops the change of unit 0."""

    def elaborate(self: ChangeList, platform: object) -> Module:
        m, push = Module(), self.push
        self.push = Signal.like(push)
        m.d.comb += self.push.eq(push & (self.group != 0).replicate(len(push)))
        m.submodules += original(self, platform)
        return m

    return elaborate


@pytest.mark.parametrize(
    "mutation",
    [
        mock.patch.object(columns, "_ordered", up_or_down),
        mock.patch.object(sweep, "FIRST", 1),
        mock.patch.object(core, "decode", lambda bits, fmt: decode(bits, Format(fmt.bits - 1, fmt.signed))),
        mock.patch.object(Clocked, "cut", lambda self, m, value: value),
        mock.patch.object(Ram, "elaborate", without_wipes(Ram.elaborate)),
        mock.patch.object(ChangeList, "elaborate", without_first(ChangeList.elaborate)),
    ],
    ids=["read before write", "early operand", "narrow code", "missing register", "stale sums", "dropped event"],
)
def test_a_mutant_is_caught(mutation: mock._patch[object]) -> None:
    """A comparison that cannot fail."""
    rng = np.random.default_rng(11)
    net = loop(rng, top=1, units=12)
    inputs = batch(rng, net)
    with mutation:
        seen, _ = simulate(SerialEngine(net, trace=True, lanes=4), stream(net, inputs))
    assert differences(net, inputs, seen) != []


def test_the_plainest_loop_reads_its_input_in_the_step() -> None:
    """An input that the step reads elementwise must be kept, in every lane."""
    rng = np.random.default_rng(12)
    net = small_net(rng.integers(-1, 2, (5, 5)).tolist(), table=list(range(-60, 61)), first=-60, steps=6, init=[3] * 5)
    inputs = {"x": rng.integers(-128, 128, (3, 5))}
    for lanes, width in ((2, 1), (4, 4)):
        seen, _ = simulate(SerialEngine(net, trace=True, lanes=lanes, width=width), stream(net, inputs), stall=0.2)
        assert differences(net, inputs, seen) == []


def test_a_memory_refuses_what_its_family_cannot_do() -> None:
    """Initial words, a reset or more depth than there is would be lost silently in SPRAM."""
    with pytest.raises(ValueError, match="given 1 initial words; SPRAM takes 0"):
        Ram(width=16, depth=4, init=[1], family="up5k")
    with pytest.raises(ValueError, match="no reset"):
        Ram(width=16, depth=4, family="up5k", wipes=True)
    assert [spram_blocks(*size) for size in ((16, 1), (17, 1), (32, 16385))] == [1, 2, 4]


def test_ranks_are_refused_with_what_is_missing_and_taken_in_parallel() -> None:
    """Would break if a net that keeps its largest units were refused without the shapes, the reason and the way out."""
    rng = np.random.default_rng(0)
    b = Builder("test.Ranked", Tensors("file", {}), {})
    drive = b.linear_of("drive", b.input("x", 5), "w", rng.normal(size=(6, 5)), "test")
    h = b.state("h", 6)
    b.begin("step")
    b.update(h, top_k(b, "kept", b.act("new", b.add("sum", drive, h)), 3))
    b.begin("readout")
    b.output("o", h, "values")
    net = lower(b.finish(4), QuantizeOptions(), calibration=None).net
    (fault,) = RtlTarget.of(arch="serial").plan(net).diagnostics  # type: ignore[union-attr]
    assert "[6, 6] to [6]; this engine sums all units to one number and has no sweep over pairs" in fault.what
    assert fault.hint == "--arch parallel compares all pairs at once"
    plan = RtlTarget().plan(net)
    assert isinstance(plan, RtlPlan)
    assert plan.architecture.name == "parallel"
