"""The bus shell in Amaranth's simulator, driven by hand: what no well-behaved master does."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.sim import Simulator
from bus_hosts import read, write
from strategies import small_net

from eqcompile.rtl.parallel.engine import ParallelEngine
from eqcompile.rtl.registers import Register
from eqcompile.rtl.serial.engine import SerialEngine
from eqcompile.rtl.shell import SLVERR, Shell

ENGINES = {"serial": SerialEngine, "parallel": ParallelEngine}


def shell_of(name: str) -> Shell:
    net = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    return Shell(ENGINES[name](net, trace=False), schedule=net.schedule)


def simulated(dut: Shell, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("name", ENGINES)
def test_an_address_between_two_registers_is_refused(name: str) -> None:
    """A write to 0x0D that answers OKAY and sets STEPS hides a wrong pointer in a driver."""
    dut = shell_of(name)

    async def bench(context: Any) -> None:
        for offset in (1, 2, 3):
            assert await write(context, dut, Register.STEPS + offset, 3) == SLVERR
            assert await read(context, dut, Register.STEPS + offset) == (0, SLVERR)
        assert await read(context, dut, Register.STEPS) == (6, 0)
        assert await write(context, dut, Register.STEPS, 3) == 0
        assert await read(context, dut, Register.STEPS) == (3, 0)

    simulated(dut, bench)


@pytest.mark.parametrize("name", ENGINES)
def test_a_soft_reset_takes_no_offer_back(name: str) -> None:
    """VALID must stand until READY, and a DMA that sees no TLAST puts two results into one buffer."""
    dut = shell_of(name)

    async def bench(context: Any) -> None:
        context.set(dut.s_axis_tdata, 1)
        context.set(dut.s_axis_tvalid, 1)
        for beat in range(3):
            context.set(dut.s_axis_tlast, beat == 2)
            while not context.get(dut.s_axis_tready):
                await context.tick()
            await context.tick()
        context.set(dut.s_axis_tvalid, 0)
        while not context.get(dut.m_axis_tvalid):
            await context.tick()
        context.set(dut.m_axis_tready, 1)
        await context.tick()
        context.set(dut.m_axis_tready, 0)
        while not context.get(dut.m_axis_tvalid):
            await context.tick()
        offer = context.get(dut.m_axis_tdata), context.get(dut.m_axis_tuser)
        assert await write(context, dut, Register.CONTROL, 1) == 0
        for _ in range(5):
            await context.tick()
            assert context.get(dut.m_axis_tvalid)
            assert (context.get(dut.m_axis_tdata), context.get(dut.m_axis_tuser)) == offer
        assert await read(context, dut, Register.CONTROL) == (1, 0)
        context.set(dut.m_axis_tready, 1)
        beats, ticks = 1, -1
        for _ in range(20):
            if context.get(dut.m_axis_tvalid):
                beats += 1
                if context.get(dut.m_axis_tlast):
                    ticks = context.get(dut.m_axis_tuser)
            await context.tick()
        assert (beats, ticks) == (dut.y_port.beats, 0)
        assert await read(context, dut, Register.CONTROL) == (0, 0)
        assert await read(context, dut, Register.STATUS) == (0, 0)

    simulated(dut, bench)


@pytest.mark.parametrize("name", ENGINES)
def test_bit_0_alone_drops_the_sample_at_hand(name: str) -> None:
    """A driver that drops no sample, so that the next frame is added to what is left of the last one."""
    dut = shell_of(name)

    async def bench(context: Any) -> None:
        context.set(dut.s_axis_tvalid, 1)
        for _ in range(2):
            while not context.get(dut.s_axis_tready):
                await context.tick()
            await context.tick()
        context.set(dut.s_axis_tvalid, 0)
        assert await read(context, dut, Register.STATUS) == (1, 0)
        assert await write(context, dut, Register.CONTROL, 0xFFFFFFFE) == 0
        assert await read(context, dut, Register.CONTROL) == (0, 0)
        assert await read(context, dut, Register.STATUS) == (1, 0)
        assert await write(context, dut, Register.CONTROL, 1) == 0
        await context.tick().repeat(5)
        assert await read(context, dut, Register.CONTROL) == (0, 0)
        assert await read(context, dut, Register.STATUS) == (0, 0)

    simulated(dut, bench)


def test_registers_are_words_one_behind_the_other() -> None:
    """A driver reads words: a register between two of them would give half of each."""
    assert sorted(Register) == [4 * number for number in range(len(Register))]
