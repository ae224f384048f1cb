"""The bus shell's side of hardening: counts what an engine finds, and gives up a run that went wrong.

engine: faults, noticed, corrected ──► guard ──► abort ──► engine restarts; the shell ends the frames
        idle, tick                ──► watchdog ─┘
"""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .mechanisms import FLAGS
from .watchdog import Watchdog

__all__ = ["Guard"]

COUNTER_BITS = 32


class Guard(wiring.Component):
    """`abort`, the clock after something was told: restart the engine, and drop what is left of the input frame.
    `closing`: from then on until the last beat of the result frame that is owed has gone (`ended`); no sample begins.
    Flags and counts follow a clock later.

    In: `faults`, `noticed` (a bit each as in `FLAGS`; the first end the run, the others do not) and `corrected` of the
    engine; `idle` and `tick` as in `Watchdog`; `begins`: the first beat of a frame is taken; `takes`: any beat is;
    `held`: the engine waits for its neighbours; `restart`: a soft reset; `clear`: flags to clear. Without `span` there
    is no watchdog.
    """

    def __init__(self, *, span: int | None) -> None:
        self.watchdog = None if span is None else Watchdog(span)
        flags = len(FLAGS)
        super().__init__(
            {
                "steps": In(16),
                "idle": In(1),
                "tick": In(1),
                "held": In(1),
                "begins": In(1),
                "takes": In(1),
                "ended": In(1),
                "restart": In(1),
                "faults": In(flags),
                "noticed": In(flags),
                "corrected": In(1),
                "clear": In(flags),
                "aborts": Out(1),
                "abort": Out(1),
                "closing": Out(1),
                "flags": Out(flags),
                "corrected_count": Out(COUNTER_BITS),
                "detected_count": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        own = Signal()
        # Of the clock before: the streams' handshakes stand at the end of long paths.
        took = Signal(name="took")
        began = Signal(name="began")
        idle = Signal(name="idle")
        alarms = Signal(len(FLAGS))
        pending = Signal(len(FLAGS), name="seen")
        corrected = Signal(name="corrected")
        # A frame has begun and its result has not ended.
        owing = Signal(name="owing")
        running = Signal()
        if self.watchdog is not None:
            m.submodules.watchdog = dog = self.watchdog
            m.d.comb += [
                dog.steps.eq(self.steps),
                dog.idle.eq(self.idle),
                dog.tick.eq(self.tick),
                dog.held.eq(self.held),
                dog.restart.eq(self.restart | self.abort),
                # Frames and samples begin together, unless one of the two has lost count; an engine that is idle while
                # a result is owed has lost its sample, and nobody would send another before that result.
                own.eq(dog.late | (took & (began != idle)) | (owing & self.idle & ~self.closing)),
            ]
            m.d.control += [took.eq(self.takes & running), began.eq(self.begins), idle.eq(self.idle)]
        m.d.comb += [
            running.eq(~self.restart & ~self.abort),
            alarms.eq(Mux(running, self.faults | Cat(own, Const(0, len(FLAGS) - 1)), 0)),
        ]
        m.d.comb += self.aborts.eq(alarms.any())
        m.d.control += [self.abort.eq(self.aborts), pending.eq(alarms | self.noticed), corrected.eq(self.corrected)]
        with m.If(self.begins & self.takes):
            m.d.control += owing.eq(1)
        with m.If(self.ended | self.restart):
            m.d.control += owing.eq(0)
        with m.If(self.abort & owing & ~self.ended & ~self.restart):
            m.d.control += self.closing.eq(1)
        with m.Elif(self.ended | self.restart):
            m.d.control += self.closing.eq(0)
        m.d.control += self.flags.eq((self.flags & ~self.clear) | pending)
        m.d.sync += [
            self.corrected_count.eq(self.corrected_count + corrected),
            self.detected_count.eq(self.detected_count + pending.any()),
        ]
        return m
