"""The boards, as `boards.toml` has them, and their pin files. Imports no HDL."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from eqcompile.toolchain.typed_json import decode_as

__all__ = ["BOARDS", "Board", "Pin"]

_MHZ = 1e6


@dataclass(frozen=True, kw_only=True)
class Pin:
    """`site` of the package; `drive` in mA (ECP5); `level`: at which the pin is held; `why` it is as it is."""

    site: str
    why: str
    pull: Literal["up", "none"] = "none"
    drive: int | None = None
    level: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A board of the file."""

    title: str
    part: str
    family: Literal["ecp5", "ice40"]
    clock_hz: int
    program: str
    pins: Mapping[str, Pin]
    led_active_low: bool = False
    clock_mhz: float | None = None
    pll_pad: bool = False
    system: str = ""


@dataclass(frozen=True, kw_only=True)
class Board(_Row):
    """`part` as in `eqcompile synth`; `clock_hz` of the oscillator and `clock_mhz` of the core, None for the same one;
    `program`: the command that puts a bitstream on the board, `{file}` being its name; `system`: settings of an ECP5.
    """

    name: str

    @property
    def core_mhz(self) -> float:
        """Frequency of the core, unless another is asked for."""
        return self.clock_hz / _MHZ if self.clock_mhz is None else self.clock_mhz

    @property
    def constant_pins(self) -> dict[str, int]:
        """Pins that must be held at a level."""
        return {name: pin.level for name, pin in self.pins.items() if pin.level is not None}

    @property
    def constraints_name(self) -> str:
        """Name of the pin file."""
        return f"{self.name}.{'lpf' if self.family == 'ecp5' else 'pcf'}"

    @property
    def constraints(self) -> str:
        """Text of the pin file, whose every line says why it is there."""
        return _lpf(self) if self.family == "ecp5" else _pcf(self)


def _lpf(board: Board) -> str:
    lines = ["# The flash and the banks used here run on 3.3 V.", f"SYSCONFIG {board.system};"]
    for name, pin in board.pins.items():
        drive = "" if pin.drive is None else f" DRIVE={pin.drive}"
        lines += [
            f"# {pin.why}",
            f'LOCATE COMP "{name}" SITE "{pin.site}";',
            f'IOBUF PORT "{name}" PULLMODE={pin.pull.upper()} IO_TYPE=LVCMOS33{drive};',
        ]
        if name == "clk":
            lines.append(f'FREQUENCY PORT "clk" {board.clock_hz / _MHZ:g} MHZ;')
    return "\n".join([*lines, ""])


def _pcf(board: Board) -> str:
    lines = []
    for name, pin in board.pins.items():
        pull = "-pullup yes " if pin.pull == "up" else ""
        lines += [f"# {pin.why}", f"set_io {pull}{name} {pin.site}"]
    # What a PLL makes of the oscillator is derived from this.
    lines += ["# The oscillator in MHz.", f"set_frequency clk {board.clock_hz / _MHZ:g}", ""]
    return "\n".join(lines)


def _boards() -> dict[str, Board]:
    text = files(__package__).joinpath("boards.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)
    return {name: decode_as(Board, {"name": name, **row}, f"boards.toml, {name}") for name, row in rows.items()}


BOARDS = _boards()
"""Every board by name."""
