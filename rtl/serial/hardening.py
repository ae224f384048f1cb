"""What hardening adds to the serial engine: checks beside the datapath, and what is told to the bus shell."""

from __future__ import annotations

import numpy as np
from amaranth import Cat, Const, Module, Signal, Value

from eqcompile.toolchain.diagnostics import Diagnostic

from ..harden.mechanisms import FLAGS
from ..harden.mechanisms import faults as faults_of
from ..harden.memory import CheckedRam
from ..harden.residue import ResidueRam, residue
from .core import Core
from .plan import Plan
from .program import Decide, Take

__all__ = ["attach", "check_hardening"]


def check_hardening(names: tuple[str, ...], plan: Plan, family: str) -> list[Diagnostic]:
    """Why this plan cannot be hardened so."""
    diagnostics = faults_of(names)
    if family != "generic" and {"parity", "secded"} & set(names):
        what = f"the single-port RAM of the {family} has no second port for a scrubber, nor bits for a code"
        diagnostics.append(
            Diagnostic("rtl-harden", what, plan.net.name, "--device generic, or leave parity and secded out")
        )
    if "residue" in names:
        for m in plan.maps:
            fmt, bits = plan.net.formats[m.source], plan.banks[m.bank][1]
            low, high = (f(m.matrix * fmt.lo, m.matrix * fmt.hi) for f in (np.minimum, np.maximum))
            least, most = int(low.sum(axis=1).min(initial=0)), int(high.sum(axis=1).max(initial=0))
            if least < -(1 << (bits - 1)) or most >= 1 << (bits - 1):
                what = f"sums of {m.out} are {least} to {most}, their {bits} bits wrap: no remainder modulo 3 is left"
                diagnostics.append(Diagnostic("rtl-harden", what, m.out, "leave residue out"))
    return diagnostics


def attach(core: Core) -> None:
    """Add the checks of a core whose other logic is there."""
    m, ports, phases = core.m, core.ports, core.program.phases
    alarms = {flag: Const(0, 1) for flag in FLAGS}
    noticed = dict(alarms)
    take = next(i for i, p in enumerate(phases) if isinstance(p, Take))
    decide = next(i for i, p in enumerate(phases) if isinstance(p, Decide))
    m.d.comb += ports.harden_idle.eq((core.phase == take) & (core.count == 0))
    m.d.comb += ports.harden_tick.eq(core.phase == decide)
    if "safe-fsm" in core.design.harden:
        unknown = Signal(name="phase_unknown")
        m.d.comb += unknown.eq(core.phase >= len(phases))
        with m.If(unknown):
            m.d.control += [core.phase.eq(0), core.count.eq(0)]
        alarms["safe-fsm"] = unknown
    rams = [ram for ram in core.loaded if isinstance(ram, CheckedRam)]
    if rams:
        alarms["weights"], noticed["weights"] = _weights(core, rams)
    if "residue" in core.design.harden:
        alarms["residue"] = _residues(core)
    m.d.comb += ports.harden_faults.eq(Cat(alarms[flag] for flag in FLAGS))
    m.d.comb += ports.harden_noticed.eq(Cat(noticed[flag] for flag in FLAGS))


def _weights(core: Core, rams: list[CheckedRam]) -> tuple[Value, Value]:
    """Tell the checked memories when they are read; what they found, a clock later."""
    m, applier = core.m, core.applier
    wrong, uncorrectable = Signal(name="weights_wrong"), Signal(name="weights_noticed")
    for ram in rams:
        m.d.comb += ram.used.eq(applier.table_used if ram is core.loaded[0] else applier.entry_used)
        # An event that is taken in this clock reads in the next one.
        m.d.comb += ram.free.eq(~applier.busy)
    m.d.sync += wrong.eq(Cat(ram.detected for ram in rams).any())
    m.d.sync += uncorrectable.eq(Cat(ram.noticed for ram in rams).any())
    m.d.sync += core.ports.harden_corrected.eq(Cat(ram.corrected | ram.scrubbed for ram in rams).any())
    return wrong, uncorrectable


def _residues(core: Core) -> Value:
    """Codes and sums that a sweep reads, `ALARM - 1` clocks after their address: memory, register, check, and all."""
    m, plan = core.m, core.plan
    codes = {
        name: [_next(m, r.mismatch) for r in core.code_rams[name] if isinstance(r, ResidueRam)] for name in core.codes
    }
    sums = [_sums(core, bank) for bank in range(len(plan.banks))]
    checks: list[Value] = []
    for unit in core.units:
        sweep = unit.sweep
        reading: Value = unit.valid
        for _ in range(3):
            reading = _next(m, reading)
        wrong: list[Value] = []
        # What a drive sweep finds in the memory of codes is of the sample before.
        for name, v in plan.vectors.items() if sweep.block != "drive" else ():
            if v.units == sweep.units:
                wrong += codes[name]
        for bank in sorted({x.bank for x in plan.maps_of(sweep.block) if len(x.matrix) == sweep.units}):
            wrong += sums[bank]
        checks.append(reading & Cat(wrong).any())
    return _next(m, Cat(checks).any())


def _sums(core: Core, bank: int) -> list[Value]:
    """Whether the sums of the group of three clocks ago have other remainders than those kept, for each lane."""
    m, bits = core.m, core.plan.banks[bank][1]
    words = [
        (Value.cast(core.applier.sums[f"bank{bank}"]), bits),
        (Value.cast(core.applier.residues[f"bank{bank}"]), 2),
    ]
    sums, kept = (_next(m, core.slice_of(word, width)) for word, width in words)
    lanes = [(sums.word_select(i, bits)[:bits].as_signed(), kept.word_select(i, 2)) for i in core.lanes]
    return [_next(m, residue(m, value) != remainder) for value, remainder in lanes]


def _next(m: Module, value: Value) -> Signal:
    register = Signal(value.shape(), name="checked")
    m.d.sync += register.eq(value)
    return register
