"""ULX3S with an LFE5U-85F: 25 MHz oscillator, UART through the FT231X at US1."""

from __future__ import annotations

from .board import Board

__all__ = ["ULX3S"]

# Pins as in the schematic of ULX3S v3.0 (ulx3s_v20.lpf of emard/ulx3s).
_LPF = """\
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
    constraints=_LPF,
    led_active_low=False,
    program="openFPGALoader -b ulx3s {file}",
    constant_pins={"wifi_gpio0": 1},
)
