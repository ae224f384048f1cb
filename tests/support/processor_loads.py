"""A core in Amaranth's simulator that is loaded at run time: what it says, and the banks that its net lies in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray
from rtl_engines import signed

from eqcompile.rtl.processor.compiler import Program
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet

__all__ = ["Host", "Job", "play"]

Codes = NDArray[np.int64]
LIMIT = 60_000
SILENCE = 200
"""Clocks without a result after which a core is taken to be idle."""


@dataclass
class Job:
    """Samples of a net, and what a core gave: `states[sample][tick][name]`, outputs."""

    net: IntNet
    program: Program
    inputs: Mapping[str, Codes]
    outputs: list[list[int]] = field(default_factory=list)
    states: list[list[dict[str, Codes]]] = field(default_factory=list)

    def differences(self) -> list[str]:
        """Where they are not golden's."""
        want = golden.run(self.net, self.inputs)
        wrong = []
        for k, count in enumerate(want.steps):
            rows = self.states[k] if k < len(self.states) else []
            if len(rows) != count:
                wrong.append(f"sample {k}: {len(rows)} ticks, golden {count}")
                continue
            wrong += [
                f"sample {k} tick {t}: {name}"
                for t, row in enumerate(rows)
                for name, codes in row.items()
                if not np.array_equal(codes, want.states[name][t, k].ravel())
            ]
            outputs = np.concatenate([want.outputs[o.name][k].ravel() for o in self.net.outputs])
            if not np.array_equal(self.outputs[k], outputs):
                wrong.append(f"sample {k}: outputs {self.outputs[k]}, golden {outputs}")
        return wrong


class Host:
    """What a host does with an engine, as coroutines of a bench."""

    def __init__(self, engine: ProcessorEngine, ctx: Any) -> None:
        self.engine, self.ctx = engine, ctx

    @property
    def status(self) -> int:
        """As register IMAGE."""
        value: int = self.ctx.get(self.engine.image_status)
        return value

    async def load(self, words: Sequence[int]) -> None:
        """A word a clock."""
        e, ctx = self.engine, self.ctx
        for number, word in enumerate(words):
            ctx.set(e.load_address, number)
            ctx.set(e.load_data, word)
            ctx.set(e.load_enable, 1)
            if ctx.get(e.image_begins):
                ctx.set(e.steps, ctx.get(e.image_steps))
                ctx.set(e.tolerance, ctx.get(e.image_tolerance))
            await ctx.tick()
        ctx.set(e.load_enable, 0)
        await ctx.tick()

    async def run(self, job: Job) -> None:
        """All samples of a job, its states read from the banks after every tick."""
        for k in range(len(next(iter(job.inputs.values())))):
            codes = np.concatenate([job.inputs[i.name][k].ravel() for i in job.net.inputs])
            job.states.append([])
            job.outputs.append(await self.sample(codes.tolist(), self._results(job), job))

    def _results(self, job: Job) -> int:
        return len(np.concatenate([v[0].ravel() for v in golden.run(job.net, job.inputs).outputs.values()]))

    async def sample(self, codes: Sequence[int], results: int, job: Job | None = None) -> list[int]:
        """The results of one sample; none of a core that stays silent."""
        e, ctx = self.engine, self.ctx
        x, y = e.signature.x_port.format, e.signature.y_port.format
        given: list[int] = []
        sent = silent = 0
        ctx.set(e.y.ready, 1)
        while len(given) < results and silent < SILENCE:
            ctx.set(e.x.valid, sent < len(codes))
            ctx.set(e.x.payload, codes[sent] & (1 << x.bits) - 1 if sent < len(codes) else 0)
            moved = sent < len(codes) and ctx.get(e.x.ready)
            if ctx.get(e.y.valid):
                given.append(signed(ctx.get(e.y.payload), y.bits, y.signed))
            if job is not None and ctx.get(e.trace_end):
                job.states[-1].append({name: self.words(*place) for name, place in job.program.states.items()})
            silent = 0 if moved or ctx.get(e.busy) else silent + 1
            sent += moved
            await ctx.tick()
        ctx.set(e.x.valid, 0)
        ctx.set(e.y.ready, 0)
        return given

    def words(self, bank: int, base: int, count: int) -> Codes:
        """Words of a bank."""
        memory, core = self.engine.logic.memories.banks[bank].words.data, self.engine.description.core
        bits, side = core.banks[bank].bits, core.lanes if core.banks[bank].sums else core.width
        mask = (1 << bits) - 1
        rows = {row: self.ctx.get(memory[row]) for row in range(base // side, -(-(base + count) // side))}
        places = [divmod(base + k, side) for k in range(count)]
        return np.array([signed(rows[r] >> part * bits & mask, bits, True) for r, part in places], np.int64)


def play(engine: ProcessorEngine, bench: Any) -> None:
    """Run `bench(host)` on an engine."""

    async def testbench(ctx: Any) -> None:
        ctx.set(engine.steps, engine.net.schedule.steps)
        ctx.set(engine.tolerance, engine.net.schedule.tolerance)
        await bench(Host(engine, ctx))

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
