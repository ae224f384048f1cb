"""Loop nests: one entry a clock, and the addresses of all streams with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amaranth import Elaboratable, Module, Mux, Signal, Value

__all__ = ["LoopNest"]


class LoopNest(Elaboratable):
    """Counters of `counts`, outermost first, and an address for each stream in `starts`.

    A clock with `load` goes to the first entry, one with `step` to the next. `first`: the counts in a clock with
    `load`, if they are not there yet. `last`: this entry is the last one. `ends[k]`: axis k and all inside it are at
    their last.
    """

    def __init__(
        self,
        counts: Sequence[Value],
        starts: Mapping[str, Value],
        steps: Mapping[str, Sequence[Value]],
        bits: int,
        first: Sequence[Value] | None = None,
    ) -> None:
        self.counts, self.starts, self.steps = counts, starts, steps
        self.first = first or counts
        self.load, self.step = Signal(), Signal()
        self.address = {name: Signal(bits, name=f"{name}_address") for name in starts}
        # A signal each: bits of one that follow from each other are a loop, in which Icarus can come to rest wrong.
        self.ends = [Signal(name=f"ends_{k}") for k in range(len(counts))]
        self.last = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axes = range(len(self.counts))
        left = [Signal(self.counts[k].shape().width, name=f"left_{k}") for k in axes]
        for k in axes:
            m.d.comb += self.ends[k].eq(left[k] == 1 if k == len(left) - 1 else (left[k] == 1) & self.ends[k + 1])
        m.d.comb += self.last.eq(self.ends[0])
        # The axis that goes on: the innermost one that is not at its last.
        with m.If(self.load):
            m.d.control += [left[k].eq(self.first[k]) for k in axes]
            m.d.control += [self.address[name].eq(start) for name, start in self.starts.items()]
        with m.Elif(self.step):
            for k in axes:
                inner = self.ends[k + 1] if k + 1 < len(left) else 1
                with m.If(inner):
                    m.d.control += left[k].eq(self.counts[k])
                    with m.If(~self.ends[k]):
                        m.d.control += left[k].eq(left[k] - 1)
            for name, address in self.address.items():
                steps = self.steps[name]
                chosen: Value = steps[0]
                for k in axes[1:]:
                    chosen = Mux(~self.ends[k], steps[k], chosen)
                m.d.control += address.eq(address + chosen)
        return m
