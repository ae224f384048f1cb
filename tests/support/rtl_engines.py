"""Running an engine in Amaranth's simulator and comparing it with golden; a lattice and a lazy net to run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray
from strategies import with_formats

from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import Encoding, Format, Input, IntNet, Output, Param, Schedule, State, ops

Array = NDArray[np.int64]


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


def lazy_net() -> IntNet:
    """Two damped layers behind population gates with memories of their operands, as in the lazy models."""
    w = np.array([[3, -2], [1, 5]])
    return with_formats(
        IntNet(
            name="lazy",
            family="test",
            inputs=(Input("x", (3,), encoding=Encoding(Format(4, False), 1.0)),),
            params=(
                Param("V", np.array([[1, 0, -1], [2, 1, 0]]), "test"),
                Param("W", w, "test"),
                Param("U", np.array([[7, 1]]), "test"),
                Param("m", np.array([[5], [9]]).reshape(2), "test"),
                Param("T", np.arange(-60, 61), "test"),
                Param("eps", np.array(6), "test"),
                Param("b", np.array([4, -3]), "test"),
            ),
            states=tuple(State(n, (2,), u, frac=7) for n, u in (("h", "next0"), ("g", "next1"), ("p", "h"))),
            drive=(ops.Linear(out="d", x="x", weight="V", bias="b"),),
            step=(
                ops.Linear(out="a", x="h", weight="W"),
                ops.Rescale(out="r", x="a", multiplier="m", shift=4),
                ops.Add(out="s", a="r", b="d"),
                ops.Lookup(out="y", x="s", table="T", first=-60),
                ops.DampFixed(out="next0", old="h", new="y", multiplier=1, shift=1),
                ops.Sub(out="diff", a="h", b="p"),
                ops.Abs(out="change", x="diff"),
                ops.Reduce(out="activity", x="change", kind="sum", axes=(-1,), keep=True),
                ops.Greater(out="active", a="activity", b="eps"),
                ops.Linear(out="c", x="h", weight="W", bias="b"),
                ops.Lookup(out="z", x="c", table="T", first=-60),
                ops.DampFixed(out="damped", old="g", new="z", multiplier=3, shift=2),
                ops.Select(out="next1", condition="active", a="damped", b="g"),
            ),
            readout=(ops.Linear(out="logits", x="g", weight="U"),),
            outputs=(Output("o", "logits", "classes", 1.0),),
            schedule=Schedule(9),
            formats={n: Format(8, True) for n in ("h", "g", "p")},
        )
    )


@dataclass
class Seen:
    """`ticks[sample]`: `{state: flat codes}` for each; `outputs[sample]`: flat codes; `clocks`: of all; `busy[sample]`:
    clocks from its first code to its last result, if they were asked for."""

    ticks: list[list[dict[str, Array]]]
    outputs: list[Array]
    made: list[int]
    clocks: int
    busy: list[int]


class Pins:
    """Inputs of a core in Amaranth's simulator, set when their values change: four that are set in every clock take a
    quarter of the time of a small core."""

    def __init__(self, ctx: Any) -> None:
        self._ctx, self._values = ctx, dict[str, int]()

    def set(self, name: str, pin: Any, value: int) -> None:
        """`name`: which of the inputs it is."""
        if self._values.get(name) != value:
            self._values[name] = value
            self._ctx.set(pin, value)


def signed(pattern: int, bits: int, is_signed: bool) -> int:
    return pattern - (1 << bits) if is_signed and pattern >> (bits - 1) else pattern


def simulate(
    engine: Any,
    net: IntNet,
    inputs: Mapping[str, Array],
    *,
    stall: Callable[[], bool] = lambda: False,
    steps: int | None = None,
    tolerance: int | None = None,
    restart_at: int | None = None,
    limit: int = 20000,
    timed: bool = False,
    beside: Callable[[Any], Any] | None = None,
    base: int = 0,
) -> Seen:
    """Feed all samples, read all results; `stall` says for each clock and port whether it waits. With `restart_at` the
    engine is restarted in that clock and everything is fed again. `beside`: a process that runs along, of
    a memory whose weights begin at `base`."""
    samples = len(next(iter(inputs.values())))
    frames = next(iter(inputs.values())).shape[1] if net.schedule.frames else 1
    codes = np.concatenate([inputs[i.name].reshape(samples * frames, -1) for i in net.inputs], axis=1)
    results_each = frames if net.schedule.emit == "every" else 1
    port, names = engine.signature.y_port, [(s, f) for s, _, f in engine.signature.states]
    ticks: list[dict[str, Array]] = []
    results: list[list[int]] = []
    made: list[int] = []
    given = engine.signature.x_port
    bits, mask = given.format.bits, (1 << given.format.bits) - 1
    clocks, busy = 0, [0]

    async def bench(ctx: Any) -> None:
        nonlocal clocks
        ctx.set(engine.steps, net.schedule.steps if steps is None else steps)
        ctx.set(engine.tolerance, net.schedule.tolerance if tolerance is None else tolerance)
        if net.schedule.frames:
            ctx.set(engine.frames, frames)
        if base:
            ctx.set(engine.weights_base, base >> 12)
        sent, pins = 0, Pins(ctx)
        padded = np.pad(codes, ((0, 0), (0, -given.count % given.beat)), constant_values=-1) & mask
        beats = padded.reshape(-1, given.beat).tolist()
        flat = [sum(code << bits * i for i, code in enumerate(beat)) for beat in beats]
        while len(made) < samples:
            clocks += 1
            assert clocks < limit, "the engine hangs"
            if timed:
                busy[-1] += ctx.get(engine.busy)
            offered = sent < len(flat) and not stall()
            taken = not stall()
            pins.set("restart", engine.restart, clocks == restart_at)
            if clocks == restart_at:
                offered = taken = False
            pins.set("x.valid", engine.x.valid, offered)
            pins.set("x.payload", engine.x.payload, flat[sent] if offered else (1 << bits * given.beat) - 1)
            pins.set("y.ready", engine.y.ready, taken)
            if offered and ctx.get(engine.x.ready):
                sent += 1
            if ctx.get(engine.trace_end):
                row = ctx.get(engine.trace_codes)
                ticks.append(
                    {n: np.array([signed(int(c), f.bits, f.signed) for c in getattr(row, n)]) for n, f in names}
                )
            if ctx.get(engine.y.valid):
                assert ctx.get(engine.busy)
                if taken:
                    if not results or len(results[-1]) == port.count:
                        results.append([])
                    word, width = ctx.get(engine.y.payload), port.format.bits
                    for lane in range(port.beat):
                        code = signed(word >> width * lane & ((1 << width) - 1), width, port.format.signed)
                        if len(results[-1]) < port.count:
                            results[-1].append(code)
                        else:
                            assert code == 0, "a lane beyond the last code is not 0"
                    if len(results[-1]) == port.count and len(results) % results_each == 0:
                        made.append(ctx.get(engine.made))
                        busy.append(0)
            if clocks == restart_at:
                sent = 0
                ticks.clear()
                results.clear()
                made.clear()
            await ctx.tick()
        assert not ctx.get(engine.busy), "busy after the last result was taken"

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    if beside is not None:
        simulator.add_testbench(beside, background=True)
    simulator.run()
    split, at = [], 0
    for count in made:
        split.append(ticks[at : at + count])
        at += count
    assert at == len(ticks), f"{len(ticks)} ticks were traced, the results count {at}"
    whole = [np.concatenate(results[at : at + results_each]) for at in range(0, len(results), results_each)]
    return Seen(split, whole, made, clocks, busy[:-1])


def differences(net: IntNet, inputs: Mapping[str, Array], seen: Seen) -> list[str]:
    """Where `seen` is not golden: made, every state after every tick, outputs."""
    want = golden.run(net, inputs)
    found = []
    for k, count in enumerate(want.steps):
        if seen.made[k] != count:
            found.append(f"sample {k}: made {seen.made[k]}, golden {count}")
            continue
        for t in range(count):
            for s in net.states:
                if not np.array_equal(seen.ticks[k][t][s.name], want.states[s.name][t, k].reshape(-1)):
                    found.append(f"sample {k} tick {t}: {s.name}")
        outputs = np.concatenate([want.outputs[o.name][k].reshape(-1) for o in net.outputs])
        if not np.array_equal(seen.outputs[k], outputs):
            found.append(f"sample {k}: outputs {seen.outputs[k]}, golden {outputs}")
    return found
