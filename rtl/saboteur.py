"""How a saboteur disturbs a word, in every engine: by a table that the injection port fills (`EngineSignature`).

port ──► table of the place: element, tick ──► masks
                                                 │
word ──► (((word ^ flip) | one) & ~zero) + add ◄─┘ ──► disturbed word
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from amaranth import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib.memory import Memory

from eqcompile.toolchain.ir import Format

from .interface import Engine

__all__ = ["Elements", "Tables", "numbered"]

MASKS = ("flip", "one", "zero", "add")


def numbered(states: Iterable[str], values: Iterable[str]) -> dict[str, int]:
    """Every word that has a saboteur, as `PLACE:NAME`, and what `inject_word` calls it."""
    names = [*(f"state:{name}" for name in states), *(f"value:{name}" for name in dict.fromkeys(values))]
    return {name: number for number, name in enumerate(names)}


@dataclass(frozen=True)
class Elements:
    """The elements of a word that one place computes, `size` of them in turn. `row`: which of them now. `mine`: the
    element that the port of the core names is one of them, and which (`at`)."""

    size: int
    row: Value
    mine: Value
    at: Value

    @classmethod
    def one(cls, mine: Value) -> Elements:
        """A place that computes a single element."""
        return cls(1, Const(0, 1), mine, Const(0, 1))


class Tables:
    """The tables of the engine `ports`, one for each place where a word is computed or read."""

    def __init__(self, ports: Engine) -> None:
        self.ports, self.places = ports, count()

    def disturbed(
        self, m: Module, number: int, word: Value, elements: Elements, tick: Value, *, clamp: Format | None = None
    ) -> Signal:
        """The word as a new table in `m` says for this element in this tick.

        A sum is cut to the bits of the word, or saturates in the format `clamp` (a state). `number`: what `inject_word`
        calls the word.
        """
        ports, n = self.ports, len(word)
        tick_bits, row_bits = ports.net.schedule.steps.bit_length(), max((elements.size - 1).bit_length(), 1)
        table = Memory(shape=unsigned(4 * n + 1), depth=1 << (row_bits + tick_bits), init=[])
        # In a module of its own, whatever condition `m` is in.
        m.submodules[f"inject_{number}_{next(self.places)}"] = inner = Module()
        inner.submodules.table = table
        write, read = table.write_port(), table.read_port(domain="comb")
        flip, one, zero, add = (getattr(ports, f"inject_{mask}") for mask in MASKS)
        inner.d.comb += [
            write.addr.eq(Cat(_cut(ports.inject_tick, tick_bits), _cut(elements.at, row_bits))),
            write.data.eq(Cat(flip[:n], one[:n], zero[:n], add[: n + 1])),
            write.en.eq(ports.inject_arm & (ports.inject_word == number) & elements.mine),
            read.addr.eq(Cat(_cut(tick, tick_bits), _cut(elements.row, row_bits))),
        ]
        flip, one, zero = (read.data[i * n : (i + 1) * n] for i in range(3))
        masked = ((word.as_unsigned() ^ flip) | one) & ~zero
        total = (masked.as_signed() if word.shape().signed else masked) + read.data[3 * n :].as_signed()
        if clamp is not None:
            total = Mux(total < clamp.lo, clamp.lo, Mux(total > clamp.hi, clamp.hi, total))
        result = Signal(word.shape(), name=f"inject_{number}_found")
        inner.d.comb += result.eq(total)
        return result


def _cut(value: Value, bits: int) -> Value:
    """The lowest bits, with zeros above those that there are."""
    return Cat(value[:bits], Const(0, max(bits - len(value), 0)))
