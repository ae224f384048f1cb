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

__all__ = ["disturbed_runs", "single_faults", "translator_of", "unlike_golden"]

PORTS = ("word", "unit", "first", "last", "flip", "one", "zero", "add")


def translator_of(engine: Any, net: IntNet) -> Translator:
    """Of a core whose weights are constants, and that has run nothing yet."""
    return Translator(net, Circuit.of(net), net.schedule.steps, engine.inject_words, {}, None, lambda *_: 0)


def single_faults(engine: Any, net: IntNet, rng: random.Random, *, samples: int, count: int) -> list[tuple[Fault, Row]]:
    """Faults of one word in one window that the engine takes, and what it is told."""
    told = translator_of(engine, net)
    found: list[tuple[Fault, Row]] = []
    for fault in random_faults(net, rng, samples=samples, ticks=told.ticks, count=count):
        if len(fault.upsets) != 1:
            continue
        (upset,) = fault.upsets
        # What is added to a state or a held sum is translated with the code that stands there, which takes a session.
        if upset.place is Place.PARAM or upset.held or (upset.add and upset.place is Place.STATE):
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
            for port in PORTS:
                ctx.set(getattr(engine, f"inject_{port}"), getattr(row, port) & ((1 << 64) - 1))
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

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


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
