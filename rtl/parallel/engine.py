"""Control of the parallel engine.

    idle ─ full ─► drive ─ drive clocks ─► tick ─ settled, or steps made ─► write ─► idle

In `tick` the states stand still for `step_clocks`, then all latch. Whether a code moved is found while the next step is
already under way: a step that turns out not to be needed is never latched.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from amaranth import Cat, Const, Elaboratable, Module, Mux, ResetInserter, Signal, Value, signed
from amaranth.lib import wiring

from eqcompile.rtl.datapath import shape_of
from eqcompile.rtl.interface import EngineSignature, port_of
from eqcompile.toolchain.diagnostics import Diagnostic, UnsupportedError
from eqcompile.toolchain.ir import IntNet, infer, walk

from .build import TAKEN, Builder, Scope, Wire, Wires, constant, filled, source
from .intake import InputUnit, Intake, serial_maps
from .solve import Solver

__all__ = ["ParallelEngine", "check", "describe"]


def check(net: IntNet) -> list[Diagnostic]:
    """Every reason why the engine cannot take `net`, by node."""
    found = [
        Diagnostic(
            "rtl-operation",
            f"{op.mnemonic} is no operation of the parallel engine",
            op.out,
            f"it takes {', '.join(sorted(t.mnemonic for t in TAKEN))}",
        )
        for op in net.all_ops()
        if not isinstance(op, TAKEN)
    ]
    found += [
        Diagnostic("rtl-index", f"input {i.name} is a token; the engine reads numbers", i.name)
        for i in net.inputs
        if i.kind == "index"
    ]
    if net.schedule.frames:
        found.append(
            Diagnostic("rtl-frames", "the engine relaxes one input at a time, the schedule has frames", net.name)
        )
    return found


class ParallelEngine(wiring.Component):
    """Every linear map of step and readout as an adder graph of its own.

    `levels`: the most additions between two registers (at least 1); None for none at all, one clock a step. `solver`
    finds the adder graphs. `input`: linear maps of the input by accumulators or by adder graphs. `trace`: the "vector"
    trace. Raises UnsupportedError with everything `check` finds.
    """

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool,
        levels: int | None = 4,
        solver: Solver = "pairs",
        input: InputUnit = "serial",  # noqa: A002
    ) -> None:
        faults = self._refusals(net)
        if levels is not None and levels < 1:
            faults.append(Diagnostic("rtl-levels", f"levels is {levels}, must be at least 1", net.name))
        if faults:
            # Amaranth warns of components that are never elaborated; this one will not be.
            self._MustUse__used = True
            raise UnsupportedError(faults)
        self.net, self.input = net, input
        types = infer(net)
        super().__init__(
            EngineSignature(
                port_of(net, [(i.name, prod(i.shape)) for i in net.inputs]),
                port_of(net, [(o.value, prod(types[o.value].shape)) for o in net.outputs]),
                trace="vector" if trace else None,
                states=[(s.name, prod(s.shape), net.formats[s.name]) for s in net.states],
            )
        )
        m = Module()
        self.builder = Builder(m, net, levels=levels, solver=solver)
        self.intake = Intake(m, net, self.signature.x_port, self.x.payload, input)
        self._build(m)
        self._module = m

    def elaborate(self, platform: object) -> Elaboratable:
        return ResetInserter(self.restart)(self._module)

    def _refusals(self, net: IntNet) -> list[Diagnostic]:
        return check(net)

    def _step_maps(self, m: Module, states: Scope, fresh: Signal) -> tuple[Scope, int]:
        """Values of the step computed otherwise than by the builder, right that many clocks after the states changed;
        `fresh`: states take new codes in this clock. Here there are none."""
        return {}, 0

    def _build(self, m: Module) -> None:
        builder, net = self.builder, self.net
        driven: Scope = dict(self.intake.scope)
        builder.block((op for op in net.drive if op.out not in driven), driven)
        clamped = self._clamped(driven)
        states = {s.name: self._state(s.name, s.shape) for s in net.states}
        stepped, read = {**clamped, **states}, {**clamped, **states}
        fresh = Signal()
        given, map_clocks = self._step_maps(m, states, fresh)
        stepped |= given
        builder.block((op for op in net.step if op.out not in given), stepped)
        builder.block(net.readout, read)
        updates = [self._entries(s.update, stepped, s.shape) for s in net.states]
        initial = [
            [constant(0)] * prod(s.shape) if s.init is None else self._entries(s.init, clamped, s.shape)
            for s in net.states
        ]
        outputs = [w for o in net.outputs for w in builder.get(o.value, read).reshape(-1)]
        self.step_clocks = 1 + map_clocks + _stages(itertools.chain(*updates))
        self.read_clocks = _stages(outputs)
        flat = [w.value for s in net.states for w in states[s.name].reshape(-1)]
        self._control(m, flat, list(itertools.chain(*updates)), list(itertools.chain(*initial)), outputs, fresh)
        if self.signature.trace is not None:
            for s in net.states:
                fields = getattr(self.trace_codes, s.name)
                m.d.comb += [fields[i].eq(w.value) for i, w in enumerate(states[s.name].reshape(-1))]

    def _state(self, name: str, shape: tuple[int, ...]) -> Wires:
        fmt = self.net.formats[name]
        wires = [source(Signal(shape_of(fmt), name=f"{name}_{i}"), fmt) for i in range(prod(shape))]
        return filled(shape, wires)

    def _clamped(self, driven: Scope) -> Scope:
        """Values of the drive that step, readout and states read, each behind a register; sets `drive_clocks`."""
        net = self.net
        read = {n for op in itertools.chain(walk(net.step), walk(net.readout)) for n in op.reads}
        read |= {o.value for o in net.outputs} | {s.update for s in net.states}
        read |= {s.init for s in net.states if s.init is not None}
        held = {name: [self.builder.registered(w) for w in driven[name].reshape(-1)] for name in driven if name in read}
        self.drive_clocks = _stages(itertools.chain(*held.values()))
        return {name: filled(driven[name].shape, [replace(w, stage=0) for w in ws]) for name, ws in held.items()}

    def _entries(self, name: str, scope: Scope, shape: tuple[int, ...]) -> list[Wire]:
        return list(np.broadcast_to(self.builder.get(name, scope), shape).reshape(-1))

    def _control(
        self,
        m: Module,
        states: Sequence[Value],
        updates: Sequence[Wire],
        initial: Sequence[Wire],
        outputs: Sequence[Wire],
        fresh: Signal,
    ) -> None:
        intake = self.intake
        next_steps, next_tolerance, steps = Signal(16), Signal(16), Signal(16)
        widest = max(f.bits for _, _, f in self.signature.states)
        # No difference of two codes is larger than this, so a larger tolerance says the same.
        cap = min((1 << widest) - 1, (1 << 16) - 1)
        tolerance = Signal(range(cap + 1))
        latch, made = Signal(), Signal(16)
        longest = max(self.drive_clocks, self.step_clocks, self.read_clocks, 1)
        age = Signal(range(longest + 1))
        m.d.comb += [
            self.x.ready.eq(intake.ready),
            intake.transfer.eq(self.x.valid & self.x.ready),
            self.made.eq(made),
        ]
        with m.If(intake.transfer & (intake.number == 0)):
            m.d.sync += [next_steps.eq(self.steps), next_tolerance.eq(self.tolerance)]
        with m.If(age != longest):
            m.d.sync += age.eq(age + 1)
        settled = self._settled(m, states, latch, tolerance)
        over = Signal()
        known = age != 0 if self.step_clocks > 1 else Const(1)
        m.d.comb += over.eq((made == steps) | ((made != 0) & known & settled))
        results = [Signal(shape_of(self.signature.y_port.format), name=f"y_{i}") for i in range(len(outputs))]
        left = Signal(range(len(outputs)))
        m.d.comb += self.y.payload.eq(results[0])
        with m.FSM() as control:
            with m.State("idle"), m.If(intake.full):
                m.d.comb += intake.take.eq(1)
                m.d.sync += [
                    steps.eq(next_steps),
                    tolerance.eq(Mux(next_tolerance > cap, cap, next_tolerance)),
                    age.eq(0),
                ]
                m.next = "drive"
            with m.State("drive"), m.If(age == self.drive_clocks):
                m.d.comb += fresh.eq(1)
                m.d.sync += [*(s.eq(w.value) for s, w in zip(states, initial, strict=True)), made.eq(0), age.eq(0)]
                m.next = "tick"
            with m.State("tick"):
                with m.If(over):
                    with m.If(age >= self.read_clocks):
                        m.d.sync += [
                            *(r.eq(w.value) for r, w in zip(results, outputs, strict=True)),
                            left.eq(len(outputs) - 1),
                        ]
                        m.next = "write"
                with m.Elif(age == self.step_clocks - 1):
                    m.d.comb += [latch.eq(1), fresh.eq(1)]
                    m.d.sync += [
                        *(s.eq(w.value) for s, w in zip(states, updates, strict=True)),
                        made.eq(made + 1),
                        age.eq(0),
                    ]
            with m.State("write"):
                m.d.comb += self.y.valid.eq(1)
                with m.If(self.y.ready):
                    m.d.sync += [*(a.eq(b) for a, b in zip(results, results[1:], strict=False)), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "idle"
        m.d.comb += self.busy.eq(~intake.empty | ~control.ongoing("idle"))
        if self.signature.trace is not None:
            m.d.sync += self.trace_end.eq(latch)

    def _settled(self, m: Module, states: Sequence[Value], latch: Value, tolerance: Signal) -> Value:
        """No code moved by more than the tolerance in the last step; one clock later if a step has more than one."""
        minus, moved = Signal(signed(len(tolerance) + 1)), []
        m.d.sync += minus.eq(-tolerance)
        for state in states:
            # A copy of the old code, not the difference: the update comes late in its clock, from a table.
            previous, difference = (
                Signal(state.shape(), name="previous"),
                Signal(signed(len(state) + 1), name="difference"),
            )
            m.d.comb += difference.eq(state - previous)
            with m.If(latch):
                m.d.sync += previous.eq(state)
            moved.append((difference > tolerance) | (difference < minus))
        settled = Signal()
        (m.d.comb if self.step_clocks == 1 else m.d.sync).__iadd__(settled.eq(~Cat(*moved).any()))
        return settled


def _stages(wires: Iterable[Wire]) -> int:
    return max((w.stage for w in wires), default=0)


def describe(engine: ParallelEngine) -> dict[str, Any]:
    """Figures of an engine as JSON values.

    A sample takes `clocks(made)`: from its last code to its first result, with `made` ticks; its codes come in while
    the sample before relaxes.
    """
    builder, intake = engine.builder, engine.intake
    return {
        "arch": "parallel",
        "step_clocks": engine.step_clocks,
        "drive_clocks": engine.drive_clocks,
        "read_clocks": engine.read_clocks,
        "intake_clocks": engine.signature.x_port.count,
        "block_tables": builder.block_tables.count,
        "registers": len(builder.registers),
        "adders": {name: {"count": len(graph.adders), "depth": graph.depth} for name, graph in builder.graphs.items()},
        "accumulators": sum(len(intake.scope[op.out].reshape(-1)) for op in serial_maps(engine.net, engine.input)),
    }


def clocks(engine: ParallelEngine, made: int, steps: int) -> int:
    """Clocks from the last code of a sample to its first result, the engine idle and `made` of `steps` ticks made."""
    noticed = 0 if made == steps or engine.step_clocks == 1 else 1
    return (
        engine.intake.latency
        + engine.drive_clocks
        + 1
        + made * engine.step_clocks
        + max(engine.read_clocks, noticed)
        + 2
    )
