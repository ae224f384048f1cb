"""The boards: part, clock, and every pin with the reason why it is as it is. Imports no HDL.

ULX3S has an LFE5U-85F, a 25 MHz oscillator and a UART through the FT231X at US1; iCEBreaker an iCE40UP5K in SG48, a
12 MHz oscillator and a UART through the second channel of the FT2232H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["BOARDS", "Board"]


@dataclass(frozen=True)
class Board:
    """`part` as in `eqcompile synth`; `constraints`: text of the pin file, whose every line says why it is there;
    `constant_pins`: pins that must be held at a level; `led_active_low`: how the busy LED is wired; `program`: the
    command that puts a bitstream on the board, `{file}` being its name.
    """

    name: str
    part: str
    clock_hz: int
    constraints_name: str
    constraints: str
    led_active_low: bool
    program: str
    constant_pins: Mapping[str, int] = field(default_factory=dict)


# Pins as in the schematic of ULX3S v3.0 (ulx3s_v20.lpf of emard/ulx3s).
_ULX3S_PINS = """\
# The flash and the banks used here run on 3.3 V.
SYSCONFIG CONFIG_IOVOLTAGE=3.3 COMPRESS_CONFIG=ON;
# 25 MHz oscillator, on a pin that reaches the clock network.
LOCATE COMP "clk" SITE "G2";
IOBUF PORT "clk" PULLMODE=NONE IO_TYPE=LVCMOS33;
FREQUENCY PORT "clk" 25 MHZ;
# ftdi_txd of the schematic: what the FT231X sends. Pulled up, so that an unplugged line is idle and no break.
LOCATE COMP "rx" SITE "M1";
IOBUF PORT "rx" PULLMODE=UP IO_TYPE=LVCMOS33;
# ftdi_rxd of the schematic: what the FT231X receives.
LOCATE COMP "tx" SITE "L4";
IOBUF PORT "tx" PULLMODE=UP IO_TYPE=LVCMOS33 DRIVE=4;
# D0, the first of eight LEDs: lit while the engine is busy.
LOCATE COMP "led" SITE "B2";
IOBUF PORT "led" PULLMODE=NONE IO_TYPE=LVCMOS33 DRIVE=4;
# GPIO0 of the ESP32: held high, or its program may reset the board.
LOCATE COMP "wifi_gpio0" SITE "L2";
IOBUF PORT "wifi_gpio0" PULLMODE=UP IO_TYPE=LVCMOS33 DRIVE=4;
"""

ULX3S = Board(
    name="ulx3s",
    part="ecp5-85k",
    clock_hz=25_000_000,
    constraints_name="ulx3s.lpf",
    constraints=_ULX3S_PINS,
    led_active_low=False,
    program="openFPGALoader -b ulx3s {file}",
    constant_pins={"wifi_gpio0": 1},
)

# Pins as in the schematic of iCEBreaker v1.0e.
_ICEBREAKER_PINS = """\
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
    constraints=_ICEBREAKER_PINS,
    led_active_low=True,
    program="iceprog {file}",
)

BOARDS = {board.name: board for board in (ULX3S, ICEBREAKER)}
"""Every board by name."""
