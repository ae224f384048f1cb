"""The cells: each passes codes on, weighs them and adds them up; with several passes, cells share multipliers.

neighbours ──► moving code ──► x weight (ROM, one word a clock) ──► product ──► sum (bias first)
     ▲              │
     └──────────────┘ to the neighbours
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth import Array as Choice
from amaranth import Const, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory

from eqcompile.rtl.datapath import shape_of
from eqcompile.rtl.parallel.build import Wire
from eqcompile.rtl.parallel.matrix import Array
from eqcompile.toolchain.ir import Format, Interval

from .walk import Walk

__all__ = ["Cells", "build_cells"]


@dataclass(frozen=True, eq=False)
class Cells:
    """`sums`: one wire a site, right and still `clocks` clocks after its operand changed."""

    sums: list[Wire]
    clocks: int


def build_cells(
    m: Module, walk: Walk, bias: Array, operands: Sequence[Value], interval: Interval, fresh: Value, passes: int
) -> Cells:
    """A code that moves and a sum for each site, a multiplier for each site of one pass.

    `fresh`: the operands, codes in `interval`, take new codes in this clock. At each place of the walk the codes stand
    still for `passes` clocks, in which the multipliers serve one block of sites (of a cube: planes) after the other.
    """
    sites, length = len(operands), len(walk.weights) * passes
    block = -(-sites // passes)
    # Clock 1 after `fresh` loads, clock 2 + i multiplies for item i = place * passes + pass, clock 3 + i adds.
    clock = Signal(range(length + 4))
    with m.If(fresh):
        m.d.sync += clock.eq(1)
    with m.Elif((clock != 0) & (clock != length + 3)):
        m.d.sync += clock.eq(clock + 1)
    load, add = Signal(), Signal()
    m.d.comb += [load.eq(clock == 1), add.eq((clock >= 3) & (clock < length + 3))]
    turn, turn_added = Signal(range(max(passes, 2))), Signal(range(max(passes, 2)))
    m.d.sync += [turn.eq(Mux(load | (turn == passes - 1), 0, turn + 1)), turn_added.eq(turn)]
    direction = Signal(range(max(len(walk.directions), 2)))
    with m.Switch(clock):
        for i, move in enumerate(walk.moves):
            with m.Case(1 + i * passes):
                m.d.sync += direction.eq(walk.directions.index(move))
    moving = [Signal(operands[0].shape(), name=f"moving_{n}") for n in range(sites)]
    for n, (operand, code) in enumerate(zip(operands, moving, strict=True)):
        with m.If(load):
            m.d.sync += code.eq(operand)
        with m.Elif(turn == passes - 1), m.Switch(direction):
            for d, move in enumerate(walk.directions):
                with m.Case(d):
                    m.d.sync += code.eq(moving[(n + move) % sites])
    item = Signal(range(length))
    m.d.comb += item.eq(clock - 1)
    # The last pass may have fewer sites: there a multiplier serves none.
    weights = np.pad(walk.weights, ((0, 0), (0, block * passes - sites)))
    codes = [*moving, *(Const(0, 1) for _ in range(block * passes - sites))]
    products = [_multiplier(m, weights[:, c::block], codes[c::block], turn, item) for c in range(block)]
    sums = []
    for n in range(sites):
        found = _interval(walk.weights[:, n], int(bias[n]), interval)
        total = Signal(shape_of(Format.holding(found.lo, found.hi)), name=f"sum_{n}")
        with m.If(load):
            m.d.sync += total.eq(int(bias[n]))
        with m.Elif(add & (turn_added == n // block)):
            m.d.sync += total.eq(total + products[n % block])
        sums.append(Wire(total, found))
    return Cells(sums, length + 2)


def _multiplier(m: Module, weights: Array, codes: Sequence[Value], turn: Value, item: Value) -> Signal:
    """Weight times code for the sites that one multiplier serves, `weights` `[places, sites]`, in turn."""
    fmt = Format.holding(min(int(weights.min()), -1), max(int(weights.max()), 1))
    m.submodules += (rom := Memory(shape=signed(fmt.bits), depth=weights.size, init=[int(w) for w in weights.ravel()]))
    port = rom.read_port()
    m.d.comb += port.addr.eq(item)
    product = Signal(signed(fmt.bits + len(codes[0])), name="product")
    m.d.sync += product.eq(Value.cast(port.data) * Value.cast(Choice(codes)[turn]))
    return product


def _interval(weights: Array, bias: int, x: Interval) -> Interval:
    positive, negative = int(weights[weights > 0].sum()), int(weights[weights < 0].sum())
    low, high = bias + positive * x.lo + negative * x.hi, bias + positive * x.hi + negative * x.lo
    # The bias and, after a reset, 0 stand there before the sum.
    return Interval(min(low, bias, 0), max(high, bias, 0))
