"""Mutants of the processor: one change each, which a reading must notice.

Each row: a name, the module of `eqcompile.rtl.processor`, a text that stands there once, and what becomes of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from rtl_mutants import rewritten

__all__ = ["ALLOCATION", "CORE", "LOADER", "READER", "SIMULATOR", "Change", "changed"]


@dataclass(frozen=True)
class Change:
    """`old` becomes `new` in a module."""

    name: str
    module: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Raises LookupError: the text does not stand there once."""
        if text.count(self.old) != 1:
            raise LookupError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.module}")
        return text.replace(self.old, self.new)


@contextmanager
def changed(change: Change, load: str) -> Iterator[ModuleType]:
    """The module `load` of `eqcompile.rtl.processor`, imported anew with a change."""
    with rewritten({f"processor.{change.module}": change.apply}):
        yield importlib.import_module(f"eqcompile.rtl.processor.{load}")


def of(module: str, *rows: tuple[str, str, str]) -> list[Change]:
    return [Change(name, module, old, new) for name, old, new in rows]


SIMULATOR = of(
    "simulator",
    ("add subtracts", "return a + b", "return a - b"),
    ("sub adds", "return a - b\n        case Alu.ABS", "return a + b\n        case Alu.ABS"),
    ("abs passes", "np.abs(a)\n", "a\n"),
    ("distance has a sign", "np.abs(a - b)", "a - b"),
    ("greater takes equal", "(a > b)", "(a >= b)"),
    ("select exchanged", "np.where(c != 0, a, b)", "np.where(c != 0, b, a)"),
    ("scale by b", "return x * i.immediate", "return x * b"),
    ("multiply by the immediate", "return x * b\n", "return x * i.immediate\n"),
    ("divide does not round", "(x << i.shift) + (b >> 1)", "(x << i.shift)"),
    ("root of what is less", "rest >= root + bit", "rest > root + bit"),
    ("sum is a maximum", "x.sum(axis=axes)", "x.max(axis=axes)"),
    ("maximum is a sum", "x.max(axis=axes)", "x.sum(axis=axes)"),
    ("no rounding", "value + (1 << i.shift - 1) >> i.shift", "value >> i.shift"),
    ("nothing added", "value + _outer(i, c, outer)", "value"),
    ("lookup one off", "t.base + np.clip(x - t.first,", "t.base + np.clip(x - t.first + 1,"),
    ("interpolation without slope", "return start + (product", "return start + (0 * product"),
    ("damping does not round", "old + (step + (1 << i.damping.shift - 1)", "old + (step"),
    ("offset not added", "place if offset is None else place + offset", "place"),
    ("fresh words are read", "zero = stream.fresh is Fresh.ALWAYS or", "zero = False and"),
    ("no events of what falls", "changed = np.nonzero(difference)", "changed = np.nonzero(difference > 0)"),
    ("apply subtracts", "sums[target] + codes * difference", "sums[target] - codes * difference"),
    ("apply drops the place", "i.sums.base + place + rows", "i.sums.base + rows"),
    ("list not emptied", "if i.drain:", "if False:"),
    ("kernel offset ignored", "i.columns + column + k", "i.columns + column"),
    ("clear leaves a word", "word.base + instruction.words] = 0", "word.base + 1] = 0"),
    ("loop once more", "return made < loop.count\n", "return made <= loop.count\n"),
    ("settles at once", "return moved and made < loop.count", "return False"),
    ("frames end early", "self.frame < len(self._frames)", "self.frame + 1 < len(self._frames)"),
    ("gate exchanged", "if not self.banks[instruction.word.bank]", "if self.banks[instruction.word.bank]"),
)
"""Every instruction and stage; judged by the examples of ISA.md."""

ALLOCATION = of(
    "compiler.allocate",
    ("a buffer is free after its first use", "_span(places, paths, ends)\n", "(places[0], places[0])\n"),
    ("loops do not come back", "if set(paths[at]) - set(paths[first])", "if False"),
    ("states are free between ticks", "(0, len(draft.items)) if draft.buffers[name].lives else", "(0, 0) if 0 else"),
    ("words of two buffers overlap", "base = last\n", "base = last - 1\n"),
    ("operands of one pass share a bank", "together[name] |= names - {name}", "together[name] |= set()"),
)
"""What the compiler thinks of the lives of buffers; judged by golden after every instruction."""

CORE = [
    *of(
        "hardware.core",
        ("skipped instruction", "at[\"pc\"].eq(at[\"start\"])", "at[\"pc\"].eq(at[\"start\"] + 1)"),
        ("a loop once more", "left != 1)):", "left != 0)):"),
        ("vector begins too early", "m.Case(Opcode.VECTOR), m.If(still)", "m.Case(Opcode.VECTOR), m.If(pipeline.idle)"),
        ("clear leaves a word", "self.clearing.eq(clear_left != 1)", "self.clearing.eq(clear_left > 2)"),
        ("young for ever", "moved.eq(0), self.pipeline.young.eq(0)]", "moved.eq(0)]"),
        ("moved is forgotten", "m.d.control += moved.eq(1)", "m.d.control += moved.eq(0)"),
    ),
    *of(
        "hardware.pipeline",
        ("add subtracts", "Alu.ADD: a + b", "Alu.ADD: a - b"),
        ("sub adds", "Alu.SUB: a - b", "Alu.SUB: a + b"),
        ("abs passes", "Mux(a < 0, -a, a)", "a"),
        ("distance has a sign", "Mux(a > b, a - b, b - a)", "a - b"),
        ("greater takes equal", "Alu.GREATER: a > b,", "Alu.GREATER: a >= b,"),
        ("select exchanged", "Mux(c != 0, a, b)", "Mux(c != 0, b, a)"),
        ("multiply by itself", "x * choose(field(\"unit\"), factors)", "x * x"),
        ("what is not scaled is doubled", "int(Unit.NONE): Const(1)}", "int(Unit.NONE): Const(2)}"),
        ("division does not round", "+ (t[\"b.0\"] >> 1)", "+ 0"),
        ("sum begins with what was", "Mux(t[\"opens\"], x, total + x)", "total + x"),
        ("smallest instead of largest", "(x > total)", "(x < total)"),
        ("old is new", "Mux(self.field(\"damping\") == Old.C, t[f\"c.{k}\"], old)", "old"),
        ("row of the entry before", "self.row.eq(token[\"a_at\"] + offset)", "self.row.eq(token[\"a_at\"])"),
        ("fresh is not", "Mux(zero, 0, choose(", "Mux(0, 0, choose("),
        ("one change lost", "& Cat(*changes).any() & (number != 0)", "& Cat(*changes)[1:].any() & (number != 0)"),
    ),
    *of("hardware.tokens", ("no rounding", "Const(1 << s - 1 if s else 0)", "Const(0)")),
    *of(
        "hardware.tables",
        ("table not clamped below", "Mux(distance < 0, 0,", "Mux(0, 0,"),
        ("no slope", "t[f\"entry.{k}\"] + rise", "t[f\"entry.{k}\"]"),
    ),
    *of(
        "hardware.applier",
        ("list not emptied", "m.If(self.field(\"drain\") &", "m.If(0 &"),
        ("place dropped", "self.kernel_base + (place if memories.place_bits else 0)", "self.kernel_base"),
        ("offset dropped", "+ column + lane + offset", "+ column + lane"),
        ("sum of the group before", "(bases[1] >> memories.lane_bits) +", "(bases[0] >> memories.lane_bits) +"),
    ),
    *of(
        "hardware.memories",
        ("differences without upper bits", "core.difference_bits or", "core.difference_bits - 4 or"),
    ),
    *of("hardware.nest", ("an axis does not start over", "with m.If(inner):", "with m.If(inner & self.ends[0]):")),
    *of("hardware.iterative", ("root one off", "fits = grown >= trial", "fits = grown > trial")),
]  # fmt: skip
"""The core; judged by the simulator after every instruction."""

LOADER = of(
    "hardware.loader",
    ("any CRC", "with m.If(self.data == check.crc):", "with m.If(1):"),
    ("any magic", "self.data == MAGIC, Fault.MAGIC", "Const(1), Fault.MAGIC"),
    ("any version", "data == VERSION, Fault.VERSION", "Const(1), Fault.VERSION"),
    ("any core", "data == self.digest, Fault.CORE", "Const(1), Fault.CORE"),
    ("any length", "good = data <= room", "good = Const(1)"),
    ("any number of codes", "(data != 0) & (data <= most)", "Const(1)"),
    ("runs while it loads", "[state.eq(State.BODY), self.held.eq(0)]", "[state.eq(State.BODY)]"),
    ("CRC of two images", "check.start.eq(self.enable & self.first)", "check.start.eq(0)"),
    ("an entry too few", "self.index.eq(self.place)", "self.index.eq(self.place - 1)"),
)
"""What takes images; judged by images of two nets, foreign ones and damaged ones."""

READER = of(
    "hardware.reader",
    ("bursts over a page", "whole.eq(BURST - at[:size])", "whole.eq(BURST)"),
    ("offers taken back", 'with m.If(pins["arready"]):', "with m.If(1):"),
    ("lengths too large", "beats.eq(length - 1)", "beats.eq(length)"),
    ("words of before a restart", "dropping.eq(1)]", "dropping.eq(0)]"),
    ("base left out", "(self.base << 12 - shift) + at", "at"),
    ("errors unseen", 'self.failed.eq(pins["rresp"])', "self.failed.eq(0)"),
)
"""What reads weights from a memory outside; judged by codes, the rules of its bus, and errors."""
