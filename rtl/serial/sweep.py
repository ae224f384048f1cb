"""The pipeline of one sweep: the same operations for each unit, `width` units a clock, a register behind each one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth import Cat, Const, Elaboratable, Module, Mux, Signal, Value

from eqcompile.toolchain.ir import Format, ops
from eqcompile.toolchain.ir.ops import Op

from ..control import CONTROL
from ..datapath import Clocked, Datapath, shape_of
from .plan import Plan, Sweep
from .saboteur import Saboteur

__all__ = ["FIRST", "SweepUnit", "clocks_of"]

FIRST = 2
"""Clocks from the number of a group to its codes and sums: memory, then a register."""


class SweepUnit(Elaboratable):
    """Takes the number of a group in each clock with `valid`; its results come out `stages` clocks later.

    `codes` and `sums` give, for each lane, what memories and accumulators hold for the group of `FIRST` clocks ago;
    `totals` are reductions finished before. Results, all in the clock of `out_valid`: `out_group`, `lane_valid`,
    `stored[name][lane]` and `old[name][lane]`, the code that it replaces (0 where a sample begins), and
    `shown[number][lane]`. `totals_made` holds the sweep's own reductions once it is not `busy`; `start` zeroes them.
    `saboteur` disturbs values.
    """

    def __init__(
        self,
        plan: Plan,
        sweep: Sweep,
        *,
        codes: Mapping[str, Sequence[Value]],
        sums: Mapping[str, Sequence[Value]],
        totals: Mapping[str, Value],
        saboteur: Saboteur | None = None,
    ) -> None:
        self.plan, self.sweep, self.saboteur = plan, sweep, saboteur
        self.codes, self.sums, self.totals = codes, sums, totals
        self.path = Datapath(plan.net, Clocked())
        self.groups = -(-sweep.units // plan.width)
        bits = max((self.groups - 1).bit_length(), 1)
        self.stage_of, self.stages = clocks_of(plan, sweep)
        self.start, self.valid, self.group = Signal(), Signal(), Signal(bits)
        self.out_valid, self.out_group, self.busy = Signal(), Signal(bits), Signal()
        self.lane_valid = Signal(plan.width)
        stored = (*(n for n, _ in sweep.stores), *sweep.scans)
        self.stored = {n: self._lanes(f"{n}_new", plan.vectors[n].format) for n in stored}
        self.old = {n: self._lanes(f"{n}_old", plan.vectors[n].format) for n in stored}
        self.shown = {k: self._lanes(f"shown_{k}", self._format(v)) for k, v in sweep.shows}
        self.totals_made = {r.out: Signal(self.path.shape(r.out), name=f"{r.out}_total") for r in sweep.sums}

    def resolve(self, name: str) -> str:
        return self.plan.alias.get(name, name)

    def _lanes(self, name: str, fmt: Format) -> list[Signal]:
        return [Signal(shape_of(fmt), name=f"{name}_{lane}") for lane in range(self.plan.width)]

    def _format(self, name: str) -> Format:
        shape = self.path.shape(name)
        return Format(shape.width, shape.signed)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, group = [Value.cast(self.valid)], [Value.cast(self.group)]
        for _ in range(self.stages):
            valid.append(_next(m, valid[-1], "valid", CONTROL))
            group.append(_next(m, group[-1], "group", CONTROL))
        m.d.comb += [self.out_valid.eq(valid[-1]), self.out_group.eq(group[-1]), self.busy.eq(Cat(*valid).any())]
        in_last = self.sweep.units - (self.groups - 1) * self.plan.width
        lines = [_Line(self, m, lane, group) for lane in range(self.plan.width)]
        for line in lines:
            present = Const(1, 1) if line.lane < in_last else group[-1] != self.groups - 1
            m.d.comb += self.lane_valid[line.lane].eq(valid[-1] & present)
            self._results(m, line)
        for r in self.sweep.sums:
            terms = [Mux(self.lane_valid[line.lane], line.at(r.x, self.stages, r.x), 0) for line in lines]
            total = self.totals_made[r.out]
            added: Value = total
            for term in terms:
                added = added + term
            m.d.sync += total.eq(Mux(self.start, 0, added))
        return m

    def _results(self, m: Module, line: _Line) -> None:
        for op in self.sweep.script:
            line.compute(op)
        for name, value in self.sweep.stores:
            new = Const(0, 1) if value is None else line.at(value, self.stages, name)
            old = line.at(name, self.stages, name) if self.sweep.block == "step" else Const(0, 1)
            m.d.comb += [self.stored[name][line.lane].eq(new), self.old[name][line.lane].eq(old)]
        for name in self.sweep.scans:
            m.d.comb += self.stored[name][line.lane].eq(line.at(name, self.stages, name))
        for number, value in self.sweep.shows:
            m.d.comb += self.shown[number][line.lane].eq(line.at(value, self.stages, value))


class _Line:
    """Values of one lane, each with its clock, delayed where something needs them later."""

    def __init__(self, unit: SweepUnit, m: Module, lane: int, group: Sequence[Value]) -> None:
        self.unit, self.m, self.lane, self.group = unit, m, lane, group
        self.made: dict[tuple[str, int], Value] = {}

    def compute(self, op: Op) -> None:
        """Place `op` so that its value comes out in its clock."""
        unit, end = self.unit, self.unit.stage_of[op.out]
        free = _is_free(unit.path, op)
        start = end - unit.path.latency(op) - (not free)
        value = unit.path.evaluate(self.m, op, {n: self.at(n, start, op.out) for n in unit.path.operands(op)})
        result = value if free else _next(self.m, value, f"{op.out}_{self.lane}")
        self.made[op.out, end] = self._upset(op.out, result, end)

    def _upset(self, name: str, value: Value, stage: int) -> Value:
        """A value, or a sum, with its saboteur."""
        unit = self.unit
        if unit.saboteur is None:
            return value
        return unit.saboteur.value(self.m, unit.sweep, name, value, self.lane, self.group[stage])

    def at(self, name: str, stage: int, out: str) -> Value:
        """`name` in the clock `stage`; a parameter as broadcast to `out`."""
        unit = self.unit
        source = key = unit.resolve(name)
        if source in unit.totals:
            return unit.totals[source]
        if source in unit.plan.net.param_names:
            constant = unit.path.constant(source, out)
            if constant is not None:
                return Const(constant, shape_of(Format.holding(constant, constant)))
            key = f"{source} for {out}"
        start = unit.stage_of.get(key, FIRST)
        if (key, start) not in self.made:
            self.made[key, start] = self._held(source) if key == source else self._parameter(source, out)
        for clock in range(start + 1, stage + 1):
            if (key, clock) not in self.made:
                self.made[key, clock] = _next(self.m, self.made[key, clock - 1], f"{source}_{self.lane}_held")
        return self.made[key, stage]

    def _held(self, name: str) -> Value:
        unit = self.unit
        if name not in unit.sums:
            code = unit.codes[name][self.lane]
            saboteur = unit.saboteur
            if saboteur is None:
                return code
            return saboteur.held(self.m, unit.sweep, name, code, self.lane, self.group[FIRST])
        total = unit.sums[name][self.lane]
        bias = next(x.bias for x in unit.plan.maps if x.out == name)
        if not any(bias):
            return self._upset(name, total, FIRST)
        # The stated format holds the sum with its bias; without it the accumulator may wrap, and wraps back here.
        shape = unit.path.shape(name)
        result = Signal(shape, name=f"{name}_{self.lane}_biased")
        self.m.d.comb += result.eq(total + self._rom(bias))
        return self._upset(name, result, FIRST)

    def _parameter(self, name: str, out: str) -> Value:
        return self._rom(self.unit.path.rows(name, out))

    def _rom(self, entries: Sequence[int]) -> Value:
        """The entry of this lane's unit, at `FIRST`."""
        unit = self.unit
        shape = shape_of(Format.holding(min(entries), max(entries)))
        mine = list(entries)[self.lane :: unit.plan.width]
        return unit.path.fabric.table(self.m, mine, shape, unit.group) if mine else Const(0, shape)


def clocks_of(plan: Plan, sweep: Sweep) -> tuple[dict[str, int], int]:
    """Clock of each value of the script (what is not in it is there at `FIRST`), and of the results."""
    path = Datapath(plan.net, Clocked())
    clocks: dict[str, int] = {}

    def clock(name: str) -> int:
        return clocks.get(plan.alias.get(name, name), FIRST)

    for op in sweep.script:
        clocks[op.out] = max(clock(n) for n in op.reads) + path.latency(op) + (not _is_free(path, op))
    stores = [value for _, value in sweep.stores if value is not None]
    targets = [*stores, *(value for _, value in sweep.shows), *(r.x for r in sweep.sums)]
    return clocks, max((clock(t) for t in targets), default=FIRST)


def _is_free(path: Datapath, op: Op) -> bool:
    """Wires only: a register behind it would be wasted."""
    return isinstance(op, ops.Rescale) and op.shift == 0 and path.latency(op) == 0


def _next(m: Module, value: Value, name: str, domain: str = "sync") -> Value:
    register = Signal(value.shape(), name=name)
    m.d[domain] += register.eq(value)
    return register
