"""The core in Amaranth's simulator: every state after every tick is golden's, whatever the streams do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth import ClockDomain, DomainRenamer, Module, Signal, signed
from amaranth.sim import Simulator
from conformance_nets import example
from processor_runs import core_differences, differences, frames_of, mutated
from rtl_engines import differences as engine_differences
from rtl_engines import simulate
from strategies import random_inputs, random_net
from waist_nets import form

from eqcompile.quantization.lower import lower
from eqcompile.rtl.processor.compiler import compile_net
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.hardware.iterative import Divider, Root
from eqcompile.rtl.processor.isa import Apply
from eqcompile.rtl.processor.profile import profile
from eqcompile.toolchain import golden
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir import Param

SEEDS = {
    "vector with a gate": 2,
    "sites": 4,
    "tokens through a table of rows": 11,
    "division and root": 10,
    "frames, a result after each": 15,
    "repeat": 28,
}


def waits(seed: int) -> Callable[[], bool]:
    rng = random.Random(seed)
    return lambda: rng.random() < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("name", SEEDS)
def test_random_nets(name: str, width: int) -> None:
    rng = random.Random(SEEDS[name])
    net = random_net(rng)
    codes = random_inputs(net, rng, batch=2)
    assert differences(net, codes, compile_net(net, width=width)) == []
    assert core_differences(net, codes, width=width) == []


@pytest.mark.parametrize("name", ["division and root", "frames, a result after each", "repeat"])
@pytest.mark.slow
def test_streams_that_stall(name: str) -> None:
    rng = random.Random(SEEDS[name])
    net = random_net(rng)
    codes = random_inputs(net, rng, batch=2)
    assert core_differences(net, codes, width=2, stall=waits(1)) == []


@pytest.mark.parametrize("least", [-1, -2])
def test_codes_of_two_bits_with_and_without_the_lowest(least: int) -> None:
    """Ternary weights need no shift; a core for them that took -2 for 0 would be wrong where one stands."""
    net, _ = example("plain")
    maps = {op.weight for op in net.all_ops() if op.mnemonic == "linear"}  # type: ignore[union-attr]
    codes_of = {p.name: np.where(p.value < 0, least, p.value.clip(0, 1)) for p in net.params if p.name in maps}
    params = [Param(p.name, codes_of.get(p.name, p.value), p.source) for p in net.params]
    narrow = replace(net, params=tuple(params))
    core = compile_net(narrow).image.core
    assert (core.code_bits, core.lowest) == (2, least == -2)
    assert core_differences(narrow, random_inputs(narrow, random.Random(0), batch=2)) == []


@pytest.mark.parametrize("name", ["windows", "limited", "layered", "board"])
@pytest.mark.slow
def test_forms_of_the_waist(name: str) -> None:
    """Two entries a clock, and in one group of lanes all sums, which are then changed in every clock."""
    net, samples = form(name)
    codes_net = lower(net, QuantizeOptions(), calibration=samples).net
    codes, _ = encode(codes_net, {key: value[:1] for key, value in samples.items()})
    assert core_differences(codes_net, codes, lanes=16, width=2) == []


def test_a_profile_states_the_clocks_of_each_instruction() -> None:
    """The listing, and in it what a slower core would take: without an early start an apply waits for all events."""
    rng = random.Random(SEEDS["vector with a gate"])
    net = random_net(rng)
    codes = random_inputs(net, rng, batch=2)
    program = compile_net(net, width=2)
    samples = [frames_of(net, codes, k) for k in range(2)]
    stated = profile(program, samples)
    assert sum(stated.clocks) == sum(stated.totals)
    assert len(str(stated).splitlines()) == len(program.instructions)
    late = [replace(i, early=False) if isinstance(i, Apply) and i.early else i for i in program.instructions]
    at = next(k for k, (i, j) in enumerate(zip(late, program.instructions, strict=True)) if i != j)
    slower = profile(mutated(program, at, late[at]), samples)
    assert sum(slower.totals) > sum(stated.totals)


def test_a_profile_counts_the_work() -> None:
    """Words of weights that are not all 0, of each state that moved in a tick before the last one; and table reads."""
    net, _ = example("plain")
    codes = random_inputs(net, random.Random(0), batch=1)
    program = compile_net(net, lanes=2)
    stated = profile(program, [frames_of(net, codes, 0)])
    run = golden.run(net, codes)
    ticks = int(run.steps[0])
    moved = np.diff(run.states["h"][:ticks, 0], axis=0, prepend=0)[:-1] != 0
    weights = next(net.param(op.weight) for op in net.all_ops() if op.mnemonic == "linear")  # type: ignore[union-attr]
    columns = np.pad(weights, ((0, len(weights) % 2), (0, 0))).reshape(-1, 2, weights.shape[1])
    words = int((moved * (columns != 0).any(axis=1).sum(axis=0)).sum())
    assert (sum(stated.words), stated.additions, stated.lookups) == (words, 2 * words, ticks * moved.shape[1])
    assert 0 < words


def test_a_restart_drops_the_sample_at_hand() -> None:
    rng = random.Random(SEEDS["vector with a gate"])
    net = random_net(rng, frames=False)
    codes = random_inputs(net, rng)
    seen = simulate(ProcessorEngine(net, trace=True), net, codes, restart_at=70)
    assert engine_differences(net, codes, seen) == []


def results(part: Divider | Root, operands: list[Signal], cases: list[tuple[int, ...]]) -> list[int]:
    """What the part gives for each case, taken a clock after it is done."""
    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.part = DomainRenamer({"control": "sync"})(part)
    values: list[int] = []

    async def bench(ctx: Any) -> None:
        for case in cases:
            for signal, code in zip(operands, case, strict=True):
                ctx.set(signal, code)
            ctx.set(part.start, 1)
            await ctx.tick()
            ctx.set(part.start, 0)
            await ctx.tick().until(part.done)
            values.append(ctx.get(part.result))
            ctx.set(part.take, 1)
            await ctx.tick()
            ctx.set(part.take, 0)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return values


def test_division_rounds_down() -> None:
    a, b = Signal(signed(7), name="a"), Signal(signed(4), name="b")
    cases = [(x, y) for x in (*range(-64, 64, 5), -64, -1, 0, 63) for y in range(1, 8)]
    assert results(Divider(a, b, 7), [a, b], cases) == [x // y for x, y in cases]


@pytest.mark.parametrize("bits", [7, 8])
def test_roots(bits: int) -> None:
    x = Signal(signed(bits), name="x")
    cases = [(code,) for code in (*range(-3, 1 << bits - 1, 2), 49, 48, (1 << bits - 1) - 1)]
    assert results(Root(x, bits), [x], cases) == [math.isqrt(max(code, 0)) for (code,) in cases]
