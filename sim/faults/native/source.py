"""The C of a net: its tick and its readout on deviations, before and behind what `drive.h` has for every net.

Sums follow from the columns of the elements that deviate, everything else is computed for all units at once. A table is
read only where an index leaves the entries around the fault-free one that hold the same code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from ....toolchain.arrays import Array
from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from ..gpu.expressions import clamped, expression
from ..gpu.plan import Plan

__all__ = ["Place", "Source", "source_of"]

_FEW = 64
"""Up to so many sums are not summed in panels of `_PANEL`."""
_PANEL = 256
_FLAGS = 8
"""Units whose flags are looked at together."""
_TYPES: Final[dict[type[np.signedinteger[Any]], str]] = {
    np.int8: "i8",
    np.int16: "i16",
    np.int32: "i32",
    np.int64: "i64",
}
_DECLARES = re.compile(r"(i32|u8) \w+\[\d+\];").fullmatch
"""Whether a statement declares an array, and no more."""
_HEAD = """\
#include <stdint.h>
typedef int8_t i8; typedef uint8_t u8; typedef int16_t i16; typedef int32_t i32; typedef int64_t i64;
typedef uint64_t u64;
"""


@dataclass(frozen=True)
class Place:
    """Where the fault-free codes of a value are: in the rows of ticks, those of samples, or those of readouts."""

    kind: str
    first: int


@dataclass(frozen=True)
class Loop:
    """A statement for each unit `i` of `size`, which reads of other loops' results that of its own unit alone."""

    size: int
    body: str


@dataclass(frozen=True)
class Source:
    """`text`, and the matrices that `struct net` points at, each `[inputs, padded sums]` int8."""

    text: str
    matrices: tuple[Array, ...]


def source_of(plan: Plan, places: Mapping[str, Place], widths: Mapping[str, int]) -> Source:
    """The C of a plan. `places` of every value that is not constant; `widths` of rows by kind of place."""
    return _Writer(plan, places, widths).source()


class _Writer:
    def __init__(self, plan: Plan, places: Mapping[str, Place], widths: Mapping[str, int]) -> None:
        self.plan, self.places, self.widths = plan, places, widths
        self.states = [s.name for s in plan.net.states]
        self.first = np.cumsum([0, *(plan.sizes[n] for n in self.states)]).tolist()
        self.names: dict[str, str] = {}
        self.params: dict[str, str] = {}
        self.matrices: list[tuple[str, Array, int]] = []
        self.declared: list[str] = []

    def source(self) -> Source:
        tick, read, bounds = list(_merged(self.tick())), list(_merged(self.readout())), list(_merged(self.bounds()))
        steps = self.plan.net.schedule
        numbers = {
            "STATES": len(self.states),
            "UNITS": self.first[-1],
            "TICKS": steps.steps,
            "TOLERANCE": steps.tolerance,
            "WIDTH": self.widths["tick"],
            "HELD": self.widths["held"],
            "READ": self.widths["read"],
            "SLOTS": min(64, steps.steps + 1),
        }
        lines = [_HEAD, *(f"#define {name} {value}" for name, value in numbers.items())]
        lines.append(f"static const i32 FIRST[STATES + 1] = {{{', '.join(map(str, self.first))}}};")
        pointers = [f"const i8 *{name};" for name, _, _ in self.matrices] or ["const i8 *none;"]
        lines.append(f"struct net {{ {' '.join(pointers)} }};")
        lines.append((resources.files(__package__) / "drive.h").read_text(encoding="utf-8"))
        lines += self.declared
        lines.append(
            "static int net_tick(const struct net *net, const i32 *c, const i32 *next, const i32 *held,\n"
            "                    const struct bounds *bounds, const struct deviations *old, struct deviations *new)\n{"
        )
        lines += [*(f"    {line}" for line in tick), "}"]
        lines.append(
            "static void net_read(const struct net *net, const i32 *c, const i32 *held, const i32 *read,\n"
            "                     const struct deviations *old, struct verdict *found)\n{"
        )
        lines += [*(f"    {line}" for line in read), "}"]
        lines.append("static void net_bounds(const i32 *c, struct bounds *found)\n{")
        lines += [*(f"    {line}" for line in bounds), "}", ""]
        return Source("\n".join(lines), tuple(matrix for _, matrix, _ in self.matrices))

    # Blocks

    def tick(self) -> Iterator[str | Loop]:
        fused = self.fused()
        yield from self.whole(self.plan.step, [s.update for s in self.plan.net.states])
        for op in self.plan.step:
            if op.out not in fused:
                yield from self.operation(op)
        for number, s in enumerate(self.plan.net.states):
            lookup = fused.get(self.plan.resolve(s.update))
            if lookup is not None:
                first, size, index = self.first[number], self.plan.sizes[s.name], self.value(lookup.x, "i")
                padded = -(-size // _FLAGS) * _FLAGS
                yield f"u8 f{number}[{padded}];"
                if padded > size:
                    yield f"memset(f{number} + {size}, 0, {padded - size});"
                low, high = f"bounds->low[{first} + i]", f"bounds->high[{first} + i]"
                yield Loop(size, f"f{number}[i] = ({index} < {low}) | ({index} > {high});")
        yield "int deviates = 0;"
        for number, s in enumerate(self.plan.net.states):
            yield from self.latch(number, s.update, fused.get(self.plan.resolve(s.update)))
        yield "return deviates;"

    def fused(self) -> dict[str, ops.Lookup]:
        """Tables whose codes nothing reads but a state that latches them, by what they write."""
        updates = {self.plan.resolve(s.update) for s in self.plan.net.states}
        read = [n for op in self.plan.step for n in op.reads] + [s.update for s in self.plan.net.states]
        return {
            op.out: op
            for op in self.plan.step
            if isinstance(op, ops.Lookup)
            and op.out in updates
            and sum(self.plan.resolve(n) == op.out for n in read) == 1
            and self.plan.resolve(op.x) in self.moving()
        }

    def bounds(self) -> Iterator[str | Loop]:
        """The first and the last index with the code of the fault-free one, of all units whose table is fused."""
        fused = self.fused()
        for number, s in enumerate(self.plan.net.states):
            lookup = fused.get(self.plan.resolve(s.update))
            if lookup is not None:
                first, index = self.first[number], self.usual(lookup.x, "i")
                low, high = self.runs(lookup)
                found = (f"found->{name}[{first} + i] = {run}[e];" for name, run in (("low", low), ("high", high)))
                yield Loop(self.plan.sizes[s.name], f"{{ {self.entry(lookup, index)} {' '.join(found)} }}")

    def readout(self) -> Iterator[str | Loop]:
        yield from self.whole(self.plan.readout, [o.value for o in self.plan.net.outputs])
        for op in self.plan.readout:
            yield from self.operation(op)
        for o in self.plan.net.outputs:
            size = self.plan.sizes[o.value]
            value, usual = self.value(o.value, "i"), self.usual(o.value, "i")
            yield f"for (int i = 0; i < {size}; i++) found->output |= {value} != {usual};"
        label = self.plan.label
        if label is not None:
            name, size = label
            yield "int best = 0, plain = 0;"
            yield f"for (int i = 1; i < {size}; i++) {{"
            for index, code in (("best", self.value), ("plain", self.usual)):
                yield f"    if ({code(name, 'i')} > {code(name, index)}) {index} = i;"
            yield "}"
            yield "found->label = best;"
            yield "found->label_differs = best != plain;"

    def whole(self, block: Sequence[Op], ends: Sequence[str]) -> Iterator[str]:
        """Codes of all units of the states that an operation reads which is no sum, or that are an end."""
        read = [n for op in block if op.out not in self.plan.matrices for n in op.reads]
        names = {self.plan.resolve(n) for n in (*read, *ends)}
        for number, name in enumerate(self.states):
            if name not in names:
                continue
            first, size = self.first[number], self.plan.sizes[name]
            yield f"i32 s{number}[{size}];"
            yield f"memcpy(s{number}, c + {first}, sizeof s{number});"
            yield f"for (int k = {first}; k < {first} + old->count[{number}]; k++)"
            yield f"    s{number}[old->unit[k]] += old->difference[k];"

    def moving(self) -> set[str]:
        return {op.out for op in (*self.plan.step, *self.plan.readout)}

    def latch(self, number: int, update: str, lookup: ops.Lookup | None) -> Iterator[str]:
        """List what deviates of a state."""
        first, size = self.first[number], self.plan.sizes[self.states[number]]
        yield "{"
        yield f"    int count = {first};"
        yield "    i32 mass = 0;"
        if lookup is None:
            yield f"    for (int i = 0; i < {size}; i++)"
            yield f"        {self.appended(first, self.value(update, 'i'), 'i')}"
        else:
            code = f"{self.param(lookup.table)}[e]"
            yield f"    for (int g = 0; g < {size}; g += {_FLAGS}) {{"
            yield "        u64 flags;"
            yield f"        for (memcpy(&flags, f{number} + g, {_FLAGS}); flags; flags &= flags - 1) {{"
            yield "            int i = g + (__builtin_ctzll(flags) >> 3);"
            yield f"            {self.entry(lookup, self.value(lookup.x, 'i'))}"
            yield f"            {self.appended(first, code, 'i')}"
            yield "        }"
            yield "    }"
        yield f"    new->count[{number}] = count - {first};"
        yield f"    new->mass[{number}] = mass;"
        yield f"    deviates |= count - {first};"
        yield "}"

    def appended(self, first: int, code: str, index: str) -> str:
        where = "new->unit, new->difference, count, &mass"
        return f"count = append({where}, {index}, {code} - next[{first} + {index}]);"

    # Operations

    def operation(self, op: Op) -> Iterator[str | Loop]:
        """Statements that compute an operation."""
        out, size = self.name(op.out), self.plan.sizes[op.out]
        match op:
            case ops.Linear(x=x) | ops.Stencil(x=x):
                yield from self.sums(op.out, x)
            case ops.Reduce(x=x, kind=kind):
                code = self.value(x, "i")
                yield f"i32 {out}[1] = {{{self.value(x, '0')}}};"
                total = f"{out}[0] += {code}"
                most = f"{out}[0] = {code} > {out}[0] ? {code} : {out}[0]"
                yield f"for (int i = 1; i < {self.plan.sizes[x]}; i++) {total if kind == 'sum' else most};"
            case _:
                before, code = expression(op, self.plan, lambda name: self.value(name, "i"), self.param)
                yield f"i32 {out}[{size}];"
                yield Loop(size, f"{{ {before} {out}[i] = {code}; }}" if before else f"{out}[i] = {code};")

    def sums(self, name: str, operand: str) -> Iterator[str]:
        """Sums of a matrix: the fault-free ones, and what deviations of the operand add."""
        out, size = self.name(name), self.plan.sizes[name]
        few = size <= _FEW
        width = size if few else -(-size // _PANEL) * _PANEL
        matrix = self.plan.matrices[name]
        padded = np.zeros((matrix.shape[1], width), np.int8)
        padded[:, :size] = matrix.T
        pointer = f"w{len(self.matrices)}"
        self.matrices.append((pointer, padded, width))
        operand = self.plan.resolve(operand)
        yield f"i32 {out}[{width}];"
        plain = f"&{self.usual(name, '0')}"
        if width > size or few:
            yield f"memcpy({out}, {plain}, {4 * size});"
            plain = out
        if width > size:
            yield f"memset({out} + {size}, 0, {4 * (width - size)});"
        if operand in self.states:
            number = self.states.index(operand)
            first = self.first[number]
            count, mass = f"old->count[{number}]", f"old->mass[{number}]"
            unit, difference = f"old->unit + {first}", f"old->difference + {first}"
        else:
            length = self.plan.sizes[operand]
            yield f"i32 u_{out}[{length + 1}], d_{out}[{length + 1}], m_{out} = 0;"
            yield f"int k_{out} = 0;"
            apart = f"{self.value(operand, 'i')} - {self.usual(operand, 'i')}"
            yield f"for (int i = 0; i < {length}; i++)"
            yield f"    k_{out} = append(u_{out}, d_{out}, k_{out}, &m_{out}, i, {apart});"
            count, mass, unit, difference = f"k_{out}", f"m_{out}", f"u_{out}", f"d_{out}"
        if few:
            yield f"add_few({out}, net->{pointer}, {width}, {count}, {unit}, {difference});"
        else:
            largest = max(1, int(np.abs(matrix.astype(np.int64)).max(initial=0)))
            where = f"{out}, {plain}, net->{pointer}, {width}, {largest}"
            yield f"add_columns({where}, {count}, {mass}, {unit}, {difference});"

    # Names

    def name(self, value: str) -> str:
        return self.names.setdefault(value, f"v{len(self.names)}")

    def param(self, name: str) -> str:
        """A constant as an array of the narrowest type."""
        if name not in self.params:
            entries = self.plan.params[name]
            kind = next(k for k in _TYPES if _fits(entries, k))
            self.params[name] = f"p{len(self.params)}"
            values = ", ".join(map(str, entries.tolist()))
            self.declared.append(f"static const {_TYPES[kind]} {self.params[name]}[{len(entries)}] = {{{values}}};")
        return self.params[name]

    def entry(self, lookup: ops.Lookup, index: str) -> str:
        """The declaration of `e`, the entry that an index reads."""
        return clamped("e", index, lookup.first, len(self.plan.params[lookup.table]))

    def runs(self, lookup: ops.Lookup) -> tuple[str, str]:
        """Arrays of the first and the last index with the code of each entry."""
        key = f"{lookup.table} {lookup.first}"
        if key not in self.params:
            entries = self.plan.params[lookup.table]
            starts = np.flatnonzero(np.diff(entries, prepend=entries[0] + 1))
            lengths = np.diff(starts, append=len(entries))
            low, high = starts + lookup.first, starts + lengths - 1 + lookup.first
            low[0], high[-1] = np.iinfo(np.int32).min, np.iinfo(np.int32).max
            self.params[key] = f"p{len(self.params)}"
            for name, ends in (("low", low), ("high", high)):
                values = ", ".join(map(str, np.repeat(ends, lengths).tolist()))
                self.declared.append(f"static const i32 {self.params[key]}_{name}[{len(entries)}] = {{{values}}};")
        return f"{self.params[key]}_low", f"{self.params[key]}_high"

    def value(self, name: str, index: str) -> str:
        """The code of a unit in the disturbed run."""
        name = self.plan.resolve(name)
        at = index if self.plan.sizes.get(name, 0) != 1 else "0"
        if name in self.states:
            return f"s{self.states.index(name)}[{at}]"
        if name in self.plan.params:
            entries = self.plan.params[name]
            return f"({int(entries[0])})" if len(entries) == 1 else f"{self.param(name)}[{index}]"
        if name in self.moving():
            return f"{self.name(name)}[{at}]"
        return self.usual(name, index)

    def usual(self, name: str, index: str) -> str:
        """The code of a unit in the fault-free run."""
        name = self.plan.resolve(name)
        if name in self.plan.params:
            return self.value(name, index)
        place = self.places[name]
        row = {"tick": "c", "held": "held", "read": "read"}[place.kind]
        at = index if self.plan.sizes[name] != 1 else "0"
        return f"{row}[{place.first} + {at}]"


def _merged(statements: Iterable[str | Loop]) -> Iterator[str]:
    """Lines, those of loops over as many units in one: declarations between them come first."""
    loops: list[Loop] = []
    for statement in statements:
        ends = isinstance(statement, Loop) and loops and statement.size != loops[0].size
        if ends or not (isinstance(statement, Loop) or _DECLARES(statement)):
            yield from _one(loops)
            loops = []
        if isinstance(statement, Loop):
            loops.append(statement)
        else:
            yield statement
    yield from _one(loops)


def _one(loops: Sequence[Loop]) -> Iterator[str]:
    if loops:
        yield f"for (int i = 0; i < {loops[0].size}; i++) {{"
        yield from (f"    {loop.body}" for loop in loops)
        yield "}"


def _fits(entries: Array, kind: type[np.signedinteger[Any]]) -> bool:
    info = np.iinfo(kind)
    return bool(info.min <= int(entries.min(initial=0)) and int(entries.max(initial=0)) <= info.max)
