"""Engine fast gives golden's results, all columns, for every fault of every net that it takes; mutants of it do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fast_kernel import plain_kernel
from fault_cases import random_faults
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import random_inputs, random_net, small_net, with_formats

from eqcompile.quantization.lower import lower
from eqcompile.sim.faults.engine import Engine
from eqcompile.sim.faults.fast import engine as fast
from eqcompile.sim.faults.fast import fuse
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.model import FaultModel
from eqcompile.sim.faults.table import FaultTable, parse_fault
from eqcompile.toolchain import data, registry
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Format, IntNet, Output, Param, ops

# The kernel is compiled once, not by each worker: that takes longer than all tests here.
pytestmark = [pytest.mark.xdist_group("fault_fast"), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DIGITS = ("digits_ternary", "digits_looped", "digits_cube", "digits_lazy")
MODELS = ("seu", "set", "mbu", "stuck", "dead", "noise", "events", "combined")
SAMPLES, FRAMES, COUNT = 3, 2, 25

Case = tuple[IntNet, dict[str, NDArray[np.int64]], FaultTable, NDArray[Any]]


@cache
def case(seed: int) -> Case:
    """A random net, inputs, random faults and what golden makes of them."""
    rng = random.Random(seed)
    net = random_net(rng)
    inputs = random_inputs(net, rng, batch=SAMPLES, frames=FRAMES)
    ticks = net.schedule.steps * (FRAMES if net.schedule.frames else 1)
    table = random_faults(net, rng, samples=SAMPLES, ticks=ticks, count=COUNT)
    return net, inputs, table, GoldenEngine().open(net, inputs, near=1).run(table)


def by_hand() -> Case:
    """What random cases seldom meet: a register of the drive that moves while all states rest, a divisor disturbed to
    0, a 2-bit weight with its illegal pattern, a difference held past the end of its word, in
    `h <- T[W h / (|d| + 1) + d]` with d = x + 0 and a coarse T."""
    base = small_net([[1, -1], [0, 0]], table=[i // 8 * 8 for i in range(-128, 128)], first=-128, steps=6)
    drive = (ops.Add(out="d", a="x", b="zero"),)
    step = (
        ops.Linear(out="w", x="h", weight="W"),
        ops.Abs(out="m", x="d"),
        ops.Add(out="n", a="m", b="one"),
        ops.Divide(out="q", a="w", b="n", shift=1),
        ops.Add(out="a", a="q", b="d"),
        ops.Lookup(out="y", x="a", table="T", first=-128),
    )
    numbers = (Param("zero", np.array(0), "test"), Param("one", np.array(1), "test"))
    formats = {"h": Format(8, True)}
    net = with_formats(replace(base, drive=drive, step=step, params=(*base.params, *numbers), formats=formats))
    inputs = {"x": np.array([[0, 90], [3, 17]])}
    ids = (
        "value:d[0]^1@0-5",
        "value:d[1]+3@1-6",
        "value:n[0]~ff@2-4",
        "value:q[0]-100@0-5!",
        "param:W[2]^2@0-6",
        "param:W[1]~1@0-6",
        "param:W[0]^2@1-3",
    )
    table = FaultTable.of(parse_fault(f"{sample}/any.0.0/{upset}") for sample in range(2) for upset in ids)
    return net, inputs, table, GoldenEngine().open(net, inputs, near=1).run(table)


@cache
def looped(seed: int) -> Case:
    """A net whose step and readout are fused, of few and of many weights, and faults that are mostly single flips of
    states."""
    rng = random.Random(seed)
    size, some, most = rng.randint(5, 9), rng.choice((0.3, 0.9)), rng.choice((1, 3))
    weight = [[rng.randint(-most, most) * (rng.random() < some) for _ in range(size)] for _ in range(size)]
    step = rng.choice((1, 4, 9))
    table = [max(-128, min(127, i // step * step)) for i in range(-200, 200)]
    frames = rng.random() < 0.4
    base = small_net(weight, table=table, first=-200, steps=rng.choice((1, 2, 4, 6, 14)), frames=frames)
    read = Param("R", np.array([[rng.randint(-2, 2) for _ in range(size)] for _ in range(3)]), "test")
    halve = Param("m", np.array(rng.choice((1, 3))), "test")
    net = replace(
        base,
        params=(*base.params, read, halve),
        step=(
            base.step[0],
            ops.Rescale(out="q", x="w", multiplier="m", shift=1),
            ops.Add(out="p", a="q", b="x"),
            ops.Lookup(out="t", x="p", table="T", first=-200),
            ops.DampFixed(out="y", old="h", new="t", multiplier=3, shift=2),
        ),
        readout=(ops.Linear(out="r", x="h", weight="R"),),
        outputs=(Output("o", "r", "classes", 1.0),),
        formats={"h": Format(8, True)},
        schedule=replace(base.schedule, emit=rng.choice(("last", "every")) if frames else "last"),
    )
    net = with_formats(net)
    generator = np.random.default_rng(seed)
    inputs = {"x": generator.integers(-60, 60, (SAMPLES, FRAMES, size) if frames else (SAMPLES, size))}
    ticks = net.schedule.steps * (FRAMES if frames else 1)
    flips = registry.find_class("faults", "seu", FaultModel)(sites="state").draw(net, 20, generator, inputs)
    table_of = FaultTable.of([*flips, *random_faults(net, rng, samples=SAMPLES, ticks=ticks, count=10)])
    return net, inputs, table_of, GoldenEngine().open(net, inputs, near=1).run(table_of)


def differing(engine: Engine, found: Case) -> list[str]:
    net, inputs, table, want = found
    assert not engine.check(net)
    got = engine.open(net, inputs, near=1).run(table)
    return [f"{table[int(i)]}: {want[i]} != {got[i]}" for i in np.flatnonzero(want != got)]


def entries(seed: int) -> int:
    """The largest matrix of weights: none for odd seeds, whose ticks of many deviating states then go by events too."""
    return 0 if seed % 2 else 1 << 20


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_results_of_fused_nets_are_golden_s(seed: int) -> None:
    """Loops whose ticks are evaluated unit by unit, from events or from a matrix of weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuse, "LARGEST", entries(seed))
        opened: Any = fast.FastEngine().open(*looped(seed)[:2], near=1)
        assert opened.memory.fused
        assert differing(fast.FastEngine(), looped(seed)) == []


def two_inputs(weight: int) -> Case:
    """A fused net that remembers the sign of two states, which have this weight in all sums, and flips of that sign."""
    net, inputs, *_ = looped(0)
    wide = np.zeros_like(net.param("W"))
    wide[:, :2] = weight
    params = tuple(replace(p, value=wide) if p.name == "W" else p for p in net.params)
    net = replace(net, schedule=replace(net.schedule, steps=6, frames=False, emit="last"))
    net = with_formats(replace(net, params=params, formats={"h": net.formats["h"], "x": net.formats["x"]}))
    ids = (
        f"{s}/any.0.0/state:h[{u}]^{bit}@{t}"
        for s in range(SAMPLES)
        for u in (0, 1)
        for bit in (80, 40)
        for t in (0, 1)
    )
    faults = FaultTable.of(map(parse_fault, ids))
    return net, inputs, faults, GoldenEngine().open(net, inputs, near=1).run(faults)


@pytest.mark.parametrize(("weight", "bits"), [(1, 9), (127, 16), (129, 17)])
def test_sums_beyond_16_bits_take_no_matrix(weight: int, bits: int) -> None:
    """Its totals are modulo 2**16."""
    found = two_inputs(weight)
    opened: Any = fast.FastEngine().open(*found[:2], near=1)
    assert found[0].formats["w"].bits == bits
    assert bool(len(opened.memory.weights)) == (bits <= 16)
    assert differing(fast.FastEngine(), found) == []


@pytest.mark.parametrize(
    "upset",
    [
        "9/any.0.0/state:h[0]^1@0",
        "0/any.0.0/state:h[99]^1@0",
        "0/any.0.0/state:h[0]^100@0",
        "0/any.0.0/state:g[0]^1@0",
        "0/any.0.0/state:h[0]^1@99",
        "0/any.0.0/state:h[0]^1@0-2!",
        "0/any.0.0/core:h[0]^1@0",
    ],
)
def test_what_the_net_has_not_is_refused_as_golden_does(upset: str) -> None:
    """The engine looks over the rows in a loop of its own; what that let pass would be read beyond the arrays."""
    net, inputs, *_ = looped(1)
    table = FaultTable.of([parse_fault(upset), parse_fault("0/any.0.0/state:h[0]^1@0")])
    said = []
    for engine in (fast.FastEngine(), GoldenEngine()):
        with pytest.raises(UsageError) as caught:
            engine.open(net, inputs, near=1).run(table)
        said.append(str(caught.value))
    assert said[0] == said[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_results_are_golden_s(seed: int) -> None:
    """Lossless: one column of one fault that differs would make campaigns on two engines two campaigns."""
    assert differing(fast.FastEngine(), case(seed)) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("made", [case, looped])
def test_trajectories_are_golden_s(made: Callable[[int], Case], seed: int) -> None:
    """Results could agree while the states between do not."""
    net, inputs, table, _ = made(seed)
    ours, golden = (engine.open(net, inputs, near=1) for engine in (fast.FastEngine(), GoldenEngine()))
    for fault in list(table)[:3] + list(table)[-3:]:
        want = golden.trace(fault)
        for name, states in ours.trace(fault).items():
            np.testing.assert_array_equal(states, want[name], err_msg=str(fault))
    for name, states in ours.clean(1).items():
        np.testing.assert_array_equal(states, golden.clean(1)[name])


@cache
def digits(name: str) -> tuple[IntNet, dict[str, NDArray[np.int64]]]:
    with np.load(ROOT / "examples" / "data" / "digits_calibration.npz") as file:
        x = {"x": file["x"]}
    source = import_model(ROOT / "examples" / "checkpoints" / f"{name}.pt").net
    net = lower(source, QuantizeOptions(), calibration=x).net
    codes, _ = data.encode(net, {"x": x["x"][:12]})
    return net, codes


@pytest.mark.parametrize("name", DIGITS)
@pytest.mark.parametrize("model", MODELS)
def test_trained_nets_give_the_same_results(name: str, model: str) -> None:
    """Every model's faults in every committed net: widths, tables and gates that random nets may not have."""
    net, codes = digits(name)
    count = 4 if model == "noise" else 25
    table = registry.find_class("faults", model, FaultModel)().draw(net, count, np.random.default_rng(1), codes)
    want = registry.find_class("engines", "golden", Engine)().open(net, codes, near=1).run(table)
    got = registry.find_class("engines", "fast", Engine)().open(net, codes, near=1).run(table)
    np.testing.assert_array_equal(got, want)


def test_the_mnist_net_gives_the_same_results() -> None:
    """The net of the benchmark, on random inputs: every kind of site, all ticks."""
    source = import_model(ROOT / "examples" / "checkpoints" / "mnist_ternary.npz").net
    options = QuantizeOptions(input_range=(0.0, 1.0))
    net = lower(source, options, calibration=None).net
    generator = np.random.default_rng(0)
    codes = {"x": generator.integers(0, 256, (5, 784)) * (generator.random((5, 784)) < 0.2)}
    for sites, count in (("state,accumulator,drive", 400), ("table,weight,constant", 40)):
        table = registry.find_class("faults", "seu", FaultModel)(sites=sites).draw(net, count, generator, codes)
        want = GoldenEngine().open(net, codes, near=1).run(table)
        np.testing.assert_array_equal(fast.FastEngine().open(net, codes, near=1).run(table), want)


def test_threads_do_not_change_results() -> None:
    """Pieces of work share no memory but the results, whatever thread takes them."""
    net, codes = digits("digits_ternary")
    opened = fast.FastEngine().open(net, codes, near=1)
    table = registry.find_class("faults", "seu", FaultModel)().draw(net, 5000, np.random.default_rng(2), codes)
    parts = [opened.run(table.take(slice(i, i + 40))) for i in range(0, len(table), 40)]
    np.testing.assert_array_equal(opened.run(table), np.concatenate(parts))


def test_the_limit_is_what_a_laptop_holds() -> None:
    """24 bytes a tap: at the limit the lists take 1.5 GiB, at twice the limit they do not fit beside the rest."""
    assert fast.TAPS * 24 == 3 << 29


def test_a_net_that_is_too_large_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must say so before it takes the memory."""
    monkeypatch.setattr(fast, "TAPS", 1000)
    found = fast.FastEngine().check(digits("digits_looped")[0])
    assert [d.code for d in found] == ["fault-size"]
    assert "8832 taps, the fast engine lists at most 1000" in found[0].what


MUTANTS = {
    "no wrap of values": ("operations", "value = wrap(value, bits, signed)", "value = value + 0 * (bits + signed)"),
    "stops one tick early": (
        "kernel",
        "if tick == ticks:\n            break",
        "if tick >= ticks - 1:\n            break",
    ),
    "no upsets at the readout": ("kernel", "if change > ticks:", "if change >= ticks:"),
    "readout after the last tick only": ("kernel", "if tick % steps == 0 and (m[K.M_EVERY] or ", "if ("),
    "fused readout after the last tick only": ("kernel", "frame * steps and (m[K.M_EVERY] or ", "frame * steps and ("),
    "windows end early": ("kernel", '["last"] >= tick:', '["last"] > tick or ups[k]["first"] == tick:'),
    "held as a flip": ("elements", 'if up["held"] and tick > up["first"]:', "if False:"),
    "held does not wrap": (
        "elements",
        "new = wrap(code + w[difference], to[K.TO_BITS], to[K.TO_SIGNED])",
        "new = code + w[difference]",
    ),
    "noise wraps": ("elements", "if to[K.TO_IN] == K.IN_STATE:", "if False:"),
    "illegal weight is -2": ("elements", "if to[K.TO_TERNARY]:", "if False:"),
    "weights forget the operand's change": (
        "operations",
        "delta * get(m[m[K.M_PAIR_FROM] + j], m, w, clean)",
        "delta * usual(m[m[K.M_PAIR_FROM] + j], m, w, clean)",
    ),
    "rejoins in spite of the drive": ("kernel", " and not _held(m, w, clean)", ""),
    "a fixed point for ever": ("kernel", "min(change, (tick // steps + 1) * steps)", "ticks"),
    "toggling registers rest": ("kernel", "and not _toggles(start, active, tick, ups, words, copies, targets, w)", ""),
    "frames keep the drive": ("kernel", "            forget_block(0, m, w)\n            _place", "            _place"),
    "constants stay upset": ("kernel", "if constants:\n            _forget", "if False:\n            _forget"),
    "initial states are clean": ("kernel", "                begin(m, w, clean)\n", ""),
    "a divisor of 0": ("operations", "max(b, np.int64(1))", "(b if b else np.int64(7))"),
    "tables are constant": ("operations", "if table >= 0 and w[w[K.W_COUNT] + table]:", "if False:"),
    "moving as fault-free": ("latches", "before = w[w[K.W_LATCHED] + was]", "pass"),
    "distance of the last tick only": ("kernel", "max(w[facts + K.DISTANCE_MAX], worst)", "worst"),
    "label of any frame": ("kernel", "            if last:\n", "            if True:\n"),
    "units forget weights": ("units", "m[ix(j + 2)] * delta", "min(max(m[ix(j + 2)], -1), 1) * delta"),
    "units stay touched": ("units", "w[ix(w[K.W_SEEN] + unit)] = 0", "pass"),
    "totals of units stay": ("units", "w[ix(total)] = 0", "pass"),
    "units read clean states": ("units", "if w[ix(marks + e)]:", "if False:"),
    "units rest with the fault-free run": (
        "units",
        " or same != w[ix(counts + old)] or same != w[ix(counts + 1 - old)]",
        "",
    ),
    "dense leaves a column out": ("dense", "if k + 3 < count:", "if False:"),
    "dense reads clean states": ("dense", "if w[ix(w[K.W_LATCH_MARK] + e)]:", "if False:"),
    "no wrap of dense sums": ("dense", "(((codes[i] + total[i]) & mask) ^ sign) - sign", "codes[i] + total[i]"),
    "dense rests with the fault-free run": ("dense", " or same != w[counts + old] or same != w[counts + 1 - old]", ""),
    "flips without their sign": ("queue", "flip = wrap(flip, to[K.TO_BITS], to[K.TO_SIGNED])", "pass"),
    "windows are flips": ("queue", 'up["first"] != up["last"]', "False"),
    "noise is a flip": ("queue", '(up["one"] | up["zero"] | up["add"]) != 0', "False"),
    "flips miss the readout": ("kernel", "reads = tick > 0 and tick % steps == 0", "reads = False"),
    "coasts over upsets": ("kernel", "_coast(old, old, tick, change,", "_coast(old, old, tick, ticks + 1,"),
    "facts of the fault before": ("kernel", "w[facts + K.FRESH] = 0", "pass"),
    "a fixed point crosses frames": ("kernel", "min(end, (frame + 1) * steps)", "end"),
    "reads the first frame": (
        "kernel",
        "_place(sample, frame - 1, m, w)",
        "_place(sample, 0 * frame, m, w)",
    ),
}


SEEDS = range(60)


def cases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """Cases by hand, fused nets by events and by a matrix, random nets."""
    yield by_hand()
    yield two_inputs(127)
    for seed in range(30):
        monkeypatch.setattr(fuse, "LARGEST", entries(seed))
        yield looped(seed)
    yield from map(case, SEEDS)


def test_a_prepared_engine_compiles_no_more() -> None:
    """A type that differs from those of a session would compile the kernel twice, the second time without a word."""
    from eqcompile.sim.faults.fast import kernel, queue

    net, inputs, table, _ = by_hand()
    engine, compiled = fast.FastEngine(), (kernel.relax_many, queue.survey, queue.enqueue)
    engine.prepare(net)
    known = [len(function.signatures) for function in compiled]
    engine.open(net, inputs, near=1).run(table)
    assert [len(function.signatures) for function in compiled] == known


def test_the_kernel_is_prepared_by_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled, it would read beyond its arrays without an error."""
    plain_kernel(monkeypatch)
    fast.FastEngine().prepare(by_hand()[0])


def test_the_kernel_as_plain_python_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the unchanged source failed here, every mutant would count as caught."""
    plain_kernel(monkeypatch)
    for found in cases(monkeypatch):
        assert differing(fast.FastEngine(), found) == []


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mutant_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of this kind in the engine that random nets and faults would not show."""
    plain_kernel(monkeypatch, *MUTANTS[name])
    for found in cases(monkeypatch):
        try:
            if differing(fast.FastEngine(), found):
                return
        except IndexError:
            return
    pytest.fail(f"{name}: not noticed")
