"""The hardware of the serial engine: memories, the sweeps between them, and the sequencer that walks the program."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Array, Cat, Const, Module, Signal, Value

from eqcompile.toolchain.ir import Format

from ..datapath import decode, shape_of
from ..harden.codes import code_of
from ..harden.memory import CheckedRam
from ..harden.residue import ResidueRam, residue
from ..interface import Engine
from ..memory import Ram
from ..relaxation import Schedule
from .applier import Applier
from .bounds import late_result
from .changes import ChangeList
from .plan import Vector, plan_memory
from .program import Apply, Clear, Decide, Design, RunSweep, Show, Take
from .saboteur import Saboteur
from .sweep import SweepUnit

__all__ = ["Core"]


class Core:
    """Builds the module `m` of one engine; `ports` is the engine, whose streams and control it drives."""

    def __init__(self, ports: Engine, design: Design) -> None:
        self.ports, self.design, self.plan, self.program = ports, design, design.plan, design.program
        self.lanes = range(self.plan.width)
        self.lane_bits = (self.plan.width - 1).bit_length()
        self.m = Module()
        self.loaded: list[Ram | CheckedRam] = []
        self.code_rams: dict[str, list[Ram | ResidueRam]] = {}
        self.schedule = Schedule(self.m, ports)
        # Known a clock after the last decision, long before the next one.
        self.last = Signal(name="last")
        self.m.d.control += self.last.eq(self.schedule.left == 1)
        self.saboteur = Saboteur(self.m, ports, design) if ports.inject_words else None
        self._make_parts()
        self._weights()
        self._accumulators()
        self._vectors()
        self._changes()
        if ports.signature.traced:
            self._trace()
        self._sequence()

    def _make_parts(self) -> None:
        plan, phases = self.plan, self.program.phases
        self.codes = {n: self._signals(n, v.format) for n, v in plan.vectors.items()}
        self.sums = {x.out: self._signals(f"{x.out}_sum", x.format) for x in plan.maps}
        totals: dict[str, Value] = {}
        self.units: list[SweepUnit] = []
        for sweep in plan.sweeps:
            sums = {x.out: self.sums[x.out] for x in plan.maps_of(sweep.block)}
            unit = SweepUnit(plan, sweep, codes=self.codes, sums=sums, totals=dict(totals), saboteur=self.saboteur)
            totals |= unit.totals_made
            self.units.append(unit)
            self.m.submodules[f"sweep_{sweep.name}"] = unit
        if self.saboteur is not None:
            for block, reading in self.saboteur.reading.items():
                self.m.d.sync += reading.eq(Cat(u.valid for u in self.units if u.sweep.block == block).any())
        listed = {n: plan.vectors[n] for n in plan.listed}
        events = [self.ports.signature.x_port.format, *(v.change for v in listed.values())]
        change = shape_of(Format.holding(min(f.lo for f in events), max(f.hi for f in events)))
        upset = self.saboteur.summed if self.saboteur is not None and self.saboteur.reading else None
        self.applier = Applier(plan, change=change, harden=self.design.harden, upset=upset)
        self.m.submodules.applier = self.applier
        self.lists = {
            n: ChangeList(units=v.units, width=plan.width, shape=shape_of(v.change), late="tmr" in self.design.harden)
            for n, v in listed.items()
        }
        for name, changes in self.lists.items():
            self.m.submodules[f"changes_{name}"] = changes
        counted = [u.groups for u in self.units] + [p.units for p in phases if isinstance(p, Take | Show)]
        self.count = Signal(range(max(counted) + 1), name="count")
        self.group = Signal.like(self.count)
        self.m.d.comb += self.group.eq(self.count)
        self.moved = Signal(name="moved")
        self.least: Value = -self.schedule.tolerance
        if self.design.harden:
            # With votes the negative takes a clock of its own.
            least = Signal(self.least.shape(), name="tolerance_least")
            self.m.d.control += least.eq(self.least)
            self.least = least

    def _signals(self, name: str, fmt: Format) -> list[Signal]:
        return [Signal(shape_of(fmt), name=f"{name}_{lane}") for lane in self.lanes]

    def _weights(self) -> None:
        """The table, and the entries in parts of 32 bits; the load port sees one behind the other."""
        ports, weights, applier, m = self.ports, self.plan.weights, self.applier, self.m
        table, entries = ([], []) if self.design.family == "up5k" else plan_memory(self.plan, ports.net)
        table_ram = self._loaded("table", weights.depth, weights.table_bits, table)
        m.d.comb += [table_ram.read_address.eq(applier.table_address), applier.table_data.eq(table_ram.read_data)]
        rams = []
        for part, low in enumerate(range(0, weights.entry_bits, 32)):
            bits = min(32, weights.entry_bits - low)
            words = [entry >> low & ((1 << bits) - 1) for entry in entries]
            rams.append(self._loaded(f"entries_{part}", weights.capacity, bits, words))
            m.d.comb += rams[-1].read_address.eq(applier.entry_address)
        m.d.comb += applier.entry_data.eq(Cat(*(ram.read_data for ram in rams)))
        if not self.design.loadable:
            return
        # The table is as deep as a power of two: what is above its bits numbers the words behind it, from 1 on.
        row_bits, part_bits = (weights.depth - 1).bit_length(), (weights.parts - 1).bit_length()
        above = ports.load_address[row_bits:]
        inner = Cat(ports.load_address[:row_bits], above - 1)
        m.d.comb += [
            table_ram.write_address.eq(ports.load_address),
            table_ram.write_enable.eq(ports.load_enable & (above == 0)),
        ]
        for part, ram in enumerate(rams):
            here = inner[:part_bits] == part if part_bits else True
            m.d.comb += ram.write_address.eq(inner[part_bits:])
            m.d.comb += ram.write_enable.eq(ports.load_enable & (above != 0) & here)
        for ram in (table_ram, *rams):
            m.d.comb += ram.write_data.eq(ports.load_data)

    def _loaded(self, name: str, depth: int, width: int, words: Sequence[int]) -> Ram | CheckedRam:
        code = code_of(self.design.harden, width)
        if code is None:
            ram = Ram(width=width, depth=depth, init=words, family=self.design.family)
        else:
            ram = CheckedRam(code, depth=depth, init=words)
        self.m.submodules[name] = ram
        self.loaded.append(ram)
        return ram

    def _accumulators(self) -> None:
        """The sums of group `group`: one slice of an accumulator word, a register behind the memory."""
        plan, m = self.plan, self.m
        inner = (plan.lanes // plan.width - 1).bit_length()
        self.slice_ = Signal(max(inner, 1), name="slice_")
        m.d.comb += self.applier.read.eq(self.group[inner:])
        m.d.control += self.slice_.eq(self.group[:inner])
        for x in plan.maps:
            bits = plan.banks[x.bank][1]
            word = Value.cast(self.applier.sums[f"bank{x.bank}"])
            piece = self.slice_of(word, bits)
            for lane in self.lanes:
                m.d.sync += self.sums[x.out][lane].eq(decode(piece.word_select(lane, bits), x.format))

    def slice_of(self, word: Value, bits: int) -> Value:
        """Of an accumulator word, `bits` a row, the rows of the group that it was read for."""
        return word.word_select(self.slice_, bits * self.plan.width) if self.plan.lanes > self.plan.width else word

    def _vectors(self) -> None:
        """Codes of group `group` of each vector, one memory a lane; sweeps write states and values of the drive."""
        plan, m = self.plan, self.m
        self.inputs: dict[str, list[Ram | ResidueRam]] = {}
        for name, v in plan.vectors.items():
            for lane in self.lanes:
                ram = self._codes_ram(v)
                m.submodules[f"{name}_codes_{lane}"] = ram
                m.d.comb += ram.read_address.eq(self.group)
                m.d.sync += self.codes[name][lane].eq(decode(ram.read_data, v.format))
                if v.kind == "input":
                    self.inputs.setdefault(name, []).append(ram)
                for unit in self._storing(name):
                    with m.If(unit.out_valid):
                        m.d.comb += [
                            ram.write_address.eq(unit.out_group),
                            ram.write_data.eq(self._kept(unit, name, lane)),
                            ram.write_enable.eq(unit.lane_valid[lane]),
                        ]
                        if isinstance(ram, ResidueRam):
                            m.d.comb += ram.write_residue.eq(residue(m, unit.stored[name][lane]))

    def _codes_ram(self, v: Vector) -> Ram | ResidueRam:
        depth = -(-v.units // self.plan.width)
        ram: Ram | ResidueRam
        if "residue" in self.design.harden and v.kind != "input":
            ram = ResidueRam(width=v.format.bits, depth=depth, signed=v.format.signed)
        else:
            ram = Ram(width=v.format.bits, depth=depth)
        self.code_rams.setdefault(v.name, []).append(ram)
        return ram

    def _storing(self, name: str) -> list[SweepUnit]:
        return [u for u in self.units if any(n == name for n, _ in u.sweep.stores)]

    def _changes(self) -> None:
        """A clock behind the results of a sweep: what changed goes to its list, and is compared with the tolerance."""
        plan, m = self.plan, self.m
        for name, v in plan.vectors.items():
            change = [Signal(shape_of(v.change), name=f"{name}_change_{lane}") for lane in self.lanes]
            present, ticked = Signal(plan.width, name=f"{name}_present"), Signal(name=f"{name}_ticked")
            sources = [u for u in self.units if name in u.stored]
            if v.kind == "input" or not sources:
                continue
            group = Signal(max(u.out_group.shape().width for u in sources), name=f"{name}_group")
            m.d.control += present.eq(0)
            for unit in sources:
                with m.If(unit.out_valid):
                    m.d.control += [present.eq(unit.lane_valid), group.eq(unit.out_group)]
                    m.d.control += ticked.eq(unit.sweep.block == "step")
                    for lane in self.lanes:
                        m.d.sync += change[lane].eq(self._kept(unit, name, lane, event=True) - unit.old[name][lane])
            if name in self.lists:
                changes = self.lists[name]
                m.d.comb += [changes.group.eq(group), *(c.eq(d) for c, d in zip(changes.change, change, strict=True))]
                m.d.comb += changes.push.eq(Cat(present[lane] & self._is_event(change[lane]) for lane in self.lanes))
            if v.kind == "state":
                far = [(c > self.schedule.tolerance) | (c < self.least) for c in change]
                with m.If(ticked & Cat(present[lane] & far[lane] for lane in self.lanes).any()):
                    m.d.control += self.moved.eq(1)

    def _kept(self, unit: SweepUnit, name: str, lane: int, *, event: bool = False) -> Value:
        """The code that a sweep stores; `event`: as its change is told."""
        code: Value = unit.stored[name][lane]
        if self.saboteur is None:
            return code
        return self.saboteur.stored(self.m, unit.sweep, name, code, lane, unit.out_group, event=event)

    def _is_event(self, code: Value) -> Value:
        return Const(1, 1) if self.design.dense else code != 0

    def _trace(self) -> None:
        """A copy of all states, for benches only."""
        for state in self.ports.net.states:
            shown = self.ports.trace_codes[state.name]
            for unit in self._storing(state.name):
                for lane in self.lanes:
                    with self.m.If(unit.out_valid & unit.lane_valid[lane]):
                        index = Cat(Const(lane, self.lane_bits), unit.out_group)
                        self.m.d.sync += shown[index].eq(unit.stored[state.name][lane])

    # The sequencer

    def _sequence(self) -> None:
        m, phases = self.m, self.program.phases
        self.phase = Signal(range(len(phases)), name="phase")
        self.advance = Signal()
        with m.If(self.advance):
            m.d.control += [self.phase.eq(self.phase + 1), self.count.eq(0)]
        with m.Switch(self.phase):
            for number, phase in enumerate(phases):
                with m.Case(number):
                    match phase:
                        case Clear():
                            self._clear(phase)
                        case Take():
                            self._take(phase, opens=not any(isinstance(p, Take) for p in phases[:number]))
                        case RunSweep(index):
                            self._run(self.units[index])
                        case Apply():
                            self._apply(phase)
                        case Decide():
                            self._decide()
                        case Show():
                            self._show(phase, closes=number == len(phases) - 1)

    def _clear(self, phase: Clear) -> None:
        applier, plan = self.applier, self.plan
        self.m.d.comb += [applier.valid.eq(1), applier.wipe.eq(1), applier.bank.eq(plan.maps[phase.index].bank)]
        self.m.d.comb += [applier.row.eq(plan.weights.clears + phase.index), self.advance.eq(applier.ready)]

    def _take(self, phase: Take, *, opens: bool) -> None:
        m, ports, applier = self.m, self.ports, self.applier
        x = ports.x
        code = decode(x.payload, ports.signature.x_port.format)
        handshake = Signal(name=f"{phase.name}_taken")
        m.d.comb += handshake.eq(x.valid & x.ready)
        if phase.maps:
            which = Signal(range(max(len(phase.maps), 2)), name=f"{phase.name}_map")
            last = which == len(phase.maps) - 1
            m.d.comb += [
                applier.valid.eq(x.valid & self._is_event(code)),
                applier.row.eq(_chosen([self.plan.weights.rows[i] for i in phase.maps], which) | self.count),
                applier.bank.eq(_chosen([self.plan.maps[i].bank for i in phase.maps], which)),
                applier.change.eq(code),
                x.ready.eq(~self._is_event(code) | (applier.ready & last)),
            ]
            with m.If(applier.valid & applier.ready & ~last):
                m.d.control += which.eq(which + 1)
            with m.If(handshake):
                m.d.control += which.eq(0)
        else:
            m.d.comb += x.ready.eq(1)
        for lane, ram in enumerate(self.inputs.get(phase.name, [])):
            m.d.comb += [
                ram.write_address.eq(self.count[self.lane_bits :]),
                ram.write_data.eq(code),
                ram.write_enable.eq(handshake & (self.count[: self.lane_bits] == lane if self.lane_bits else True)),
            ]
        if opens:
            # It follows the ports until the first beat is taken: wide registers do not wait for the stream's handshake.
            with m.If(self.count == 0):
                self.schedule.start()
        with m.If(handshake):
            if opens:
                m.d.control += ports.busy.eq(1)
            m.d.control += self.count.eq(self.count + 1)
            with m.If(self.count == phase.units - 1):
                m.d.comb += self.advance.eq(1)
                m.d.control += self.count.eq(0)

    def _run(self, unit: SweepUnit) -> None:
        m = self.m
        m.d.comb += unit.group.eq(self.count)
        with m.If(self.count == unit.groups):
            # What the last group changed is listed, and compared, in the clock in which the sweep is idle again.
            with m.If(~unit.busy):
                m.d.comb += self.advance.eq(1)
        with m.Elif(~self.applier.busy):
            m.d.comb += [unit.valid.eq(1), unit.start.eq(self.count == 0)]
            m.d.control += self.count.eq(self.count + 1)

    def _apply(self, phase: Apply) -> None:
        m, changes, applier = self.m, self.lists[phase.source], self.applier
        m.d.comb += [
            changes.run.eq(1),
            changes.take.eq(changes.valid & applier.ready),
            applier.valid.eq(changes.valid),
            applier.row.eq(self.plan.weights.rows[phase.index] | changes.unit),
            applier.bank.eq(self.plan.maps[phase.index].bank),
            applier.change.eq(changes.value),
        ]
        with m.If(changes.finished):
            m.d.comb += [self.advance.eq(1), changes.clear.eq(phase.last), changes.rewind.eq(1)]

    def _decide(self) -> None:
        m, ports = self.m, self.ports
        self.schedule.advance()
        m.d.control += self.moved.eq(0)
        if ports.signature.traced:
            m.d.comb += ports.trace_end.eq(1)
        with m.If(self.schedule.unsettled(self.moved) & ~self.last):
            m.d.control += self.phase.eq(self.program.tick)
        with m.Else():
            m.d.comb += [self.advance.eq(1), *(changes.clear.eq(1) for changes in self.lists.values())]

    def _show(self, phase: Show, *, closes: bool) -> None:
        """Send the unit's group through the pipeline, then offer the unit's code to the reader."""
        m, ports, unit = self.m, self.ports, self.units[phase.index]
        sent = Signal(name=f"output_{phase.output}_sent")
        shown = unit.shown[phase.output]
        m.d.comb += [self.group.eq(self.count[self.lane_bits :]), unit.group.eq(self.group)]
        with m.If(~sent & ~self.applier.busy):
            m.d.comb += unit.valid.eq(1)
            m.d.control += sent.eq(1)
        waits = late_result(self.plan, unit.sweep, self.design.harden)
        with m.If(unit.out_valid):
            m.d.sync += ports.y.payload.eq(Array(shown)[self.count[: self.lane_bits]] if self.lane_bits else shown[0])
            m.d.control += ports.y.valid.eq(waits == 0)
        if waits:
            checked = Signal(waits, name=f"output_{phase.output}_late_sent")
            m.d.control += checked.eq(Cat(unit.out_valid, checked))
            with m.If(checked[-1]):
                m.d.control += ports.y.valid.eq(1)
        with m.If(ports.y.valid & ports.y.ready):
            m.d.control += [ports.y.valid.eq(0), sent.eq(0), self.count.eq(self.count + 1)]
            with m.If(self.count == phase.units - 1):
                m.d.comb += self.advance.eq(1)
                m.d.control += self.count.eq(0)
                if closes:
                    m.d.control += [self.phase.eq(0), ports.busy.eq(0)]


def _chosen(values: Sequence[int], which: Signal) -> Value:
    picked: Value = Const(values[0]) if len(values) == 1 else Array(values)[which]
    return picked
