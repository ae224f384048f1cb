"""iCEBreaker with an iCE40UP5K in SG48: 12 MHz oscillator, UART through the second channel of the FT2232H."""

from __future__ import annotations

from .board import Board

__all__ = ["ICEBREAKER"]

# Pins as in the schematic of iCEBreaker v1.0e.
_PCF = """\
# 12 MHz oscillator, on a pin that reaches the clock network.
set_io clk 35
# What the FT2232H sends. Pulled up, so that an unplugged line is idle and no break.
set_io -pullup yes rx 6
# What the FT2232H receives.
set_io tx 9
# Green LED, lit by a low level: lit while the engine is busy.
set_io led 37
"""

ICEBREAKER = Board(
    name="icebreaker",
    part="up5k",
    clock_hz=12_000_000,
    constraints_name="icebreaker.pcf",
    constraints=_PCF,
    led_active_low=True,
    program="iceprog {file}",
)
