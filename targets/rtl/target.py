"""The `rtl` target: options, what it takes, and how it emits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.harden.mechanisms import MECHANISMS, chosen
from eqcompile.rtl.harden.mechanisms import faults as harden_faults
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact, CoreDescription
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, UnsupportedError, UsageError
from eqcompile.toolchain.interfaces import (
    ClockedRun,
    Emission,
    Plan,
    Refusals,
    Run,
    StageProgress,
    Target,
    Vectors,
)
from eqcompile.toolchain.ir import EqNet, IntNet, check

from .board.write import BOARD_PARTS
from .emit import THINNED, TOLERANT, saboteur_sites, shell_of, write_folder
from .engines import Choice, architectures, choose
from .finish import Requests, finish_folder, need_tools, shortfalls
from .protect import named_units, ranked_units, written_units
from .synth.fit import lattice_shortfalls
from .synth.flow import engine_of
from .synth.parts import PARTS
from .vectors import bench_inputs, thinned, tolerant

__all__ = ["RtlTarget"]

EMITTING = {"amaranth": "amaranth"}
"""Packages that emitting needs, by module."""
RUNNING = {"cocotb": "cocotb", "cocotbext": "cocotbext-axi"}
MAX_STEPS = (1 << 16) - 1
ENGINE_OPTIONS = {"lanes": 1, "levels": 0, "step_levels": 0, "beat": 1, "result_beat": 1, "passes": 1}
"""Options of engines, and the least that each may be."""
PROTECT_SHARE = 0.25
"""Of the units, where none is asked for."""
REGISTERS = ("levels", "step_levels")
"""Of these the ones whose 0 means that there are no registers."""


@dataclass(frozen=True, kw_only=True)
class RtlTarget(Target):
    """A core in Verilog behind AXI4-Stream and AXI4-Lite, with a cocotb bench, a native driver and vectors.

    Raises UsageError for options that mean nothing.
    """

    name: ClassVar[str] = "rtl"
    summary: ClassVar[str] = "synthesizable relaxation core in Verilog with a cocotb bench"
    install: ClassVar[str] = "pip install 'eqcompile[rtl]' && apt-get install iverilog g++ make perl"
    conformance: ClassVar[tuple[str, ...]] = (
        "plain",
        "Looped*",
        "Ternary*",
        "LazyEqProp_release*",
        "NeuralCube*",
        "Toroidal*",
    )

    arch: str = field(
        default="auto",
        metadata={
            "metavar": "NAME",
            "help": f"{', '.join(registry.names('architectures'))}, or auto: the first that fits the net",
        },
    )
    lanes: int | None = field(
        default=None, metadata={"metavar": "N", "help": "serial: weights applied in one clock, a power of two"}
    )
    levels: int | None = field(
        default=None,
        metadata={
            "metavar": "N",
            "help": "parallel: additions between two registers of drive and readout at most; 0: no register",
        },
    )
    step_levels: int | None = field(
        default=None,
        metadata={"metavar": "N", "help": "parallel: the same within a step (default: 0, a step is one clock)"},
    )
    beat: int | None = field(
        default=None, metadata={"metavar": "N", "help": "parallel: codes that a beat of the input stream carries"}
    )
    result_beat: int | None = field(
        default=None, metadata={"metavar": "N", "help": "parallel: the same of the output stream (default: as --beat)"}
    )
    passes: int | None = field(
        default=None, metadata={"metavar": "N", "help": "lattice: sites that each cell serves in turn"}
    )
    device: Literal["generic", "up5k"] | None = field(
        default=None,
        metadata={
            "help": "weight memory of serial: block RAM of any family, or the single-port RAM of the UP5K, loaded at"
            " run time (default: up5k if --synth and --board name no other device)"
        },
    )
    harden: str | None = field(
        default=None,
        metadata={
            "metavar": "NAME[,NAME]",
            "help": f"protection against upsets: {', '.join(MECHANISMS)} (serial), tmr (parallel)",
        },
    )
    protect: str | None = field(
        default=None,
        metadata={
            "metavar": "CAMPAIGN",
            "help": "parallel, with --harden tmr: folder or report.json of a campaign; the states of the units that it"
            " ranks highest are triplicated; or the units themselves, as h=3,17",
        },
    )
    protect_share: float | None = field(
        default=None, metadata={"metavar": "SHARE", "help": "of the units, for --protect: above 0 to 1 (default: 0.25)"}
    )
    synth: str | None = field(
        default=None,
        metadata={"metavar": "PART[,PART]", "help": f"place and route the core: {', '.join(PARTS)}"},
    )
    seeds: int = field(default=3, metadata={"metavar": "N", "help": "placements for each part of --synth"})
    board: Literal["ulx3s", "icebreaker"] | None = field(
        default=None, metadata={"help": "also write board/: bitstream, UART top and host script"}
    )
    tool_limit: float = field(
        default=1800.0, metadata={"metavar": "S", "help": "limit of the synthesis for a part or a board, in seconds"}
    )
    trace: bool = field(
        default=False, metadata={"help": "give the core itself a trace port; the bench has one in any case"}
    )

    saboteurs: bool = field(
        default=False, metadata={"help": "also write bench/injected.v, a core with an injection port"}
    )

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise UsageError(faults)

    def missing(self) -> Sequence[str]:
        packages = {**EMITTING, **RUNNING}
        return [name for module, name in packages.items() if importlib.util.find_spec(module) is None]

    def plan(self, net: IntNet, source: EqNet | None = None) -> RtlPlan | Refusals:
        faults = [*check(net)] or [*_schedule(net)]
        if faults:
            return Refusals(tuple(faults))
        absent = [name for module, name in EMITTING.items() if importlib.util.find_spec(module) is None]
        if absent:
            raise MissingToolError(
                Diagnostic("missing-tool", f"{name} is not installed", self.name, self.install) for name in absent
            )
        need_tools(self.requests)
        choice = self._choice(net)
        faults = [*choice.refusals] or [*self._shortfalls(net, choice), *self._no_saboteurs(choice)]
        return Refusals(tuple(faults)) if faults else RtlPlan(net, self, choice)

    def _shortfalls(self, net: IntNet, choice: Choice) -> Iterator[Diagnostic]:
        """What the devices asked for have too little of, as far as an engine tells without being built."""
        if choice.arch == "lattice":
            for device in sorted(self.requests.devices & {*PARTS}):
                yield from lattice_shortfalls(net, choice.options, PARTS[device])

    def _no_saboteurs(self, choice: Choice) -> Iterator[Diagnostic]:
        if self.saboteurs and choice.spram:
            what = f"the architecture {choice.arch} in single-port RAM has no saboteurs"
            yield Diagnostic("rtl-saboteurs", what, "saboteurs", "with --device generic it has them")

    @property
    def requests(self) -> Requests:
        """The parts and the board that work is asked for."""
        parts = tuple(dict.fromkeys(self.synth.split(","))) if self.synth else ()
        return Requests(parts, range(1, self.seeds + 1), self.board, self.tool_limit)

    @property
    def _engine_options(self) -> dict[str, Any]:
        """What the user chose of the engine; the engine's word for no register is None."""
        given = {name: getattr(self, name) for name in ENGINE_OPTIONS if getattr(self, name) is not None}
        found = {name: None if name in REGISTERS and value == 0 else value for name, value in given.items()}
        found |= {} if self.harden is None else {"harden": chosen(self.harden)}
        return found if self.protect is None else {**found, "protect": self.protect}

    def _choice(self, net: IntNet) -> Choice:
        asked = self.requests.devices
        spram = self.device == "up5k" if self.device is not None else asked == {"up5k"}
        arch = "serial" if self.device == "up5k" else self.arch
        options = self._engine_options
        if self.protect is not None:
            share = PROTECT_SHARE if self.protect_share is None else self.protect_share
            options["protect"] = named_units(self.protect) or ranked_units(Path(self.protect), net, share)
        return choose(net, arch, spram=spram, **options)

    def _faults(self) -> Iterator[Diagnostic]:
        known = architectures()
        if self.arch != "auto" and self.arch not in known:
            what = f"there is no architecture {self.arch!r}"
            yield Diagnostic("rtl-option", what, "arch", f"known: {', '.join(known)}")
            return
        for name, least in ENGINE_OPTIONS.items():
            value = getattr(self, name)
            if value is not None and value < least:
                yield Diagnostic("rtl-option", f"{name} is {value}, must be at least {least}", name)
        given = {*self._engine_options, *(["device"] if self.device == "up5k" else [])}
        offered = {n: _offered(a) for n, a in known.items()}
        if self.arch == "auto" and not any(given <= options for options in offered.values()):
            what = f"no architecture has {', '.join(sorted(given))} together"
            hint = "; ".join(f"{n} has {', '.join(sorted(options))}" for n, options in offered.items())
            yield Diagnostic("rtl-option", what, "arch", hint)
        for name in sorted(given - offered.get(self.arch, given)):
            has = ", ".join(n for n, options in offered.items() if name in options)
            what = f"the architecture {self.arch} has no {name}"
            yield Diagnostic("rtl-option", what, name, f"use --arch {has.replace(', ', ' or ')}")
        if self.harden is not None:
            yield from harden_faults(chosen(self.harden))
            if self.board is not None:
                what = "a board's UART has no registers that say what hardening found"
                yield Diagnostic("rtl-option", what, "harden", "leave --board or --harden out")
        if self.protect_share is not None and not 0 < self.protect_share <= 1:
            what = f"a share of {self.protect_share:g} of the units, must be above 0 and at most 1"
            yield Diagnostic("rtl-option", what, "protect_share")
        if self.protect_share is not None and (self.protect is None or named_units(self.protect)):
            what = "a share of the units is to be protected, and no campaign ranks them"
            yield Diagnostic("rtl-option", what, "protect_share", "add --protect CAMPAIGN")
        if self.protect is not None and "tmr" not in chosen(self.harden or ""):
            what = "units are to be protected, and no mechanism does it"
            yield Diagnostic("rtl-option", what, "protect", "add --harden tmr")
        if self.seeds < 1:
            yield Diagnostic("rtl-option", f"{self.seeds} seeds, must be at least 1", "seeds")
        if self.tool_limit <= 0:
            yield Diagnostic("rtl-option", f"a limit of {self.tool_limit:g} s, must be above 0", "tool_limit")
        if self.board is not None and self.board not in BOARD_PARTS:
            known_boards = ", ".join(BOARD_PARTS)
            yield Diagnostic("rtl-option", f"there is no board {self.board!r}", "board", f"known: {known_boards}")
        else:
            yield from self._device_faults()

    def _device_faults(self) -> Iterator[Diagnostic]:
        for part in self.requests.parts:
            if part not in PARTS:
                yield Diagnostic("rtl-option", f"there is no part {part!r}", "synth", f"known: {', '.join(PARTS)}")
        others = sorted(self.requests.devices - {"up5k"})
        if self.device == "up5k" and others:
            what = f"a core for the up5k has its single-port RAM, which {', '.join(others)} has not"
            yield Diagnostic("rtl-option", what, "device", "compile once for each, or leave --device out")


@dataclass(frozen=True)
class RtlPlan(Plan):
    """A net on the engine of an architecture, with its options."""

    target: RtlTarget
    choice: Choice

    @cached_property
    def shell(self) -> Any:
        """The core with a trace, as an Amaranth component."""
        return shell_of(self.net, self.choice, trace=True)

    @property
    def core(self) -> CoreDescription:
        """With the options that make this core again, whatever else was asked for."""
        target, choice = self.target, self.choice
        names = (*ENGINE_OPTIONS, "harden")
        options: dict[str, str | int] = {"arch": choice.arch, **({"device": "up5k"} if choice.spram else {})}
        options |= {name: getattr(target, name) for name in names if getattr(target, name) is not None}
        if "protect" in choice.options:
            options["protect"] = written_units(choice.options["protect"])
        sums = self.shell.engine.accumulators
        return CoreDescription(evaluation="event" if sums else "dense", accumulators=sums, options=options)

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        return bench_inputs(self.net)

    def bench_variants(self, run: Run) -> Mapping[str, IntNet]:
        variants = {TOLERANT: tolerant(self.net, run)}
        return {**variants, THINNED: thinned(self.net)} if self.shell.loads else variants

    @property
    def counts_clocks(self) -> bool:
        return bool(self.target.requests.parts)

    def saboteur_sites(self) -> list[dict[str, Any]]:
        """Registers and memories that the core of `saboteurs` can be disturbed in, as `inject.sites` of core.json."""
        return saboteur_sites(self.net, self.choice)

    def emit(self, folder: Path, vectors: Vectors | None) -> Emission:
        """Raises UnsupportedError if a device has too little, as far as it is known without synthesis."""
        assert vectors is not None
        target = self.target
        emission = write_folder(
            self.net, self.choice, self.shell, folder, vectors, trace=target.trace, saboteurs=target.saboteurs
        )
        faults = shortfalls(engine_of(emission.details), target.requests)
        if faults:
            raise UnsupportedError(faults)
        return emission

    def finish(
        self, artifact: Artifact, vectors: Vectors | None, clocks: ClockedRun | None, progress: StageProgress
    ) -> Emission:
        assert vectors is not None
        return finish_folder(self.choice, artifact, vectors, self.target.requests, clocks, progress)


def _offered(architecture: type[Architecture]) -> set[str]:
    """Options of an architecture by the names that the command line has for them."""
    named = {"family": "device"}
    return {named.get(name, name) for name in architecture.option_names()} & {f.name for f in fields(RtlTarget)}


def _schedule(net: IntNet) -> Iterator[Diagnostic]:
    if net.schedule.frames:
        yield Diagnostic(
            "rtl-frames",
            "the net takes a sequence of frames, the core starts every sample anew",
            net.name,
            "compile to the numpy target",
        )
    for name, value in (("steps", net.schedule.steps), ("tolerance", net.schedule.tolerance)):
        if value > MAX_STEPS:
            yield Diagnostic("rtl-schedule", f"{value} {name}, a register holds {MAX_STEPS}", net.name)
