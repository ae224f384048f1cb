"""The cells: each passes codes on, weighs them and adds them up.

          weights (in memories that neighbours share)
             │
codes ──► moving code ──► x weight ──► product ──► sum ──► leaving ──► next cell ... ──► unit
  ▲        ▲      │                                                                      │
  │   neighbours  └──► neighbours                                                        │
  └──────────────────────── coming ◄── next cell ... ◄───────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory, WritePort

from eqcompile.rtl.datapath import decode, shape_of, weighted

from .plan import Plan

__all__ = ["CLOCKS", "Cells", "Command", "build_cells"]

CLOCKS = 6
"""From a command to the clock at whose end the sums leave, if it is the last of its run."""

MEMORY_BITS = 36
"""As wide as a block RAM is; memories across the whole lattice would have long wires."""


@dataclass(frozen=True, eq=False)
class Command:
    """What all cells do in one clock. `word`: of the weights; `place`: of the walk, or, `direct` set, the number of a
    block to load; `block`: the one that is weighed; `given`: take the code of the input instead of another cell's, one
    clock after the command; `first`, `last`: of a run, which makes one sum in each cell. `bank`: of the codes."""

    issue: Signal
    word: Signal
    place: Signal
    block: Signal
    direct: Signal
    given: Signal
    first: Signal
    last: Signal
    bank: Signal


@dataclass(frozen=True, eq=False)
class Cells:
    """`leaving[u]`: the sum that unit u takes; the next follows if `shift` is set. `coming[u]`: its new codes, taken
    with `accept`, stored in block `stored` of the other bank with `store`."""

    leaving: list[Value]
    captured: Signal
    shift: Signal
    coming: list[Signal]
    accept: Signal
    store: Signal
    stored: Signal


def build_cells(m: Module, plan: Plan, command: Command, given: Value) -> Cells:
    """All cells of a block. `given`: the code of the input, one clock after the command that takes it."""
    weights, moving = _weights(m, plan, command.word), _moving(m, plan, command, given)
    state, code, total = (shape_of(f) for f in (plan.net.formats[plan.operand], plan.code_format, plan.sum_format))
    issue, first, last = ([s] for s in (command.issue, command.first, command.last))
    for name, chain in (("issue", issue), ("first", first), ("last", last)):
        for i in range(1, CLOCKS + 1):
            m.d.control += (later := Signal(name=f"{name}_{i}")).eq(chain[-1])
            chain.append(later)
    captured, shift = Signal(), Signal()
    m.d.comb += captured.eq(issue[CLOCKS] & last[CLOCKS])
    bits, leaving = plan.weight_format.bits, []
    for c, held in enumerate(moving.codes):
        # Registers of its own before the multiplier: it may lie far from the memory and from the other cells.
        weight = Signal(signed(bits), name=f"weight_{c}", reset_less=True)
        near = Signal(code, name=f"code_{c}", reset_less=True)
        product = Signal(signed(bits + code.width), name=f"product_{c}", reset_less=True)
        m.d.sync += [weight.eq(weights[c]), near.eq(held), product.eq(weighted(weight, near, -near))]
        accumulator = Signal(total, name=f"sum_{c}", reset_less=True)
        left = Signal(total, name=f"leaving_{c}", reset_less=True)
        with m.If(issue[CLOCKS - 1]):
            m.d.sync += accumulator.eq(Mux(first[CLOCKS - 1], 0, accumulator) + product)
        with m.If(captured):
            m.d.sync += left.eq(accumulator)
        leaving.append(left)
    chains = [leaving[u * plan.share : (u + 1) * plan.share] for u in range(plan.units)]
    for chain in chains:
        with m.If(shift & ~captured):
            m.d.sync += [a.eq(b) for a, b in zip(chain, [*chain[1:], Const(0)], strict=True)]
    coming = [Signal(state, name=f"coming_{u}") for u in range(plan.units)]
    accept = Signal()
    store = Signal(name="store")
    stored = Signal(range(max(plan.passes, 2)), name="stored")
    for u, new in enumerate(coming):
        # As long as the longest, so that all end together.
        arrived = [Signal(state, name=f"arrived_{u}_{i}", reset_less=True) for i in range(plan.share)]
        with m.If(accept):
            m.d.sync += [a.eq(b) for a, b in zip(arrived, [*arrived[1:], new], strict=True)]
        for port, fresh in zip(moving.ports[u * plan.share : (u + 1) * plan.share], arrived, strict=False):
            m.d.comb += [port.addr.eq(_address(stored, ~command.bank)), port.en.eq(store), port.data.eq(fresh)]
    return Cells([chain[0] if chain else Const(0) for chain in chains], captured, shift, coming, accept, store, stored)


@dataclass(frozen=True, eq=False)
class _Moving:
    """`codes`: what each cell holds, three clocks after the command; `ports`: into its codes."""

    codes: list[Signal]
    ports: Sequence[WritePort]


def _address(block: Value, bank: Value) -> Value:
    """Banks change with the lowest bit."""
    return (block << 1) | bank[:1]


def _weights(m: Module, plan: Plan, word: Value) -> list[Value]:
    """The weight of each cell, three clocks after its number. Some neighbours share a memory."""
    fmt = plan.weight_format
    mask, at = (1 << fmt.bits) - 1, Signal(range(max(len(plan.words), 2)), reset_less=True)
    m.d.sync += at.eq(word)
    weights: list[Value] = []
    together = max(MEMORY_BITS // fmt.bits, 1)
    for first in range(0, plan.cells, together):
        part = plan.words[:, first : first + together]
        rows = [sum((int(w) & mask) << (c * fmt.bits) for c, w in enumerate(row)) for row in part]
        width = part.shape[1] * fmt.bits
        m.submodules[f"weights_{first}"] = rom = Memory(shape=unsigned(width), depth=len(rows), init=rows)
        port, held = rom.read_port(), Signal(width, name=f"word_{first}", reset_less=True)
        m.d.comb += port.addr.eq(at)
        m.d.sync += held.eq(port.data)
        weights += [decode(held[c * fmt.bits :], fmt) for c in range(part.shape[1])]
    return weights


def _moving(m: Module, plan: Plan, command: Command, given: Value) -> _Moving:
    """The code in each cell: its own of some block, the input's, or a neighbour's."""
    walk, passes = plan.walk, plan.passes
    load, take = len(walk.moves), len(walk.moves) + 1
    kinds = [load if p.block is not None else walk.moves.index(p.move) for p in walk.places]
    blocks = [p.block or 0 for p in walk.places]
    kind, ahead = Signal(range(take + 1)), Signal(range(max(passes, 2)))
    with m.Switch(command.place):
        for i, (k, q) in enumerate(zip(kinds, blocks, strict=True)):
            with m.Case(i):
                m.d.comb += [kind.eq(k), ahead.eq(q)]
    select = [Signal(range(take + 1), name=f"select_{i}") for i in (1, 2)]
    issue = Signal(2, name="issued")
    base, offset, block = (Signal(range(max(passes, 2)), name=n) for n in ("base", "offset", "loaded"))
    total = Signal(range(2 * passes))
    input_code = Signal(shape_of(plan.code_format), name="given", reset_less=True)
    m.d.comb += total.eq(base + offset)
    m.d.control += [
        select[0].eq(Mux(command.given, take, Mux(command.direct, load, kind))),
        base.eq(Mux(command.direct, command.place, command.block)),
        offset.eq(Mux(command.direct, 0, ahead)),
        select[1].eq(select[0]),
        block.eq(Mux(total >= passes, total - passes, total)),
        issue.eq((issue << 1) | command.issue),
    ]
    m.d.sync += input_code.eq(given)
    state = plan.net.formats[plan.operand]
    codes = [Signal(shape_of(plan.code_format), name=f"moving_{c}", reset_less=True) for c in range(plan.cells)]
    ports = []
    for c, code in enumerate(codes):
        m.submodules[f"codes_{c}"] = memory = Memory(shape=unsigned(state.bits), depth=2 * passes, init=[])
        own = memory.read_port(domain="comb")
        m.d.comb += own.addr.eq(_address(block, command.bank))
        ports.append(memory.write_port())
        with m.If(issue[1]), m.Switch(select[1]):
            for k, move in enumerate(walk.moves):
                with m.Case(k):
                    m.d.sync += code.eq(codes[(c + move) % plan.cells])
            with m.Case(load):
                m.d.sync += code.eq(decode(own.data, state))
            with m.Case(take):
                m.d.sync += code.eq(input_code)
    return _Moving(codes, ports)
