"""The core under cocotb: its buses, its trace, and what must come out of it."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import LogicArrayObject, LogicObject
from cocotb.triggers import ClockCycles, FallingEdge, Timer, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiRamRead,
    AxiReadBus,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)
from layout import FOLDER, Codes, Layout, Results  # type: ignore[import-not-found]

__all__ = ["CLOCK_NS", "Core", "Driver", "stalls"]

CLOCK_NS = 10
INPUTS = (
    *("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready"),
    *("s_axil_awaddr", "s_axil_awprot", "s_axil_awvalid", "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid"),
    *("s_axil_bready", "s_axil_araddr", "s_axil_arprot", "s_axil_arvalid", "s_axil_rready"),
)

MEMORY_INPUTS = tuple(f"m_axi_{name}" for name in ("arready", "rid", "rdata", "rresp", "rlast", "rvalid"))
MARGIN = 1 << 16
"""Bytes of memory behind the weights: another net may have more."""


class Core(Protocol):
    """The core's pins that are read or written here; cocotbext-axi drives those of the buses."""

    clk: LogicObject
    rst: LogicObject
    s_axis_tvalid: LogicObject
    s_axis_tready: LogicObject
    m_axis_tvalid: LogicObject
    m_axis_tready: LogicObject
    m_axis_tlast: LogicObject
    m_axis_tdata: LogicArrayObject
    m_axis_tuser: LogicArrayObject
    trace_end: LogicObject
    trace_codes: LogicArrayObject
    trace_frame: LogicArrayObject


def stalls(probability: float) -> Iterator[bool]:
    """Whether to pause, for every clock; `random` is seeded by cocotb."""
    return (random.random() < probability for _ in itertools.count())


class Driver:
    """Drives one core; `started` makes one.

    The trace is read at falling edges: all signals are settled then, and are what the next rising edge samples.
    """

    def __init__(self, dut: Core, layout: Layout) -> None:
        self.dut, self.layout = dut, layout
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst, byte_lanes=1)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst, byte_lanes=1)
        self.axil = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
        buses = [self.source, self.sink, self.axil.write_if, self.axil.read_if]
        if layout.memory is not None:
            pins = AxiReadBus.from_prefix(dut, "m_axi")
            self.memory = AxiRamRead(pins, dut.clk, dut.rst, size=layout.memory["bytes"] + MARGIN)
            self.memory.ar_channel.set_pause_generator(stalls(0.2))
            self.memory.r_channel.set_pause_generator(stalls(0.2))
            buses.append(self.memory)
            self.fill((FOLDER / layout.memory["file"]).read_bytes())
        for bus in buses:
            bus.log.setLevel("ERROR")
        units = sum(s["units"] for s in layout.states)
        # Every weight of a dense net in a clock of its own, and streams that stall most of the time.
        self.limit = 20_000 + 4 * layout.steps * units * (units + layout.x["count"])
        self.ticks: list[tuple[int, Codes]] = []
        self.frames = 1
        self.stalled = 0
        self.clocks = 0

    @classmethod
    async def started(cls, dut: Core, layout: Layout) -> Driver:
        """A driver of a core that runs and was reset."""
        driver = cls(dut, layout)
        # The buses read handshakes from the first clock on: nothing may be undefined by then, as they leave their data.
        for name in (*INPUTS, *(MEMORY_INPUTS if layout.memory is not None else ())):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        await Timer(1, "ns")
        Clock(dut.clk, CLOCK_NS, unit="ns", impl="gpi").start()
        cocotb.start_soon(driver._watch())
        await driver.reset()
        return driver

    async def reset(self) -> None:
        """Hold the reset for four clocks; nothing sent before it counts."""
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.forget()
        self.stalled = 0
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def soft_reset(self) -> None:
        """The same through the control register, which tells when a result that was cut off has been filled up."""
        self.source.assert_reset(True)
        await self.write("CONTROL", 1)
        self.sink.pause = False
        while await self.read("CONTROL"):
            pass
        await ClockCycles(self.dut.clk, 2)
        self.forget()
        self.source.assert_reset(False)
        await ClockCycles(self.dut.clk, 2)

    async def first_beat_in(self) -> None:
        """Wait until the first beat of an input frame is being taken, and hold the rest back."""
        while not (self.dut.s_axis_tvalid.value and self.dut.s_axis_tready.value):
            await FallingEdge(self.dut.clk)
        self.source.pause = True

    async def result_waits(self) -> None:
        """Wait until the first code of a result is offered."""
        while not self.dut.m_axis_tvalid.value:
            await FallingEdge(self.dut.clk)

    async def first_code_out(self) -> None:
        """Wait until the first code of a result was taken, and hold the rest back until the next reset."""
        while not (self.dut.m_axis_tvalid.value and self.dut.m_axis_tready.value):
            await FallingEdge(self.dut.clk)
        self.sink.pause = True
        await ClockCycles(self.dut.clk, 2)

    def forget(self) -> None:
        """Drop what is queued and what was traced."""
        self.source.clear()
        self.source.pause = self.sink.pause = False
        self.sink.clear()
        self.ticks = []

    async def _watch(self) -> None:
        dut, traced = self.dut, self.layout.trace
        beat = (dut.m_axis_tvalid, dut.m_axis_tdata, dut.m_axis_tlast, dut.m_axis_tuser)
        offer, falling = None, FallingEdge(dut.clk)
        while True:
            await falling
            self.clocks += 1
            waits = bool(dut.m_axis_tvalid.value and not dut.m_axis_tready.value)
            if offer is not None or waits:
                shown = tuple(str(signal.value) for signal in beat)
                assert offer in (None, shown) or dut.rst.value, (
                    f"a beat that nobody has taken changed: {offer}, {shown}"
                )
                offer = shown if waits else None
                self.stalled += waits
            if traced and dut.trace_end.value:
                frame = int(dut.trace_frame.value) if self.layout.sequence else 0
                self.ticks.append((frame, self.layout.traced(int(dut.trace_codes.value))))

    async def take_frames(self, frames: int) -> None:
        """From the next sample on each has so many frames."""
        self.frames = frames
        if self.layout.sequence:
            await self.write("FRAMES", frames)

    def send(self, sample: Sequence[Sequence[int]]) -> None:
        """Queue the input frames of one sample."""
        for codes in sample:
            self.send_words(self.layout.words(codes))

    def send_words(self, words: Sequence[int]) -> None:
        """Queue one input frame, given as the TDATA of its beats."""
        self.source.send_nowait(AxiStreamFrame(words))

    async def receive(self) -> tuple[list[int], int]:
        """Codes of all results of one sample, and TUSER of the last."""
        codes: list[int] = []
        made = 0
        for _ in range(self.layout.results(self.frames)):
            frame = await with_timeout(self.sink.recv(compact=False), self.frames * self.limit * CLOCK_NS, "ns")
            users = set(frame.tuser)
            assert len(users) == 1, f"TUSER changes within a result: {sorted(users)}"
            codes += self.layout.codes(frame.tdata)
            made = int(users.pop())
        return codes, made

    async def run(self, samples: Codes, ticks: int, *, sent: int = 0) -> Results:
        """Send all samples `[samples, frames, codes]` back to back and gather their results, after those of the `sent`
        before; `ticks`: of a frame. The file that $EQCOMPILE_PROGRESS names, if it is set, grows by a byte with
        each."""
        if len(samples):
            await self.take_frames(len(samples[0]))
        for sample in samples:
            self.send(sample)
        y, rows = [], []
        with Path(os.environ.get("EQCOMPILE_PROGRESS", os.devnull)).open("ab", buffering=0) as progress:
            for _ in range(sent + len(samples)):
                codes, made = await self.receive()
                y.append(codes)
                rows.append(await self.taken(made))
                progress.write(b".")
        return self.layout.gathered(rows, y, ticks, self.frames)

    async def taken(self, made: int) -> list[tuple[int, Codes]]:
        """States after each of the `made` oldest ticks traced, with the number of the frame."""
        # The last tick's trace may stand at the very clock of the last code.
        await FallingEdge(self.dut.clk)
        if not self.layout.trace:
            return [(0, np.zeros(0, np.int64))] * made
        assert made <= len(self.ticks), f"TUSER says {made} ticks, {len(self.ticks)} were traced"
        oldest, self.ticks = self.ticks[:made], self.ticks[made:]
        return oldest

    async def read(self, register: str) -> int:
        """Value of a register."""
        response = await self.axil.read(self.layout.registers[register], 4)
        assert response.resp == AxiResp.OKAY, f"reading {register}: {response.resp}"
        return int.from_bytes(response.data, "little")

    async def write(self, register: str, value: int, *, want: AxiResp = AxiResp.OKAY) -> None:
        """Write a register and require the response `want`."""
        response = await self.axil.write(self.layout.registers[register], value.to_bytes(4, "little"))
        assert response.resp == want, f"writing {value} to {register}: {response.resp!r}, must be {want!r}"

    async def held(self, words: Sequence[int]) -> list[int]:
        """The words of an image as the memories of the core hold them."""
        sys.path.insert(0, str(FOLDER / "driver"))
        from linux import places  # type: ignore[import-not-found]

        found = list(words)
        for memory, address, number in places(words, self.layout.readback):
            await self.write("READ_MEMORY", memory)
            await self.write("READ_ADDRESS", address)
            word = await self.read("READ_DATA")
            if word != words[number]:
                found[number] = word
        await self.write("READ_MEMORY", 0)
        return found

    def fill(self, content: bytes) -> None:
        """Put weights into the memory outside, at address 0, where they begin after a reset."""
        self.memory.write(0, content)

    async def load(self, words: Sequence[int]) -> None:
        """Write all weight words."""
        await self.write("LOAD_ADDRESS", 0)
        for word in words:
            await self.write("LOAD_DATA", int(word))
