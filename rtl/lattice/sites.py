"""What happens to the sums on their way through the units: new codes for the cells, and rows of the readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amaranth import Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory

from eqcompile.rtl.datapath import shape_of

from .plan import Plan
from .saboteur import Saboteur
from .unit import TABLE_CLOCKS, Pipe

__all__ = ["Leaving", "Readout", "Sites", "build_readout", "build_sites"]


@dataclass(frozen=True, eq=False)
class Leaving:
    """Sums on their way: in a clock with `valid` each unit takes one, `sums[u]`; `first` of a run, `last` of a run;
    `number`: of the clock within a phase. `driving`, `reading`: the phase, stepping if neither. `bank`: of the codes
    that stand."""

    sums: Sequence[Value]
    valid: Signal
    first: Signal
    last: Signal
    number: Signal
    driving: Value
    reading: Value
    bank: Signal


@dataclass(frozen=True, eq=False)
class Sites:
    """With `valid` unit u gives `codes[u]` of the cells' state; `clocks` after the sum in a step. `moved`, one clock
    after the next: a code of this step moved by more than the tolerance. `traced[state]`: codes of all sites, if asked
    for."""

    codes: list[Value]
    valid: Value
    moved: Value
    clocks: int
    traced: Mapping[str, list[Signal]]


def build_sites(
    m: Module,
    plan: Plan,
    leaving: Leaving,
    tolerance: Value,
    fresh: Value,
    *,
    trace: bool,
    saboteur: Saboteur | None = None,
) -> Sites:
    """A unit for each share of the cells. `fresh`: a step begins; `tolerance`: no larger than a difference of codes."""
    states = plan.net.states
    codes: list[Value] = []
    moves: list[Value] = []
    traced: dict[str, list[Signal]] = {}
    if trace:
        formats = {s.name: shape_of(plan.net.formats[s.name]) for s in states}
        traced = {
            n: [Signal(f, name=f"traced_{n}_{i}", reset_less=True) for i in range(plan.sites)]
            for n, f in formats.items()
        }
    minus = Signal(signed(len(tolerance) + 1))
    m.d.sync += minus.eq(-tolerance)
    valid: Value = Const(0)
    clocks = 0
    for unit in range(plan.units):
        elements = plan.sites_of(unit)
        drive, step = (Pipe(m, plan, leaving.number, elements, saboteur) for _ in range(2))
        drive.bias(plan.maps[0], leaving.sums[unit])
        drive.run(plan.net.drive)
        targets = {s.init: s.name for s in states if s.init is not None} | {name: name for name in plan.kept}
        values, driven_at = drive.results(targets)
        driven = dict(zip(targets, values, strict=True))
        driven_valid = _later(m, leaving.valid & leaving.driving, driven_at)
        where = drive.at("", driven_at)
        for name in plan.kept:
            kept = _Kept(m, f"{name}_{unit}", drive.path.shape(name), len(elements), leaving.number)
            m.d.comb += [kept.write.addr.eq(where), kept.write.data.eq(driven[name]), kept.write.en.eq(driven_valid)]
            found = kept.found if saboteur is None else saboteur.kept(step, name, kept.found, TABLE_CLOCKS)
            step.put(name, found, TABLE_CLOCKS)
        banked = (leaving.number << 1) | leaving.bank
        old = {s.name: _Kept(m, f"{s.name}_{unit}", step.path.shape(s.name), 2 * len(elements), banked) for s in states}
        for name, kept in old.items():
            step.put(name, kept.found, TABLE_CLOCKS)
        step.bias(plan.maps[1], leaving.sums[unit])
        step.run(plan.net.step)
        targets = {s.update: s.name for s in states} | {s.name: s.name for s in states}
        values, clocks = step.results(targets)
        new = dict(zip(targets, values, strict=True))
        stepped_valid = _later(m, leaving.valid & ~leaving.driving & ~leaving.reading, clocks)
        valid, index = driven_valid | stepped_valid, Mux(driven_valid, where, step.at("", clocks))
        real = step.real(clocks)
        for s in states:
            start = Const(0) if s.init is None else driven[s.init]
            code = Signal(shape_of(plan.net.formats[s.name]), name=f"new_{s.name}")
            m.d.comb += code.eq(Mux(driven_valid, start, new[s.update]))
            write, kept_code = old[s.name].write, code
            if saboteur is not None:
                kept_code = saboteur.stored(step, s.name, code, index, driven_valid)
            m.d.comb += [write.addr.eq((index << 1) | ~leaving.bank), write.en.eq(valid), write.data.eq(kept_code)]
            difference = Signal(signed(len(code) + 1), name=f"difference_{s.name}", reset_less=True)
            m.d.sync += difference.eq(new[s.update] - new[s.name])
            moves.append(((difference > tolerance) | (difference < minus)) & _later(m, stepped_valid & real, 1))
            if s.name == plan.operand:
                codes.append(kept_code)
            if trace:
                _trace(m, traced[s.name], elements, index, valid, code)
    moved = Signal(name="moved")
    with m.If(fresh):
        m.d.control += moved.eq(0)
    for move in moves:
        with m.If(move):
            m.d.control += moved.eq(1)
    return Sites(codes, valid, moved, clocks, traced)


def _later(m: Module, value: Value, clocks: int) -> Value:
    for _ in range(clocks):
        register = Signal.like(value, name="later")
        m.d.control += register.eq(value)
        value = register
    return value


class _Kept:
    """Codes of all elements of a unit: `found` is that at `address`, `TABLE_CLOCKS` later."""

    def __init__(self, m: Module, name: str, shape: Shape, depth: int, address: Value) -> None:
        m.submodules[f"{name}_codes"] = memory = Memory(shape=unsigned(shape.width), depth=depth, init=[])
        self.write, read = memory.write_port(), memory.read_port()
        m.d.comb += read.addr.eq(address)
        self.found = Signal(shape, reset_less=True)
        m.d.sync += self.found.eq(Value.cast(read.data))


def _trace(
    m: Module, traced: Sequence[Signal], elements: Sequence[int | None], index: Value, valid: Value, code: Value
) -> None:
    with m.If(valid), m.Switch(index):
        for i, site in enumerate(elements):
            if site is not None:
                with m.Case(i):
                    m.d.sync += traced[site].eq(code)


@dataclass(frozen=True, eq=False)
class Readout:
    """With `valid` row number `row` of the output is `code`."""

    valid: Value
    row: Value
    code: Value
    clocks: int


def build_readout(m: Module, plan: Plan, leaving: Leaving, saboteur: Saboteur | None = None) -> Readout:
    """The sums of all cells of a run added up, and the operations that follow the readout's map."""
    local = plan.maps[2]
    shape = shape_of(plan.net.formats[local.out])
    parts: list[Value] = []
    for unit, found in enumerate(leaving.sums):
        total = Signal(shape, name=f"total_{unit}", reset_less=True)
        with m.If(leaving.valid & leaving.reading):
            m.d.sync += total.eq(Mux(leaving.first, 0, total) + found)
        parts.append(total)
    valid = _later(m, leaving.valid & leaving.reading & leaving.last, 1)
    while len(parts) > 1:
        pairs = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
        sums = [Signal(shape, reset_less=True) for _ in range(len(parts) - len(pairs))]
        m.d.sync += [s.eq(p) for s, p in zip(sums, [*pairs, *parts[2 * len(pairs) :]], strict=True)]
        parts, valid = [*sums], _later(m, valid, 1)
    rows = len(plan.matrices[2])
    row = Signal(range(max(rows, 2)), name="readout_row")
    with m.If(valid):
        m.d.control += row.eq(Mux(row == rows - 1, 0, row + 1))
    pipe = Pipe(m, plan, row, range(rows), saboteur)
    pipe.bias(local, parts[0])
    pipe.run(plan.net.readout)
    output = plan.net.outputs[0].value
    (code,), clocks = pipe.results({output: output})
    return Readout(_later(m, valid, clocks), pipe.at("", clocks), code, clocks)
