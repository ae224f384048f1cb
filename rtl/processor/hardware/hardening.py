"""What hardening adds to a processor: codes on stored words, and what is told to the bus shell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from amaranth import Cat, Const, Module, Mux, Signal, Value

from eqcompile.toolchain.diagnostics import Diagnostic

from ...harden.mechanisms import FLAGS
from ...harden.mechanisms import faults as faults_of
from ...harden.memory import CheckedRam
from ...interface import Engine
from .core import Logic

__all__ = ["attach", "check_hardening", "program_lost"]

MISSING = {
    "safe-fsm": "a sequencer in a state that means nothing stands still, which the watchdog ends",
    "residue": "states and sums of the processor have no remainders",
}
GIVES_UP = {"watchdog", "parity", "secded"}
"""Mechanisms that may give a sample up."""


def check_hardening(
    names: Sequence[str], where: str, *, frames: bool, readback: bool, external: bool = False
) -> Iterator[Diagnostic]:
    """Why no processor can be hardened so. `frames`: it takes sequences; `readback`: a host reads its memories;
    `external`: weights lie in a memory outside."""
    yield from faults_of(tuple(names))
    for name in names:
        if name in MISSING:
            yield Diagnostic("rtl-harden", f"the processor has no {name}: {MISSING[name]}", where, f"leave {name} out")
    if frames and GIVES_UP & {*names}:
        what = "a sample that is given up ends one frame, and the net takes a sequence of frames"
        yield Diagnostic("rtl-harden", what, where, f"leave {', '.join(sorted(GIVES_UP & {*names}))} out")
    if external and GIVES_UP & {*names}:
        what = "words of a memory outside have no code, and come when it sends them"
        yield Diagnostic("rtl-harden", what, where, f"leave {', '.join(sorted(GIVES_UP & {*names}))} out")
    if readback and {"parity", "secded"} & {*names}:
        what = "words under a code are repaired as they are read, a host would read what no memory holds"
        yield Diagnostic("rtl-harden", what, where, "leave --readback out: SECDED and parity find what a CRC finds")


def attach(m: Module, engine: Engine, logic: Logic, *, stopped: Value, patience: int | None) -> None:
    """Tell the ports of an engine in module `m`, which is not reset with the logic, what its logic finds.

    `stopped`: the logic is held in reset, as without an image. `patience`: clocks from the start of a sample to its
    first code at most; None without a watchdog.
    """
    begun = Signal(name="sample_begun")
    late: Value = Const(0, 1)
    takes = engine.x.valid & engine.x.ready
    with m.If(stopped | takes):
        m.d.control += begun.eq(0)
    with m.Elif(logic.begins):
        m.d.control += begun.eq(1)
    if patience is not None:
        waited = Signal(range(patience + 2), name="clocks_begun")
        late = waited > patience
        m.d.control += waited.eq(Mux(begun & ~stopped, waited + ~late, 0))
    alarms: dict[str, Value] = {flag: Const(0, 1) for flag in FLAGS} | {"watchdog": late}
    noticed: dict[str, Value] = {flag: Const(0, 1) for flag in FLAGS}
    memories = logic.memories
    if memories.checked:
        wrong, unread = Signal(name="memory_wrong"), Signal(name="memory_noticed")
        m.d.control += wrong.eq(Cat(*(ram.detected for ram in memories.checked)).any() & ~stopped)
        alarms["weights"] = wrong
        coded = [ram for ram in memories.checked if isinstance(ram, CheckedRam)]
        m.d.control += unread.eq(Cat(ram.noticed for ram in coded).any() & ~stopped)
        noticed["weights"] = unread
        m.d.control += engine.harden_corrected.eq(Cat(ram.corrected | ram.scrubbed for ram in coded).any() & ~stopped)
    m.d.comb += [
        engine.harden_idle.eq(stopped | logic.waits_for_sample | begun),
        engine.harden_tick.eq(logic.ticks),
        engine.harden_faults.eq(Cat(alarms[flag] for flag in FLAGS)),
        engine.harden_noticed.eq(Cat(noticed[flag] for flag in FLAGS)),
    ]


def program_lost(logic: Logic) -> Value:
    """An instruction was read that nobody can repair: no sample may begin with it."""
    program = logic.memories.program
    return program.detected if isinstance(program, CheckedRam) else Const(0, 1)
