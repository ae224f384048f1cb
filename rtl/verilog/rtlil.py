"""Amaranth's RTLIL text as values: modules of wires, memories, cells, processes and connections.

Only what Amaranth writes is read (a strict subset of Yosys' format); anything else raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "Assign",
    "Cell",
    "Chunk",
    "Memory",
    "Module",
    "Process",
    "Spec",
    "Statement",
    "Switch",
    "Wire",
    "bits_of",
    "memory_of",
    "parse",
    "part_of",
    "targets",
]


@dataclass(frozen=True)
class Chunk:
    """`width` bits of a wire from bit `low` on; of no wire, the constant `bits` (highest first)."""

    wire: str
    low: int
    width: int
    bits: str = ""

    def cut(self, low: int, width: int) -> Chunk:
        """Its bits from `low` on, at most `width` of them."""
        width = min(width, self.width - low)
        bits = self.bits[self.width - low - width : self.width - low]
        return Chunk(self.wire, self.low + low, width, bits)


Spec = tuple[Chunk, ...]
"""A concatenation, highest chunk first."""


def bits_of(spec: Spec) -> int:
    """How many bits a concatenation has."""
    return sum(chunk.width for chunk in spec)


def part_of(spec: Spec, low: int, width: int) -> Spec:
    """Its `width` bits from `low` on."""
    kept: list[Chunk] = []
    for chunk in reversed(spec):
        start, end = max(low, 0), min(low + width, chunk.width)
        if start < end:
            kept.append(chunk.cut(start, end - start))
        low -= chunk.width
    return tuple(reversed(kept))


@dataclass(frozen=True)
class Assign:
    """One assignment of a process."""

    left: Spec
    right: Spec


@dataclass(frozen=True)
class Switch:
    """The first case with a pattern that matches `test`; a case without patterns is the default."""

    test: Spec
    cases: tuple[tuple[tuple[str, ...], tuple[Statement, ...]], ...]


Statement = Assign | Switch
Process = tuple[Statement, ...]


@dataclass
class Wire:
    """`kind`: input, output, or empty for a wire inside. `init`: bits of a register before the first clock.
    `attributes` are for synthesis."""

    name: str
    width: int
    kind: str = ""
    init: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """`depth` words of `width` bits; `attributes` are for synthesis."""

    name: str
    width: int
    depth: int
    attributes: Mapping[str, str]


@dataclass
class Cell:
    """An operator, register, memory port (`kind` begins with `$`) or instance. `outputs`: ports that drive a wire."""

    kind: str
    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    ports: dict[str, Spec] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Of an instance, what it is one of."""
        return self.kind.removeprefix("\\")

    @property
    def driven(self) -> set[str]:
        """The wires that it drives."""
        return {chunk.wire for port in self.outputs for chunk in self.ports[port]}

    def integer(self, parameter: str) -> int:
        """A numeric parameter."""
        return int(self.parameters[parameter])


@dataclass
class Module:
    """One module; `connects` are continuous assignments of whole wires or parts."""

    name: str
    wires: dict[str, Wire] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    connects: list[tuple[Spec, Spec]] = field(default_factory=list)

    def is_port(self, wire: str) -> bool:
        """Whether a wire of this name is there and is a port."""
        return wire in self.wires and bool(self.wires[wire].kind)


def memory_of(cell: Cell) -> str:
    """The memory that a port or a cell of initial words belongs to."""
    return cell.parameters["MEMID"].strip('"').replace("\\\\", "\\")


_TOKEN = re.compile(r"\{|\}|\d+'[01x]*|\[\d+(?::\d+)?\]|[\\$]\S+")
_WIRE = re.compile(r"wire width (\d+)(?: (input|output) \d+)?(?: signed)? (\S+)")
_MEMORY = re.compile(r"memory width (\d+) size (\d+) (\S+)")


def parse(text: str) -> list[Module]:
    """The modules of a design, the top one first.

    Raises ValueError for a line that Amaranth does not write.
    """
    lines = iter([" ".join(line.split()) for line in text.splitlines() if line.strip()])
    modules: list[Module] = []
    attributes: dict[str, str] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "attribute":
            name, _, value = rest.partition(" ")
            attributes[name.lstrip("\\")] = value
            continue
        if word == "module":
            modules.append(_module(rest.lstrip("\\"), lines))
        else:
            raise ValueError(f"unexpected RTLIL: {line!r}")
    by_name = {module.name: module for module in modules}
    for module in modules:
        _direct(module, by_name)
    return modules


_OUTPUTS = {"$dff": ("Q",), "$memrd_v2": ("DATA",), "$memwr_v2": (), "$meminit_v2": ()}


def targets(process: Iterable[Statement]) -> Iterator[Spec]:
    """Everything that statements assign."""
    for statement in process:
        if isinstance(statement, Switch):
            for _, body in statement.cases:
                yield from targets(body)
        else:
            yield statement.left


def _direct(module: Module, modules: Mapping[str, Module]) -> None:
    """Fill in `Cell.outputs`. An instance of a vendor's primitive drives the wires that nothing else does."""
    driven = {wire for wire, w in module.wires.items() if w.kind == "input"}
    driven |= {chunk.wire for process in module.processes for spec in targets(process) for chunk in spec}
    driven |= {chunk.wire for left, _ in module.connects for chunk in left}
    primitives = []
    for cell in module.cells:
        inner = modules.get(cell.module)
        if inner is not None:
            cell.outputs = tuple(port for port in cell.ports if inner.wires[f"\\{port}"].kind == "output")
        elif cell.kind.startswith("$"):
            cell.outputs = _OUTPUTS.get(cell.kind, ("Y",))
        else:
            primitives.append(cell)
        driven |= cell.driven
    for cell in primitives:
        cell.outputs = tuple(p for p, s in cell.ports.items() if len(s) == 1 and s[0].wire and s[0].wire not in driven)


def _module(name: str, lines: Iterator[str]) -> Module:
    module, attributes = Module(name), dict[str, str]()
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "end":
            return module
        if word == "attribute":
            key, _, value = rest.partition(" ")
            attributes[key.lstrip("\\")] = value
            continue
        if match := _WIRE.fullmatch(line):
            width, kind, wire = match.groups()
            init = attributes.pop("init", "").partition("'")[2]
            module.wires[wire] = Wire(wire, int(width), kind or "", init, attributes)
        elif match := _MEMORY.fullmatch(line):
            width, depth, memory = match.groups()
            module.memories[memory] = Memory(memory, int(width), int(depth), attributes)
        elif word == "cell":
            kind, cell = rest.split(" ")
            module.cells.append(_cell(module, Cell(kind, cell), lines))
        elif word == "process":
            module.processes.append(_statements(module, lines))
        elif word == "connect":
            left, right = _specs(module, rest)
            module.connects.append((left, right))
        else:
            raise ValueError(f"unexpected RTLIL: {line!r}")
        attributes = {}
    raise ValueError(f"module {name} has no end")


def _cell(module: Module, cell: Cell, lines: Iterator[str]) -> Cell:
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "end":
            return cell
        name, _, value = rest.partition(" ")
        if word == "parameter":
            cell.parameters[name.lstrip("\\")] = value
        elif word == "connect":
            (cell.ports[name.lstrip("\\")],) = _specs(module, value)
        else:
            raise ValueError(f"unexpected RTLIL: {line!r}")
    raise ValueError(f"cell {cell.name} has no end")


def _statements(module: Module, lines: Iterator[str]) -> Process:
    statements: list[Statement] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "end":
            break
        if word == "assign":
            left, right = _specs(module, rest)
            statements.append(Assign(left, right))
        elif word == "switch":
            (test,) = _specs(module, rest)
            statements.append(Switch(test, _cases(module, lines)))
        else:
            raise ValueError(f"unexpected RTLIL: {line!r}")
    return tuple(statements)


def _cases(module: Module, lines: Iterator[str]) -> tuple[tuple[tuple[str, ...], tuple[Statement, ...]], ...]:
    cases: list[tuple[tuple[str, ...], list[Statement]]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "end":
            break
        if word == "case":
            cases.append((tuple(p.partition("'")[2] for p in rest.split(", ")) if rest else (), []))
        elif word == "assign":
            left, right = _specs(module, rest)
            cases[-1][1].append(Assign(left, right))
        elif word == "switch":
            (test,) = _specs(module, rest)
            cases[-1][1].append(Switch(test, _cases(module, lines)))
        else:
            raise ValueError(f"unexpected RTLIL: {line!r}")
    return tuple((patterns, tuple(body)) for patterns, body in cases)


def _specs(module: Module, text: str) -> list[Spec]:
    """The signal specifications of a line, one behind the other."""
    specs: list[Spec] = []
    chunks: list[Chunk] | None = None

    def add(chunk: Chunk) -> None:
        kept = (chunk,) if chunk.width else ()
        if chunks is None:
            specs.append(kept)
        else:
            chunks.extend(kept)

    for token in _TOKEN.findall(text):
        if token == "{":
            chunks = []
        elif token == "}":
            specs.append(tuple(chunks or ()))
            chunks = None
        elif token[0] == "[":
            high, _, low = token[1:-1].partition(":")
            at = chunks if chunks is not None else list(specs.pop())
            part = Chunk(at[-1].wire, int(low or high), int(high) - int(low or high) + 1)
            at[-1] = part
            if chunks is None:
                specs.append(tuple(at))
        elif token[0].isdigit():
            bits = token.partition("'")[2]
            add(Chunk("", 0, len(bits), bits))
        else:
            add(Chunk(token, 0, module.wires[token].width))
    return specs
