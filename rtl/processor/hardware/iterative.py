"""Division and the integer square root: one bit of the result a clock, while the pipeline stands still."""

from __future__ import annotations

from amaranth import Cat, Const, Elaboratable, Module, Mux, Shape, Signal, Value

from ..timing import root_digits

__all__ = ["Divider", "Root"]


class _Iterative(Elaboratable):
    """Computes from a clock with `start` on; `done` with the result, until a clock with `take`."""

    def __init__(self, clocks: int) -> None:
        self.clocks = clocks
        self.start, self.done, self.take = Signal(), Signal(), Signal()
        self.left = Signal(range(clocks + 1), name="bits_left")

    def count(self, m: Module) -> None:
        with m.If(self.start):
            m.d.control += self.left.eq(self.clocks)
        with m.Elif((self.left > 1) | (self.done & self.take)):
            m.d.control += self.left.eq(self.left - 1)
        m.d.comb += self.done.eq(self.left == 1)


class Divider(_Iterative):
    """`floor(dividend / divisor)`, the divisor positive, by restoring: instead of a negative dividend its complement is
    divided, whose quotient is the complement of the result."""

    def __init__(self, dividend: Value, divisor: Value, digits: int) -> None:
        self.dividend, self.divisor = Signal(Shape(digits, signed=True), name="dividend"), divisor
        self.code = dividend
        bits = digits - 1
        super().__init__(bits + 1)
        self.result = Signal(Shape(bits + 1, signed=True), name="quotient")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.count(m)
        m.d.comb += self.dividend.eq(self.code)
        bits = self.clocks - 1
        minus = Signal(name="minus")
        digits = Signal(bits, name="digits")
        rest = Signal(self.divisor.shape().width, name="rest")
        grown = Cat(digits[-1], rest)
        fits = grown >= self.divisor.as_unsigned()
        with m.If(self.start):
            sign = self.dividend[-1]
            m.d.sync += [minus.eq(sign), rest.eq(0), digits.eq(Mux(sign, ~self.dividend, self.dividend))]
        with m.Elif(self.left > 1):
            m.d.sync += rest.eq(Mux(fits, grown - self.divisor.as_unsigned(), grown))
            m.d.sync += digits.eq(Cat(fits, digits))
        whole = Cat(digits, Const(0, 1))
        m.d.comb += self.result.eq(Mux(minus, ~whole, whole))
        return m


class Root(_Iterative):
    """The largest y with `y * y <= x`; 0 where x is negative."""

    def __init__(self, x: Value, digits: int) -> None:
        self.x = x
        bits = root_digits(digits)
        super().__init__(bits + 1)
        self.result = Signal(Shape(bits + 1, signed=True), name="root")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.count(m)
        bits = self.clocks - 1
        digits, rest, root = Signal(2 * bits, name="digits"), Signal(bits + 2, name="rest"), Signal(bits, name="part")
        grown, trial = Cat(digits[-2:], rest), Cat(Const(1, 2), root)
        fits = grown >= trial
        with m.If(self.start):
            m.d.sync += [rest.eq(0), root.eq(0), digits.eq(Mux(self.x < 0, 0, self.x))]
        with m.Elif(self.left > 1):
            m.d.sync += [rest.eq(Mux(fits, grown - trial, grown)), root.eq(Cat(fits, root)), digits.eq(digits << 2)]
        m.d.comb += self.result.eq(root)
        return m
