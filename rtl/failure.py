"""The bus shell's side of weights in a memory outside: an error of the memory ends the sample at hand."""

from __future__ import annotations

from amaranth import Module, Signal, Value

from .interface import Engine

__all__ = ["MemoryFailure"]


class MemoryFailure:
    """`response`: RRESP of the error that has ended a sample, 0 while there is none; `spoils`: the clock in which the
    engine is restarted because of one."""

    def __init__(self) -> None:
        self.response, self.spoils = Signal(2, name="memory_failure"), Signal(name="memory_spoils")

    @property
    def any(self) -> Value:
        """No sample may begin."""
        return self.response.any()

    def watch(self, m: Module, engine: Engine, asked: Value, restart: Value, stalled: Value) -> Value:
        """Whether the engine is to be restarted from the next clock on. `asked`: a host asks for a soft reset, which
        clears the error, as an image does; `restart`: it acts; `stalled`: a beat is offered, and stays as it is."""
        fails = engine.memory_failed.any() & ~self.any & ~restart & ~asked & ~stalled
        m.d.control += self.spoils.eq(fails)
        with m.If(fails):
            m.d.control += self.response.eq(engine.memory_failed)
        with m.Elif((asked & ~stalled) | engine.image_begins):
            m.d.control += self.response.eq(0)
        return fails
