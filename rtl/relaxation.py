"""What the control of every engine has: the schedule of a sample, and the way of its result to the reader.

                 first beat                sample begins               tick
steps, tolerance ─────────► kept for it ───────────────► left, tolerance ──► left - 1, made + 1

The engine decides when each of these happens; its datapath has the codes.
"""

from __future__ import annotations

from collections.abc import Iterable

from amaranth import Module, Mux, Signal, Value
from amaranth.hdl._ast import Statement  # the type of what `eq` gives, which Amaranth does not export

from .interface import MAX_SCHEDULE, Engine

__all__ = ["Outlet", "Schedule"]


class Schedule:
    """`left`: ticks that the sample at hand may still make. `tolerance`: a code that moves by no more counts as still;
    no larger than two codes of a state can differ. The engine's port `made` counts the ticks made.

    `first`: the clock that takes the first beat of a sample, where the sample before may still be relaxing: steps and
    tolerance are kept from then on. Without it `start` reads them from the ports.
    """

    def __init__(self, m: Module, engine: Engine, *, first: Value | None = None) -> None:
        self.m, self.engine = m, engine
        widest = max(f.bits for _, _, f in engine.signature.states)
        self.largest = min((1 << widest) - 1, MAX_SCHEDULE)
        self.left = Signal(16, name="left")
        self.tolerance = Signal(range(self.largest + 1), name="tolerance")
        self.coming = engine.steps, engine.tolerance
        if first is not None:
            kept = Signal(16, name="next_steps"), Signal(16, name="next_tolerance")
            with m.If(first):
                m.d.control += [register.eq(port) for register, port in zip(kept, self.coming, strict=True)]
            self.coming = kept

    def start(self) -> None:
        """A sample begins in this clock."""
        steps, tolerance = self.coming
        capped = Mux(tolerance > self.largest, self.largest, tolerance)
        self.m.d.control += [self.left.eq(steps), self.tolerance.eq(capped), self.engine.made.eq(0)]

    def advance(self) -> None:
        """A tick is made in this clock."""
        self.m.d.control += [self.left.eq(self.left - 1), self.engine.made.eq(self.engine.made + 1)]

    def unsettled(self, moved: Value) -> Value:
        """Whether another tick may change a code: one has moved by more than the tolerance, or words may be disturbed,
        which makes all ticks."""
        return moved | self.engine.inject_enable if "inject_enable" in self.engine.signature.members else moved


class Outlet:
    """Offers the beats of a result, one after the other. `beat`: the number of the one that is offered."""

    def __init__(self, m: Module, engine: Engine) -> None:
        self.m, self.engine = m, engine
        self.beats = engine.signature.y_port.beats
        self.beat = Signal(range(max(self.beats, 2)), name="beat")

    def open(self) -> None:
        """The result is there in the next clock: go on with `write`."""
        self.m.d.control += self.beat.eq(0)
        self.m.next = "write"

    def write(self, move: Iterable[Statement] = ()) -> None:
        """The state in which beats are taken; `idle` follows the last one. `move`: what brings up the next one."""
        m, y = self.m, self.engine.y
        with m.State("write"):
            m.d.comb += y.valid.eq(1)
            with m.If(y.ready):
                m.d.sync += move
                m.d.control += self.beat.eq(self.beat + 1)
                with m.If(self.beat == self.beats - 1):
                    m.next = "idle"
