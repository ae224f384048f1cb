"""Compiled programs in the processor's simulator, compared with golden at every tick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rtl_engines import simulate

from eqcompile.rtl.processor.compiler import Program, compile_net
from eqcompile.rtl.processor.encoding import encode
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.isa import Instruction
from eqcompile.rtl.processor.simulator import Processor
from eqcompile.toolchain import golden
from eqcompile.toolchain.ir import IntNet

__all__ = ["core_differences", "differences", "frames_of", "mutated"]

Codes = Mapping[str, NDArray[np.int64]]
DIRT = 1
"""What banks hold before the first sample: nothing may depend on it."""


def mutated(program: Program, at: int, instruction: Instruction) -> Program:
    """The program with another instruction in one place; raises ValueError if no record holds that."""
    records = list(program.image.program)
    records[at] = encode(program.image.core, instruction)
    return replace(program, image=replace(program.image, program=tuple(records)))


def differences(net: IntNet, codes: Codes, program: Program | None = None, *, first: bool = False) -> list[str]:
    """Where the program of a net is not golden: ticks, every state after every tick, outputs; all samples one after the
    other in one processor, whose banks are full of dirt before. `first`: no more than the first difference."""
    program = program or compile_net(net)
    ticks: list[tuple[int, dict[str, NDArray[np.int64]]]] = []

    def watch(processor: Processor) -> None:
        held = {s: processor.banks[b][at : at + n].copy() for s, (b, at, n) in program.states.items()}
        ticks.append((processor.frame, held))

    processor = Processor(program.image, watch)
    for number, bank in enumerate(processor.banks):
        bank[:] = DIRT
        for (which, base), words in program.image.words.items():
            if which == number:
                bank[base : base + len(words)] = words
    found: list[str] = []
    batch = len(next(iter(codes.values())))
    for k in range(batch):
        ticks.clear()
        one = {name: value[k : k + 1] for name, value in codes.items()}
        rows = frames_of(net, codes, k)
        count = len(rows)
        sample = processor.run(rows)
        want = golden.run(net, one)
        if sample.ticks != want.steps[0]:
            found.append(f"sample {k}: {sample.ticks} ticks, golden {want.steps[0]}")
        else:
            found += [
                f"sample {k} tick {t}: {s}"
                for t, states in enumerate(_every_tick(ticks, net.schedule.steps))
                for s, held in states.items()
                if not np.array_equal(held, want.states[s][t, 0].ravel())
            ]
        every = net.schedule.emit == "every"
        emitted = [
            want.outputs[o.name][0, f].ravel() if every else want.outputs[o.name][0].ravel()
            for f in range(count if every else 1)
            for o in net.outputs
        ]
        if not np.array_equal(sample.emitted, np.concatenate(emitted)):
            found.append(f"sample {k}: outputs {sample.emitted}, golden {np.concatenate(emitted)}")
        if found and first:
            break
    return found


def core_differences(net: IntNet, codes: Codes, *, lanes: int = 4, width: int = 1, **bench: Any) -> list[str]:
    """Where the core is not what the simulator of instructions is, which reads the same binary: ticks, every state
    after each, outputs, and, if no stream stalls, the clocks that are stated of a sample. `bench`: of
    `rtl_engines.simulate`."""
    engine = ProcessorEngine(net, trace=True, lanes=lanes, width=width)
    timed = "stall" not in bench
    simulation = simulate(engine, net, codes, timed=timed, **bench)
    program = engine.program
    ticks: list[dict[str, NDArray[np.int64]]] = []

    def watch(processor: Processor) -> None:
        ticks.append({s: processor.banks[b][at : at + n].copy() for s, (b, at, n) in program.states.items()})

    processor = Processor(program.image, watch)
    found: list[str] = []
    for k in range(len(next(iter(codes.values())))):
        ticks.clear()
        sample = processor.run(frames_of(net, codes, k))
        if sample.ticks != simulation.made[k] or len(ticks) != len(simulation.ticks[k]):
            found.append(f"sample {k}: {sample.ticks} ticks, the core made {simulation.made[k]}")
            continue
        found += [
            f"sample {k} tick {t}: {s}"
            for t, states in enumerate(ticks)
            for s, held in states.items()
            if not np.array_equal(held, simulation.ticks[k][t][s])
        ]
        if timed and sample.clocks.total() != simulation.busy[k]:
            found.append(f"sample {k}: {sample.clocks.total()} clocks are stated, the core takes {simulation.busy[k]}")
        if not np.array_equal(sample.emitted, simulation.outputs[k]):
            found.append(f"sample {k}: outputs {sample.emitted}, of the core {simulation.outputs[k]}")
    return found


def frames_of(net: IntNet, codes: Codes, sample: int) -> list[NDArray[np.int64]]:
    """Input codes of a sample, of each frame those of all inputs one after the other."""
    rows = [codes[i.name][sample] for i in net.inputs]
    frames = range(len(rows[0])) if net.schedule.frames else None
    if frames is None:
        return [np.concatenate([row.ravel() for row in rows])]
    return [np.concatenate([row[f].ravel() for row in rows]) for f in frames]


def _every_tick(
    ticks: Sequence[tuple[int, dict[str, NDArray[np.int64]]]], steps: int
) -> Iterator[dict[str, NDArray[np.int64]]]:
    """States after each of `steps` ticks a frame: those after the last tick made stand for the ticks left out."""
    for _, made in groupby(ticks, key=lambda tick: tick[0]):
        rows = [states for _, states in made]
        yield from rows
        yield from [rows[-1]] * (steps - len(rows))
