"""For the tests of boards: an engine small enough to check by hand, and a host's serial line into the simulator."""

from __future__ import annotations

import os
import pty
import subprocess
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator

from eqcompile.rtl.interface import EngineSignature, Port
from eqcompile.targets.rtl.templates import tools
from eqcompile.toolchain.ir import Format

HERE = Path(__file__).resolve().parent
X = Port(Format.holding(-128, 127), 3)
Y = Port(Format.holding(-40000, 40000), 2)
LINE_LIMIT = 5_000
"""Clocks after which a read gives up, as a serial port's time-out does."""


def toy_outputs(codes: list[int], weights: list[int], steps: int, tolerance: int) -> list[int]:
    """What `ToyEngine` answers, in plain integers."""
    total = sum(codes)
    return [total + weights[0] + steps, -total + weights[1] - tolerance]


class ToyEngine(wiring.Component):
    """Obeys `EngineSignature`: sums its input, one code in `slow` clocks; two weights that can be loaded."""

    def __init__(self, *, slow: int = 1) -> None:
        self.slow = slow
        self.engine_signature = EngineSignature(X, Y, traced=False, states=(), load_bits=1)
        super().__init__(self.engine_signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total, count, index = Signal(16), Signal(4), Signal(2)
        wait = Signal(range(self.slow + 1))
        steps, tolerance = Signal(16), Signal(16)
        weights = [Signal(16, name=f"weight_{i}") for i in range(2)]
        with m.If(self.load_enable), m.Switch(self.load_address):
            for i, weight in enumerate(weights):
                with m.Case(i):
                    m.d.sync += weight.eq(self.load_data)
        m.d.comb += [
            self.x.ready.eq((count < X.count) & (wait == 0)),
            self.y.valid.eq(count == X.count),
            self.made.eq(steps),
            self.busy.eq(count != 0),
        ]
        first, second = total + weights[0] + steps, weights[1] - total - tolerance
        sign = first[15], second[15]
        with m.If(index == 0):
            m.d.comb += self.y.payload.eq(Cat(first[:16], sign[0]))
        with m.Else():
            m.d.comb += self.y.payload.eq(Cat(second[:16], sign[1]))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.If(self.x.valid & self.x.ready):
            m.d.sync += [total.eq(total + self.x.payload.as_signed()), count.eq(count + 1), wait.eq(self.slow - 1)]
            with m.If(count == 0):
                m.d.sync += [steps.eq(self.steps), tolerance.eq(self.tolerance)]
        with m.If(self.y.valid & self.y.ready):
            m.d.sync += index.eq(index + 1)
            with m.If(index == Y.count - 1):
                m.d.sync += [total.eq(0), count.eq(0), index.eq(0)]
        with m.If(self.restart):
            m.d.sync += [total.eq(0), count.eq(0), index.eq(0), wait.eq(0)]
        return m


class SimulatedLine:
    """A serial port whose other end is the pins of a design in Amaranth's simulator; bits are made and read in Python.

    `top` has pins `rx` and `tx`, and `clk` too if it drives its own clock. `sent` turns a byte into a frame's bits.
    """

    def __init__(self, top: Any, *, divisor: int, sent: Callable[[int], list[int]] | None = None) -> None:
        self.divisor = divisor
        self.sent = sent or (lambda byte: [0, *((byte >> i) & 1 for i in range(8)), 1])
        self.levels: list[int] = []
        self.bytes = bytearray()
        self.clocks = 0
        self.top = top
        self.simulator = Simulator(top)
        self.simulator.add_testbench(self._run)
        if not hasattr(top, "clk"):
            self.simulator.add_clock(1e-6)

    def write(self, data: bytes) -> None:
        for byte in data:
            for bit in self.sent(byte):
                self.levels += [bit] * self.divisor

    def send_break(self) -> None:
        self.levels += [0] * (12 * self.divisor) + [1] * (2 * self.divisor)

    def reset_input_buffer(self) -> None:
        self.idle(20 * self.divisor)
        self.bytes.clear()

    def read(self, size: int) -> bytes:
        limit = self.clocks + LINE_LIMIT + len(self.levels)
        while len(self.bytes) < size and self.clocks < limit:
            self.simulator.advance()
        found = bytes(self.bytes[:size])
        del self.bytes[:size]
        return found

    def idle(self, clocks: int) -> None:
        """Let the design run with what was written."""
        until = self.clocks + clocks + len(self.levels)
        while self.clocks < until:
            self.simulator.advance()

    async def _run(self, ctx: Any) -> None:
        at, byte, counting = 0, 0, False
        while True:
            if self.levels:
                ctx.set(self.top.rx, self.levels.pop(0))
            if hasattr(self.top, "clk"):
                ctx.set(self.top.clk, 1)
                await ctx.delay(0.5e-6)
                ctx.set(self.top.clk, 0)
                await ctx.delay(0.5e-6)
            else:
                await ctx.tick()
            self.clocks += 1
            level = ctx.get(self.top.tx)
            if not counting:
                counting, at, byte = not level, 0, 0
                continue
            at += 1
            bit, phase = divmod(at, self.divisor)
            if phase == self.divisor // 2 and 1 <= bit <= 8:
                byte |= level << (bit - 1)
            if phase == self.divisor // 2 and bit == 9:
                assert level, "no stop bit"
                self.bytes.append(byte)
                counting = False


@contextmanager
def serial_port(folder: Path, build: Path, divisor: int, models: Sequence[str] = ()) -> Iterator[str]:
    """The name of a serial port of the operating system whose other end is the pins of `folder/board_top.v`, compiled
    by Verilator with the Verilog of `models`, at `divisor` clocks a bit.

    A pseudo-terminal passes no break on: the design is in a known state, as after configuration.
    """
    for number, text in enumerate(models):
        (build / f"model_{number}.v").write_text(text, encoding="utf-8")
    argv = ["verilator", "--cc", "--exe", "--build", "-O3", "--no-timing", "-Wno-lint", "-Wno-fatal", "-j", "1"]
    argv += [
        "--top-module",
        "board_top",
        "--Mdir",
        str(build),
        str(folder / "board_top.v"),
        str(HERE / "rtl_board.cpp"),
    ]
    argv += [str(build / f"model_{number}.v") for number in range(len(models))]
    env = {**os.environ, **tools.verilator()}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    # Memories are read from files beside the top.
    process = subprocess.Popen([str(build / "Vboard_top"), str(divisor)], cwd=folder, stdin=ours, stdout=ours)
    try:
        yield os.ttyname(theirs)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
