"""Ends a run that has overrun the clocks, or the ticks, that the engine can take."""

from __future__ import annotations

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DELAY", "Watchdog"]

DELAY = 3
"""Clocks over the span within which it speaks, whatever its registers hold."""


class Watchdog(wiring.Component):
    """`late` two clocks after the engine has run for more than `span` clocks since it was idle or made a tick, or has
    made a tick after `steps` of them since it was idle.

    `idle`: the engine waits for a sample; `tick`: it makes one; `held`: it stands still because of its neighbours, and
    the clock does not count. Whatever its registers hold, it is idle, ticks or is `late` within `span + 3` clocks that
    count: so a run ends, whatever happened to it, within `(steps + 1) * (span + 3)`.
    """

    def __init__(self, span: int) -> None:
        self.span = span
        super().__init__(
            {"steps": In(16), "idle": In(1), "tick": In(1), "held": In(1), "restart": In(1), "late": Out(1)}
        )
        self.count = Signal(range(span + 1), name="count")
        self.left = Signal(16, name="left")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Of the clock before: they stand at the end of long paths of the engine.
        idle, tick, held = Signal(name="was_idle"), Signal(name="was_tick"), Signal(name="was_held")
        m.d.control += [idle.eq(self.idle), tick.eq(self.tick), held.eq(self.held)]
        overdue = (self.count >= self.span) | (tick & (self.left == 0))
        m.d.control += self.late.eq(~idle & ~self.restart & overdue)
        with m.If(idle | self.restart):
            m.d.control += [self.count.eq(0), self.left.eq(self.steps)]
        with m.Elif(tick):
            m.d.control += [self.count.eq(0), self.left.eq(self.left - 1)]
        with m.Elif(~held & (self.count < self.span)):
            m.d.control += self.count.eq(self.count + 1)
        return m
