"""Arithmetic modulo 3, and a memory that keeps each code's remainder beside it.

No power of two is a multiple of 3, so one wrong bit changes the remainder; two do in half of the cases.
A. Avizienis: Arithmetic error codes, IEEE Transactions on Computers C-20 (1971).
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..memory import Ram

__all__ = ["ResidueRam", "plus", "residue", "times"]


def _reduced(digit: Value) -> Value:
    """0..3 as 0..2."""
    return Mux(digit == 3, 0, digit)[:2]


def plus(m: Module, a: Value, b: Value) -> Value:
    """The sum of two remainders, both 0..2 (or 3 for 0), as 0..2."""
    total = Signal(3)
    m.d.comb += total.eq(a + b)
    # 0..6: one or two threes too many.
    return Cat((total == 1) | (total == 4), (total == 2) | (total == 5))


def times(a: Value, b: Value) -> Value:
    """The product of two remainders 0..2: 2 is -1."""
    some = (a != 0) & (b != 0)
    negative = a[1] ^ b[1]
    return Cat(some & ~negative, some & negative)


def residue(m: Module, value: Value) -> Value:
    """The remainder, 0..2, of a signed or unsigned value. Base 4 is 1 modulo 3: digits are added."""
    bits, negative = value, Const(0, 1)
    if value.shape().signed:
        # In an even number of bits a negative number is its bits less a power of 4.
        bits = Cat(value, value[-1]) if len(value) % 2 else Cat(value)
        negative = value[-1]
    digits: list[Value] = [bits[i : i + 2] for i in range(0, len(bits), 2)]
    # -1 is 2.
    digits.append(Cat(Const(0, 1), negative))
    while len(digits) > 1:
        pairs = [plus(m, *digits[i : i + 2]) for i in range(0, len(digits) - 1, 2)]
        digits = pairs + digits[len(digits) // 2 * 2 :]
    return _reduced(digits[0])


class ResidueRam(wiring.Component):
    """The ports of `memory.Ram` for one code a word, and its remainder: `write_residue` is stored with the word, and
    `mismatch` says that the data of the clock before had another one: it is told of a register behind the memory."""

    def __init__(self, *, width: int, depth: int, signed: bool) -> None:
        self.ram, self.signed = Ram(width=width + 2, depth=depth), signed
        bits = self.ram.address_bits
        super().__init__(
            {
                "read_address": In(bits),
                "read_data": Out(width),
                "write_address": In(bits),
                "write_data": In(width),
                "write_residue": In(2),
                "write_enable": In(1),
                "mismatch": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        word = Signal(ram.width, name="held")
        remainder = Signal(2)
        code = word[:-2]
        m.d.control += word.eq(ram.read_data)
        m.d.comb += [
            ram.read_address.eq(self.read_address),
            ram.write_address.eq(self.write_address),
            ram.write_data.eq(Cat(self.write_data, self.write_residue)),
            ram.write_enable.eq(self.write_enable),
            self.read_data.eq(ram.read_data[:-2]),
            remainder.eq(residue(m, code.as_signed() if self.signed else code)),
            self.mismatch.eq(remainder != word[-2:]),
        ]
        return m
