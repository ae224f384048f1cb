"""A harness that gives a design of any width three pins.

A package has tens to hundreds of pins, the buses of a core have more bits than that. The harness feeds every input of
the core from a shift register with one pin, and folds every output into another one (`o <= (o << 1) ^ outputs`), so
nothing of the core can be optimised away and every path of it lies between registers. The core is kept as a module of
its own, so what the harness costs is known exactly and is taken off the figures: one flip-flop an input bit, one
flip-flop and one LUT an output bit.

nextpnr-ecp5's `--out-of-context` is not used: it leaves the clock on ordinary routing, and nextpnr-ice40 has no such
option; with the harness both families are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

__all__ = ["NAME", "CorePort", "Netlist", "core_ports", "harness"]

NAME = "eqcompile_harness"


class NetlistPort(TypedDict):
    """A port in Yosys' JSON netlist: its nets, the lowest bit first."""

    direction: str
    bits: Sequence[int | str]


class NetlistModule(TypedDict):
    """A module in Yosys' JSON netlist, as far as it is read here."""

    ports: Mapping[str, NetlistPort]


class Netlist(TypedDict):
    """Yosys' JSON netlist, as far as it is read here."""

    modules: Mapping[str, NetlistModule]


@dataclass(frozen=True)
class CorePort:
    """A port of the core: `direction` is `input` or `output`."""

    name: str
    direction: str
    bits: int


def core_ports(netlist: Netlist, top: str) -> list[CorePort]:
    """The ports of module `top` in Yosys' JSON netlist; UsageError if there is no such module or a port is `inout`."""
    modules = netlist["modules"]
    if top not in modules:
        what = f"there is no module {top!r}, found {', '.join(modules) or 'none'}"
        raise UsageError(Diagnostic("no-top", what, hint="name the top module"))
    ports = [CorePort(n, p["direction"], len(p["bits"])) for n, p in modules[top]["ports"].items()]
    faults = [
        Diagnostic("port-direction", f"port {p.name} is {p.direction}", top, "only input and output can be measured")
        for p in ports
        if p.direction not in ("input", "output")
    ]
    if faults:
        raise UsageError(faults)
    return ports


def harness(top: str, ports: list[CorePort], clock: str) -> str:
    """Verilog of the harness around `top`, whose clock is the one-bit input `clock`; UsageError if it has no such
    input, or no output."""
    if CorePort(clock, "input", 1) not in ports:
        shown = ", ".join(f"{p.name}[{p.bits}]" for p in ports if p.direction == "input")
        what = f"module {top} has no one-bit input {clock!r}, its inputs are {shown or 'none'}"
        raise UsageError(Diagnostic("no-clock", what, hint="name the clock"))
    inputs = [p for p in ports if p.direction == "input" and p.name != clock]
    outputs = [p for p in ports if p.direction == "output"]
    n, m = max(1, sum(p.bits for p in inputs)), sum(p.bits for p in outputs)
    if not outputs:
        raise UsageError(Diagnostic("no-outputs", f"module {top} has no output, all of it would vanish", top))
    lines = [
        f"module {NAME}(input clk, input si, output so);",
        f"  reg [{n - 1}:0] i;",
        f"  reg [{m - 1}:0] o;",
        f"  wire [{m - 1}:0] w;",
        f"  wire [{n}:0] chain = {{i, si}};",
        f"  wire [{m}:0] folded = {{o, i[{n - 1}]}};",
        f"  always @(posedge clk) begin i <= chain[{n - 1}:0]; o <= folded[{m - 1}:0] ^ w; end",
        f"  assign so = o[{m - 1}];",
    ]
    pins = [f".\\{clock} (clk)"]
    for bus, group in (("i", inputs), ("w", outputs)):
        at = 0
        for port in group:
            pins.append(f".\\{port.name} ({bus}[{at + port.bits - 1}:{at}])")
            at += port.bits
    return "\n".join([*lines, f"  \\{top} core({', '.join(pins)});", "endmodule", ""])
