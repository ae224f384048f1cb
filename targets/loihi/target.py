"""The `loihi` target: options, what it takes, and how it emits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eqcompile.toolchain.artifact import CoreDescription
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Emission, Plan, Progress, Refusals, Target, Vectors, quiet
from eqcompile.toolchain.ir import EqNet, Interval, IntNet, check, ops, walk
from eqcompile.toolchain.options import Bounds, option
from eqcompile.toolchain.passes import LINEAR, Analysis, tap_count, unroll
from eqcompile.toolchain.requirements import Requirements

from .capacity import Connectivity, foreseen_cores, least_cores, likely_cores
from .chips import CHIPS, ChipName
from .code import POPULATION_OPS
from .emit import write_folder
from .mapping import NEUROCORES, Placement, place
from .partition import WORD, Partition, partition

__all__ = ["LoihiTarget"]

DOUBLE = Interval(-(1 << 62), (1 << 62) - 1)
MAX_INTERPOLATE_SHIFT = 31
PLACED_TAPS = 1 << 26
"""Synapses that are written down to be placed, at some 85 bytes each, though their bits alone may be too many: only so
is it known how many chips suffice."""
REASONS: Mapping[type[ops.Op], str] = {
    ops.MatMul: "a synapse holds constants; the product of two values that both change has none",
}


@dataclass(frozen=True, kw_only=True)
class LoihiTarget(Target):
    """Lava processes with exact integer models, and a placement on the chip."""

    name: ClassVar[str] = "loihi"
    summary: ClassVar[str] = "Lava network of graded spikes for Loihi 1 and 2, with a placement on neurocores"
    install: ClassVar[str] = (
        "pip install 'eqcompile[loihi]' && pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
    )
    conformance: ClassVar[tuple[str, ...]] = (
        "plain",
        "unsigned",
        "Looped*",
        "Ternary*",
        "Lazy*",
        "NeuralCube*",
        "Temporal*",
        "Toroidal*",
    )

    chip: ChipName = option("loihi2", help="chip to place the network on")
    connectivity: Connectivity = option("auto", help="how weights are stored; auto takes what needs fewer bits")
    chips: int = option(1, bounds=Bounds(1), help="how many chips there are")

    def missing(self) -> Sequence[str]:
        return () if importlib.util.find_spec("lava") is not None else ("lava-nc",)

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        faults = [
            fault for block, name, kind in needs.operations() for fault in _unsupported(kind, name, f"{block}: {name}")
        ]
        faults += _tolerance(needs.tolerance, needs.net.name)
        if faults:
            return faults
        chip = CHIPS[self.chip]
        least, bits, copies = foreseen_cores(needs.maps, chip, self.connectivity)
        likely = max(least, likely_cores(needs.maps, chip, self.connectivity))
        return [*self._cores(least, bits, needs.net.name, copies, likely)]

    def plan(self, net: IntNet, source: EqNet | None = None) -> LoihiPlan | Refusals:
        faults = [*check(net)] or [*_operations(net), *_tolerance(net.schedule.tolerance, net.name)]
        if faults:
            return Refusals(tuple(faults))
        flat = unroll(net)
        if total_taps(flat) > PLACED_TAPS:
            faults = [*self._cores(*least_cores(flat, CHIPS[self.chip], self.connectivity), net.name)]
            if faults:
                return Refusals(tuple(faults))
        parts = partition(flat)
        placements = {
            name: place(parts, chip, connectivity=self.connectivity, chips=self.chips) for name, chip in CHIPS.items()
        }
        faults = [*_widths(parts), *self._capacity(placements[self.chip])]
        return Refusals(tuple(faults)) if faults else LoihiPlan(net, self.chip, parts, placements)

    def _cores(self, least: int, bits: int, where: str, copies: int = 0, likely: int = 0) -> Iterator[Diagnostic]:
        """Whether the synapses alone are too many, before they are written down. `copies`: bits of scales and biases of
        a population, beside them in each core; `likely`: cores that suffice by an estimate, 0 without one."""
        chip = CHIPS[self.chip]
        if least > chip.cores * self.chips:
            beside = f", and beside them up to {copies} bits of scales and biases in each core" if copies else ""
            least_chips, chips = -(-least // chip.cores), -(-likely // chip.cores)
            known = f"--chips {chips} suffices (estimated), at least {least_chips} are needed"
            yield Diagnostic(
                "loihi-capacity",
                f"the synapses need at least {least} neurocores ({bits} bits of weights{beside}), {self.chips} chip(s) "
                f"of {self.chip} have {chip.cores * self.chips}",
                where,
                f"{known if likely else f'give at least --chips {least_chips}'}, or fewer weights",
            )

    def _capacity(self, placement: Placement) -> Iterator[Diagnostic]:
        for s in placement.shortages:
            if s.resource == NEUROCORES:
                chips = -(-s.needed // placement.chip.cores)
                yield Diagnostic(
                    "loihi-capacity",
                    f"the net needs {s.needed} neurocores, {self.chips} chip(s) of {self.chip} have {s.available}",
                    placement.chip.name,
                    f"give --chips {chips}, which suffices, or fewer weights",
                )
                continue
            yield Diagnostic(
                "loihi-capacity",
                f"{s.where} needs {s.needed} {s.resource}, {self.chip} has {s.available}",
                s.where,
                "a smaller population or fewer weights",
            )


@dataclass(frozen=True)
class LoihiPlan(Plan):
    """The net as populations and synapses, placed on every chip that is known; weights stored as on `chip`."""

    chip: ChipName
    parts: Partition
    placements: Mapping[ChipName, Placement]

    @property
    def core(self) -> CoreDescription:
        return CoreDescription(evaluation="event", accumulators=tuple(s.name for s in self.parts.synapses))

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        return write_folder(self.net, self.parts, self.placements, self.chip, folder)


def total_taps(net: IntNet) -> int:
    """Synapses of a net without `repeat`, counted from its weights."""
    live = Analysis.of(net).live
    return sum(tap_count(net, op) for op in net.all_ops() if isinstance(op, LINEAR) and op.out in live)


def _operations(net: IntNet) -> Iterator[Diagnostic]:
    for block, block_ops in net.blocks:
        for op in walk(block_ops):
            yield from _unsupported(type(op), op.out, f"{block}: {op.out}")


def _unsupported(kind: type[ops.Op], name: str, where: str) -> Iterator[Diagnostic]:
    if not issubclass(kind, (*LINEAR, *POPULATION_OPS, ops.Repeat)):
        reason = REASONS.get(kind, "no process computes it")
        yield Diagnostic("loihi-unsupported", f"{kind.mnemonic} ({name}) is not supported: {reason}", where)


def _tolerance(tolerance: int, where: str) -> Iterator[Diagnostic]:
    if tolerance:
        yield Diagnostic(
            "loihi-tolerance",
            f"the schedule ends a sample at tolerance {tolerance}, this target takes 0 only: stopping one "
            "sample needs a signal across all cores that the chip has not",
            where,
            "compile with --tolerance 0",
        )


def _widths(parts: Partition) -> Iterator[Diagnostic]:
    """Every state, message, sum and output must fit the 32 bits of a process model's arrays; what a population alone
    computes with, 63 bits, so that nothing wraps on the way."""
    net = parts.net
    streamed = {stream.value for p in parts.populations for stream in p.streams}
    indices = {i.name for i in net.inputs if i.kind == "index"}
    for name, found in parts.ranges.items():
        read = name not in net.param_names or any(name in op.reads for op in net.all_ops())
        if read and not found.within(DOUBLE if name in parts.wide else WORD):
            yield _wide("loihi-width", f"{name} can be {found}", name)
        change = Interval(min(found.lo - found.hi, found.lo), max(found.hi - found.lo, found.hi))
        if name in streamed - indices and found.within(WORD) and not change.within(WORD):
            yield _wide("loihi-width", f"a change of {name} can be {change}", name)
    for s in parts.synapses:
        worst = Interval(int(s.bias.min(initial=0)), int(s.bias.max(initial=0)))
        if not worst.within(WORD):
            yield _wide("loihi-width", f"the bias of {s.name} can be {worst}", s.name)
    for op in net.all_ops():
        if isinstance(op, ops.Interpolate) and op.shift > MAX_INTERPOLATE_SHIFT:
            yield Diagnostic(
                "loihi-width", f"{op.out} interpolates over {op.shift} bits, at most {MAX_INTERPOLATE_SHIFT}", op.out
            )


def _wide(code: str, what: str, where: str) -> Diagnostic:
    return Diagnostic(code, f"{what}, 32 bits hold {WORD}", where, "use narrower weights or states")
