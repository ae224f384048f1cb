"""Drives a serial engine in Amaranth's simulator and compares every state of every tick with golden."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray
from rtl_engines import Pins

from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet

Array = NDArray[np.int64]


@dataclass
class Seen:
    """One sample: output codes in the order of the stream, ticks made, and all states after each tick."""

    codes: list[int]
    made: int
    states: list[dict[str, list[int]]]


@dataclass
class Load:
    """Weight words to store once `after` samples are done."""

    words: Sequence[int]
    after: int


def stream(net: IntNet, inputs: Mapping[str, Array]) -> list[list[int]]:
    """Codes of each sample in the order of the input stream."""
    batch = len(next(iter(inputs.values())))
    return [[int(v) for i in net.inputs for v in inputs[i.name][s].reshape(-1)] for s in range(batch)]


def simulate(
    engine: SerialEngine,
    samples: Sequence[Sequence[int]],
    *,
    stall: float = 0.0,
    seed: int = 0,
    steps: int | None = None,
    load: Load | None = None,
    restart_after: int | None = None,
    limit: int = 60_000,
) -> tuple[list[Seen], int]:
    """Feed the samples back to back; what came out, and the clocks it took.

    `stall`: chance that either stream pauses in a clock. `restart_after`: clocks after which the engine is restarted
    once, whereupon all samples are fed again.
    """
    rng, net = random.Random(seed), engine.net
    seen: list[Seen] = []
    ticks: list[dict[str, list[int]]] = []
    codes: list[int] = []
    mask = (1 << engine.signature.x_port.format.bits) - 1
    out = engine.signature.y_port.format
    clocks = 0

    async def bench(ctx: Any) -> None:
        nonlocal clocks
        ctx.set(engine.steps, net.schedule.steps if steps is None else steps)
        ctx.set(engine.tolerance, net.schedule.tolerance)
        todo, at, pins = list(samples), 0, Pins(ctx)
        pending = load
        while len(seen) < len(samples):
            if pending is not None and len(seen) == pending.after:
                for address, word in enumerate(pending.words):
                    ctx.set(engine.load_address, address)
                    ctx.set(engine.load_data, word)
                    ctx.set(engine.load_enable, 1)
                    await ctx.tick()
                ctx.set(engine.load_enable, 0)
                pending = None
            waits = pending is not None and len(samples) - len(todo) >= pending.after
            restart = clocks == restart_after
            offer = bool(todo) and not waits and not restart and rng.random() >= stall
            ready = not restart and rng.random() >= stall
            pins.set("restart", engine.restart, restart)
            pins.set("x.valid", engine.x.valid, offer)
            ctx.set(engine.x.payload, todo[0][at] & mask if offer else rng.getrandbits(8) & mask)
            pins.set("y.ready", engine.y.ready, ready)
            ports = [engine.x.ready, engine.y.valid, engine.y.payload, engine.made]
            shown = [engine.trace_end, engine.trace_codes] if engine.signature.traced else []
            _, _, taken, valid, code, made, *trace = await ctx.tick().sample(*ports, *shown)
            clocks += 1
            if restart:
                todo, at = list(samples), 0
                for kept in (seen, ticks, codes):
                    kept.clear()
                continue
            if offer and taken:
                at += 1
                if at == len(todo[0]):
                    todo, at = todo[1:], 0
            if trace and trace[0]:
                ticks.append(_states(net, trace[1]))
            if ready and valid:
                codes.append(_code(int(code), out.bits, out.signed))
                if len(codes) == engine.signature.y_port.count:
                    seen.append(Seen(list(codes), int(made), list(ticks)))
                    codes.clear()
                    ticks.clear()
            if clocks > limit:
                raise TimeoutError(f"{len(seen)} of {len(samples)} samples after {limit} clocks")

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen, clocks


def _code(bits: int, width: int, negative: bool) -> int:
    return bits - (1 << width) if negative and bits >> (width - 1) else bits


def _states(net: IntNet, trace: Any) -> dict[str, list[int]]:
    return {
        s.name: [_code(int(v), net.formats[s.name].bits, net.formats[s.name].signed) for v in trace[s.name]]
        for s in net.states
    }


def differences(net: IntNet, inputs: Mapping[str, Array], seen: Sequence[Seen]) -> list[str]:
    """Where the engine departs from golden: every state of every tick made, the outputs, the ticks made."""
    run = golden.run(net, dict(inputs))
    found = []
    for s, got in enumerate(seen):
        want = [int(v) for o in net.outputs for v in run.outputs[o.name][s].reshape(-1)]
        if got.codes != want:
            found.append(f"sample {s}: outputs {got.codes}, expected {want}")
        if got.made != run.steps[s]:
            found.append(f"sample {s}: {got.made} ticks, expected {run.steps[s]}")
        if len(got.states) != run.steps[s]:
            found.append(f"sample {s}: trace of {len(got.states)} ticks, expected {run.steps[s]}")
        for tick, states in enumerate(got.states):
            for name, codes in states.items():
                expected = run.states[name][tick, s].reshape(-1).tolist() if tick < len(run.states[name]) else None
                if codes != expected:
                    found.append(f"sample {s} tick {tick + 1} state {name}: {codes}, expected {expected}")
    return found
