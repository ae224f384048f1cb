"""Names for what Amaranth numbers: each wire after the signal that it is, or after the operation that drives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .rtlil import Module
from .simplify import assigned

__all__ = ["Names", "port_kinds", "wire_names", "written"]

_KINDS = {
    "$add": "sum",
    "$sub": "difference",
    "$mul": "product",
    "$neg": "negative",
    "$not": "inverse",
    "$and": "masked",
    "$or": "merged",
    "$xor": "toggled",
    "$mux": "selected",
    "$eq": "equal",
    "$ne": "unequal",
    "$lt": "less",
    "$gt": "greater",
    "$le": "at_most",
    "$ge": "at_least",
    "$shl": "shifted",
    "$shr": "shifted",
    "$sshr": "shifted",
    "$shift": "part",
    "$reduce_or": "any",
    "$reduce_bool": "any",
    "$reduce_and": "every",
    "$reduce_xor": "parity",
    "$dff": "register",
    "$memrd_v2": "word",
}
_NUMBERED_PORT = re.compile(r"\\port\$\d+\$\d+")
_DUPLICATE = re.compile(r"(.*?)\$\d+")

# IEEE 1364-2005 and 1800-2017.
_RESERVED = frozenset(
    """
    accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin bind bins
    binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking cmos config const
    constraint context continue cover covergroup coverpoint cross deassign default defparam design disable dist do edge
    else end endcase endchecker endclass endclocking endconfig endfunction endgenerate endgroup endinterface endmodule
    endpackage endprimitive endprogram endproperty endsequence endspecify endtable endtask enum event eventually expect
    export extends extern final first_match for force foreach forever fork forkjoin function generate genvar global
    highz0 highz1 if iff ifnone ignore_bins illegal_bins implements implies import incdir include initial inout input
    inside instance int integer interconnect interface intersect join join_any join_none large let liblist library local
    localparam logic longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
    noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority program
    property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand randc randcase
    randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos rpmos rtran rtranif0
    rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence shortint shortreal showcancelled
    signed small soft solve specify specparam static string strong strong0 strong1 struct super supply0 supply1
    sync_accept_on sync_reject_on table tagged task this throughout time timeprecision timeunit tran tranif0 tranif1 tri
    tri0 tri1 triand trior trireg type typedef union unique unique0 unsigned until until_with untyped use uwire var
    vectored virtual void wait wait_order wand weak weak0 weak1 while wildcard wire with within wor xnor xor
    """.split()
)


def written(name: str) -> str:
    """A name as Verilog takes it: as it is, or escaped where it is a word of the language."""
    return f"\\{name} " if name in _RESERVED else name


def _plain(name: str) -> str:
    text = re.sub(r"\W+", "_", name).strip("_") or "unnamed"
    return f"n{text}" if text[0].isdigit() else text


class Names:
    """The names of one module; each is taken once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self._last: dict[tuple[str, bool], int] = {}

    def unique(self, name: str, *, numbered: bool = False) -> str:
        """The name, or with the next free number behind it; `numbered` has one in any case."""
        base, number = _plain(name), 1
        text = f"{base}_{number}" if numbered else base
        if text in self.taken:
            # All numbers up to the last one that was given are taken.
            number = self._last.get((base, numbered), 1)
        while text in self.taken:
            number += 1
            text = f"{base}_{number}"
        self._last[base, numbered] = number
        self.taken.add(text)
        return text


def port_kinds(modules: Iterable[Module]) -> dict[str, str]:
    """For ports that Amaranth numbers (the same number in every module that a value passes): what drives the value."""
    kinds: dict[str, str] = {}
    modules = list(modules)
    for module in modules:
        for wire, kind in driver_kinds(module).items():
            if _NUMBERED_PORT.fullmatch(wire):
                kinds[wire] = kind
    for module in modules:
        for cell in module.cells:
            for port, spec in cell.ports.items():
                name = f"\\{port}"
                if _NUMBERED_PORT.fullmatch(name) and name not in kinds and len(spec) == 1 and spec[0].wire:
                    (chunk,) = spec
                    base = _DUPLICATE.sub(r"\1", chunk.wire)
                    whole = chunk.width == module.wires[chunk.wire].width
                    if not chunk.wire.startswith("$") and not _NUMBERED_PORT.fullmatch(chunk.wire):
                        kinds[name] = base if whole else f"{base}_{chunk.low}"
    return kinds


def driver_kinds(module: Module) -> dict[str, str]:
    """For each wire that an operator, register, memory or process drives: what a name for it would be."""
    kinds: dict[str, str] = {}
    for cell in module.cells:
        for port in cell.outputs:
            for chunk in cell.ports[port]:
                kind = _KINDS.get(cell.kind, "")
                kinds[chunk.wire] = kind or f"{cell.name.lstrip(chr(92))}_{port}"
    for process in module.processes:
        kinds[assigned(process)] = "choice"
    return kinds


def wire_names(module: Module, ports: Mapping[str, str], names: Names) -> dict[str, str]:
    """A name for every wire of a module. Ports and signals come first, so that they keep theirs."""
    kinds = driver_kinds(module)
    chosen: dict[str, str] = {}
    ranked = sorted(module.wires, key=lambda w: (w.startswith("$"), _DUPLICATE.fullmatch(w) is not None))
    for wire in ranked:
        if _NUMBERED_PORT.fullmatch(wire):
            chosen[wire] = names.unique(ports.get(wire, kinds.get(wire, "value")), numbered=True)
        elif wire.startswith("$"):
            chosen[wire] = names.unique(kinds.get(wire, "value"), numbered=True)
        else:
            match = _DUPLICATE.fullmatch(wire[1:])
            base = match[1] if match else wire[1:]
            chosen[wire] = names.unique(base or "register")
    return chosen
