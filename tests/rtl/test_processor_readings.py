"""Golden, the instruction-set simulator and the core agree after every instruction; mutants of each do not.

A few mutants of the core and of its loader run here, each elaborates a core: `ALL_MUTANTS=1` runs all of them.
"""

from __future__ import annotations

import doctest
import os
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import processor_programs
import pytest
from processor_loads import Host, play
from processor_mutants import ALLOCATION, CORE, LOADER, SIMULATOR, Change, changed
from processor_readings import (
    Codes,
    Inputs,
    Step,
    against_golden,
    core_steps,
    sample_of,
    simulator_steps,
    step_differences,
)
from strategies import random_inputs, random_net

from eqcompile.rtl.processor import isa
from eqcompile.rtl.processor.compiler import Program, compile_net
from eqcompile.rtl.processor.encoding import decode
from eqcompile.rtl.processor.features import Features
from eqcompile.rtl.processor.hardware import ProcessorEngine
from eqcompile.rtl.processor.isa import Alu, Apply, Old, Reduction, TableKind, Unit, Vector
from eqcompile.toolchain.ir import IntNet

PAGE = Path(isa.__file__).with_name("ISA.md")
SEEDS = (61, 63, 35)
"""Nets that use every stage together, as small as there are."""
JUDGES = (221, 407, 113, *SEEDS)
"""And three in which a root is a whole number, what is compared is equal, and a maximum is not the last entry."""
HERE = ("select exchanged", "greater takes equal", "a loop once more", "young for ever", "list not emptied", "any CRC",
        "runs while it loads")  # fmt: skip
"""Names of the mutants that run always."""
COPIES = ("changes", " b", " c", " next", " rows", " held", "first")
"""How the values end that an instruction writes beside those of the net."""


@cache
def case(seed: int) -> tuple[IntNet, Inputs, Program]:
    rng = random.Random(seed)
    net = random_net(rng, frames=False)
    inputs = {name: codes[:2] for name, codes in random_inputs(net, rng).items()}
    return net, inputs, compile_net(net)


def test_the_nets_use_every_stage() -> None:
    """A stage that no net uses has mutants that nothing could notice."""
    used = [Features.of(case(seed)[2].instructions, 1) for seed in SEEDS]
    assert set().union(*(f.alus for f in used)) == set(Alu)
    assert set().union(*(f.units for f in used)) == set(Unit)
    assert set().union(*(f.reductions for f in used)) == set(Reduction)
    assert set().union(*(f.tables for f in used)) == {TableKind.LOOKUP, TableKind.INTERPOLATE}
    assert set().union(*(f.olds for f in used)) == {Old.C, Old.D}
    assert all(any(getattr(f, name) for f in used) for name in ("indirect", "kernels", "places", "adds"))


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("seed", [*SEEDS, *range(20)])
def test_every_instruction_writes_what_golden_computes(seed: int, width: int) -> None:
    """Two faults that cancel until the tick ends are seen nowhere else."""
    net, inputs, _ = case(seed)
    program = compile_net(net, width=width)
    reading = against_golden(net, inputs, program)
    assert reading.wrong == []
    assert all(program.values[at].rstrip("0123456789 ").endswith(COPIES) for at in reading.alone)
    vectors = sum(isinstance(i, Vector) for i in program.instructions)
    assert len(reading.compared) + len(reading.alone) == vectors
    assert len(reading.compared) > len(reading.alone)


@cache
def simulated(seed: int) -> tuple[list[Codes], list[Step]]:
    net, inputs, program = case(seed)
    samples = [sample_of(net, inputs, k)[1] for k in range(2)]
    return samples, simulator_steps(program, samples)


def core_differences(seed: int, engine: Callable[..., ProcessorEngine] = ProcessorEngine) -> list[str]:
    """Where a core leaves the way of the simulator."""
    net, _, program = case(seed)
    samples, steps = simulated(seed)
    core = engine(net, trace=True)
    return step_differences(program, steps, core_steps(core, samples, core.signature.y_port.count))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_every_bank_of_the_core_is_the_simulator_s_after_every_instruction(seed: int) -> None:
    assert core_differences(seed) == []
    _, _, program = case(seed)
    early = sum(isinstance(i, Apply) and i.early for i in program.instructions)
    assert len(simulated(seed)[1]) > 2 * (len(program.instructions) - early)


def examples_fail() -> bool:
    names = {"A2": isa.Stream(0, 0, (2, 1))} | {n: getattr(processor_programs, n) for n in ("A", "OUT", "column")}
    names |= {n: getattr(processor_programs, n) for n in ("emitted", "value")}
    names |= {name: getattr(isa, name) for name in isa.__all__}
    text = PAGE.read_text(encoding="utf-8").replace("```", "")
    page = doctest.DocTestParser().get_doctest(text, names, "ISA", str(PAGE), 0)
    return bool(doctest.DocTestRunner(verbose=False).run(page, out=lambda text: None).failed)


def test_every_mutant_of_the_simulator_is_noticed_by_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page whose examples hold for another instruction set defines none."""
    assert not examples_fail()
    survivors = []
    for change in SIMULATOR:
        package = "eqcompile.rtl.processor"
        namespace: dict[str, object] = {"__name__": f"{package}.simulator", "__package__": package}
        source = PAGE.with_name("simulator.py")
        exec(compile(change.apply(source.read_text(encoding="utf-8")), str(source), "exec"), namespace)
        monkeypatch.setattr(processor_programs, "Processor", namespace["Processor"])
        survivors += [] if examples_fail() else [change.name]
    assert not survivors, ", ".join(survivors)


def decoded(program: Program) -> Program:
    """With the instructions that its records hold, of the classes that are known here."""
    return replace(program, instructions=tuple(decode(program.image.core, r) for r in program.image.program))


@pytest.mark.parametrize("change", ALLOCATION, ids=lambda c: c.name)
def test_every_mutant_of_the_allocation_is_noticed(change: Change) -> None:
    """A buffer that is freed too early is right until something else is written there."""
    with changed(change, "compiler") as module:
        for seed in (*SEEDS, *range(12)):
            net, inputs, _ = case(seed)
            try:
                if against_golden(net, inputs, decoded(module.compile_net(net))).wrong:
                    return
            except (ArithmeticError, IndexError, ValueError, AssertionError, RuntimeWarning):
                return
    pytest.fail(f"{change.name} survives")


def judged(changes: list[Change]) -> list[Change]:
    return [c for c in changes if os.environ.get("ALL_MUTANTS") or c.name in HERE]


@pytest.mark.slow
@pytest.mark.parametrize("change", judged(CORE), ids=lambda c: f"{c.module}: {c.name}")
def test_every_mutant_of_the_core_is_noticed(change: Change) -> None:
    with changed(change, "hardware") as module:
        for seed in JUDGES:
            try:
                if core_differences(seed, module.ProcessorEngine):
                    return
            except AssertionError:
                return
    pytest.fail(f"{change.name} survives")


@pytest.mark.slow
@pytest.mark.parametrize("change", judged(LOADER), ids=lambda c: c.name)
def test_every_mutant_of_the_loader_is_noticed(change: Change) -> None:
    """A loader that takes what it should refuse is found out by a radiation test, if by anything."""
    net, inputs, _ = case(SEEDS[0])
    with changed(change, "hardware") as module:
        engine = module.ProcessorEngine(net, trace=True)
        words = engine.load_words(net)
        seen: list[object] = []

        async def bench(host: Host) -> None:
            for at, bit in ((0, 0), (1, 0), (2, 0), (4, 20), (6, 20), (len(words) // 2, 3)):
                await host.load([*words[:at], words[at] ^ 1 << bit, *words[at + 1 :]])
                seen.append(host.status)
            await host.load(words[:-1])
            seen.append(host.status)
            await host.load(words)
            seen.append(host.status)
            codes = sample_of(net, inputs, 0)[1].tolist()
            seen.append(await host.sample(codes, engine.signature.y_port.count))

        play(engine, bench)
    assert seen != sound()


@cache
def sound() -> list[object]:
    """What the loader says that is not changed: five foreign images, a damaged one, one without end, a whole one."""
    net, inputs, program = case(SEEDS[0])
    last = simulator_outputs(net, inputs, program)
    return [0x101, 0x201, 0x301, 0x401, 0x401, 0x500, 2, 1, last]


def simulator_outputs(net: IntNet, inputs: Inputs, program: Program) -> list[int]:
    from eqcompile.rtl.processor.simulator import Processor

    return Processor(program.image).run([sample_of(net, inputs, 0)[1]]).emitted.tolist()
