"""A host reads the memories of a processor back and notices a word that is not that of the image."""

from __future__ import annotations

import random
import zlib
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from bus_hosts import read, write
from strategies import random_net

from eqcompile.rtl.memory import Ram
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.registers import Register
from eqcompile.rtl.shell import SLVERR, Shell

SOURCE = Path(__file__).parents[2] / "targets" / "rtl" / "templates" / "linux.py"
WIDTHS = {2: 1, 11: 2, 10: 4}
"""Of cores for random nets by seed: parameters in banks, a table of rows, tables of several lanes."""
CASES = [2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (10, 11))]


@cache
def linux() -> ModuleType:
    """The driver as it stands in an artifact."""
    spec = util.spec_from_file_location("emitted_linux", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Found:
    """Registers of a core that has memories alone, whose words were read from another one."""

    def __init__(self, words: dict[tuple[int, int], int], crc: int) -> None:
        names = ("ID", "IMAGE_CRC", "READ_MEMORY", "READ_ADDRESS", "READ_DATA")
        self.addresses = {name: int(Register[name]) for name in names}
        self.words, self.now = words, {Register.ID: 1, Register.IMAGE_CRC: crc, Register.READ_MEMORY: 0}

    def read(self, offset: int) -> int:
        if offset != Register.READ_DATA:
            return self.now[Register(offset)]
        memory, address = self.now[Register.READ_MEMORY], self.now[Register.READ_ADDRESS]
        self.now[Register.READ_ADDRESS] = address + 1
        return self.words[memory, address]

    def write(self, offset: int, value: int) -> None:
        self.now[Register(offset)] = value


def memories(engine: ProcessorEngine) -> list[Ram]:
    held = engine.logic.memories
    rams = [held.program, held.weights, held.columns, *held.tables, *held.slopes]
    return [*rams, *(held.banks[number] for number in engine.description.preset)]


@pytest.mark.parametrize("seed", CASES)
def test_a_flipped_word_of_any_memory_is_seen(seed: int) -> None:
    """A CRC of words that were received says nothing of a memory that holds another word since."""
    engine = ProcessorEngine(random_net(random.Random(seed)), width=WIDTHS[seed], readback=True)
    words = engine.load_words(engine.net)
    shell, found = Shell(engine, schedule=engine.net.schedule), dict[tuple[int, int], int]()
    simulator = Simulator(shell)
    readback = engine.memory_map
    assert readback is not None

    async def read_all(context: Any) -> None:
        following = -1, -1
        for memory, address, _ in linux().places(words, readback):
            if (memory, address) != following:
                assert await write(context, shell, Register.READ_MEMORY, memory) == 0
                assert await write(context, shell, Register.READ_ADDRESS, address) == 0
            found[memory, address], response = await read(context, shell, Register.READ_DATA)
            assert response == 0
            following = memory, address + 1
        assert await write(context, shell, Register.READ_MEMORY, 0) == 0

    def check() -> None:
        model = Found(found, words[-1])
        core = linux().Core(model, {"id": 1, "registers": model.addresses, "readback": readback})
        core.check(words)
        assert model.now[Register.READ_MEMORY] == 0

    flipped: list[Ram] = []

    async def noticed(context: Any, ram: Ram, row: int, bit: int) -> None:
        before = context.get(ram.words.data[row])
        context.set(ram.words.data[row], before ^ 1 << bit)
        await read_all(context)
        with pytest.raises(linux().CoreError, match="words of the image are wrong"):
            check()
        context.set(ram.words.data[row], before)
        flipped.append(ram)

    async def bench(context: Any) -> None:
        await read_all(context)
        check()
        for number, ram in enumerate(memories(engine), 1):
            given = linux().places(words, readback)
            mine = [(address, memory >> 8) for memory, address, _ in given if memory & 255 == number]
            for row, part in mine[:1]:
                # Entries stand side by side in a bank, and begin with a part of their own.
                bit = part * ram.width // ram.parts if ram.parts > 1 else 32 * part
                await noticed(context, ram, row, bit)
        assert len(flipped) >= 3
        await read_all(context)
        check()

    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert zlib.crc32(np.array(words[:-1], "<u4").tobytes()) == words[-1]


def test_a_core_without_readback_says_so() -> None:
    """A driver that read zeros would report a damaged image of a whole core."""
    model = Found({}, 7)
    core = linux().Core(model, {"id": 1, "registers": model.addresses, "readback": None})
    with pytest.raises(linux().CoreError, match="compile with --readback"):
        core.read_back([0, 7])
    with pytest.raises(linux().CoreError, match="holds the image 0x00000007"):
        core.check([0, 8])


def test_what_is_not_there_reads_as_nothing_and_is_refused_while_busy() -> None:
    """Read ports that a host took while a sample runs would give the sample another word."""
    engine = ProcessorEngine(random_net(random.Random(2)), readback=True)
    shell = Shell(engine, schedule=engine.net.schedule)

    async def bench(context: Any) -> None:
        assert await write(context, shell, Register.READ_MEMORY, 1 << 24) == SLVERR
        assert await write(context, shell, Register.READ_MEMORY, 200) == 0
        assert await read(context, shell, Register.READ_DATA) == (0, 0)
        assert await read(context, shell, Register.READ_ADDRESS) == (1, 0)
        context.set(shell.s_axis_tvalid, 1)
        for _ in range(50):
            await context.tick()
            assert not context.get(shell.s_axis_tready)
        assert await read(context, shell, Register.STATUS) == (0, 0)
        assert await write(context, shell, Register.READ_MEMORY, 0) == 0
        while not context.get(shell.s_axis_tready):
            await context.tick()
        assert await write(context, shell, Register.READ_MEMORY, 1) == SLVERR
        assert await read(context, shell, Register.READ_MEMORY) == (0, 0)

    simulator = Simulator(shell)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
