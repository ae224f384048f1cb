"""Control of the parallel engine.

    idle ─ full ─► tick ─ settled, or steps made ─► read ─ outputs stand ─► write ─► idle

A sample's drive is computed while the one before relaxes. In `tick` the states stand still for `step_clocks`, then all
latch. Whether a code moved is found while the next step is already under way: a step that turns out not to be needed is
never latched. Where a step takes one clock that is too late: there the states run ahead without end, and what is read,
traced and counted is a copy of the codes before.

A step takes one clock unless `step_levels` says otherwise: a register within the loop only makes it longer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from amaranth import Cat, Const, Module, Signal, Value, signed

from eqcompile.rtl.control import CONTROL
from eqcompile.rtl.datapath import shape_of
from eqcompile.rtl.interface import Engine, foreseen_refusals, live_taps, refusals, too_many_taps, unknown_operations
from eqcompile.rtl.relaxation import Outlet, Schedule
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import IntNet, walk
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON

from .build import TAKEN, Builder
from .hardening import Protected, check_hardening
from .intake import Intake, serial_maps
from .saboteur import Saboteur
from .saturate import useful_drives
from .tables import latched_lookups
from .wires import Scope, Wire, Wires, composed, constant, filled, narrowed, source

__all__ = ["ParallelEngine", "check", "foresee"]


def check(net: IntNet, *, harden: tuple[str, ...] = (), protect: Protected | None = None) -> list[Diagnostic]:
    """Every reason why the engine cannot take `net` with these options, by node."""
    hardening = check_hardening(harden, protect or {}, net)
    unknown = [*unknown_operations(net, TAKEN, "parallel")]
    return [*hardening, *refusals(net), *(unknown or too_many_taps(live_taps(net), net.name, "parallel"))]


def foresee(needs: Requirements) -> list[Diagnostic]:
    """What is certain of `check` before quantization."""
    taps = sum(m.taps for m in needs.maps)
    return [
        *foreseen_refusals(needs, TAKEN, "parallel"),
        *too_many_taps(taps, needs.net.name, "parallel"),
    ]


class ParallelEngine(Engine):
    """Every linear map of step and readout as an adder graph of its own.

    `levels`: the most additions between two registers (at least 1), None for none at all; `step_levels` the same within
    a step, where None makes it one clock. `beat`: codes that a beat of the input stream carries; `result_beat`: of the
    output stream (None: as many as one of the input). Where a beat has one code, accumulators compute linear maps of
    the input, else adder graphs. Long tables whose entries are the next codes are in block RAM if a step is one clock.
    `inject` adds saboteurs of the words in `inject_words` and their port. `harden`: tmr votes over registers of the
    control, and of the states of units in `protect`, whose tables are in LUTs. Raises UnsupportedError with everything
    `check` finds.
    """

    architecture = "parallel"

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool,
        inject: bool = False,
        levels: int | None = 4,
        step_levels: int | None = None,
        beat: int = 1,
        result_beat: int | None = None,
        harden: tuple[str, ...] = (),
        protect: Protected | None = None,
    ) -> None:
        self.harden, self.protect = harden, protect or {}
        self.voted = "tmr" in harden
        self.adds_up = beat == 1
        faults = check(net, harden=harden, protect=protect)
        least = {"levels": levels, "step_levels": step_levels, "beat": beat, "result_beat": result_beat}
        for name, value in least.items():
            if value is not None and value < 1:
                faults.append(Diagnostic(f"rtl-{name}", f"{name} is {value}, must be at least 1", net.name))
        self.refuse(faults)
        super().__init__(net, beat=beat, result_beat=result_beat or beat, trace=trace, inject=inject)
        self._module = m = Module()
        self.saboteur = Saboteur(m, self) if inject else None
        self.inject_words = {} if self.saboteur is None else self.saboteur.words
        self.builder = Builder(m, net, levels=levels)
        latched = latched_lookups(net, self.protect) if step_levels is None else {}
        self.stepper = Builder(m, net, levels=step_levels, latched=latched)
        self.intake = Intake(m, net, self.signature.x_port, self.x.payload, adds_up=self.adds_up)
        self._build(m)

    def build(self) -> Module:
        return self._module

    def describe(self) -> dict[str, JSON]:
        """Figures of an engine as JSON values.

        A sample's beats come in while the sample before relaxes.
        """
        builders, sums = (self.builder, self.stepper), self.intake.scope
        added = serial_maps(self.net, adds_up=self.adds_up)
        graphs = {name: graph for b in builders for name, graph in b.graphs.items()}
        return {
            "arch": self.architecture,
            "step_clocks": self.step_clocks,
            "drive_clocks": self.drive_clocks,
            "read_clocks": self.read_clocks,
            "intake_clocks": self.signature.x_port.beats,
            "result_clocks": self.signature.y_port.beats,
            "block_tables": self.stepper.block_tables.readers,
            **({"harden": list(self.harden)} if self.harden else {}),
            **({"protected": {name: list(units) for name, units in self.protect.items()}} if self.protect else {}),
            "registers": sum(len(b.registers) for b in builders),
            "adders": {name: {"count": len(graph.adders), "depth": graph.depth} for name, graph in graphs.items()},
            "accumulators": sum(sums[op.out].size for op in added),
        }

    def _build(self, m: Module) -> None:
        builder, net, saboteur = self.builder, self.net, self.saboteur
        upset = {block: None if saboteur is None else saboteur.computed(block) for block, _ in net.blocks}
        driven: Scope = dict(self.intake.scope)
        rest = [op for op in net.drive if op.out not in driven]
        if saboteur is not None:
            driven = saboteur.added_up(driven)
        builder.block(rest, driven, upset["drive"])
        clamped, driving = self._clamped(m, driven)
        states = {s.name: self._state(s.name, s.shape) for s in net.states}
        stepped = {**clamped, **states}
        if saboteur is not None:
            stepped = saboteur.clamped(clamped, saboteur.tick) | saboteur.states(states, saboteur.tick)
        self.stepper.block(net.step, stepped, upset["step"])
        updates = [self._entries(s.update, stepped, s.shape) for s in net.states]
        initial = [
            [constant(0)] * prod(s.shape) if s.init is None else self._entries(s.init, driven, s.shape)
            for s in net.states
        ]
        self.step_clocks = 1 + _stages(itertools.chain(*updates))
        self.drive_clocks = max(driving, _stages(itertools.chain(*initial)))
        self.ahead = self.step_clocks == 1
        copies = {s.name: self._state(f"seen_{s.name}", s.shape) for s in net.states} if self.ahead else states
        read = {**clamped, **copies}
        if saboteur is not None:
            read = saboteur.clamped(clamped, self.made) | saboteur.states(copies, self.made)
        builder.block(net.readout, read, upset["readout"])
        outputs = [w for o in net.outputs for w in builder.get(o.value, read).reshape(-1)]
        self.read_clocks = _stages(outputs)
        self.protected = {
            id(registers[name].reshape(-1)[unit].value)
            for name, units in self.protect.items()
            for unit in units
            for registers in ((states, copies) if self.ahead else (states,))
        }
        self.intake.delayed(self.drive_clocks)
        self._control(
            m,
            [w.value for s in net.states for w in states[s.name].reshape(-1)],
            [w.value for s in net.states for w in copies[s.name].reshape(-1)],
            list(itertools.chain(*updates)),
            list(itertools.chain(*initial)),
            outputs,
        )
        if self.signature.traced:
            for s in net.states:
                self.show(m, s.name, (w.value for w in copies[s.name].reshape(-1)))

    def _state(self, name: str, shape: tuple[int, ...]) -> Wires:
        fmt = self.net.formats[name.removeprefix("seen_")]
        wires = [source(Signal(shape_of(fmt), name=f"{name}_{i}"), fmt) for i in range(prod(shape))]
        return filled(shape, wires)

    def _clamped(self, m: Module, driven: Scope) -> tuple[Scope, int]:
        """Values of the drive that step, readout and states read, in registers that a new sample writes,
        and the clocks until they may."""
        net = self.net
        read = {n for op in itertools.chain(walk(net.step), walk(net.readout)) for n in op.reads}
        read |= {o.value for o in net.outputs} | {s.update for s in net.states}
        needed = {name: list(wires.reshape(-1)) for name, wires in driven.items() if name in read}
        # A drive that is cut is no word of the net any more.
        useful = useful_drives(net, net.step) if self.saboteur is None else {}
        for name, within in useful.items():
            if name in needed:
                needed[name] = [self.builder.saturated(w, i) for w, i in zip(needed[name], within, strict=True)]
        clocks = _stages(itertools.chain(*needed.values()))
        with m.If(self.intake.take):
            registers = {name: filled(driven[name].shape, [_held(m, w) for w in ws]) for name, ws in needed.items()}
        return registers, clocks

    def _entries(self, name: str, scope: Scope, shape: tuple[int, ...]) -> list[Wire]:
        return list(np.broadcast_to(self.builder.get(name, scope), shape).reshape(-1))

    def _control(
        self,
        m: Module,
        states: Sequence[Value],
        copies: Sequence[Value],
        updates: Sequence[Wire],
        initial: Sequence[Wire],
        outputs: Sequence[Wire],
    ) -> None:
        intake = self.intake
        schedule = Schedule(m, self, first=intake.transfer & (intake.number == 0))
        latch, counted = Signal(), Signal()
        longest = max(self.step_clocks, self.read_clocks, 1)
        age = Signal(range(longest + 1), name="age")
        m.d.comb += [
            self.x.ready.eq(intake.ready),
            intake.transfer.eq(self.x.valid & self.x.ready),
        ]
        with m.If(age != longest):
            m.d.control += age.eq(age + 1)
        moved = schedule.unsettled(self._moved(m, states, latch, schedule.tolerance))
        over = Signal()
        known = Const(1) if self.ahead else age != 0
        if self.saboteur is not None:
            self.saboteur.count(self.intake.take, ahead=self.ahead)
        m.d.comb += over.eq((schedule.left == 0) | ((self.made != 0) & known & ~moved))
        port, outlet = self.signature.y_port, Outlet(m, self)
        results = [Signal(shape_of(port.format), name=f"y_{i}") for i in range(port.beats * port.beat)]
        m.d.comb += self.y.payload.eq(Cat(results[: port.beat]))
        start = [(s, w.value) for s, w in zip(states, initial, strict=True)]
        advance = [(s, w.value) for s, w in zip(states, updates, strict=True)]
        if self.ahead:
            # They run on whatever the control does, which reads the copies: nothing of it is on their way.
            with m.If(intake.take):
                self._latch(m, start)
            with m.Else():
                self._latch(m, advance)
        read = [r.eq(w.value) for r, w in zip(results, outputs, strict=False)]
        stand = age >= self.read_clocks
        with m.FSM(domain=CONTROL, name="fsm") as control:
            with m.State("idle"), m.If(intake.full):
                m.d.comb += intake.take.eq(1)
                self._latch(m, [] if self.ahead else start)
                schedule.start()
                m.d.control += age.eq(0)
                m.next = "tick"
            with m.State("tick"):
                with m.If(over):
                    m.next = "read"
                    with m.If(stand):
                        m.d.sync += read
                        outlet.open()
                with m.Elif(age >= self.step_clocks - 1):
                    m.d.comb += latch.eq(1)
                    self._latch(m, [] if self.ahead else advance)
                    m.d.control += age.eq(0)
            with m.State("read"), m.If(stand):
                m.d.sync += read
                outlet.open()
            outlet.write([a.eq(b) for a, b in zip(results, results[port.beat :], strict=False)])
        if self.ahead:
            # The first latch of a sample takes its initial codes into the copy: no tick yet.
            primed = Signal(name="primed")
            with m.If(intake.take):
                m.d.control += primed.eq(0)
            with m.Elif(latch):
                m.d.control += primed.eq(1)
                self._latch(m, zip(copies, states, strict=True))
            m.d.comb += counted.eq(latch & primed)
        else:
            m.d.comb += counted.eq(latch)
        with m.If(counted):
            schedule.advance()
        m.d.comb += self.busy.eq(~intake.empty | ~control.ongoing("idle"))
        if self.signature.traced:
            m.d.sync += self.trace_end.eq(counted)

    def _latch(self, m: Module, codes: Iterable[tuple[Value, Value]]) -> None:
        """Assign registers of states; those of protected units are control."""
        for register, value in codes:
            m.d[CONTROL if id(register) in self.protected else "sync"] += register.eq(value)

    def _moved(self, m: Module, states: Sequence[Value], latch: Value, tolerance: Signal) -> Value:
        """A code moved by more than the tolerance in the last step: known in the clock after the first that a step's
        codes stand."""
        moved = []
        for state in states:
            # Bounds of the old code, not its difference from the new one: one carry chain less after the states.
            shape = signed(max(len(state), len(tolerance)) + 2)
            low, high = (Signal(shape, name=name, reset_less=True) for name in ("lowest", "highest"))
            with m.If(latch):
                m.d.sync += [low.eq(state - tolerance), high.eq(state + tolerance)]
            moved.append((state > high) | (state < low))
        # The tables' outputs are late in the clock: what the two bounds of two codes say is the work of one LUT, and
        # the rest waits for the next clock.
        flags = Signal(-(-len(moved) // 2), name="moved")
        m.d.control += flags.eq(Cat(Cat(moved[i : i + 2]).any() for i in range(0, len(moved), 2)))
        return flags.any()


def _held(m: Module, wire: Wire) -> Wire:
    """`wire` in a register of its own."""
    if wire.is_constant:
        return constant(wire.range.lo)
    core = narrowed(wire.core(), wire.core_range())
    register = Signal(core.shape(), name="clamped", reset_less=True)
    m.d.sync += register.eq(core)
    return replace(wire, value=composed(register, wire.low, wire.offset), stage=0, level=0)


def _stages(wires: Iterable[Wire]) -> int:
    return max((w.stage for w in wires), default=0)
