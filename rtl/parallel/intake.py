"""The stream side of the parallel engine: codes come in while the sample before is relaxing.

    x ──► beat ──┬──► registers of inputs that are read as they are ─────────┐
                 └──► product with one column ──► accumulators (bias first) ─┴──► drive
                           ▲
                      column ROM, addressed by the number of the code

Where codes come one a clock, a linear map of an input needs no adder tree: its columns come one a clock too, and its
rows add up. Where a beat has several codes, the map is an adder graph over the registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory

from eqcompile.rtl.datapath import decode, shape_of, weight_format, weighted
from eqcompile.rtl.interface import Port
from eqcompile.toolchain.ir import Format, Input, Interval, IntNet, ops
from eqcompile.toolchain.passes import Analysis

from .matrix import Array, LinearMap, bias_of, matrix_of
from .wires import Scope, Wire, filled, source

__all__ = ["Intake", "format_of", "read_of_inputs", "serial_maps"]


def format_of(i: Input) -> Format:
    """The format of the codes of an input; TypeError for one of tokens, which the engine refuses before."""
    if i.encoding is None:
        raise TypeError(f"input {i.name} has no codes of a format")
    return i.encoding.format


def serial_maps(net: IntNet, *, adds_up: bool) -> list[LinearMap]:
    """Linear maps of the drive that the accumulators compute; none unless the intake `adds_up`."""
    inputs = {i.name for i in net.inputs}
    maps = [op for op in net.drive if isinstance(op, (ops.Linear, ops.Stencil, ops.Conv))]
    return [op for op in maps if adds_up and op.x in inputs]


def read_of_inputs(net: IntNet, serial: Sequence[LinearMap]) -> list[Input]:
    """Inputs that anything but the accumulators reads."""
    rest = [op for op in net.all_ops() if op not in serial]
    read = {name for op in rest for name in op.reads} | {o.value for o in net.outputs}
    read |= {s.init for s in net.states if s.init is not None} | {s.update for s in net.states}
    return [i for i in net.inputs if i.name in read]


@dataclass(frozen=True, eq=False)
class _Accumulator:
    """A register that adds up while codes come, and starts from `init` again when the sample is taken."""

    sum: Signal
    init: int


class Intake:
    """`full` says that a complete sample is there; `take` that it was read and the next one may come.

    `scope` has the inputs and the results of the serial maps; they stand still from `full` to `take`. `latency`: clocks
    from the last beat to where they do. `delayed` adds the clocks of what is computed from them before it is taken.
    """

    def __init__(self, m: Module, net: IntNet, port: Port, payload: Value, *, adds_up: bool) -> None:
        self.m, self.net, self.payload = m, net, payload
        self.transfer, self.take = Signal(), Signal()
        self.full = Signal(name="full")
        self.empty = Signal()
        self.number = Signal(range(max(port.beats, 2)), name="number")
        self.scope: Scope = {}
        self.accumulators: list[_Accumulator] = []
        serial = serial_maps(net, adds_up=adds_up)
        self.offsets = {}
        offset = 0
        for i in net.inputs:
            self.offsets[i.name] = offset
            offset += prod(i.shape)
        for i in read_of_inputs(net, serial):
            self.buffer(i, port)
        self.latency = 1
        if serial:
            self.accumulate(serial, port)
            self.latency = 4
        self.last = Signal()
        m.d.comb += self.last.eq(self.transfer & (self.number == port.beats - 1))
        self.waiting = Signal(name="waiting")
        with m.If(self.transfer):
            m.d.control += self.number.eq(Mux(self.last, 0, self.number + 1))
        with m.If(self.last):
            m.d.control += self.waiting.eq(1)
        with m.Elif(self.take):
            m.d.control += self.waiting.eq(0)
            m.d.sync += [a.sum.eq(a.init) for a in self.accumulators]
        m.d.comb += self.empty.eq((self.number == 0) & ~self.waiting)

    def delayed(self, clocks: int) -> None:
        """Define `full`: a sample is there and stood still for `clocks` clocks."""
        m, valid = self.m, self.last
        for _ in range(self.latency - 1 + clocks):
            later = Signal(name="last")
            m.d.control += later.eq(valid)
            valid = later
        with m.If(valid):
            m.d.control += self.full.eq(1)
        with m.Elif(self.take):
            m.d.control += self.full.eq(0)

    @property
    def ready(self) -> Value:
        """The next beat may come: the sample before was taken."""
        return ~self.waiting

    def buffer(self, i: Input, port: Port) -> None:
        """A register for each code, written from its place in its beat."""
        fmt, offset, bits = format_of(i), self.offsets[i.name], port.format.bits
        registers = [Signal(shape_of(fmt), name=f"{i.name}_{n}", reset_less=True) for n in range(prod(i.shape))]
        numbers = range(offset // port.beat, (offset + len(registers) - 1) // port.beat + 1)
        for number in numbers:
            with self.m.If(self.transfer & (self.number == number)):
                for slot in range(port.beat):
                    at = number * port.beat + slot - offset
                    if 0 <= at < len(registers):
                        self.m.d.sync += registers[at].eq(decode(self.payload[bits * slot :], fmt))
        self.scope[i.name] = filled(i.shape, [source(code, fmt) for code in registers])

    def accumulate(self, maps: Sequence[LinearMap], port: Port) -> None:
        """Three clocks from code to sum: fetch the column, multiply, add."""
        m, types = self.m, Analysis.of(self.net).types
        matrices = [matrix_of(op, self.net, types) for op in maps]
        columns = np.zeros((sum(len(w) for w in matrices), port.count), np.int64)
        at = 0
        for op, w in zip(maps, matrices, strict=True):
            columns[at : at + len(w), self.offsets[op.x] : self.offsets[op.x] + w.shape[1]] = w
            at += len(w)
        fmt = weight_format(int(columns.min()), int(columns.max()))
        code, word = self.fetch(columns, fmt, port.format)
        minus = Signal(signed(port.format.bits + 1))
        adding = [Signal(name=f"adding_{i}") for i in range(3)]
        m.d.control += [adding[0].eq(self.transfer), adding[1].eq(adding[0]), adding[2].eq(adding[1])]
        m.d.comb += minus.eq(-code)
        row = 0
        by_name = {i.name: format_of(i) for i in self.net.inputs}
        for op, w in zip(maps, matrices, strict=True):
            bias, x = bias_of(op, self.net, types), by_name[op.x]
            sums = []
            for weights, start in zip(w, bias, strict=True):
                interval = _row_interval(weights, int(start), x)
                shape = shape_of(Format.holding(interval.lo, interval.hi))
                accumulator = _Accumulator(Signal(shape, init=int(start), name=f"{op.out}_sum"), int(start))
                self.accumulators.append(accumulator)
                weight = decode(word[row * fmt.bits : (row + 1) * fmt.bits], fmt)
                product = Signal(signed(port.format.bits + fmt.bits), name=f"{op.out}_product")
                m.d.sync += product.eq(weighted(weight, code, minus))
                with m.If(adding[2]):
                    m.d.sync += accumulator.sum.eq(accumulator.sum + product)
                sums.append(Wire(accumulator.sum, interval))
                row += 1
            self.scope[op.out] = filled(types[op.out].shape, sums)

    def fetch(self, columns: Array, fmt: Format, code: Format) -> tuple[Signal, Signal]:
        """The code of two clocks ago and, in step with it, its column, the weight of row 0 in the lowest bits."""
        m, mask = self.m, (1 << fmt.bits) - 1
        words = [
            sum((int(v) & mask) << (r * fmt.bits) for r, v in enumerate(columns[:, j])) for j in range(columns.shape[1])
        ]
        width = len(columns) * fmt.bits
        m.submodules.columns = rom = Memory(shape=width, depth=len(words), init=words)
        port = rom.read_port()
        m.d.comb += port.addr.eq(self.number)
        first = Signal(shape_of(code), name="first")
        second = Signal(shape_of(code), name="second")
        word = Signal(width, name="word")
        m.d.control += [first.eq(decode(self.payload, code)), second.eq(first)]
        m.d.sync += word.eq(port.data)
        return second, word


def _row_interval(weights: Array, bias: int, x: Format) -> Interval:
    positive, negative = int(weights[weights > 0].sum()), int(weights[weights < 0].sum())
    # 0 and the bias belong to it: the register starts there.
    low, high = bias + positive * x.lo + negative * x.hi, bias + positive * x.hi + negative * x.lo
    return Interval(min(low, bias, 0), max(high, bias, 0))
