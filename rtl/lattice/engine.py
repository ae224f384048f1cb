"""The lattice engine: one cell a neuron, or one for each neuron of a plane that serves all planes in turn.

    idle ─ sample in ─► drive ─► step ─ settled, or steps made ─► readout ─► write ─► idle

Each phase is a sequence of runs. A run makes one sum in each cell: of the input, of the neighbours, or of a row of the
readout. While the cells make the next sums, the last ones leave, from neighbour to neighbour, for a unit, which applies
the operations that follow the map, and new codes come back the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth import Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from eqcompile.rtl.control import CONTROL
from eqcompile.rtl.datapath import decode, shape_of
from eqcompile.rtl.interface import Engine
from eqcompile.rtl.relaxation import Outlet, Schedule
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.typed_json import JSON

from .cells import CLOCKS, Cells, Command, build_cells
from .plan import check, foresee, plan_of
from .resources import resources
from .saboteur import Saboteur
from .sites import Leaving, Readout, Sites, build_readout, build_sites

__all__ = ["LatticeEngine", "check", "foresee", "resources"]


@dataclass(frozen=True, eq=False)
class _Sequence:
    """Commands to the cells: with `start` a phase begins at weight `base`; `end`: its last command."""

    command: Command
    start: Signal
    base: Signal
    end: Signal
    captured: Signal
    left: Signal


class LatticeEngine(Engine):
    """A net whose step is one map of one state, and operations a site.

    `passes`: so many blocks of sites take turns in one block of cells; as many as a cube has planes make blocks of its
    planes. `units`: how many pipelines apply what follows the maps; None for as many as keep pace with the cells.
    `inject` adds saboteurs of the words in `inject_words` and their port. Raises UnsupportedError with everything
    `check` finds.
    """

    architecture = "lattice"

    def __init__(
        self, net: IntNet, *, trace: bool, inject: bool = False, passes: int = 1, units: int | None = None
    ) -> None:
        self.refuse(check(net, passes=passes, units=units))
        super().__init__(net, trace=trace, inject=inject)
        self.plan = plan_of(net, passes=passes, units=units)
        self._module = Module()
        self.saboteur = Saboteur(self._module, self, self.plan) if inject else None
        self.inject_words = {} if self.saboteur is None else self.saboteur.words
        self._build(self._module)

    def build(self) -> Module:
        return self._module

    def describe(self) -> dict[str, JSON]:
        """Figures of an engine as JSON values; `step_clocks`: of one step."""
        plan = self.plan
        return {
            "arch": self.architecture,
            "sites": plan.sites,
            "cells": plan.cells,
            "passes": plan.passes,
            "units": plan.units,
            "side": plan.walk.side,
            "axes": plan.walk.axes,
            "walk": len(plan.walk.places),
            "neighbour_wires": len(plan.walk.moves),
            "step_clocks": self.step_clocks,
            "weight_words": len(plan.words),
            "multipliers": resources(self.net, passes=plan.passes, units=plan.units)["dsp"],
        }

    def _build(self, m: Module) -> None:
        plan, trace = self.plan, self.signature.traced
        self.driving, self.reading, self.full = Signal(), Signal(), Signal()
        self.bank = Signal(name="bank")
        sequence = self._sequence(m)
        cells = build_cells(m, plan, sequence.command, self._sample(m, sequence))
        valid = sequence.left != 0
        first = Signal(name="first_leaves")
        number = Signal(range(max(plan.passes * plan.share, 2)), name="number_at_units")
        last = Signal()
        m.d.comb += [
            sequence.captured.eq(cells.captured),
            cells.shift.eq(valid),
            last.eq(sequence.left == 1),
        ]
        m.d.control += first.eq(cells.captured)
        with m.If(sequence.start):
            m.d.control += number.eq(0)
        with m.Elif(valid):
            m.d.control += number.eq(number + 1)
        leaving = Leaving(cells.leaving, valid, first, last, number, self.driving, self.reading, self.bank)
        schedule = Schedule(m, self, first=self.taken & (self.number == 0))
        sites = build_sites(m, plan, leaving, schedule.tolerance, sequence.start, trace=trace, saboteur=self.saboteur)
        finish = self._return(m, cells, sites)
        readout = build_readout(m, plan, leaving, self.saboteur)
        self._control(m, sequence, schedule, schedule.unsettled(sites.moved), finish, readout)
        if trace:
            for name, codes in sites.traced.items():
                self.show(m, name, codes)
        places = len(plan.walk.places)
        pace = max(places, plan.share, CLOCKS + 1)
        self.step_clocks = places + (plan.passes - 1) * pace + plan.share + sites.clocks + CLOCKS + 2

    def _sequence(self, m: Module) -> _Sequence:
        """One command after the other; the last of a run waits until the sums of the run before are gone."""
        plan = self.plan
        lengths = (self.signature.x_port.count, len(plan.walk.places), plan.passes)
        runs = (plan.passes, plan.passes, self.signature.y_port.count)
        place = Signal(range(max(*lengths, 2)), name="place")
        run = Signal(range(max(*runs, 2)), name="run")
        word, base = (Signal(range(max(len(plan.words), 2)), name=n) for n in ("word", "base"))
        issuing = Signal(name="issuing")
        pending = Signal(name="pending")
        left = Signal(range(plan.share + 1), name="left")
        issue, first, last = Signal(), Signal(), Signal()
        start, end, captured = Signal(), Signal(), Signal()

        def by_phase(drive: int, step: int, read: int) -> Value:
            return Mux(self.driving, drive - 1, Mux(self.reading, read - 1, step - 1))

        m.d.comb += [
            first.eq(place == 0),
            last.eq(place == by_phase(*lengths)),
            # The sums are captured `CLOCKS` after the command.
            issue.eq(issuing & (~last | (~pending & (left <= CLOCKS + 1)))),
            end.eq(issue & last & (run == by_phase(*runs))),
        ]
        with m.If(captured):
            m.d.control += [left.eq(plan.share), pending.eq(0)]
        with m.Elif(left != 0):
            m.d.control += left.eq(left - 1)
        with m.If(start):
            m.d.control += [issuing.eq(1), place.eq(0), run.eq(0), word.eq(base)]
        with m.Elif(issue):
            m.d.control += [word.eq(word + 1), place.eq(Mux(last, 0, place + 1))]
            with m.If(last):
                m.d.control += [run.eq(run + 1), pending.eq(1)]
            with m.If(end):
                m.d.control += issuing.eq(0)
        command = Command(issue, word, place, run, self.reading, self.driving, first, last, self.bank)
        return _Sequence(command, start, base, end, captured, left)

    def _sample(self, m: Module, sequence: _Sequence) -> Value:
        """The sample waits here until the cells have weighed it; the code of the command's place, one clock later."""
        count, fmt = self.signature.x_port.count, self.signature.x_port.format
        number = Signal(range(count + 1), name="number")
        m.submodules.sample = memory = Memory(shape=fmt.bits, depth=count, init=[])
        write, read = memory.write_port(), memory.read_port()
        self.taken = Signal()
        m.d.comb += [
            self.full.eq(number == count),
            self.x.ready.eq(~self.full),
            self.taken.eq(self.x.valid & self.x.ready),
            write.addr.eq(number),
            write.data.eq(self.x.payload),
            write.en.eq(self.taken),
            read.addr.eq(sequence.command.place),
        ]
        with m.If(sequence.end & self.driving):
            m.d.control += number.eq(0)
        with m.Elif(self.taken):
            m.d.control += number.eq(number + 1)
        self.number = number
        return decode(Value.cast(read.data), fmt)

    def _return(self, m: Module, cells: Cells, sites: Sites) -> Signal:
        """New codes back to the cells, a block at once; whether all are there, and what a step moved is known."""
        arrived = Signal(range(max(self.plan.share, 2)), name="arrived")
        finish = Signal(name="finish")
        m.d.comb += cells.accept.eq(sites.valid)
        m.d.comb += [into.eq(code) for into, code in zip(cells.coming, sites.codes, strict=True)]
        m.d.control += cells.store.eq(sites.valid & (arrived == self.plan.share - 1))
        with m.If(sites.valid):
            m.d.control += arrived.eq(Mux(arrived == self.plan.share - 1, 0, arrived + 1))
        is_last = cells.stored == self.plan.passes - 1
        with m.If(cells.store):
            m.d.control += cells.stored.eq(Mux(is_last, 0, cells.stored + 1))
        m.d.control += finish.eq(cells.store & is_last)
        return finish

    def _control(
        self, m: Module, sequence: _Sequence, schedule: Schedule, moved: Value, finish: Signal, readout: Readout
    ) -> None:
        rows, fmt = self.signature.y_port.count, self.signature.y_port.format
        outlet, over = Outlet(m, self), Signal()
        m.submodules.results = memory = Memory(shape=shape_of(fmt), depth=rows, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(readout.row),
            write.data.eq(readout.code),
            write.en.eq(readout.valid),
            read.addr.eq(outlet.beat),
            self.y.payload.eq(read.data),
            over.eq((schedule.left == 1) | ~moved),
        ]
        drive_base, step_base, read_base = self.plan.bases
        stepping = Signal()
        with m.FSM(domain=CONTROL, name="fsm") as control:
            with m.State("idle"), m.If(self.full):
                m.d.comb += [sequence.start.eq(1), sequence.base.eq(drive_base)]
                schedule.start()
                m.next = "drive"
            with m.State("drive"):
                m.d.comb += self.driving.eq(1)
                with m.If(finish):
                    m.d.comb += [sequence.start.eq(1), sequence.base.eq(step_base)]
                    m.d.control += self.bank.eq(~self.bank)
                    m.next = "step"
            with m.State("step"):
                m.d.comb += stepping.eq(1)
                with m.If(finish):
                    m.d.comb += [sequence.start.eq(1), sequence.base.eq(Mux(over, read_base, step_base))]
                    schedule.advance()
                    m.d.control += self.bank.eq(~self.bank)
                    with m.If(over):
                        m.next = "readout"
            with m.State("readout"):
                m.d.comb += self.reading.eq(1)
                with m.If(readout.valid & (readout.row == rows - 1)):
                    outlet.open()
            outlet.write()
        m.d.comb += self.busy.eq((self.number != 0) | ~control.ongoing("idle"))
        if self.signature.traced:
            m.d.comb += self.trace_end.eq(finish & stepping)
