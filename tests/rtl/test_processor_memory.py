"""Weights in a memory outside: the same codes as from block RAM whatever the memory does, by the rules of its bus."""

from __future__ import annotations

import random
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from axi_memory import PAGE, AxiMemory
from bus_hosts import read, write
from conformance_nets import example
from processor_mutants import READER, Change, changed
from processor_runs import frames_of
from rtl_engines import differences, signed, simulate
from strategies import random_inputs, random_net, small_net

from eqcompile.rtl.processor.description import Description, program_of
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.loadable import image_of, memory_of
from eqcompile.rtl.processor.outside import MemoryModel
from eqcompile.rtl.processor.profile import profile
from eqcompile.rtl.registers import Register
from eqcompile.rtl.shell import SLVERR, Shell
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet

SEEDS = (2, 4, 10, 15)
BASE = 0x12345000
FAILED = 1 << 2
Bench = Callable[[Any], Awaitable[None]]


def memory_of_engine(engine: ProcessorEngine, **behaviour: Any) -> AxiMemory:
    return AxiMemory(engine, engine.memory_bytes(engine.net), BASE, **behaviour)


def stated(engine: ProcessorEngine, net: IntNet, codes: Any, latency: int) -> list[int]:
    """Clocks of each sample as the profile states them."""
    samples = [frames_of(net, codes, k) for k in range(len(next(iter(codes.values()))))]
    return list(profile(engine.program, samples, MemoryModel(latency)).totals)


def tall(units: int) -> tuple[IntNet, dict[str, Any]]:
    """A net whose columns have many words at one lane."""
    rng = np.random.default_rng(0)
    recurrent = rng.choice([-1, 0, 1], (units, units), p=[0.1, 0.3, 0.6])
    net = small_net(recurrent.tolist(), table=[-90, -40, 0, 30, 80], first=-2, steps=3)
    return net, {"x": rng.integers(-4, 5, (1, *net.inputs[0].shape))}


@pytest.mark.parametrize(("latency", "stall"), [(1, 0.0), (40, 0.0), (7, 0.5)])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_the_memory_changes_no_code(seed: int, latency: int, stall: float) -> None:
    rng = random.Random(seed)
    net = random_net(rng)
    codes = random_inputs(net, rng, batch=2)
    engine = ProcessorEngine(net, trace=True, external=True, lanes=rng.choice([1, 4]))
    memory = memory_of_engine(engine, latency=latency, stall=stall, seed=seed)
    seen = simulate(engine, net, codes, beside=memory.run, base=BASE, limit=200_000, timed=not stall)
    assert differences(net, codes, seen) == []
    assert memory.broken == []
    assert memory.bursts
    if not stall:
        assert seen.busy == stated(engine, net, codes, latency)


@pytest.mark.slow
def test_long_columns_go_over_bursts_and_pages() -> None:
    """A burst over a page is answered with words of anywhere, or with an error, by a real memory."""
    net, codes = tall(44)
    engine = ProcessorEngine(net, trace=True, external=True, lanes=1)
    memory = memory_of_engine(engine, latency=20)
    assert len(memory.content) > PAGE
    seen = simulate(engine, net, codes, beside=memory.run, base=BASE, limit=200_000, timed=True)
    assert differences(net, codes, seen) == []
    assert memory.broken == []
    assert seen.busy == stated(engine, net, codes, 20)
    assert max(beats for _, beats in memory.bursts) > 16
    assert {address // PAGE for address, _ in memory.bursts} == {BASE // PAGE, BASE // PAGE + 1}


def wrong(engine: ProcessorEngine, net: IntNet, codes: dict[str, Any]) -> list[str]:
    """What a run that is restarted shows, then one whose memory ends in an error."""
    memory = memory_of_engine(engine, latency=9, stall=0.3)
    try:
        seen = simulate(engine, net, codes, beside=memory.run, base=BASE, limit=12_000, restart_at=900)
    except AssertionError as error:
        return [*memory.broken, str(error)]
    return [*memory.broken, *differences(net, codes, seen)]


def engine_of(kind: Any, net: IntNet) -> Any:
    return kind(net, trace=True, external=True, lanes=1)


@pytest.mark.slow
def test_a_restart_drops_words_that_are_under_way() -> None:
    """A word of the sample before would be added to a sum of the next one."""
    net, codes = tall(44)
    assert wrong(engine_of(ProcessorEngine, net), net, codes) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [c for c in READER if c.name != "errors unseen"], ids=lambda change: change.name)
def test_mutants_of_the_reader_are_noticed(change: Change) -> None:
    """Bursts over a page give the same codes here: that the monitor of the bus sees them is what the test is for."""
    net, codes = tall(44)
    with changed(change, "hardware.engine") as module:
        assert wrong(engine_of(module.ProcessorEngine, net), net, codes)


class Host:
    """A host of a core behind the bus shell, its memory beside it."""

    def __init__(self, dut: Shell, net: IntNet, **behaviour: Any) -> None:
        self.dut, self.net = dut, net
        self.memory = AxiMemory(dut, dut.engine.memory_bytes(net), BASE, **behaviour)

    def play(self, bench: Bench) -> None:
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.add_testbench(self.memory.run, background=True)
        simulator.run()
        assert self.memory.broken == []

    async def frame(self, ctx: Any, codes: list[int], *, clocks: int = 4000) -> tuple[list[int], list[int]]:
        """Codes of the result of an input frame, and TUSER of each beat; less, if that is all that comes."""
        dut, port = self.dut, self.dut.y_port
        given: list[int] = []
        ticks: list[int] = []
        sent = 0
        ctx.set(dut.m_axis_tready, 1)
        for _ in range(clocks):
            ctx.set(dut.s_axis_tvalid, sent < len(codes))
            ctx.set(dut.s_axis_tdata, codes[sent] & 0xFF if sent < len(codes) else 0)
            ctx.set(dut.s_axis_tlast, sent == len(codes) - 1)
            sent += sent < len(codes) and ctx.get(dut.s_axis_tready)
            ended = ctx.get(dut.m_axis_tvalid) and ctx.get(dut.m_axis_tlast)
            if ctx.get(dut.m_axis_tvalid):
                given.append(signed(ctx.get(dut.m_axis_tdata), 8 * port.bytes, port.format.signed))
                ticks.append(ctx.get(dut.m_axis_tuser))
            await ctx.tick()
            if ended and sent == len(codes):
                break
        ctx.set(dut.s_axis_tvalid, 0)
        return given, ticks


def stops_and_recovers(shell: Shell, net: IntNet, codes: list[int], response: int, number: int, again: str) -> None:
    """An error at beat `number`: the result is marked, nothing runs, and after `again` everything is right."""
    host = Host(shell, net, latency=5, errors={number: response})
    want = golden.run(net, {"x": np.array([codes])})
    right = np.concatenate([want.outputs[o.name][0].ravel() for o in net.outputs]).tolist()

    async def bench(ctx: Any) -> None:
        assert await write(ctx, shell, Register.WEIGHTS_BASE, BASE + 4) == SLVERR
        assert await write(ctx, shell, Register.WEIGHTS_BASE, BASE) == 0
        assert await read(ctx, shell, Register.WEIGHTS_BASE) == (BASE, 0)
        assert await read(ctx, shell, Register.WEIGHTS_CRC) == (zlib.crc32(host.memory.content), 0)
        given, ticks = await host.frame(ctx, codes)
        assert (len(given), ticks[-1]) == (shell.y_port.count, 0)
        assert (await read(ctx, shell, Register.STATUS))[0] & ~2 == FAILED | response << 4
        assert await read(ctx, shell, Register.RESULTS) == (0, 0)
        assert await host.frame(ctx, codes, clocks=300) == ([], [])
        if again == "reset":
            assert await write(ctx, shell, Register.CONTROL, 1) == 0
        else:
            await write(ctx, shell, Register.LOAD_ADDRESS, 0)
            for word in shell.engine.load_words(net):
                assert await write(ctx, shell, Register.LOAD_DATA, word) == 0
        await ctx.tick()
        assert await read(ctx, shell, Register.STATUS) == (0, 0)
        given, ticks = await host.frame(ctx, codes)
        assert (given, set(ticks)) == (right, {want.steps[0]})

    host.play(bench)


CODES = [5, -3, 0]


def shell_of(kind: Any = ProcessorEngine) -> tuple[Shell, IntNet]:
    net = example("plain")[0]
    return Shell(kind(net, external=True), schedule=net.schedule), net


@pytest.mark.slow
@pytest.mark.parametrize("again", ["reset", "image"])
@pytest.mark.parametrize(("response", "number"), [(2, 0), (3, 2)])
def test_an_error_stops_the_core_in_a_state_that_is_left(response: int, number: int, again: str) -> None:
    """Codes of words that were never read, which nobody can tell from right ones, are the worst that may come out."""
    stops_and_recovers(*shell_of(), CODES, response, number, again)


@pytest.mark.slow
def test_an_error_that_is_not_seen_is_noticed() -> None:
    (change,) = [c for c in READER if c.name == "errors unseen"]
    with changed(change, "hardware.engine") as module, pytest.raises(AssertionError):
        stops_and_recovers(*shell_of(module.ProcessorEngine), CODES, 2, 0, "reset")


def test_an_image_is_bound_to_its_memory() -> None:
    """Weights of another net behind a right image would give codes of neither."""
    net, _ = example("plain")
    program, own = program_of(net, 4, 1)
    core = replace(own, external=True)
    engine = ProcessorEngine(net, external=True)
    words, memory = engine.load_words(net), engine.memory_bytes(net)
    engine.elaborate(None)
    assert len(memory) == len(program.image.weights) * core.beat_bytes
    assert image_of(words, core, memory).weights == program.image.weights
    with pytest.raises(ValueError, match="does not hold the weights of the image"):
        image_of(words, core, bytes([memory[0] ^ 1, *memory[1:]]))
    assert Description.from_json(core.to_json(), "x") == core
    assert core.digest != own.digest
    assert "external" not in own.to_json()
    assert memory == memory_of(program.image, core)
