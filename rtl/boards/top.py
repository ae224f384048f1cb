"""The top module of a board, of which a bitstream is made."""

from __future__ import annotations

from amaranth import ClockDomain, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from eqcompile.toolchain.ir import Schedule

from ..interface import Engine
from ..verilog import emit_verilog
from .clocks import divisor_of
from .link import Link
from .pins import Board
from .pll import PLL, Pll

__all__ = ["CORE_CLOCK", "TOP", "BoardTop", "board_verilog"]

TOP = "board_top"
CORE_CLOCK = "core_clk"
"""Net of the core's clock where a PLL makes it."""


class BoardTop(wiring.Component):
    """Pins `clk`, `rx`, `tx`, `led` (the engine is busy) and the board's constant pins around `Link`.

    There is no reset pin: the bitstream initialises every register, and a break on the line restarts the engine. The
    first request takes longer than the block RAMs of an iCE40 need after configuration. With a `pll` the core runs on
    its clock, in reset until the PLL says that it is stable.
    """

    def __init__(
        self, engine: Engine, board: Board, *, baud: int, identity: int, schedule: Schedule, pll: Pll | None = None
    ) -> None:
        self.board, self.pll = board, pll
        self.core_hz = board.clock_hz if pll is None else round(pll.output_hz)
        divisor = divisor_of(self.core_hz, baud)
        self.link = Link(engine, divisor=divisor, identity=identity, schedule=schedule)
        members: dict[str, In | Out] = {"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(1)}
        super().__init__(members | {pin: Out(1, init=level) for pin, level in board.constant_pins.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=self.pll is None)
        if self.pll is None:
            m.d.comb += domain.clk.eq(self.clk)
        else:
            domain.clk = Signal(name=CORE_CLOCK)
            locked, stable = Signal(name="locked"), Signal(name="stable")
            m.submodules.pll = Instance(PLL, i_clk_in=self.clk, o_clk_out=domain.clk, o_locked=locked)
            # Without a reset of its own: it is what the reset is made of.
            m.submodules.lock = FFSynchronizer(locked, stable, reset_less=True)
            m.d.comb += domain.rst.eq(~stable)
        m.submodules.link = self.link
        m.d.comb += [
            self.link.rx.eq(self.rx),
            self.tx.eq(self.link.tx),
            self.led.eq(self.link.busy ^ self.board.led_active_low),
        ]
        return m


def board_verilog(top: BoardTop) -> str:
    """Verilog of the module `TOP` with the board's pins as ports, and of its PLL."""
    return emit_verilog(top, name=TOP) + ("" if top.pll is None else f"\n{top.pll.verilog(PLL)}")
