"""The pins of a core, and the bus interfaces that they make: one source for IP-XACT and Vivado."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.shell import Shell

__all__ = ["Bus", "Interfaces", "Pin", "Vlnv", "ip_name", "plain_text"]

CLOCK, RESET = "clk", "rst"


@dataclass(frozen=True)
class Pin:
    """A port of the module, `width` bits."""

    name: str
    direction: Literal["in", "out"]
    width: int


@dataclass(frozen=True)
class Vlnv:
    """Vendor, library, name and version of a thing in a catalogue of IP."""

    vendor: str
    library: str
    name: str
    version: str

    def __str__(self) -> str:
        return ":".join((self.vendor, self.library, self.name, self.version))


@dataclass(frozen=True)
class Bus:
    """A bus interface. `pins`: the port of the module by the name of the signal in the bus's definition; `memory_map`:
    whether its addresses are those of the registers."""

    name: str
    kind: Vlnv
    mode: Literal["master", "slave"]
    pins: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    memory_map: bool = False

    @property
    def abstraction(self) -> Vlnv:
        """The definition of the bus's signals."""
        kind = self.kind
        return Vlnv(kind.vendor, kind.library, f"{kind.name}_rtl", kind.version)


@dataclass(frozen=True)
class Interfaces:
    """Every pin of a core, and its buses with clock and reset; a pin in no bus is a plain port (those of a trace)."""

    pins: tuple[Pin, ...]
    buses: tuple[Bus, ...]

    @classmethod
    def of(cls, shell: Shell) -> Interfaces:
        """Of a core as `Shell` has it, without an injection port."""
        from amaranth import Shape

        pins = [Pin(CLOCK, "in", 1), Pin(RESET, "in", 1)]
        for name, member in shell.signature.members.items():
            direction: Literal["in", "out"] = "in" if member.flow.name == "In" else "out"
            pins.append(Pin(name, direction, Shape.cast(member.shape).width))
        buses = [
            _bus("s_axis", "axis", "slave", pins),
            _bus("m_axis", "axis", "master", pins),
            _bus("s_axil", "aximm", "slave", pins),
        ]
        if shell.streamed:
            buses.append(_bus("m_axi", "aximm", "master", pins))
        associated = {"ASSOCIATED_BUSIF": ":".join(bus.name for bus in buses), "ASSOCIATED_RESET": RESET}
        clock = Bus(CLOCK, _signal("clock"), "slave", {"CLK": CLOCK}, associated)
        reset = Bus(RESET, _signal("reset"), "slave", {"RST": RESET}, {"POLARITY": "ACTIVE_HIGH"})
        return cls(tuple(pins), (*buses, clock, reset))


def _bus(name: str, kind: Literal["axis", "aximm"], mode: Literal["master", "slave"], pins: list[Pin]) -> Bus:
    """The pins that begin with `name`, each under the rest of its own name: `s_axis_tdata` is TDATA."""
    mine = {pin.name.removeprefix(f"{name}_").upper(): pin.name for pin in pins if pin.name.startswith(f"{name}_")}
    parameters = {"PROTOCOL": "AXI4LITE" if mode == "slave" else "AXI4"} if kind == "aximm" else {}
    return Bus(name, _bus_kind(kind), mode, mine, parameters, memory_map=kind == "aximm" and mode == "slave")


def _bus_kind(name: str) -> Vlnv:
    return Vlnv("xilinx.com", "interface", name, "1.0")


def _signal(name: str) -> Vlnv:
    return Vlnv("xilinx.com", "signal", name, "1.0")


def ip_name(digest: str, architecture: str) -> Vlnv:
    """Of a core in a catalogue: cores of several nets, or of one net on several architectures, stand side by side."""
    return Vlnv("eqcompile", "relaxation", f"core_{digest[:8]}_{re.sub(r'[^A-Za-z0-9]', '_', architecture)}", "1.0")


def plain_text(text: str) -> str:
    """A name of a net as text that Tcl and XML take as it stands."""
    return re.sub(r"[^A-Za-z0-9 ._-]", "_", text)
