"""Saboteurs of an engine in Amaranth's simulator against golden: one elaboration for many faults, nothing compiled."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from fault_cases import random_faults
from rtl_engines import signed

from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.golden_engine import GoldenEngine
from eqcompile.sim.faults.rtl.rows import Row, Translator
from eqcompile.sim.faults.table import Fault, Place
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir import IntNet

__all__ = ["disturbed_runs", "some_faults", "translator_of", "unlike_golden"]

PORTS = ("word", "unit", "tick", "flip", "one", "zero", "add")


def translator_of(engine: Any, net: IntNet) -> Translator:
    """Of a core whose weights are constants, and that has run nothing yet."""
    return Translator(net, Circuit.of(net), net.schedule.steps, engine.inject_words, {}, None, lambda *_: 0)


def some_faults(engine: Any, net: IntNet, rng: random.Random, *, samples: int, count: int) -> list[tuple[Fault, Row]]:
    """Faults that the engine takes, and what it is told."""
    told = translator_of(engine, net)
    found: list[tuple[Fault, Row]] = []
    for fault in random_faults(net, rng, samples=samples, ticks=told.ticks, count=count):
        # What a held sum is off by is found with the code that stands there, which takes a session.
        if any(u.place is Place.PARAM or u.held for u in fault.upsets):
            continue
        try:
            found += zip([fault], told.rows([fault]), strict=True)
        except UsageError:
            continue
    return found


def disturbed_runs(
    engine: Any, net: IntNet, inputs: Mapping[str, Any], rows: Sequence[Row]
) -> list[tuple[list[dict[str, Any]], list[int]]]:
    """For each row the states after every tick, and the output codes."""
    samples = len(next(iter(inputs.values())))
    codes = np.concatenate([inputs[i.name].reshape(samples, -1) for i in net.inputs], axis=1)
    x, y = engine.signature.x_port, engine.signature.y_port
    bits, width = x.format.bits, y.format.bits
    beats = np.pad(codes, ((0, 0), (0, -x.count % x.beat))).reshape(samples, -1, x.beat) & ((1 << bits) - 1)
    found: list[tuple[list[dict[str, Any]], list[int]]] = []

    async def bench(ctx: Any) -> None:
        ctx.set(engine.steps, net.schedule.steps)
        ctx.set(engine.y.ready, 1)
        for row in rows:
            ctx.set(engine.inject_enable, row.every)
            await _written(ctx, engine, [told.codes() for told in row.upsets])
            ticks: list[dict[str, Any]] = []
            results: list[int] = []
            sent = 0
            while len(results) < y.count:
                offered = sent < beats.shape[1]
                ctx.set(engine.x.valid, offered)
                if offered:
                    beat = beats[row.sample, sent].tolist()
                    ctx.set(engine.x.payload, sum(code << bits * i for i, code in enumerate(beat)))
                    sent += ctx.get(engine.x.ready)
                if ctx.get(engine.trace_end):
                    codes_now = ctx.get(engine.trace_codes)
                    ticks.append(
                        {
                            name: np.array([signed(int(c), f.bits, f.signed) for c in getattr(codes_now, name)])
                            for name, _, f in engine.signature.states
                        }
                    )
                if ctx.get(engine.y.valid):
                    word = ctx.get(engine.y.payload)
                    lanes = [word >> width * i & ((1 << width) - 1) for i in range(y.beat)]
                    results += [signed(lane, width, y.format.signed) for lane in lanes]
                await ctx.tick()
            found.append((ticks, results[: y.count]))
            await _written(ctx, engine, [(*told.codes()[:3], 0, 0, 0, 0) for told in row.upsets])

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


async def _written(ctx: Any, engine: Any, rows: Sequence[Sequence[int]]) -> None:
    """Write rows of the tables."""
    ctx.set(engine.x.valid, 0)
    for row in rows:
        for port, code in zip(PORTS, row, strict=True):
            ctx.set(getattr(engine, f"inject_{port}"), code & ((1 << 64) - 1))
        ctx.set(engine.inject_arm, 1)
        await ctx.tick()
        ctx.set(engine.inject_arm, 0)


def unlike_golden(engine: Any, net: IntNet, inputs: Mapping[str, Any], told: Sequence[tuple[Fault, Row]]) -> list[str]:
    """Faults of which a state after any tick, the number of ticks, or an output is not what golden has."""
    golden: Any = GoldenEngine().open(net, inputs, near=1)
    runs = disturbed_runs(engine, net, inputs, [row for _, row in told])
    wrong = []
    for (fault, _), (ticks, results) in zip(told, runs, strict=True):
        _, states, outputs = golden._disturbed([fault])
        same = len(ticks) == net.schedule.steps and all(
            np.array_equal(tick[name], rows[t, 0].reshape(-1))
            for t, tick in enumerate(ticks)
            for name, rows in states.items()
        )
        want = np.concatenate([outputs[o.name][0].reshape(-1) for o in net.outputs])
        if not same or not np.array_equal(results, want):
            wrong.append(str(fault))
    return wrong
