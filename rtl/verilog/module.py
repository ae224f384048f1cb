"""One module of Verilog-2005 that means the same as SystemVerilog-2017.

Registers are clocked `always` blocks, everything else is a continuous assignment, of a function where there are choices
in it: nothing waits for an event, so nothing stays undefined that no event reaches (an `always @*` whose inputs have
their values from the start never runs in SystemVerilog). Initial values are in `initial` blocks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from .choices import assignments, branches_of, is_chain, is_choice, reset_first
from .expressions import Expressions, constant, primary, span
from .names import Names, wire_names, written
from .rtlil import Assign, Cell, Chunk, Module, Process, Spec, Statement, Switch, memory_of, part_of
from .simplify import assigned, reads_of

__all__ = ["ModuleText"]

TAB = "  "
CONTENTS = "contents"
"""Attribute of a memory: the file with its first words."""
_WORD = re.compile(r"[A-Za-z_]\w*")


class ModuleText:
    """The text of one module. `children`: those of submodules, for the names of their ports.

    `instance`: what the module of an instance is called.
    """

    def __init__(self, module: Module, ports: Mapping[str, str], children: Mapping[str, ModuleText]) -> None:
        self.module, self.children = module, children
        reserved = {cell.name.lstrip("\\") for cell in module.cells if not cell.kind.startswith("$")}
        # Memories and submodules keep their names: benches and tables of faults address them.
        self.names = Names(reserved)
        memories = {m: m[1:] if not m[1:].startswith("U$") else "rom" for m in module.memories}
        self.memory_names = {m: self.names.unique(name) for m, name in memories.items()}
        self.wires = wire_names(module, ports, self.names)
        self.readers = self._count_readers()
        self.registers = {c.ports["Q"][0].wire: c for c in module.cells if c.kind == "$dff"}
        self.processes = {assigned(p): p for p in module.processes}
        self.expressions = Expressions(module, self.wires, self.readers)
        self.absorbed = self._absorbed()

    def _count_readers(self) -> Counter[str]:
        module = self.module
        specs = [s for c in module.cells for p, s in c.ports.items() if p not in c.outputs]
        specs += [s for p in module.processes for s in reads_of(p)] + [right for _, right in module.connects]
        readers = Counter(chunk.wire for spec in specs for chunk in spec)
        readers.update(name for name, wire in module.wires.items() if wire.kind == "output")
        return readers

    def _next(self, register: Cell) -> Process | None:
        """The process that decides what a register takes and does nothing else."""
        spec = register.ports["D"]
        if len(spec) != 1 or spec[0].wire not in self.processes or not spec[0].wire.startswith("$"):
            return None
        wire = spec[0].wire
        whole = spec[0].width == self.module.wires[wire].width
        return self.processes[wire] if whole and self.readers[wire] == 1 else None

    def _absorbed(self) -> set[str]:
        """Nameless wires that have no declaration: what drives them stands where they are read."""
        gone: set[str] = set()
        rights = [right for _, right in self.module.connects]
        for process in self.module.processes:
            if not is_choice(process):
                rights += [a.right for a in assignments(process)]
        for register in self.registers.values():
            if self._next(register) is not None:
                gone.add(register.ports["D"][0].wire)
            else:
                rights.append(register.ports["D"])
        gone |= {r[0].wire for r in rights if len(r) == 1 and self.expressions.whole(r[0]) is not None}
        return gone | {wire for wire in self.module.wires if self.expressions.inlined(wire)}

    def lines(self, modules: Mapping[str, str]) -> Iterator[str]:
        """The module behind its name. `modules`: what those of its instances are called."""
        ports = [w for w in self.module.wires.values() if w.kind]
        ports.sort(key=lambda w: (w.name not in ("\\clk", "\\rst"), w.name))
        yield " ("
        for i, port in enumerate(ports):
            kind = "reg" if port.name in self._regs else "wire"
            comma = "," if i < len(ports) - 1 else ""
            yield f"{TAB}{port.kind} {kind} {span(port.width)}{written(self.wires[port.name])}{comma}"
        yield ");"
        for part in (self._declarations(), self._initial(), self._assigns(), self._functions(), self._clocked()):
            body = list(part)
            if body:
                yield ""
                yield from (TAB + line if line else "" for line in body)
        for cell in self.module.cells:
            if not cell.kind.startswith("$"):
                yield ""
                yield from (TAB + line for line in self._instance(cell, modules))
        yield "endmodule"

    @cached_property
    def _regs(self) -> set[str]:
        """Wires that a clocked block assigns."""
        return {*self.registers, *(wire for c in self._synchronous_reads() for wire in c.driven)}

    def _synchronous_reads(self) -> list[Cell]:
        return [c for c in self.module.cells if c.kind == "$memrd_v2" and c.parameters["CLK_ENABLE"] == "1"]

    def _declarations(self) -> Iterator[str]:
        for wire in self.module.wires.values():
            if not wire.kind and wire.name not in self.absorbed and wire.width:
                yield from (f"(* {key} = {value} *)" for key, value in wire.attributes.items())
                kind = "reg" if wire.name in self._regs else "wire"
                yield f"{kind} {span(wire.width)}{written(self.wires[wire.name])};"
        for memory in self.module.memories.values():
            yield from (f"(* {key} = {value} *)" for key, value in memory.attributes.items() if key != CONTENTS)
            yield f"reg {span(memory.width)}{written(self.memory_names[memory.name])} [0:{memory.depth - 1}];"

    def _initial(self) -> Iterator[str]:
        registers = [w for w in self.module.wires.values() if w.name in self.registers and w.init]
        if registers:
            yield "initial begin"
            yield from (f"{TAB}{written(self.wires[w.name])} = {constant(w.init)};" for w in registers)
            yield "end"
        for cell in self.module.cells:
            if cell.kind == "$meminit_v2":
                yield from self._contents(cell)

    def _contents(self, cell: Cell) -> Iterator[str]:
        memory = self.module.memories[memory_of(cell)]
        name = self.memory_names[memory.name]
        if CONTENTS in memory.attributes:
            yield f"initial $readmemh({memory.attributes[CONTENTS]}, {written(name)});"
            return
        bits = cell.ports["DATA"][0].bits
        words = [bits[len(bits) - (i + 1) * memory.width : len(bits) - i * memory.width] for i in range(memory.depth)]
        used = max((i + 1 for i, word in enumerate(words) if "1" in word), default=0)
        digits = -(-memory.width // 4)
        if used < memory.depth:
            index = self.names.unique("row")
            yield f"integer {index};"
            yield "initial begin"
            zeros = constant("0" * memory.width)
            loop = f"{index} = {used}; {index} < {memory.depth}; {index} = {index} + 1"
            yield f"{TAB}for ({loop}) {written(name)}[{index}] = {zeros};"
        else:
            yield "initial begin"
        for i, word in enumerate(words[:used]):
            yield f"{TAB}{written(name)}[{i}] = {memory.width}'h{int(word, 2):0{digits}x};"
        yield "end"

    def _assigns(self) -> Iterator[str]:
        """Continuous assignments without a function."""
        to = self.expressions
        for left, right in self.module.connects:
            yield f"assign {to.spec(left)} = {to.right(right)};"
        for cell in self.module.cells:
            if cell.kind.startswith("$") and cell.outputs == ("Y",):
                (result,) = cell.ports["Y"]
                if result.wire not in self.absorbed:
                    yield f"assign {to.chunk(result)} = {to.operator(cell)};"
            elif cell.kind == "$memrd_v2" and cell.parameters["CLK_ENABLE"] == "0":
                yield f"assign {to.spec(cell.ports['DATA'])} = {self._word(cell)};"
        for wire, process in self.processes.items():
            if wire not in self.absorbed and is_choice(process):
                yield f"assign {written(self.wires[wire])} = {self._chosen(process)};"

    def _chosen(self, process: Process) -> str:
        default, *rest = process
        assert isinstance(default, Assign)
        text = self.expressions.spec(default.right, nested=True)
        for switch in reversed(rest):
            assert isinstance(switch, Switch)
            branches = list(branches_of(switch))
            for bit, body in reversed(branches):
                value = next(iter(assignments(body)))
                right = self.expressions.spec(value.right, nested=True)
                text = right if bit is None else f"{self._condition(bit, nested=True)} ? {right} : {text}"
        return text

    def _condition(self, bit: tuple[Chunk, str], *, nested: bool = False) -> str:
        chunk, value = bit
        text = self.expressions.chunk(chunk, nested=nested and value == "1")
        return text if value == "1" else f"!{primary(text)}"

    def _functions(self) -> Iterator[str]:
        """Combinational choices that are more than one `?`, each a function of what it reads."""
        for wire, process in self.processes.items():
            if wire in self.absorbed or is_choice(process):
                continue
            name = self.names.unique(f"{self.wires[wire]}_of")
            body = list(self._body(process, {wire: name}, "="))
            words = {word for line in body for word in _WORD.findall(line)}
            arguments = [w for w in self.module.wires if self.wires[w] in words and w not in self.absorbed]
            yield f"function {span(self.module.wires[wire].width)}{name};"
            yield from (f"{TAB}input {span(self.module.wires[a].width)}{written(self.wires[a])};" for a in arguments)
            if not arguments:
                yield f"{TAB}input none;"
            yield f"{TAB}begin"
            yield from (2 * TAB + line for line in body)
            yield f"{TAB}end"
            yield "endfunction"
            operands = ", ".join(written(self.wires[a]) for a in arguments) or "1'b0"
            yield f"assign {written(self.wires[wire])} = {name}({operands});"
            yield ""

    def _clocked(self) -> Iterator[str]:
        to, plain = self.expressions, []
        for wire, cell in self.registers.items():
            process, name = self._next(cell), written(self.wires[wire])
            if process is None:
                plain.append((to.spec(cell.ports["CLK"]), f"{name} <= {to.right(cell.ports['D'])};"))
                continue
            yield f"always @(posedge {to.spec(cell.ports['CLK'])}) begin"
            driven = cell.ports["D"][0].wire
            first = process[0]
            keeps = isinstance(first, Assign) and first.right == cell.ports["Q"] and first.left == cell.ports["D"]
            body = process[1:] if keeps else process
            yield from (TAB + line for line in self._body(reset_first(body), {driven: self.wires[wire]}, "<="))
            yield "end"
            yield ""
        for cell in self._synchronous_reads():
            if int(cell.parameters["TRANSPARENCY_MASK"].partition("'")[2] or "0", 2):
                raise NotImplementedError("a read port that shows what is being written")
            enable = self._enabled(cell.ports["EN"][0])
            plain.append((to.spec(cell.ports["CLK"]), f"{enable}{to.spec(cell.ports['DATA'])} <= {self._word(cell)};"))
        for cell in self.module.cells:
            if cell.kind == "$memwr_v2":
                plain += [(to.spec(cell.ports["CLK"]), line) for line in self._writes(cell)]
        for clock in dict.fromkeys(clock for clock, _ in plain):
            yield f"always @(posedge {clock}) begin"
            yield from (TAB + line for at, line in plain if at == clock)
            yield "end"

    def _enabled(self, enable: Chunk) -> str:
        return "" if enable.bits == "1" else f"if ({self.expressions.chunk(enable)}) "

    def _word(self, cell: Cell) -> str:
        name = written(self.memory_names[memory_of(cell)])
        return f"{name}[{self.expressions.spec(cell.ports['ADDR'])}]"

    def _writes(self, cell: Cell) -> Iterator[str]:
        """One line for each run of bits that are written together."""
        enables = [chunk.cut(i, 1) for chunk in reversed(cell.ports["EN"]) for i in range(chunk.width)]
        low = 0
        while low < len(enables):
            high = low
            while high + 1 < len(enables) and enables[high + 1] == enables[low]:
                high += 1
            data = part_of(cell.ports["DATA"], low, high - low + 1)
            whole = high - low + 1 == len(enables)
            part = "" if whole else f"[{high}:{low}]" if high > low else f"[{low}]"
            if enables[low].bits != "0":
                yield f"{self._enabled(enables[low])}{self._word(cell)}{part} <= {self.expressions.spec(data)};"
            low = high + 1

    def _body(self, statements: Sequence[Statement], names: Mapping[str, str], sign: str) -> Iterator[str]:
        for statement in statements:
            if isinstance(statement, Assign):
                yield f"{self._left(statement.left, names)} {sign} {self.expressions.right(statement.right)};"
            elif is_chain(statement):
                yield from self._chain(statement, names, sign)
            else:
                yield from self._case(statement, names, sign)

    def _left(self, left: Spec, names: Mapping[str, str]) -> str:
        (chunk,) = left
        name = written(names[chunk.wire])
        if chunk.width == self.module.wires[chunk.wire].width:
            return name
        return f"{name}[{chunk.low}]" if chunk.width == 1 else f"{name}[{chunk.low + chunk.width - 1}:{chunk.low}]"

    def _chain(self, switch: Switch, names: Mapping[str, str], sign: str) -> Iterator[str]:
        branches = list(branches_of(switch))
        word = "if"
        for i, (bit, body) in enumerate(branches):
            rest = branches[i + 1 :]
            if not any(b for _, b in branches[i:]):
                break
            if bit is not None and not body and len(rest) == 1 and rest[0][0] is None:
                # Nothing to do on this condition: ask for the opposite.
                bit, body, rest = (bit[0], "10"[int(bit[1])]), rest[0][1], []
            if bit is None and len(body) == 1 and isinstance(body[0], Switch) and is_chain(body[0]):
                inner = self._chain(body[0], names, sign)
                yield f"end else {next(inner)}"
                yield from inner
                return
            yield f"{word} ({self._condition(bit)}) begin" if bit is not None else "end else begin"
            yield from (TAB + line for line in self._body(body, names, sign))
            if bit is None or rest == []:
                break
            word = "end else if"
        if any(body for _, body in branches):
            yield "end"

    def _case(self, switch: Switch, names: Mapping[str, str], sign: str) -> Iterator[str]:
        wild = any("-" in pattern for patterns, _ in switch.cases for pattern in patterns)
        yield f"{'casez' if wild else 'case'} ({self.expressions.spec(switch.test)})"
        cases = list(switch.cases)
        whole = all(patterns for patterns, _ in cases)
        while whole and cases and not cases[-1][1]:
            cases.pop()
        for patterns, body in cases:
            yield from self._labelled(", ".join(map(_pattern, patterns)) or "default", body, names, sign)
        if whole:
            yield f"{TAB}default: ;"
        yield "endcase"

    def _labelled(self, label: str, body: Sequence[Statement], names: Mapping[str, str], sign: str) -> Iterator[str]:
        lines = list(self._body(body, names, sign))
        if len(lines) <= 1:
            yield f"{TAB}{label}: {lines[0] if lines else ';'}"
        else:
            yield f"{TAB}{label}: begin"
            yield from (2 * TAB + line for line in lines)
            yield f"{TAB}end"

    def _instance(self, cell: Cell, modules: Mapping[str, str]) -> Iterator[str]:
        child = self.children.get(cell.module)
        kind = modules.get(cell.module, cell.module)
        if cell.parameters:
            yield f"{kind} #("
            yield from _listed(f".{n.lstrip(chr(92))}({_parameter(v)})" for n, v in cell.parameters.items())
            yield f") {written(cell.name.lstrip(chr(92)))} ("
        else:
            yield f"{kind} {written(cell.name.lstrip(chr(92)))} ("
        named = [(child.wires[f"\\{p}"] if child is not None else p, spec) for p, spec in cell.ports.items()]
        yield from _listed(f".{written(port)}({self.expressions.spec(spec)})" for port, spec in named)
        yield ");"


def _listed(items: Iterable[str]) -> Iterator[str]:
    lines = list(items)
    yield from (f"{TAB}{line}{',' if i < len(lines) - 1 else ''}" for i, line in enumerate(lines))


def _parameter(value: str) -> str:
    return value if value.startswith('"') or "'" not in value else constant(value.partition("'")[2])


def _pattern(bits: str) -> str:
    if "-" in bits:
        return f"{len(bits)}'b{bits.replace('-', '?')}"
    return constant(bits)
