"""Injection engine `listing`: the machine of the simulator with upsets of its states between ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.faults.circuit import Circuit
from eqcompile.sim.faults.engine import Engine, Session
from eqcompile.sim.faults.outcome import Runs, observed, results
from eqcompile.sim.faults.table import Fault, FaultTable, Place, Upset
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.ir import IntNet

from .simulator import Inference, Machine, States
from .target import listing, refusals

__all__ = ["ListingEngine"]

Codes = Mapping[str, NDArray[np.int64]]


class ListingEngine(Engine):
    """Takes upsets of states, and refuses all others."""

    name: ClassVar[str] = "listing"
    sites: ClassVar[tuple[str, ...]] = ("state",)

    def missing(self) -> Sequence[str]:
        return ()

    def check(self, net: IntNet) -> Sequence[Diagnostic]:
        return refusals(net)

    def open(self, net: IntNet, inputs: Codes, *, near: int) -> Session:
        return ListingSession(net, inputs, near)


class ListingSession(Session):
    """One fault at a time; a fault-free run is one with a fault that changes nothing."""

    def __init__(self, net: IntNet, inputs: Codes, near: int) -> None:
        self.net, self.inputs, self.near = net, inputs, near
        self.machine, self.circuit = Machine(listing(net)), Circuit.of(net)
        self.count = len(next(iter(inputs.values())))
        self.undisturbed = [self.inference(sample, ()) for sample in range(self.count)]

    def run(self, table: FaultTable) -> NDArray[np.void]:
        self.check(table)
        faults = list(table)
        clean = runs([self.undisturbed[f.sample] for f in faults])
        first = np.array([min((u.first for u in f.upsets), default=0) for f in faults])
        facts = observed(self.net, runs([self.inference(f.sample, f.upsets) for f in faults]), clean, first)
        rows: NDArray[np.void] = results(facts, self.near)
        return rows

    def trace(self, fault: Fault) -> Codes:
        self.check(FaultTable.of([fault]))
        return self.inference(fault.sample, fault.upsets).states

    def clean(self, sample: int) -> Codes:
        return self.undisturbed[sample].states

    def check(self, table: FaultTable) -> None:
        self.circuit.check(table, samples=self.count, ticks=self.net.schedule.steps)
        if (table.upsets["place"] != Place.STATE).any():
            raise UsageError(Diagnostic("listing-place", "this engine disturbs states alone", hint="--engine golden"))

    def inference(self, sample: int, upsets: Sequence[Upset]) -> Inference:
        def disturb(tick: int, states: States) -> States:
            changed = {name: codes.copy() for name, codes in states.items()}
            for upset in upsets:
                if upset.first <= tick <= upset.last:
                    flat, stated = changed[upset.name].reshape(-1), self.net.formats[upset.name]
                    flat[upset.index] = word(int(flat[upset.index]), upset, stated.bits, signed=stated.signed)
                    flat[upset.index] = min(max(flat[upset.index] + upset.add, stated.lo), stated.hi)
            return changed

        return self.machine.infer({name: codes[sample] for name, codes in self.inputs.items()}, disturb)


def word(code: int, upset: Upset, bits: int, *, signed: bool) -> int:
    """The code with the bits of an upset, read back from two's complement."""
    changed = (code ^ upset.flip | upset.one) & ~upset.zero & ((1 << bits) - 1)
    return changed - (1 << bits) if signed and changed >> (bits - 1) else changed


def runs(inferences: Sequence[Inference]) -> Runs:
    """Inferences side by side."""
    names, outputs = inferences[0].states, inferences[0].outputs
    return Runs(
        states={n: np.stack([i.states[n] for i in inferences], axis=1) for n in names},
        outputs={n: np.stack([i.outputs[n] for i in inferences]) for n in outputs},
        before={n: np.stack([i.before[n] for i in inferences]) for n in names},
    )
