"""The processor behind the ports of an engine, with the program of one net in its memories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import get_args

from amaranth import Cat, Const, Elaboratable, Module, Value

from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.ir import Format, IntNet
from eqcompile.toolchain.ir.ops import IntegerOp, SharedOp
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON, JsonObject

from ...control import restarted
from ...harden.tmr import merge_control
from ...interface import Engine, foreseen_refusals, schedule_refusals
from ..bounds import clock_bound, first_read
from ..compiler import Program
from ..costs import listing
from ..description import Description, program_of
from ..fit import fit
from ..isa import Repeats
from ..loadable import Layout, memory_of, words_of
from .core import Logic
from .hardening import attach, check_hardening, program_lost
from .loader import Loader
from .readback import Readback
from .reader import Reader

__all__ = ["ProcessorEngine", "check", "foresee"]


WIDEST_BEAT = 1024
"""Bits of data of an AXI4 bus, at most."""


def check(
    net: IntNet,
    lanes: int,
    width: int,
    also: Sequence[Description] = (),
    *,
    harden: tuple[str, ...] = (),
    readback: bool = False,
    external: bool = False,
) -> Iterator[Diagnostic]:
    """What stands against a net behind the bus shell, on a core of `lanes` and `width` that runs the nets of the cores
    `also` as well. `external`: its weights are in a memory outside."""
    yield from schedule_refusals(net)
    frames = net.schedule.frames or any(Repeats.FRAMES in core.features.repeats for core in also)
    yield from check_hardening(harden, net.name, frames=frames, readback=readback, external=external)
    for core in also:
        for name, mine, its in (("lanes", lanes, core.core.lanes), ("width", width, core.core.width)):
            if mine != its:
                what = f"it needs {name} {mine}, the core has {its}"
                yield Diagnostic("rtl-core", what, net.name, f"--{name} {its}, or build one for both nets: --also CORE")
        if core.external != external:
            what = f"the weights of the other core are in {'a memory outside' if core.external else 'block RAM'}"
            yield Diagnostic("rtl-core", what, net.name, f"--weights-in {'external' if core.external else 'block'}")
    if external and (bits := 8 * program_of(net, lanes, width)[1].beat_bytes) > WIDEST_BEAT:
        what = f"a word of weights takes a beat of {bits} bits, AXI4 has {WIDEST_BEAT} at most"
        yield Diagnostic("rtl-lanes", what, net.name, f"--lanes {lanes // 2} or fewer")


def foresee(needs: Requirements) -> list[Diagnostic]:
    """What is certain of `check` before quantization."""
    return list(foreseen_refusals(needs, get_args(SharedOp | IntegerOp), "processor", schedule_refusals))


class ProcessorEngine(Engine):
    """One net on a processor that is sized for it and for the cores `also`; it starts with the net's image, and takes
    others at run time. `external`: weights are read from a memory outside.

    Raises UnsupportedError: the net has a schedule beyond the registers, or a core has other lanes.
    """

    architecture = "processor"

    def __init__(
        self,
        net: IntNet,
        *,
        trace: bool = False,
        lanes: int = 4,
        width: int = 1,
        also: Sequence[Description] = (),
        readback: bool = False,
        external: bool = False,
        harden: tuple[str, ...] = (),
        inject: bool = False,
    ) -> None:
        self.refuse(list(check(net, lanes, width, also, harden=harden, readback=readback, external=external)))
        program, own = program_of(net, lanes, width)
        own = replace(own, external=external)
        self.description = reduce(Description.joined, also, own)
        self.harden, self.voted = harden, "tmr" in harden
        if "watchdog" in harden:
            core = self.description
            span = max(clock_bound(program.instructions, core.core, core.run_words), core.span)
            self.description, self.watched_span = replace(core, span=span), span
        self.program = fit(program, own, self.description, net.name) if also else program
        x, y = self.description.x, self.description.y
        layout, external = Layout.of(self.description), self.description.external
        super().__init__(
            net,
            beat=x.beat,
            result_beat=y.beat,
            trace=trace,
            inject=inject,
            harden=bool(harden),
            load_bits=layout.most.bit_length(),
            image=True,
            readback=readback,
            frames=Repeats.FRAMES in self.description.features.repeats,
            memory_bits=8 * self.description.beat_bytes if external else 0,
            formats=(Format.holding(x.lo, x.hi), Format.holding(y.lo, y.hi)),
        )
        self.reader = Reader(self.description) if external else None
        coded = bool({"parity", "secded"} & {*harden})
        self.loader = Loader(self.description, self.load_words(net), drops=coded)
        self.readback = Readback(self.description) if readback else None

    @property
    def lasts(self) -> tuple[Value, Value]:
        return self.loader.x_last, self.loader.y_last

    def describe(self) -> dict[str, JSON]:
        core = self.description.core
        sizes: dict[str, JSON] = {"lanes": core.lanes, "width": core.width, "axes": core.axes, "banks": len(core.banks)}
        if self.description.external:
            sizes |= {"memory_bus_bits": self.signature.memory_bits, "memory_words": core.weight_words}
        return {"arch": self.architecture, **sizes}

    @property
    def configuration(self) -> JsonObject:
        return self.description.to_json()

    @property
    def memory_map(self) -> JsonObject | None:
        return None if self.readback is None else self.readback.to_json(self.logic.memories)

    @property
    def listing(self) -> str:
        return listing(self.program)

    def load_words(self, net: IntNet) -> list[int]:
        fitted, needs = self._fitted(net)
        return words_of(fitted.image, self.description, net.schedule, needs.x.beats, needs.y.beats)

    def memory_bytes(self, net: IntNet) -> bytes:
        return memory_of(self._fitted(net)[0].image, self.description) if self.description.external else b""

    def _fitted(self, net: IntNet) -> tuple[Program, Description]:
        program, needs = program_of(net, self.description.core.lanes, self.description.core.width)
        return fit(program, needs, self.description, net.name), needs

    def build(self) -> Module:
        self.logic = Logic(self, self.program, self.description, self.loader, self.readback, self.reader)
        m, loader = self.logic.m, self.loader
        m.d.comb += [
            loader.enable.eq(self.load_enable),
            loader.first.eq(self.load_address == 0),
            loader.data.eq(self.load_data),
            self.image_status.eq(Cat(loader.held, loader.loading, Const(0, 6), loader.fault)),
            self.image_crc.eq(loader.crc),
            self.image_begins.eq(loader.begins),
            Cat(self.image_steps, self.image_tolerance).eq(Cat(loader.steps, loader.tolerance)),
        ]
        return m

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.loader = self.loader
        # Without an image the core is held in reset: it takes no code and gives none.
        stopped: Value = self.restart | ~self.loader.held
        if self.readback is not None:
            m.d.comb += [
                Cat(self.readback.memory, self.readback.part).eq(Cat(self.read_memory, self.read_part)),
                self.readback.address.eq(self.read_address),
                self.read_data.eq(self.readback.word),
            ]
            m.d.sync += self.readback.word.eq(self.readback.chosen)
            stopped = stopped | self.readback.holds
        m.submodules.logic = restarted(self.build(), stopped)
        if (reader := self.reader) is not None:
            # Beside it: the bus goes on, whatever was dropped.
            m.submodules.reader = reader
            m.d.comb += [reader.flush.eq(stopped), reader.base.eq(self.weights_base)]
            m.d.comb += [self.memory_failed.eq(reader.failed), self.weights_crc.eq(self.loader.weights_crc)]
            for name, pin in reader.pins.items():
                port, given = getattr(self, f"m_axi_{name}"), self.signature.members[f"m_axi_{name}"].flow.name == "In"
                m.d.comb += pin.eq(port) if given else port.eq(pin)
        if self.harden:
            patience = first_read(self.program, self.description) if self.watched_span is not None else None
            attach(m, self, self.logic, stopped=stopped, patience=patience)
        if self.loader.drop is not None:
            m.d.control += self.loader.drop.eq(program_lost(self.logic) & ~stopped)
        return merge_control(m, voted=self.voted)
