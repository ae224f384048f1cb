"""What nobody reads goes: wires, operators, bits above those in use, ports. Registers and memories stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from .rtlil import Cell, Chunk, Module, Process, Spec, Statement, Switch, Wire, bits_of, part_of, targets

__all__ = ["NARROWED", "assigned", "reads_of", "simplify"]

NARROWED = ("$add", "$sub", "$mul", "$neg", "$not", "$and", "$or", "$xor", "$mux")
"""Operators whose low bits depend on the low bits of their operands alone."""
_STATEFUL = ("$dff", "$memwr_v2", "$meminit_v2")


def reads_of(process: Iterable[Statement]) -> Iterator[Spec]:
    """Everything that statements read."""
    for statement in process:
        if isinstance(statement, Switch):
            yield statement.test
            for _, body in statement.cases:
                yield from reads_of(body)
        else:
            yield statement.right


def assigned(process: Process) -> str:
    """The one wire that a process drives.

    Raises ValueError if there are several.
    """
    (wire,) = {chunk.wire for spec in targets(process) for chunk in spec}
    return wire


def simplify(modules: list[Module]) -> None:
    """Take out, in place, what no output port, register or memory depends on."""
    by_name = {module.name: module for module in modules}
    top = modules[0]
    for module in modules:
        _widen(module)
    while True:
        connected: dict[str, set[str]] = defaultdict(set)
        changed = False
        for module in modules:
            changed |= _pruned(module, by_name, connected, top is module)
        # A port that is gone went in this round, so there is another one.
        for module in modules:
            for cell in module.cells:
                inner = by_name.get(cell.module)
                for port in [p for p in cell.ports if inner is not None and not inner.is_port(f"\\{p}")]:
                    del cell.ports[port]
                    cell.outputs = tuple(p for p in cell.outputs if p != port)
        if not changed:
            return


def _widen(module: Module) -> None:
    """Shifts to the right are as wide as what is shifted; whoever reads them takes the lower bits."""
    for cell in module.cells:
        if cell.kind in ("$shift", "$shr", "$sshr"):
            (result,) = cell.ports["Y"]
            width = bits_of(cell.ports["A"])
            if width <= result.width:
                continue
            if not result.wire.startswith("$"):
                wide = f"$wide{result.wire}"
                module.wires[wide] = Wire(wide, width)
                module.connects.append(((result,), (Chunk(wide, 0, result.width),)))
                result = Chunk(wide, 0, width)
            module.wires[result.wire].width = width
            cell.ports["Y"] = (Chunk(result.wire, 0, width),)
            cell.parameters["Y_WIDTH"] = str(width)


def _pruned(module: Module, modules: Mapping[str, Module], connected: dict[str, set[str]], top: bool) -> bool:
    """One round in one module; whether anything went. `connected`: output ports of submodules that are read."""
    used: dict[str, int] = defaultdict(int)
    for spec in _reads(module):
        for chunk in spec:
            if chunk.wire:
                used[chunk.wire] |= ((1 << chunk.width) - 1) << chunk.low
    if top:
        kept = {name for name, wire in module.wires.items() if wire.kind}
    else:
        kept = connected[module.name]
    kept = kept | {name for name, wire in module.wires.items() if "keep" in wire.attributes}
    live = {*used, *kept}
    before = len(module.cells) + len(module.processes) + len(module.connects) + len(module.wires)
    module.connects = [c for c in module.connects if any(chunk.wire in live for chunk in c[0])]
    module.processes = [p for p in module.processes if assigned(p) in live]
    module.cells = [
        cell
        for cell in module.cells
        if not cell.kind.startswith("$") or cell.kind in _STATEFUL or not cell.driven.isdisjoint(live)
    ]
    changed = False
    for cell in module.cells:
        if cell.module in modules:
            read = {f"\\{port}" for port in cell.outputs if any(chunk.wire in live for chunk in cell.ports[port])}
            connected[cell.module] |= read
        changed |= cell.kind in NARROWED and _narrow(module, cell, used, kept)
    driven = {chunk.wire for spec in _drives(module) for chunk in spec}
    for name in module.wires.keys() - live:
        if name not in driven:
            del module.wires[name]
        elif module.wires[name].kind:
            # A register that nobody outside reads any more.
            module.wires[name].kind = ""
            changed = True
    after = len(module.cells) + len(module.processes) + len(module.connects) + len(module.wires)
    return changed or after != before


def _narrow(module: Module, cell: Cell, used: Mapping[str, int], kept: set[str]) -> bool:
    """Whether bits of an operator's nameless result were unused at its upper end, and are gone."""
    (result,) = cell.ports["Y"]
    wire = module.wires[result.wire]
    width = used[result.wire].bit_length()
    if not result.wire.startswith("$") or result.wire in kept or not 0 < width < wire.width:
        return False
    wire.width = width
    cell.ports["Y"] = (result.cut(0, width),)
    cell.parameters["Y_WIDTH"] = str(width)
    for port in ("A", "B"):
        if port in cell.ports and bits_of(cell.ports[port]) > width:
            cell.ports[port] = part_of(cell.ports[port], 0, width)
    return True


def _reads(module: Module) -> Iterator[Spec]:
    for cell in module.cells:
        yield from (spec for port, spec in cell.ports.items() if port not in cell.outputs)
    for process in module.processes:
        yield from reads_of(process)
    for _, right in module.connects:
        yield right


def _drives(module: Module) -> Iterator[Spec]:
    for cell in module.cells:
        yield from (cell.ports[port] for port in cell.outputs)
    for process in module.processes:
        yield from targets(process)
    for left, _ in module.connects:
        yield left
