"""The top module of a board, of which a bitstream is made."""

from __future__ import annotations

from amaranth import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from eqcompile.toolchain.ir import Schedule

from ..interface import Engine
from ..verilog import emit_verilog
from .link import Link
from .pins import Board
from .uart import divisor_of

__all__ = ["TOP", "BoardTop", "board_verilog"]

TOP = "board_top"


class BoardTop(wiring.Component):
    """Pins `clk`, `rx`, `tx`, `led` (the engine is busy) and the board's constant pins around `Link`.

    There is no reset pin: the bitstream initialises every register, and a break on the line restarts the engine. The
    first request takes longer than the block RAMs of an iCE40 need after configuration.
    """

    def __init__(self, engine: Engine, board: Board, *, baud: int, identity: int, schedule: Schedule) -> None:
        self.board = board
        divisor = divisor_of(board.clock_hz, baud)
        self.link = Link(engine, divisor=divisor, identity=identity, schedule=schedule)
        members: dict[str, In | Out] = {"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(1)}
        super().__init__(members | {pin: Out(1, init=level) for pin, level in board.constant_pins.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.link = self.link
        m.d.comb += [
            domain.clk.eq(self.clk),
            self.link.rx.eq(self.rx),
            self.tx.eq(self.link.tx),
            self.led.eq(self.link.busy ^ self.board.led_active_low),
        ]
        return m


def board_verilog(top: BoardTop) -> str:
    """Verilog of the module `TOP` with the board's pins as ports."""
    return emit_verilog(top, name=TOP)
