"""`package.tcl` and `core_ooc.xdc`: the core as an IP of Vivado's catalogue. Neither was run in Vivado."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..templates import fill
from .interfaces import CLOCK, Bus, Interfaces, Vlnv
from .ipxact import ACCESS, RANGE

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.registers import Row

__all__ = ["constraints", "package_script"]


def package_script(
    vlnv: Vlnv, interfaces: Interfaces, rows: Sequence[Row], *, contents: Sequence[str], title: str
) -> str:
    """The script that packages `core.v` of the folder above it, with the files `contents` that it reads into memories;
    `title`: one line of plain text."""
    registers = "\n".join(f"    {row.name} 0x{row.address:02X} {ACCESS[row.access]} {{{row.meaning}}}" for row in rows)
    return fill(
        "package.tcl.tmpl",
        vendor=vlnv.vendor,
        library=vlnv.library,
        ip_name=vlnv.name,
        version=vlnv.version,
        title=title,
        buses="\n".join(_bus(bus) for bus in interfaces.buses),
        memory=next(bus.name for bus in interfaces.buses if bus.memory_map),
        range=RANGE,
        registers=registers,
        contents=" ".join(contents),
    )


def _bus(bus: Bus) -> str:
    """A call of the script's own `add_bus`."""
    pins = "\n    ".join(f"{logical} {physical}" for logical, physical in bus.pins.items())
    parameters = " ".join(f"{name} {value}" for name, value in bus.parameters.items())
    return f"add_bus {bus.name} {bus.kind} {bus.abstraction} {bus.mode} {{\n    {pins}\n}} {{{parameters}}}"


def constraints(clock_mhz: float | None) -> str:
    """Constraints of the core by itself (out of context); `clock_mhz`: the frequency that it must reach."""
    if clock_mhz is None:
        clock = "# No frequency was asked for: compile with --clock MHZ, or write one here.\n"
        clock += f"# create_clock -name {CLOCK} -period NS [get_ports {CLOCK}]\n"
    else:
        period = f"{1e3 / clock_mhz:.3f}"
        clock = f"# --clock {clock_mhz:g}: a period of {period} ns.\n"
        clock += f"create_clock -name {CLOCK} -period {period} [get_ports {CLOCK}]\n"
    return fill("core_ooc.xdc.tmpl", clock=clock)
