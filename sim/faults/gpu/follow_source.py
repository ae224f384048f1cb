"""The plan as CUDA, one warp for each fault: what a net adds to `follow.cu` and, of flips, to `drive.cu`.

A tick is written where every code of a state follows from sums of states' codes and from codes at the same place. The
text is also C, for tests where there is no card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from ....toolchain.ir import ops
from ....toolchain.ir.ops import Op
from .places import Places
from .plan import Plan

__all__ = ["PANEL", "TASK", "FollowWriter", "Text", "flat", "text_of"]

PANEL = 256
"""Sums that a warp adds at once, eight a lane."""
_MOST_UNITS = 4096
_SHARED = 96 * 1024
"""Bytes of packed matrices that are held in shared memory; larger ones are read through the cache."""
_QUICK = 64
"""Sums up to it, and slack below it, stay within 8 bits together."""
TASK = 64
"""Flips that a warp takes at a time."""


@dataclass(frozen=True)
class Text:
    """`arrays`: what `struct net` points at, in the order of the kernel's last arguments: `(kind, name)` as in
    `resident.py`; `shared_words` of matrices and `warp_words` of each warp in shared memory; `slack`: whether the
    range is known in which a code stands, so that only units beyond it are computed."""

    text: str
    arrays: tuple[tuple[str, str], ...]
    shared_words: int
    warp_words: int
    slack: bool


def flat(plan: Plan) -> bool:
    """Whether the plan is written so: maps read states, and all else is computed place by place."""
    states = {s.name for s in plan.net.states}
    for op in (*plan.step, *plan.readout):
        if isinstance(op, ops.Reduce):
            return False
        if op.out in plan.matrices and plan.resolve(op.reads[0]) not in states:
            return False
    ends = [(plan.step, s.update) for s in plan.net.states] + [(plan.readout, o.value) for o in plan.net.outputs]
    writer = FollowWriter(plan, {})
    alike = all(plan.sizes[op.out] == plan.sizes[end] for block, end in ends for op in writer.slice(end, block))
    return alike and max(plan.sizes[n] for n in states) <= _MOST_UNITS


def text_of(plan: Plan, types: dict[tuple[str, str], str], samples: int) -> Text:
    """The text of a plan that is `flat`. `types`: C types of arrays that are not i32."""
    return FollowWriter(plan, types).text(samples)


def _panels(units: int) -> int:
    return -(-units // PANEL)


class FollowWriter(Places):
    """What else deviates than states, and how, says a class below this one (`hold_source.py`)."""

    driver = "drive.cu"
    wound = ""
    """A parameter more of functions that compute."""

    def text(self, samples: int) -> Text:
        slices = [self.slice(s.update, self.plan.step) for s in self.plan.net.states]
        maps = [[op for op in part if op.out in self.plan.matrices] for part in slices]
        direct = [self.reads_state(s.update, part) for s, part in zip(self.plan.net.states, slices, strict=True)]
        slack = len(self.states) == 1 and len(maps[0]) == 1 and not any(direct)
        functions = [
            *self.codes(),
            *(self.update(k, slices[k]) for k in range(len(self.states))),
            *(self.slacks(slices[0]) if slack else ()),
            self.tick(slices, direct, slack=slack),
            self.read_out(),
        ]
        packed = list(dict.fromkeys(op.out for part in maps for op in part))
        words = {n: self.plan.matrices[n].shape[1] * _panels(self.plan.sizes[n]) * (PANEL // 4) for n in packed}
        shared = sum(words.values()) if 4 * sum(words.values()) <= _SHARED else 0
        panels = [sum(_panels(self.plan.sizes[op.out]) for op in part) for part in maps]
        sums = PANEL * max([_panels(self.first[-1]), *panels])
        schedule = self.plan.net.schedule
        numbers = {
            "STATES": len(self.states),
            "UNITS": self.first[-1],
            "LISTED": self.start[-1],
            "SUMS": sums,
            "TASK": TASK,
        }
        numbers |= {"TICKS": schedule.steps, "TOLERANCE": schedule.tolerance}
        lines = [f"#define {name} {value}" for name, value in numbers.items()]
        for name, ends in (("FIRST", self.first), ("START", self.start)):
            choices = " : ".join(f"(s) == {k} ? {first}" for k, first in enumerate(ends[:-1]))
            lines.append(f"#define {name}(s) ({choices} : {ends[-1]})")
        rows = [*self.states, *self.made, *self.plan.held]
        largest = (schedule.steps + 1) * samples * PANEL * max(_panels(self.plan.sizes[n]) for n in rows)
        lines.append(f"#define INDEX {'u32' if largest < 1 << 32 else 'i64'}")
        lines += [resource("follow.cu"), *self.head(), *self.structure(words if shared else {}, slack=slack)]
        lines += [*functions, resource("lists.cu"), resource(self.driver)]
        return Text("\n".join(lines), tuple(self.pointers), shared, 2 * self.start[-1] + sums, slack)

    def head(self) -> Iterator[str]:
        """What stands between `follow.cu` and the functions of the net."""
        yield from ()

    def struck(self, number: int, part: Sequence[Op]) -> Iterator[str]:
        """Declarations in the tick of a state: `hot`, a unit that is computed in any case, and what `summed` reads."""
        yield from ()

    def hot(self, number: int, part: Sequence[Op]) -> str:
        """Whether the unit of a bit of `mask` is computed in any case: a statement."""
        return ""

    def summed(self, k: int, op: Op) -> str:
        """What is added to what deviates of sum k at unit i."""
        return ""

    def read_struck(self, op: Op) -> Iterator[str]:
        """Statements behind the sum of a map of the readout at unit i."""
        yield from ()

    def beside(self, part: Sequence[Op], unit: str) -> list[tuple[str, str]]:
        """More arguments of an update: their declarations, and what they are at a unit."""
        return []

    def row(self, name: str, unit: str, words: int) -> str:
        """Eight weights of a lane in the column of a unit."""
        return f"PAIR(COLUMN_{self.pointer('packed', name)} + {unit} * {words} + 64 * p + 2 * lane)"

    def structure(self, words: dict[str, int], *, slack: bool) -> list[str]:
        """`struct net`, the arguments that fill it, and what a warp finds in shared memory."""
        fixed = [("const i32", n) for n in ("settled", "moving", "label")]
        fixed += [("const u8", "outcomes"), ("i32", "samples")]
        fields = [f"{kind} {'*' if n != 'samples' else ''}{n}" for kind, n in fixed]
        slacks = [f"u8 *{n}" for n in ("low", "high", "low_quick", "high_quick")] if slack else []
        fields += slacks
        fields += [f"const {self.types.get(key, 'i32')} *{name}" for key, name in self.pointers.items()]
        names = [f.rsplit("*", 1)[-1].rsplit(" ", 1)[-1] for f in fields]
        columns = {name: f"net->{name}" for (kind, _), name in self.pointers.items() if kind == "packed"}
        plain = [f"#define COLUMN_{name} ({place})" for name, place in columns.items()]
        copies, at = [], 0
        for name, count in words.items():
            pointer = self.pointers["packed", name]
            each = f"for (int k = threadIdx.x; k < {count}; k += blockDim.x)"
            copies.append(f"{each} memory[{at} + k] = whole.{pointer}[k];")
            columns[pointer] = f"memory + {at}"
            at += count
        card = [
            *copies,
            "__syncthreads();",
            f"const i32 lists = {at} + (threadIdx.x >> 5) * (2 * LISTED + SUMS), sums = lists + 2 * LISTED",
        ]
        return [
            f"struct net {{ {'; '.join(fields)}; }};",
            f"#define NET_ARGUMENTS {', '.join(fields)}",
            f"#define NET_VALUES {{ {', '.join(names)} }}",
            "#ifdef CARD",
            *(f"#define COLUMN_{name} ({place})" for name, place in columns.items()),
            f"#define AREA {' '.join(card)}",
            "#else",
            *plain,
            "#define AREA const i32 lists = 0, sums = 2 * LISTED",
            "#endif",
        ]

    # Functions

    def codes(self) -> Iterator[str]:
        """Codes of the fault-free run of an element of the states, and by how much upsets put off one that is `off`."""
        yield "DEVICE i32 state_code(const struct net *net, i32 e, i32 sample, i32 t)\n{"
        for k, name in enumerate(self.states):
            yield f"    if (e < {self.first[k + 1]}) return {self.state(name, f'e - {self.first[k]}', 't')};"
        yield "    return 0;\n}"
        yield "DEVICE i32 changed(const struct net *net, i32 e, i32 off, i32 flip, i32 one, i32 zero,"
        yield "                   i32 sample, i32 t)\n{\n    const i32 code = state_code(net, e, sample, t);"
        for k, name in enumerate(self.states):
            fmt = self.plan.net.formats[name]
            ones, sign = (1 << fmt.bits) - 1, 1 << (fmt.bits - 1)
            word = f"(((((code + off) & {ones}) ^ flip) | one) & ~zero)"
            read = f"({word} ^ {sign}) - {sign}" if fmt.signed else word
            yield f"    if (e < {self.first[k + 1]}) return {read} - code;"
        yield "    return 0;\n}"

    def update(self, number: int, part: Sequence[Op]) -> str:
        """The code that a tick gives unit i of a state; `sum_`: what deviates of each sum, `own_`: of each state."""
        update = self.plan.net.states[number].update
        arguments = "".join(f", i32 {a}" for a in self.inputs(update, part))
        arguments += "".join(f", {a}" for a, _ in self.beside(part, "i"))
        lines = [f"DEVICE i32 update{number}(const struct net *net, i32 sample, i32 t, i32 i{arguments})\n{{"]
        lines += [f"    {line}" for op in part for line in self.operation(op, "sum", "t")]
        return "\n".join([*lines, f"    return {self.latched(number, self.value(update, 't'))};\n}}"])

    def slacks(self, part: Sequence[Op]) -> Iterator[str]:
        """For every tick, sample and unit: how far its sum may fall and rise without changing its code."""
        units = self.plan.sizes[self.states[0]]
        pad = PANEL * _panels(units)
        rest = ", 0" * len(self.beside(part, "i"))
        yield "KERNEL slacks(NET_ARGUMENTS)\n{"
        yield "    const struct net whole = NET_VALUES, *net = &whole;"
        yield f"    const i64 all = (i64)TICKS * samples * {pad};"
        yield "    EVERY(index, all) {"
        yield f"        const i32 i = index % {pad}, sample = index / {pad} % samples, t = index / {pad} / samples;"
        yield "        i32 down = 0, up = 0;"
        yield f"        if (i < {units}) {{"
        yield f"            const i32 code = update0(net, sample, t, i, 0{rest});"
        yield f"            while (down < 192 && update0(net, sample, t, i, -down - 1{rest}) == code) down++;"
        yield f"            while (up < 192 && update0(net, sample, t, i, up + 1{rest}) == code) up++;"
        yield "        }"
        yield "        net->low[index] = down; net->high[index] = up;"
        yield f"        net->low_quick[index] = 128 + (down < {_QUICK - 1} ? down : {_QUICK - 1});"
        yield f"        net->high_quick[index] = 128 + (up < {_QUICK - 1} ? up : {_QUICK - 1});"
        yield "    }\n}"

    def tick(self, slices: Sequence[Sequence[Op]], direct: Sequence[bool], *, slack: bool) -> str:
        lines = ["DEVICE int tick(const struct net *net, i32 sample, i32 t, i32 sums, const struct deviations *old,"]
        lines += [f"                struct deviations *new_{self.wound})\n{{", "    LANE;", "    int deviates = 0;"]
        for number, (part, whole) in enumerate(zip(slices, direct, strict=True)):
            body = self.state_tick(number, part, whole=whole, slack=slack)
            lines += ["    {", *(f"        {line}" for line in body), "    }"]
        return "\n".join([*lines, "    SYNC;", "    return deviates;\n}"])

    def state_tick(self, number: int, whole_part: Sequence[Op], *, whole: bool, slack: bool) -> Iterator[str]:
        part = [op for op in whole_part if op.out in self.plan.matrices]
        size = self.plan.sizes[self.states[number]]
        panels, words = _panels(size), _panels(size) * PANEL // 4
        starts = []
        for k, op in enumerate(part):
            source = self.states.index(self.plan.resolve(op.reads[0]))
            largest = max(1, abs(self.plan.matrices[op.out].astype(int)).max(initial=0))
            starts.append(sum(PANEL * _panels(self.plan.sizes[o.out]) for o in part[:k]))
            yield f"PERS(u32, a{k}, {2 * panels});"
            yield f"const int quick{k} = (i64)old->mass[{source}] * {largest} <= {_QUICK};"
            yield f"if (quick{k}) {{"
            yield f"    LANES {{ UNROLLED for (int p = 0; p < {2 * panels}; p++) LK(a{k}, p) = 0; }}"
            yield f"    for (int q = 0; q < old->count[{source}]; q += 4) {{"
            yield f"        const struct quad four = QUAD(old, {source}, q);"
            yield "        UNROLLED"
            yield "        for (int n = 0; n < 4; n++) {"
            yield "            const u32 d = DIFFERENCE(four.entry[n]);"
            yield "            LANES {"
            yield f"                UNROLLED for (int p = 0; p < {panels}; p++) {{"
            yield f"                    const struct pair w = {self.row(op.out, 'UNIT(four.entry[n])', words)};"
            yield f"                    LK(a{k}, 2 * p) += d * w.x;"
            yield f"                    LK(a{k}, 2 * p + 1) += d * w.y;"
            yield "                }\n            }\n        }\n    }"
            yield "} else {"
            yield "    SYNC;"
            yield "    LANES {"
            yield f"        UNROLLED for (int p = 0; p < {panels}; p++) {{"
            # Words of four sums as above, emptied into sums of 32 bits before 8 bits do not hold them.
            yield "            i32 total[8] = {0, 0, 0, 0, 0, 0, 0, 0}, held = 0;"
            yield "            u32 x = 0, y = 0;"
            yield f"            for (int q = 0; q < old->count[{source}]; q++) {{"
            yield f"                const i32 entry = ENTRY_OF(old, {source}, q), d = DIFFERENCE(entry);"
            yield f"                const struct pair w = {self.row(op.out, 'UNIT(entry)', words)};"
            yield f"                const i32 reach = magnitude(d) * {largest};"
            yield f"                if (reach > {_QUICK}) {{"
            yield "                    UNROLLED for (int j = 0; j < 4; j++) {"
            yield "                        total[j] += d * BYTE(w.x, j);"
            yield "                        total[4 + j] += d * BYTE(w.y, j);"
            yield "                    }\n                    continue;\n                }"
            yield f"                if (held + reach > {_QUICK}) {{"
            yield "                    EMPTIED(total, x, y);"
            yield "                    held = 0;"
            yield "                }"
            yield "                held += reach;"
            yield "                x += d * w.x;"
            yield "                y += d * w.y;"
            yield "            }"
            yield "            EMPTIED(total, x, y);"
            yield f"            const i32 to = sums + {starts[k]} + 256 * p + 8 * lane;"
            yield "            UNROLLED for (int j = 0; j < 8; j++) WORD(to + j) = total[j];"
            yield "        }\n    }\n    SYNC;\n}"
        yield from self.struck(number, whole_part)
        yield "int count = 0;"
        yield "PER(i32, mass);"
        yield "LANES L(mass) = 0;"
        yield "UNROLLED"
        yield f"for (int p = 0; p < {panels}; p++) {{"
        yield "    PER(u32, mask);"
        yield "    LANES {"
        if whole or not part:
            yield "        L(mask) = 0;"
            yield "        UNROLLED for (int j = 0; j < 8; j++)"
            yield f"            if (256 * p + 8 * lane + j < {size}) L(mask) |= MASK(j);"
        else:
            yield "        L(mask) = 0;"
            if slack:
                start = f"((INDEX)t * net->samples + sample) * {PANEL * panels}"
                yield f"        const INDEX at = {start} + 256 * p + 8 * lane;"
            for k in range(len(part)):
                yield f"        if (quick{k}) {{"
                if slack:
                    yield "            const struct pair below = PAIR(net->low_quick + at);"
                    yield "            const struct pair above = PAIR(net->high_quick + at);"
                else:
                    yield "            const struct pair below = {BIAS, BIAS}, above = {BIAS, BIAS};"
                for half, field in ((0, "x"), (1, "y")):
                    word = f"LK(a{k}, 2 * p + {half})"
                    inside = f"({word} + below.{field}) & (above.{field} - {word})"
                    yield f"            L(mask) |= (~({inside}) & BIAS) >> {7 - half};"
                yield "        } else {"
                yield "            UNROLLED for (int j = 0; j < 8; j++) {"
                yield f"                const i32 s = WORD(sums + {starts[k]} + 256 * p + 8 * lane + j);"
                beyond = "s < -(i32)net->low[at + j] || s > (i32)net->high[at + j]" if slack else "s != 0"
                yield f"                if ({beyond}) L(mask) |= MASK(j);"
                yield "            }\n        }"
            yield self.hot(number, whole_part)
        yield "    }"
        yield "    for (;;) {"
        yield "        if (!BALLOT_BITS(mask)) break;"
        yield "        PER(i32, entry);"
        yield "        PER(i32, apart);"
        yield "        LANES {"
        yield "            L(apart) = 0;"
        yield "            if (L(mask)) {"
        yield "                const int bit = FIRST_SET(L(mask)), j = bit >> 3, h = bit & 1;"
        yield "                const i32 i = 256 * p + 8 * lane + 4 * h + j;"
        yield "                L(mask) &= L(mask) - 1;"
        arguments = []
        for k in range(len(part)):
            held = f"BYTE(h ? LK(a{k}, 2 * p + 1) : LK(a{k}, 2 * p), j)"
            yield f"                const i32 s{k} = quick{k} ? {held} : WORD(sums + {starts[k]} + i);"
            arguments.append(f"s{k}{self.summed(k, part[k])}")
        arguments += [f"deviation(old, {self.states.index(n)}, i)" for n in self.own(number)]
        arguments += [there for _, there in self.beside(whole_part, "i")]
        given = "".join(f", {a}" for a in arguments)
        following = self.state(self.states[number], "i", "(t + 1)")
        yield f"                L(apart) = update{number}(net, sample, t, i{given}) - {following};"
        yield "                L(entry) = ENTRY(L(apart), i);"
        yield "                L(mass) += magnitude(L(apart));"
        yield "            }\n        }"
        yield "        const u32 there = BALLOT(apart);"
        place = "count + BITS_SET(there & ((1u << lane) - 1))"
        yield f"        LANES if (L(apart)) ENTRY_OF(new_, {number}, {place}) = L(entry);"
        yield "        count += BITS_SET(there);"
        yield "    }\n}"
        yield f"LANES if (lane < (-count & 3)) ENTRY_OF(new_, {number}, count + lane) = 0;"
        yield f"new_->count[{number}] = count;"
        yield f"new_->mass[{number}] = count ? TOTAL(mass) : 0;"
        yield "deviates |= count != 0;"

    def read_out(self) -> str:
        """Whether outputs differ where states deviate, and whether the label does."""
        lines = ["DEVICE struct verdict read_out(const struct net *net, i32 sample, const struct deviations *old"]
        lines += [f"                                {self.wound})\n{{", "    LANE;", "    const i32 t = TICKS;"]
        lines.append("    struct verdict found = {0, 0, net->label[sample]};")
        label = self.plan.label
        for o in self.plan.net.outputs:
            name, size = self.plan.resolve(o.value), self.plan.sizes[o.value]
            part = self.slice(o.value, self.plan.readout)
            lines += ["    {", "        PER(i32, differs);", "        PER(i32, best);", "        PER(i32, index);"]
            lines.append("        LANES { L(differs) = 0; L(best) = (i32)0x80000000; L(index) = 0x7fffffff; }")
            lines.append(f"        for (int base = 0; base < {size}; base += 32) LANES if (base + lane < {size}) {{")
            lines.append("            const i32 i = base + lane;")
            for op in part:
                if op.out in self.plan.matrices:
                    source = self.states.index(self.plan.resolve(op.reads[0]))
                    outputs = self.plan.sizes[op.out]
                    lines.append(f"            i32 sum_{self.id(op.out)} = 0;")
                    lines.append(f"            for (int q = 0; q < old->count[{source}]; q++) {{")
                    lines.append(f"                const i32 entry = ENTRY_OF(old, {source}, q);")
                    weight = f"net->{self.pointer('column', op.out)}[UNIT(entry) * {outputs} + i]"
                    lines.append(f"                sum_{self.id(op.out)} += DIFFERENCE(entry) * {weight};")
                    lines.append("            }")
                    lines += [f"            {line}" for line in self.read_struck(op)]
            lines += [f"            {held} = {there};" for held, there in self.beside(part, "i")]
            lines += [
                f"            const i32 own_{k} = deviation(old, {k}, i);"
                for k, n in enumerate(self.states)
                if self.reads(part, n) or name == n
            ]
            lines += [f"            {line}" for op in part for line in self.operation(op, "sum", "t")]
            lines.append(f"            const i32 code = {self.value(o.value, 't')};")
            usual = f"net->{self.pointer('answer', o.name)}[sample * {size} + i]"
            lines.append(f"            L(differs) |= code != {usual};")
            lines.append("            if (code > L(best)) { L(best) = code; L(index) = i; }")
            lines.append("        }")
            lines.append("        found.output |= BALLOT(differs) != 0;")
            if label is not None and label[0] == name:
                lines.append("        const i32 most = HIGHEST(best);")
                lines.append("        LANES if (L(best) != most) L(index) = 0x7fffffff;")
                lines.append("        found.label = LOWEST(index);")
                lines.append("        found.wrong = found.label != net->label[sample];")
                label = None
            lines.append("    }")
        return "\n".join([*lines, "    return found;\n}"])


def resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
