"""The `rtl` target: options, what it takes, and how it emits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.rtl.architecture import Architecture
from eqcompile.rtl.boards.clocks import board_clock
from eqcompile.rtl.boards.pins import BOARDS
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact, CoreDescription
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError, UnsupportedError, UsageError
from eqcompile.toolchain.interfaces import (
    ClockedRun,
    Emission,
    Plan,
    Progress,
    Refusals,
    Run,
    StageProgress,
    Target,
    Vectors,
    quiet,
)
from eqcompile.toolchain.ir import EqNet, IntNet, check
from eqcompile.toolchain.options import Bounds, option, option_faults
from eqcompile.toolchain.requirements import Requirements
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .emit import THINNED, TOLERANT, parts_of, saboteur_sites, shell_of, write_folder
from .engines import AUTO, architecture, candidates, choose, foresee
from .finish import Requests, block_ram_estimates, clock_note, finish_folder, need_tools, shortfalls
from .image import ImagePlan, plan_image
from .synth.fit import early_shortfalls, memory_shortfalls
from .synth.flow import engine_of, require_clock
from .synth.parts import PARTS
from .vectors import bench_inputs, thinned, tolerant

if TYPE_CHECKING:
    # It imports Amaranth, which a list of targets must not wait for.
    from eqcompile.rtl.shell import Shell

__all__ = ["RtlTarget"]

PROCESSOR = "processor"
"""The architecture whose cores take images."""
EMITTING = {"amaranth": "amaranth"}
"""Packages that emitting needs, by module."""
ANNOUNCED_S = 20.0
BoardName = Literal["colorlight-i5", "ecpix5", "hx8k", "icebreaker", "icesugar", "orangecrab", "ulx3s"]
RUNNING = {"cocotb": "cocotb", "cocotbext": "cocotbext-axi"}


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
        "unsigned",
        "Looped*",
        "Ternary*",
        "LazyEqProp_release*",
        "NeuralCube*",
        "Toroidal*",
    )

    arch: tuple[Architecture, ...] = option(
        (),
        plugins="architectures",
        metavar="NAME",
        help=f"{', '.join(registry.names('architectures'))}, or auto: the first that fits the net",
    )
    """Those that are tried; all, if there is none."""
    synth: str | None = option(
        None, metavar="PART[,PART]", help=f"place and route the core: {', '.join(PARTS)}", pattern=r"[^,]+(,[^,]+)*"
    )
    seeds: int = option(3, bounds=Bounds(1), help="placements for each part of --synth")
    clock: float | None = option(
        None,
        metavar="MHZ",
        unit="MHz",
        bounds=Bounds(0, above=True),
        help="clock of the core in MHz: by a PLL of --board, and in the constraints for Vivado; with --synth what each "
        "part must reach, by the median of the seeds",
    )
    core: str | None = option(
        None, metavar="FILE", help="core.json of a processor that exists: write an image of the net for it, and no core"
    )
    board: BoardName | None = option(None, help="also write board/: bitstream, UART top and host script")
    tool_limit: float = option(
        1800.0,
        metavar="S",
        unit="s",
        bounds=Bounds(0, above=True),
        help="limit of the synthesis for a part or a board",
    )
    trace: bool = option(False, help="give the core itself a trace port; the bench has one in any case")
    saboteurs: bool = option(False, help="also write bench/injected.v, a core with an injection port")

    @classmethod
    def of(cls, **options: Any) -> RtlTarget:
        """The target; `arch` is a name or `auto`, and options of architectures stand beside it."""
        own = {f.name: options.pop(f.name) for f in fields(cls) if f.name in options and f.name != "arch"}
        named = {name: value for name, value in options.items() if name != "arch" and value is not None}
        arch, faults = candidates(options.get("arch", AUTO), named)
        try:
            target = cls(arch=arch, **own)
        except UsageError as error:
            raise UsageError([*faults, *error.diagnostics]) from error
        if faults:
            raise UsageError(faults)
        return target

    @property
    def options(self) -> JsonObject:
        arch = {"arch": self.arch[0].name if len(self.arch) == 1 else AUTO}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "arch"}
        return {**arch, **{name: value for a in self.arch for name, value in a.changed.items()}, **own}

    def missing(self) -> Sequence[str]:
        packages = {**EMITTING, **RUNNING}
        return [name for module, name in packages.items() if importlib.util.find_spec(module) is None]

    def preflight(self, needs: Requirements) -> Sequence[Diagnostic]:
        if any(importlib.util.find_spec(module) is None for module in EMITTING):
            return ()
        arch = (architecture(PROCESSOR),) if self.core is not None else self.arch
        return foresee(needs, arch, self.requests.devices)

    def plan(self, net: IntNet, source: EqNet | None = None) -> RtlPlan | ImagePlan | Refusals:
        faults = [*check(net)]
        if faults:
            return Refusals(tuple(faults))
        absent = [name for module, name in EMITTING.items() if importlib.util.find_spec(module) is None]
        if absent:
            raise MissingToolError(
                Diagnostic("missing-tool", f"{name} is not installed", self.name, self.install) for name in absent
            )
        if self.core is not None:
            return plan_image(net, self.core)
        need_tools(self.requests)
        choice = choose(net, self.arch, self.requests.devices)
        architecture = choice.architecture
        faults = [*choice.refusals] or [*self._shortfalls(net, architecture), *self._no_saboteurs(net, architecture)]
        faults += self._no_sequences(net)
        return Refusals(tuple(faults)) if faults else RtlPlan(net, self, architecture, choice.reasons)

    def _shortfalls(self, net: IntNet, architecture: Architecture) -> Iterator[Diagnostic]:
        """What the devices asked for have too little of, as far as an engine tells without being built."""
        for device in sorted(self.requests.devices & {*PARTS}):
            yield from early_shortfalls(net, architecture, PARTS[device])
        if self.board is not None and architecture.external:
            what = "the weights are in a memory outside of the core, and a board's top has none"
            yield Diagnostic("rtl-option", what, "board", "leave --board out")
        bits = architecture.memory_bits(net)
        yield from memory_shortfalls(bits, architecture, self.requests.devices, net.name)

    def _no_sequences(self, net: IntNet) -> Iterator[Diagnostic]:
        if self.board is not None and net.schedule.frames:
            what = "the net takes a sequence of frames, the UART of a board sends one frame a sample"
            yield Diagnostic("rtl-frames", what, net.name, "leave --board out")

    def _no_saboteurs(self, net: IntNet, architecture: Architecture) -> Iterator[Diagnostic]:
        if self.saboteurs and net.schedule.frames:
            what = "campaigns disturb samples of one frame, and the net takes a sequence of frames"
            yield Diagnostic("rtl-saboteurs", what, net.name, "leave --saboteurs out")
        if self.saboteurs and not architecture.saboteurs:
            where, hint = " in single-port RAM", "with --device generic it has them"
            if architecture.preloaded:
                where, hint = "", "use --arch serial, parallel or lattice"
            what = f"the architecture {architecture.name}{where} has no saboteurs"
            yield Diagnostic("rtl-saboteurs", what, "saboteurs", hint)

    @property
    def requests(self) -> Requests:
        """The parts and the board that work is asked for."""
        parts = tuple(dict.fromkeys(self.synth.split(","))) if self.synth else ()
        return Requests(parts, range(1, self.seeds + 1), self.board, self.tool_limit, self.clock)

    def faults(self) -> Iterator[Diagnostic]:
        yield from option_faults(self)
        requests = self.requests
        for part in requests.parts:
            if part not in PARTS:
                yield Diagnostic("rtl-option", f"there is no part {part!r}", "synth", f"known: {', '.join(PARTS)}")
            else:
                yield from require_clock(PARTS[part], self.clock)
        if self.board in BOARDS:
            try:
                board_clock(BOARDS[self.board], self.clock)
            except UsageError as error:
                yield from error.diagnostics
        # What several architectures say of the same option is said once.
        yield from dict.fromkeys(fault for a in self.arch for fault in a.option_faults(requests.devices))
        yield from self._of_an_image()
        if self.board is not None and any(a.hardened for a in self.arch):
            what = "a board's UART has no registers that say what hardening found"
            yield Diagnostic("rtl-option", what, "harden", "leave --board or --harden out")

    def _of_an_image(self) -> Iterator[Diagnostic]:
        """Options that mean nothing where no core is made."""
        if self.core is None:
            return
        for name, value in (
            ("synth", self.synth),
            ("board", self.board),
            ("trace", self.trace),
            ("saboteurs", self.saboteurs),
        ):
            if value:
                what = f"an image for the core of {self.core} is written, and no core"
                yield Diagnostic("rtl-option", what, name, f"leave --core or --{name} out")
        for other in self.arch:
            if other.name != PROCESSOR:
                what = f"a core of the architecture {other.name} takes no image"
                yield Diagnostic("rtl-option", what, "arch", f"leave --arch out, or use --arch {PROCESSOR}")
            elif other.changed:
                what = f"the core of {self.core} has its options already"
                yield Diagnostic("rtl-option", what, ", ".join(other.changed), "leave them out")


@dataclass(frozen=True)
class RtlPlan(Plan):
    """A net on the engine of an architecture, with its options. `reasons`: why it is this one, where several were
    tried."""

    target: RtlTarget
    architecture: Architecture
    reasons: tuple[str, ...] = ()

    @cached_property
    def shell(self) -> Shell:
        """The core with a trace, as an Amaranth component."""
        return shell_of(self.net, self.architecture, trace=True)

    @property
    def core(self) -> CoreDescription:
        """With the options that make this core again, whatever else was asked for."""
        options = {"arch": self.architecture.name, **self.architecture.changed}
        sums = self.shell.engine.accumulators
        return CoreDescription(evaluation="event" if sums else "dense", accumulators=sums, options=options)

    @property
    def stage(self) -> str:
        megabits = self.architecture.memory_bits(self.net) / 1e6
        seconds = self.architecture.emission_s * megabits
        if seconds < ANNOUNCED_S:
            return "emit"
        return f"emit ({megabits:.1f} Mbit of weights take about {max(1, round(seconds / 60))} min [estimated])"

    @property
    def emission_parts(self) -> int:
        return parts_of(trace=self.target.trace, saboteurs=self.target.saboteurs)

    @property
    def bench_inputs(self) -> Mapping[str, NDArray[np.int64]]:
        return bench_inputs(self.net)

    def bench_variants(self, run: Run) -> Mapping[str, IntNet]:
        variants = {TOLERANT: tolerant(self.net, run)}
        return {**variants, THINNED: self._loadable(thinned(self.net))} if self.shell.loads else variants

    def _loadable(self, other: IntNet) -> IntNet:
        """The net, or that of the core itself where the core is too small for it."""
        try:
            self.shell.engine.load_words(other)
        except UnsupportedError:
            return self.net
        return other

    @property
    def counts_clocks(self) -> bool:
        return bool(self.target.requests.parts)

    def saboteur_sites(self) -> list[dict[str, JSON]]:
        """Registers and memories that the core of `saboteurs` can be disturbed in, as `inject.sites` of core.json."""
        return saboteur_sites(self.net, self.architecture)

    def emit(self, folder: Path, vectors: Vectors | None, progress: Progress = quiet) -> Emission:
        """Raises UnsupportedError if a device has too little, as far as it is known without synthesis."""
        assert vectors is not None
        target = self.target
        emission = write_folder(
            self.net,
            self.architecture,
            self.shell,
            folder,
            vectors,
            trace=target.trace,
            saboteurs=target.saboteurs,
            clock_mhz=target.clock,
            progress=progress,
        )
        engine = engine_of(emission.details)
        faults = shortfalls(engine, target.requests)
        if faults:
            raise UnsupportedError(faults)
        chosen = tuple(f"auto: {reason}" for reason in self.reasons)
        requests = target.requests
        notes = (*block_ram_estimates(engine, requests), *clock_note(requests))
        return replace(emission, summary=(*chosen, *emission.summary, *notes))

    def finish(
        self, artifact: Artifact, vectors: Vectors | None, clocks: ClockedRun | None, progress: StageProgress
    ) -> Emission:
        assert vectors is not None
        return finish_folder(self.architecture, artifact, vectors, self.target.requests, clocks, progress)
