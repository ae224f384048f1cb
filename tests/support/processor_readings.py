"""The three readings of a program, compared after every instruction: golden, the instruction-set simulator, the core.

Golden is read through the map from a value of the net to the words that the instruction of that value writes; the
simulator and the core are compared bank by bank.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from amaranth.sim import Simulator
from numpy.typing import NDArray
from processor_loads import Host

from eqcompile.rtl.processor.compiler import Program
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.isa import PORT, Apply, Vector
from eqcompile.rtl.processor.simulator import Processor
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet

__all__ = ["Reading", "against_golden", "core_steps", "sample_of", "simulator_steps", "step_differences"]

Codes = NDArray[np.int64]
Inputs = Mapping[str, Codes]
Step = tuple[int, list[Codes]]
"""Number of an instruction that comes next, and the banks before it."""
LIMIT = 50_000


def sample_of(net: IntNet, inputs: Inputs, k: int) -> tuple[Inputs, Codes]:
    """One sample as golden takes it, and as codes of the input port."""
    one = {i.name: inputs[i.name][k : k + 1] for i in net.inputs}
    return one, np.concatenate([one[i.name][0].ravel() for i in net.inputs])


def _golden_values(net: IntNet, one: Inputs) -> dict[str, list[Codes]]:
    """Every value of the net, each time golden computes it."""
    values: dict[str, list[Codes]] = defaultdict(list)
    original = golden.Machine.hold

    def spy(self: golden.Machine, name: str, value: Codes) -> Codes:
        values[name].append(np.array(value[0], np.int64))
        return original(self, name, value)

    with mock.patch.object(golden.Machine, "hold", spy):
        golden.run(net, one)
    for i in net.inputs:
        values[i.name] = [one[i.name][0]]
    return values


@dataclass
class Reading:
    """`wrong`: instructions whose words are not golden's. `compared`: how often each was; `alone`: instructions that
    write no value of the net: copies, and lists of changes."""

    wrong: list[str] = field(default_factory=list)
    compared: Counter[int] = field(default_factory=Counter)
    alone: set[int] = field(default_factory=set)


def against_golden(net: IntNet, inputs: Inputs, program: Program) -> Reading:
    """What each instruction writes in the simulator against golden, of all samples in one processor."""
    reading = Reading()

    def step(processor: Processor, at: int) -> None:
        i, name = program.instructions[at], program.values[at]
        if not isinstance(i, Vector):
            return
        name = outputs.get(name, name) if i.d.bank == PORT else name
        if name not in values:
            reading.alone.add(at)
            return
        if i.d.bank == PORT:
            words = processor._emitted[-1]
            want = values[name][-1]
        else:
            outer = len(i.counts) - i.reduced
            words = processor.banks[i.d.bank][_addresses(i.d.base, i.d.strides, i.counts[:outer])]
            # A state is held where it starts too, whether an instruction writes that or not.
            number = times[name, i.state] + i.state
            want = values[name][number] if number < len(values[name]) else values[name][-1]
            times[name, i.state] += 1
        reading.compared[at] += 1
        if words.size != want.size or not np.array_equal(words.ravel(), want.ravel()):
            reading.wrong.append(f"{at} {name}: {words.ravel()[:8]}, golden {want.ravel()[:8]}")

    outputs = {o.name: o.value for o in net.outputs}
    reading.wrong += _conflicts(program)
    processor = Processor(program.image, step=step)
    for k in range(len(next(iter(inputs.values())))):
        one, codes = sample_of(net, inputs, k)
        values, times = _golden_values(net, one), Counter[tuple[str, bool]]()
        processor.run([codes])
    return reading


def _conflicts(program: Program) -> list[str]:
    """Instructions that would need two words of one bank in a clock, which the simulator does not mind."""
    wrong = []
    for at, i in enumerate(program.instructions):
        if isinstance(i, Vector):
            places: dict[int, tuple[int, tuple[int, ...]]] = {}
            for s in (i.a, i.b, i.c, i.d):
                if (
                    s is not None
                    and s.bank < PORT
                    and places.setdefault(s.bank, (s.base, s.strides)) != (s.base, s.strides)
                ):
                    wrong.append(f"{at} {program.values[at]}: two places of bank {s.bank}")
    return wrong


def _addresses(base: int, strides: tuple[int, ...], counts: tuple[int, ...]) -> Codes:
    total = np.full(counts, base, np.int64)
    for k, stride in enumerate(strides[: len(counts)]):
        total += stride * np.arange(counts[k]).reshape([-1 if n == k else 1 for n in range(len(counts))])
    return total


def simulator_steps(program: Program, samples: list[Codes]) -> list[Step]:
    """The banks in front of each instruction but the first, as the instruction-set simulator makes them."""
    steps: list[Step] = []
    processor = Processor(program.image, step=lambda p, at: steps.append((at, [bank.copy() for bank in p.banks])))
    for codes in samples:
        processor.run([codes])
    return steps


def core_steps(engine: ProcessorEngine, samples: list[Codes], outputs: int) -> list[Step]:
    """The same of the core: instructions that begin while others run are left out."""
    steps: list[Step] = []
    fmt, banks = engine.signature.x_port.format, engine.description.core.banks

    async def bench(ctx: Any) -> None:
        host = Host(engine, ctx)
        ctx.set(engine.steps, engine.net.schedule.steps)
        ctx.set(engine.tolerance, engine.net.schedule.tolerance)
        ctx.set(engine.y.ready, 1)
        flat = [int(c) for codes in samples for c in codes]
        sent = results = clocks = 0
        waiting = False
        while results < outputs * len(samples):
            clocks += 1
            assert clocks < LIMIT, "the core hangs"
            ctx.set(engine.x.valid, sent < len(flat))
            ctx.set(engine.x.payload, flat[sent] & (1 << fmt.bits) - 1 if sent < len(flat) else 0)
            ready = bool(ctx.get(engine.logic.waits))
            if ready and not waiting:
                number = ctx.get(engine.logic.pc) - 1
                # An instruction may wait again, for the reader of a result.
                if not steps or steps[-1][0] != number:
                    steps.append((number, [host.words(k, 0, b.words) for k, b in enumerate(banks)]))
            waiting = ready
            sent += sent < len(flat) and ctx.get(engine.x.ready)
            results += ctx.get(engine.y.valid)
            await ctx.tick()

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return steps


def step_differences(program: Program, simulated: list[Step], core: list[Step]) -> list[str]:
    """Where the core goes another way, or a bank differs in front of an instruction. Of instructions that may begin
    early the banks before are not known."""
    # The core waits in front of its first instruction too.
    at, wrong = 1, []
    for number, (done, banks) in enumerate(simulated):
        del done
        if number + 1 >= len(simulated):
            break
        following = simulated[number + 1][0]
        i = program.instructions[following]
        if at < len(core) and core[at][0] == following:
            differ = [k for k, (a, b) in enumerate(zip(banks, core[at][1], strict=True)) if not np.array_equal(a, b)]
            wrong += [f"bank {k} in front of {following}" for k in differ]
            at += 1
        elif not (isinstance(i, Apply) and i.early):
            return [*wrong, f"the core is at {core[at][0] if at < len(core) else 'its end'}, not at {following}"]
    return wrong
