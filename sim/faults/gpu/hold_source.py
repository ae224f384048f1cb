"""The plan as CUDA for faults that last, one warp for each: what a net adds to `wound.cu` and `hold.cu`.

A wrong weight is a sum that is off by the difference times the code that the weight meets, at one unit: that unit is
computed in every tick. So is the unit of a wrong sum, or of a wrong value of the drive. A value that leaves its format
wraps, as golden's do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from .expressions import expression
from .follow_source import FollowWriter, Text, resource
from .reached import Reached

__all__ = ["SLOTS", "hold_text"]

SLOTS = 8
"""Words of states that one fault upsets, at most."""


def hold_text(reached: Reached, types: Mapping[tuple[str, str], str], samples: int, slots: int) -> Text:
    """The text for faults of at most `slots` upsets of states; `types` as in `follow_source.text_of`."""
    return _HoldWriter(reached, dict(types), slots).text(samples)


class _HoldWriter(FollowWriter):
    driver = "hold.cu"
    wound = ", const struct wound *wound"

    def __init__(self, reached: Reached, types: dict[tuple[str, str], str], slots: int) -> None:
        super().__init__(reached.plan, types)
        self.reached, self.slots = reached, slots
        self.dives = list(reached.dives)
        self.made |= {op.out: op for chain in reached.dives.values() for op in chain}

    def head(self) -> Iterator[str]:
        maps = [op for readers in self.reached.maps.values() for op in readers]
        step = self.reached.codes([op for op in maps if op in self.plan.step])
        step += [k for name, k in self.reached.sums.items() if any(op.out == name for op in self.plan.step)]
        held = set(self.reached.drive.values())
        drive = {*self.reached.codes([op for op in maps if op.out not in self.plan.matrices]), *held}
        rest = {*self.reached.weights.values(), *self.reached.sums.values()}
        yield f"#define SLOTS {self.slots}"
        yield f"#define HELDS {max(1, len(self.dives))}"
        elsewhere = {*self.reading(maps, drive=False), *self.reached.sums.values()}
        yield f"#define OF_DRIVE(weight) ({_among('weight', (rest | held) - elsewhere)})"
        yield f"#define OF_READOUT(weight) ({_among('weight', rest - {*step, *drive})})"
        yield resource("wound.cu")

    def reading(self, maps: Sequence[Op], *, drive: bool) -> list[int]:
        """Numbers of weights that maps of the drive, or others, read."""
        return self.reached.codes([op for op in maps if (op.out not in self.plan.matrices) == drive])

    # What the tick and the readout compute besides

    def stated(self, op: Op, code: str) -> str:
        return self.read_as(op.out, code)

    def latched(self, number: int, code: str) -> str:
        return self.read_as(self.states[number], code)

    def read_as(self, name: str, code: str) -> str:
        """The code that the word of a value holds of one; that of a boolean is in no format."""
        fmt = self.plan.net.formats.get(name)
        return code if fmt is None else f"{'SIGNED' if fmt.signed else 'UNSIGNED'}({code}, {fmt.bits})"

    def value(self, name: str, tick: str) -> str:
        code = super().value(name, tick)
        resolved = self.plan.resolve(name)
        return f"({code} + held_{self.dives.index(resolved)})" if resolved in self.dives else code

    def beside(self, part: Sequence[Op], unit: str) -> list[tuple[str, str]]:
        read = {self.plan.resolve(n) for op in part for n in op.reads}
        return [
            *(
                (f"const i32 held_{k}", f"({unit} == wound->row ? wound->held[{k}] : 0)")
                for k, name in enumerate(self.dives)
                if name in read
            ),
            *(
                (
                    f"const struct wound *struck_{self.id(op.out)}",
                    f"({unit} == wound->row && {self.struck_sum(op)} ? wound : 0)",
                )
                for op in part
                if op.out in self.reached.sums
            ),
        ]

    def operation(self, op: Op, sums: str, tick: str) -> Iterator[str]:
        if op.out not in self.reached.sums:
            yield from super().operation(op, sums, tick)
            return
        out, bits = self.id(op.out), self.plan.net.formats[op.out].bits
        yield f"i32 {out} = {self.stated(op, f'{self.sum(op.out, tick)} + {sums}_{out}')};"
        wrong = f"UPSET({out}, {bits}, struck_{out}->flip, struck_{out}->one, struck_{out}->zero)"
        yield f"if (struck_{out}) {out} = {self.stated(op, wrong)};"

    def struck_sum(self, op: Op) -> str:
        """Whether the wound is of the results of a map, and not over."""
        return f"wound->weight == {self.reached.sums[op.out]} && t <= wound->last"

    def struck(self, number: int, part: Sequence[Op]) -> Iterator[str]:
        maps = [op for op in part if op.out in self.plan.matrices]
        there = {*self.reached.codes(maps), *self.drives(part), *(self.reached.sums[op.out] for op in maps)}
        yield f"const i32 hot = {_among('wound->weight', there)} ? wound->row : -1;"
        for k, op in enumerate(maps):
            if self.reached.number(op):
                yield f"const i32 extra{k} = {self.extra(op, 'sought', 't')};"

    def drives(self, part: Sequence[Op]) -> list[int]:
        """Numbers of values of the drive that `part` reads, and of weights that reach one."""
        read = {self.plan.resolve(n) for op in part for n in op.reads}
        chains = [op for name, chain in self.reached.dives.items() if name in read for op in chain]
        return [*self.reached.codes(chains), *(k for name, k in self.reached.drive.items() if name in read)]

    def extra(self, op: Op, deviation: str, tick: str) -> str:
        """By how much a wrong weight puts its sum off."""
        source = self.states.index(self.plan.resolve(op.reads[0]))
        met = f"({self.state(self.states[source], 'wound->column', tick)} + {deviation}(old, {source}, wound->column))"
        return f"wound->weight == {self.reached.number(op)} ? wound->delta * {met} : 0"

    def hot(self, number: int, part: Sequence[Op]) -> str:
        return "        if (hot >= 0 && hot >> 8 == p && (hot >> 3 & 31) == lane) L(mask) |= MASK(hot & 7);"

    def summed(self, k: int, op: Op) -> str:
        return f" + (i == hot ? extra{k} : 0)" if self.reached.number(op) else ""

    def read_struck(self, op: Op) -> Iterator[str]:
        if self.reached.number(op):
            yield f"if (i == wound->row) sum_{self.id(op.out)} += {self.extra(op, 'deviation', 'TICKS')};"

    # The drive

    def codes(self) -> Iterator[str]:
        yield from super().codes()
        for k, (name, chain) in enumerate(self.reached.dives.items()):
            if chain:
                yield self.drive(k, name, chain)
        yield "DEVICE i32 dive(const struct net *net, int h, i32 weight, i32 row, i32 column, i32 delta,"
        yield "                i32 flip, i32 one, i32 zero, i32 sample)\n{"
        for k, (name, chain) in enumerate(self.reached.dives.items()):
            if name in self.reached.drive:
                code = self.origin(name, "row")
                wrong = self.read_as(name, f"UPSET({code}, {self.plan.net.formats[name].bits}, flip, one, zero)")
                yield f"    if (h == {k} && weight == {self.reached.drive[name]}) return {wrong} - {code};"
            if not chain:
                continue
            given = []
            for op in chain:
                if self.reached.number(op):
                    assert isinstance(op, ops.Linear)
                    met = self.origin(op.x, "column")
                    given.append(f", weight == {self.reached.number(op)} ? delta * {met} : 0")
            read = f"h == {k} && ({_among('weight', set(self.reached.codes(chain)))})"
            yield f"    if ({read}) return drive{k}(net, sample, row{''.join(given)});"
        yield "    return 0;\n}"

    def drive(self, number: int, name: str, chain: Sequence[Op]) -> str:
        """By how much unit i of a held value is off; `sum_`: what deviates of each sum."""
        sums = "".join(f", i32 sum_{self.id(op.out)}" for op in chain if self.reached.number(op))
        lines = [f"DEVICE i32 drive{number}(const struct net *net, i32 sample, i32 i{sums})\n{{"]
        inside = {op.out for op in chain}

        def value(read: str) -> str:
            if read in inside:
                return self.id(read)
            return FollowWriter.value(self, read, "0") if read in self.plan.params else self.origin(read, "i")

        for op in chain:
            out = self.id(op.out)
            if self.reached.number(op):
                code = f"{self.origin(op.out, 'i')} + sum_{out}"
            elif isinstance(op, ops.Reshape):
                code = value(op.x)
            else:
                table, entry = (lambda n: f"net->{self.pointer('entries', n)}"), f"e_{out}"
                before, code = expression(op, self.plan, value, table, entry=entry)
                lines.append(f"    {before}")
            lines.append(f"    const i32 {out} = {self.stated(op, code)};")
        return "\n".join([*lines, f"    return {self.id(name)} - {self.origin(name, 'i')};\n}}"])

    def origin(self, name: str, index: str) -> str:
        """A fault-free code of an input or of the drive."""
        size = self.plan.sizes[name]
        return f"net->{self.pointer('origin', name)}[(INDEX)sample * {size} + {index if size > 1 else '0'}]"


def _among(name: str, numbers: set[int]) -> str:
    """Whether a number is among some, in C."""
    return " || ".join(f"{name} == {n}" for n in sorted(numbers)) or "0"
