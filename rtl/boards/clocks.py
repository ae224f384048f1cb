"""Clocks of a board: the PLL that makes the core's, and how many of them a bit of the UART lasts. Imports no HDL."""

from __future__ import annotations

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .pins import Board
from .pll import Pll, pll_of

__all__ = ["BAUD", "MIN_DIVISOR", "board_clock", "divisor_of"]

BAUD = 1_000_000
"""Divides the clock of every board here, and FTDI's bridges make it exactly."""
MIN_DIVISOR = 4
_TOLERANCE = 0.02


def board_clock(board: Board, clock_mhz: float | None) -> tuple[Pll | None, int]:
    """The PLL for a core at this frequency and its output in Hz; None stands for the board's own frequency, and for no
    PLL where that is the oscillator's.

    Raises UsageError where the PLL cannot make it, or the UART not its rate of it.
    """
    target_mhz = board.core_mhz if clock_mhz is None else clock_mhz
    if round(target_mhz * 1e6) == board.clock_hz:
        return None, board.clock_hz
    pll = pll_of(board.family, board.clock_hz, target_mhz, pad=board.pll_pad)
    core_hz = round(pll.output_hz)
    divisor_of(core_hz, BAUD)
    return pll, core_hz


def divisor_of(clock_hz: int, baud: int) -> int:
    """Clocks a bit; UsageError if the clock cannot make this rate to within 2 %, or is below 4 clocks a bit."""
    divisor = max(1, round(clock_hz / baud))
    error = abs(clock_hz / divisor / baud - 1)
    if divisor < MIN_DIVISOR or error > _TOLERANCE:
        what = f"{baud} baud is {clock_hz / baud:.2f} clocks of {clock_hz} Hz a bit"
        hint = f"choose a rate of at most {clock_hz // MIN_DIVISOR} that divides the clock to within 2 %"
        raise UsageError(Diagnostic("baud-rate", what, "--baud", hint))
    return divisor
