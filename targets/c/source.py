"""The header and the source of a net."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ...toolchain.ir import Input, IntNet, ops
from ...toolchain.ir.ops import Op
from ...toolchain.passes import reads
from .block import Block, copy
from .lanes import prelude
from .layout import CType, Field, Group, narrowest
from .matrix import Pack
from .program import DATA, SCRATCH, Kernel, Program
from .scalar import HELPERS
from .storage import Constant
from .templates import fill
from .values import Value, loops

__all__ = ["Source", "source_of"]

_DATA = "\0"
"""Stands for the constants while the source is put together: they are by far the most of it."""


@dataclass(frozen=True)
class Source:
    """Text of the header, and of the source in pieces that are made as they are read, once; bytes of the structs; C
    names of inputs, outputs and states by their names in the net; storage and bytes of each matrix."""

    header: str
    code: Iterator[str]
    ram: int
    flash: int
    io: int
    names: Mapping[str, str]
    matrices: Mapping[str, tuple[str, int]]


def source_of(net: IntNet, *, prefix: str, kernel: Kernel, pack: Pack) -> Source:
    """C of a verified net that the target takes."""
    return _Writer(net, prefix, kernel, pack).source()


class _Writer:
    def __init__(self, net: IntNet, prefix: str, kernel: Kernel, pack: Pack) -> None:
        self.net, self.prefix, self.guard = net, prefix, prefix.upper()
        self.program = Program(net, kernel, pack)
        self.scratch = {name: Group() for name in ("clamping", "stepping", "reading")}
        self.inputs, self.outputs = Group(), Group()
        self.io_names: dict[str, str] = {}

    def source(self) -> Source:
        program, net = self.program, self.net
        clamp = self.clamp()
        step = self.step()
        read = self.read()
        clear = ["    s->started[0] = 0;"]
        for f in program.clears:
            clear += loops((f.count,), lambda i, f=f: [f"s->{f.name}[{i[0]}] = 0;"], "    ")  # type: ignore[misc]
        state = program.kept.declarations("    ")
        used = {name: group for name, group in self.scratch.items() if group.fields}
        if used:
            state.append("    union {")
            for name, group in used.items():
                state += ["        struct {", *group.declarations(" " * 12), f"        }} {name};"]
            state.append(f"    }} {SCRATCH};")
        ram = program.kept.bytes + max((g.bytes for g in used.values()), default=0)
        data, flash = self.data()
        helpers = [text for name, text in HELPERS.items() if name in program.helpers]
        functions = [*helpers, *("\n".join(lines) for lines in program.functions.values())]
        common = {"prefix": self.prefix, "guard": self.guard, "title": json.dumps(net.name)}
        framed = net.schedule.frames
        header = fill(
            "net.h.tmpl",
            **common,
            digest=net.digest,
            steps=net.schedule.steps,
            tolerance=net.schedule.tolerance,
            frames=int(framed),
            every=int(net.schedule.emit == "every"),
            ram=ram,
            flash=flash,
            inputs="\n".join(f.declaration("    ") for f in self.inputs.ordered),
            outputs="\n".join(f.declaration("    ") for f in self.outputs.ordered),
            state="\n".join(state),
            kept_too=", accumulators" if program.clears else "",
            run_comment=f"One frame: clamp, relax, read. Call {self.prefix}_clear before the first frame of a sample."
            if framed
            else "All of it: clear, clamp, relax, read.",
        )
        code = fill(
            "net.c.tmpl",
            **common,
            data=_DATA,
            lanes=prelude(program.widths),
            functions="".join(f"\n{text}\n" for text in functions),
            clear="\n".join(clear),
            clamp="\n".join(clamp),
            step="\n".join(step),
            read="\n".join(read),
            run_clear="" if framed else f"    {self.prefix}_clear(s);\n",
        )
        matrices = {name: (m.storage, m.bytes) for name, m in program.storages.items()}
        io = sum(f.bytes for f in (*self.inputs.fields, *self.outputs.fields))
        before, _, after = code.partition(_DATA)
        return Source(header, chain([before], data, [after]), ram, flash, io, self.io_names, matrices)

    # The functions

    def clamp(self) -> list[str]:
        net, program = self.net, self.program
        later = reads(net.step) | reads(net.readout) | {s.update for s in net.states} | {o.value for o in net.outputs}
        lasting = _through_views(net.drive, later)
        lines: list[str] = []
        for i in net.inputs:
            given = program.array(self.inputs, i.name, i.shape, program.interval(i.name), "in->")
            self.io_names[i.name] = given.ref.removeprefix("in->")
            lines += self._checked(i, given)
            program.values[i.name] = given
        for i in net.inputs:
            if i.name in lasting:
                given = program.values[i.name]
                kept = program.array(program.kept, f"{i.name}_clamped", i.shape, given.interval, "s->")
                lines += copy(given, kept, "    ")
                program.values[i.name] = kept
        group, base = self._scratch("clamping")
        block = Block(program, group, base, lasting=lasting)
        inits = {s.init for s in net.states if s.init is not None}
        lines += block.write(net.drive, inits)
        lines.append("    if (!s->started[0]) {")
        for s in net.states:
            state = program.values[s.name]
            self.io_names[s.name] = state.ref.removeprefix("s->")
            zero = Value("0", (), None, program.ranges[s.name])
            lines += copy(zero if s.init is None else program.value(s.init), state, " " * 8)
        unused = [] if any("in->" in line for line in lines) else ["    (void)in;"]
        return [*unused, *lines, "        s->started[0] = 1;", "    }"]

    def _checked(self, i: Input, given: Value) -> list[str]:
        """Lines that refuse codes outside of the format, where the type holds such."""
        lo, hi, holds = given.interval.lo, given.interval.hi, narrowest(given.interval).interval
        tests = [f"{{}} < {lo}"] if holds.lo < lo else []
        tests += [f"{{}} > {hi}"] if holds.hi > hi else []
        if not tests:
            return []
        test = " || ".join(tests)
        count = math.prod(i.shape)
        return loops(
            (count,), lambda k: [f"if ({test.replace('{}', given.flat(k[0]))}) {{", "    return -1;", "}"], "    "
        )

    def step(self) -> list[str]:
        net, program = self.net, self.program
        group, base = self._scratch("stepping")
        block = Block(program, group, base, events=program.kernel == "event", dense=program.kernel == "dense")
        lines = block.write(net.step, {s.update for s in net.states})
        states = {root for s in net.states for root in program.values[s.name].roots}
        latched = []
        for s in net.states:
            new = program.value(s.update)
            if new.roots & states:
                # Another state, which latches at the same time.
                whole = block.new(s.update, s.shape, new.interval, wanted=f"{s.name}_new")
                lines += copy(new, whole, "    ")
                new = whole
            latched.append((program.values[s.name], new))
        if not latched:
            return ["    (void)s;", "    return 0;"] if not lines else [*lines, "    return 0;"]
        lines.append("    int moved = 0;")
        for state, new in latched:
            lines += self._latched(state, new)
        return [*lines, "    return moved;"]

    def _latched(self, state: Value, new: Value) -> list[str]:
        tolerance = self.net.schedule.tolerance
        word = "int32_t" if narrowest(state.interval).bits < 32 else "int64_t"
        bits = CType(narrowest(state.interval).bits, False)
        whole = new.aligned(state.shape)
        flat = whole.plain or whole.strides is None

        def body(index: Sequence[str]) -> list[str]:
            old, now = (v.flat(index[0]) if flat else v.at(index) for v in (state, whole))
            # In the width of the codes, so that a compiler compares as many as a vector register holds.
            same = f"differs = ({bits})(differs | ({bits})(now ^ old));"
            far = f"moved |= (now - old > {tolerance} || old - now > {tolerance});"
            return [
                f"const {word} now = ({word}){now};",
                f"const {word} old = ({word}){old};",
                far if tolerance else same,
                f"{old} = ({narrowest(state.interval)})now;",
            ]

        if tolerance:
            return loops(state.shape, body, "    ", flat=flat)
        inner = loops(state.shape, body, " " * 8, flat=flat)
        return ["    {", f"        {bits} differs = 0;", *inner, "        moved |= (differs != 0);", "    }"]

    def read(self) -> list[str]:
        net, program = self.net, self.program
        group, base = self._scratch("reading")
        lines = Block(program, group, base).write(net.readout, {o.value for o in net.outputs})
        if not any("s->" in line for line in lines) and not any(
            program.value(o.value).ref.startswith("s->") for o in net.outputs
        ):
            lines.append("    (void)s;")
        for o in net.outputs:
            value = program.value(o.value)
            shape = program.shapes[o.value]
            to = program.array(self.outputs, o.name, shape, program.interval(o.value), "out->")
            self.io_names[f"output {o.name}"] = to.ref.removeprefix("out->")
            lines += copy(value, to, "    ")
        return lines

    def _scratch(self, name: str) -> tuple[Group, str]:
        return self.scratch[name], f"s->{SCRATCH}.{name}."

    # Constants

    def data(self) -> tuple[Iterator[str], int]:
        """The text of the struct of constants, piece by piece, and its bytes."""
        constants = list(self.program.constants.values())
        if not constants:
            return iter(()), 0
        group = Group([Field(c.name, c.type, len(c.values)) for c in constants], self.program.names)
        return self._struct(group, sorted(constants, key=lambda c: -c.type.bytes)), group.bytes

    def _struct(self, group: Group, ordered: Sequence[Constant]) -> Iterator[str]:
        yield "\n".join(["", "static const struct {", *group.declarations("    "), f"}} {DATA} = {{", ""])
        for c in ordered:
            yield f"    .{c.name} = {{\n"
            yield from c.lines()
            yield "\n    },\n"
        yield "};\n"
        yield f"typedef char {self.prefix}_flash_is_as_stated[sizeof({DATA}) == {self.guard}_FLASH_BYTES ? 1 : -1];\n"


def _through_views(block: Sequence[Op], names: set[str]) -> set[str]:
    """`names` and whatever of `block` they are views of."""
    found = set(names)
    for op in reversed(block):
        if op.out in found and isinstance(op, (ops.Reshape, ops.Transpose)):
            found.add(op.x)
    return found
