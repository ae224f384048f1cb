"""A small hardened core in Amaranth's simulator, which upsets can reach, and what must come out of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator
from rtl_engines import Pins
from strategies import small_net, with_formats

from eqcompile.rtl.registers import Register
from eqcompile.rtl.serial.options import Serial
from eqcompile.rtl.shell import Shell
from eqcompile.targets.rtl.emit import shell_of
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet, Output, ops

__all__ = ["Built", "Driven", "core_of", "plain", "with_readout"]


def plain() -> IntNet:
    return small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


def with_readout() -> IntNet:
    """The same, whose output is sums of weights and states."""
    readout = (ops.Linear(out="z", x="h", weight="W"),)
    return with_formats(replace(plain(), readout=readout, outputs=(Output("z", "z", "values", 1.0),)))


def core_of(harden: tuple[str, ...], net: IntNet | None = None) -> Shell:
    shell: Shell = shell_of(net or plain(), Serial(lanes=2, harden=",".join(harden)), trace=False)
    return shell


class Driven:
    """A core in Amaranth's simulator: frames in, `(codes, TUSER of the last beat)` out, registers at the end."""

    def __init__(self, shell: Shell) -> None:
        self.shell, self.clock, self.age = shell, 0, 0
        """`age`: clocks since the last beat of the frame before."""

    def run(
        self,
        frames: list[list[int]],
        upset: Any = None,
        *,
        load: list[int] | None = None,
        reads: Callable[[int], bool] = lambda clock: True,
    ) -> dict[str, Any]:
        """`upset(ctx, clock)` is called in every clock; `load`: weight words stored before the last frame; `reads`:
        whether the reader takes a beat in a clock. A beat that waits for its reader must stay as it is."""
        shell, results, offer = self.shell, [], None
        found: dict[str, Any] = {"results": results}

        async def write(ctx: Any, register: int, value: int) -> None:
            for name, v in (("awaddr", register), ("wdata", value), ("wstrb", 15), ("awvalid", 1), ("wvalid", 1)):
                ctx.set(getattr(shell, f"s_axil_{name}"), v)
            ctx.set(shell.s_axil_bready, 1)
            while not ctx.get(shell.s_axil_awready):
                await ctx.tick()
            await ctx.tick()
            ctx.set(shell.s_axil_awvalid, 0)
            ctx.set(shell.s_axil_wvalid, 0)
            await ctx.tick()

        async def bench(ctx: Any) -> None:
            nonlocal offer
            bits = (1 << shell.x_port.tdata_bits) - 1
            pins = Pins(ctx)
            ports = (shell.s_axis_tready, shell.m_axis_tvalid, shell.m_axis_tdata, shell.m_axis_tlast)
            for number, codes in enumerate(frames):
                if load is not None and number == len(frames) - 1:
                    await write(ctx, Register.LOAD_ADDRESS, 0)
                    for word in load:
                        await write(ctx, Register.LOAD_DATA, word)
                sent, got, ended, start = 0, [], False, self.clock
                while not ended:
                    pins.set("tvalid", shell.s_axis_tvalid, sent < len(codes))
                    pins.set("tdata", shell.s_axis_tdata, codes[min(sent, len(codes) - 1)] & bits)
                    pins.set("tlast", shell.s_axis_tlast, sent == len(codes) - 1)
                    self.age = self.clock - start
                    reading = reads(self.clock)
                    pins.set("tready", shell.m_axis_tready, reading)
                    if upset is not None:
                        upset(ctx, self.clock)
                    _, _, ready, valid, data, last, user = await ctx.tick().sample(*ports, shell.m_axis_tuser)
                    self.clock += 1
                    sent += int(bool(ready) and sent < len(codes))
                    beat = tuple(map(int, (valid, data, last, user)))
                    assert offer in (None, beat), f"an offered beat {offer} became {beat} in clock {self.clock - 1}"
                    offer = beat if valid and not reading else None
                    if valid and reading:
                        got.append(int(data))
                        ended = bool(last)
                    assert self.clock < start + 20_000, "the core hangs"
                results.append((got, int(user)))
            ctx.set(shell.s_axil_rready, 1)
            for register in (Register.FAULTS, Register.CORRECTED, Register.DETECTED):
                ctx.set(shell.s_axil_araddr, register)
                ctx.set(shell.s_axil_arvalid, 1)
                await ctx.tick()
                ctx.set(shell.s_axil_arvalid, 0)
                found[register.name] = int(ctx.get(shell.s_axil_rdata))
                await ctx.tick()

        simulator = Simulator(shell)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return found


class Built:
    """The core as it is elaborated, so that a test can reach its registers and memories."""

    def __init__(
        self, harden: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, net: IntNet | None = None, frames: int = 1
    ) -> None:
        # Imported here: a test may have put a mutant in its place.
        original = importlib.import_module("eqcompile.rtl.serial.hardening").attach

        def attach(core: Any) -> None:
            self.core = core
            original(core)

        monkeypatch.setattr("eqcompile.rtl.serial.hardening.attach", attach)
        self.shell = core_of(harden, net)
        self.frames = [[3, -7, 5], [100, 0, -128], [3, -7, 5], *[[3, -7, 5]] * frames]
        run = golden.run(net or plain(), {"x": np.array(self.frames)})
        bits = (1 << self.shell.y_port.tdata_bits) - 1
        codes = np.concatenate([o.reshape(len(self.frames), -1) for o in run.outputs.values()], axis=1)
        self.want = [([int(c) & bits for c in row], int(n)) for row, n in zip(codes, run.steps, strict=True)]

    def bank(self) -> Any:
        """The accumulators' memory."""
        return self.core.applier.banks[0]

    def flips(self, which: str, word: int, mask: int, clock: int) -> Any:
        """Flips bits of a stored word of the table or the entries in one clock."""

        def upset(ctx: Any, now: int) -> None:
            if now == clock:
                words = self.core.loaded[which == "entries"].ram.words.data
                ctx.set(words[word], int(ctx.get(words[word])) ^ mask)

        return upset
