"""Open synthesis and place-and-route: what a design costs on a part, and how fast it runs there.

    report = synthesise(Path("core.v"), "core", "ecp5-25k", seeds=(1, 2, 3), timeout_s=600.0)

Yosys maps the design, nextpnr places and routes it once a seed. All figures are estimates of these tools, not
measurements of silicon. For `xilinx` there are Yosys' 7-series cell counts and no place and route.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, EqcompileError, UnsupportedError, UsageError
from eqcompile.toolchain.interfaces import ClockedRun
from eqcompile.toolchain.typed_json import JsonObject

from .clocks import Clocks, clocks_of
from .fit import hint_for, known_shortfalls
from .harness import NAME, core_ports, harness
from .memory import gathered
from .parse import Timing, cell_counts, device_utilisation, timing_of
from .parts import PARTS, Part, Resource, part_named
from .tools import Deadline, SynthesisError, last_lines, require, run_tool, tool_version

__all__ = [
    "PART_NAMES",
    "DoesNotFitError",
    "SynthReport",
    "Usage",
    "placement_failure",
    "require_fit",
    "require_rtl",
    "synthesise",
    "synthesise_artifact",
    "tools_of",
    "usage_of",
]

PART_NAMES = tuple(PARTS)
Progress = Callable[[int, int], None]
_SAFE = re.compile(r"[A-Za-z_]\w*")
_SYNTH = {
    "ecp5": "synth_ecp5 -top {top}",
    # The UP5K has DSPs that Yosys uses only when told; abc9 knows the delays of this device.
    "ice40": "synth_ice40 -dsp -abc9 -device u -top {top}",
    "xilinx": "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top {top}",
}
_KIND = {"xilinx": "synthesis only, no place and route"}
_FLIP_FLOPS = re.compile(r"SB_DFF\w*|TRELLIS_FF|FD[RSCP]E")


@dataclass(frozen=True)
class Usage:
    """One resource: `core` cells are the design's, `harness` those of the measuring harness, `available` the part's."""

    key: str
    label: str
    core: int
    harness: int
    available: int

    @property
    def needed(self) -> int:
        """What the part must have for this measurement."""
        return self.core + self.harness

    @property
    def fits(self) -> bool:
        return self.needed <= self.available


@dataclass(frozen=True)
class SynthReport:
    """What `synthesise` found.

    `usage`: by nextpnr (empty for `xilinx`); `flip_flops` and `cells`: of the core alone, by Yosys; `seeds`: one
    timing a seed (empty for `xilinx`, and where the design does not fit); `kind` says what sort of figures these are.
    `clocks`: simulated, None if nobody counted, `notes` may say why; times are clocks at the median frequency.
    """

    top: str
    part: str
    device: str
    kind: str
    usage: tuple[Usage, ...]
    flip_flops: int
    cells: Mapping[str, int]
    seeds: Mapping[int, Timing]
    tools: tuple[str, ...]
    clocks: Clocks | None = None
    notes: tuple[str, ...] = ()

    @property
    def fmax_mhz(self) -> float | None:
        """Median over the seeds."""
        return statistics.median(t.fmax_mhz for t in self.seeds.values()) if self.seeds else None

    @property
    def fmax_range_mhz(self) -> tuple[float, float] | None:
        """Slowest and fastest seed."""
        found = [t.fmax_mhz for t in self.seeds.values()]
        return (min(found), max(found)) if found else None

    def core(self, key: str) -> int:
        """Cells of the core of one resource (`lut`, `ff`, `bram`, `spram`, `dsp`); 0 where the part has none."""
        return next((u.core for u in self.usage if u.key == key), 0)

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "top": self.top,
            "part": self.part,
            "device": self.device,
            "kind": self.kind,
            "usage": [asdict(u) | {"needed": u.needed} for u in self.usage],
            "flip_flops": self.flip_flops,
            "cells": dict(self.cells),
            "fmax_mhz": self.fmax_mhz,
            "fmax_range_mhz": None if self.fmax_range_mhz is None else list(self.fmax_range_mhz),
            "seeds": [{"seed": s} | asdict(t) for s, t in self.seeds.items()],
            "tools": list(self.tools),
            "notes": list(self.notes),
            "clocks": None if self.clocks is None else self.clocks.to_json(),
            "times": None if self.clocks is None or self.fmax_mhz is None else self.clocks.at(self.fmax_mhz),
        }

    def text(self) -> str:
        """The same for people."""
        lines = [f"{self.top} on {self.part} ({self.device}): {self.kind}"]
        lines += [f"  {u.label}: {u.core} of {u.available} (harness: {u.harness} more)" for u in self.usage]
        if all(u.key != "ff" for u in self.usage):
            lines.append(f"  flip-flops of the core: {self.flip_flops}")
        if not self.usage:
            lines += [f"  {name}: {count}" for name, count in sorted(self.cells.items())]
        if self.fmax_mhz is not None and self.fmax_range_mhz is not None:
            low, high = self.fmax_range_mhz
            seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
            lines.append(f"  Fmax: {self.fmax_mhz:.1f} MHz (median of {seeds}, {low:.1f} to {high:.1f})")
            slow = min(self.seeds.values(), key=lambda t: t.fmax_mhz)
            delays = f"{slow.logic_ns:.1f} ns logic, {slow.routing_ns:.1f} ns routing"
            lines.append(f"  slowest path: {slow.start} to {slow.end}, {delays}")
        if self.clocks is not None:
            lines.append(f"  {self.clocks.text()}")
        if self.clocks is not None and self.fmax_mhz is not None:
            times = self.clocks.at(self.fmax_mhz)
            median, worst = times["latency_us"]["median"], times["latency_us"]["worst"]
            rate = f"{times['inferences_per_s']:,.0f} inferences/s"
            lines.append(
                f"  latency: {median:.2f} us median, {worst:.2f} us worst; {rate} (simulated clocks at that Fmax)"
            )
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, f"  tools: {', '.join(self.tools)}"])


class DoesNotFitError(UnsupportedError):
    """The design needs more than the part has; `usage` says how much of everything it needs."""

    def __init__(self, diagnostics: Sequence[Diagnostic], usage: Sequence[Usage]) -> None:
        super().__init__(diagnostics)
        self.usage = tuple(usage)


def synthesise(
    verilog: Path,
    top: str,
    part: str,
    *,
    seeds: Sequence[int],
    timeout_s: float,
    progress: Progress | None = None,
    clock: str = "clk",
) -> SynthReport:
    """Map module `top` of the file `verilog` to `part` (one of `PART_NAMES`) and place and route it once a seed.

    The design is measured inside a harness that needs three pins (see `synth_harness`); its cells are taken off.
    `clock` is the one clock input. `timeout_s` limits the whole job.

    Raises UsageError (unknown part, module or clock, no seeds), MissingToolError with the install command,
    DoesNotFitError (resource, needed, available, and what would help), SynthesisError (a tool failed or was too slow).
    """
    chosen = part_named(part)
    placer = f"nextpnr-{chosen.family}"
    require(tools_of(chosen))
    faults = []
    if chosen.family != "xilinx" and not seeds:
        faults.append(Diagnostic("no-seeds", "0 seeds given, at least 1 is needed", hint="--seeds 3"))
    if not verilog.is_file():
        faults.append(Diagnostic("no-verilog", "there is no such file", str(verilog)))
    if not _SAFE.fullmatch(top):
        faults.append(Diagnostic("no-top", f"{top!r} is not a Verilog identifier", hint="name the top module"))
    if faults:
        raise UsageError(faults)
    deadline = Deadline.after(timeout_s)
    tick = progress or (lambda done, total: None)
    total = 1 + len(seeds)
    with tempfile.TemporaryDirectory(prefix="eqcompile-synth-") as name:
        folder = Path(name)
        source, memories = gathered(verilog.read_text(encoding="utf-8"))
        for file, content in {"core.v": source, **memories}.items():
            (folder / file).write_text(content, encoding="utf-8")
        tick(0, total)
        _yosys("read_verilog -lib core.v; write_json ports.json", folder, deadline)
        ports = core_ports(json.loads((folder / "ports.json").read_text(encoding="utf-8")), top)
        if chosen.family == "xilinx":
            script = f"read_verilog core.v; {_SYNTH['xilinx'].format(top=top)}; tee -q -o stat.json stat -json"
            _yosys(script, folder, deadline)
            cells = cell_counts((folder / "stat.json").read_text(encoding="utf-8"), top)
            tick(total, total)
            return _report(top, chosen, (), cells, {}, ("yosys",))
        (folder / "harness.v").write_text(harness(top, ports, clock), encoding="utf-8")
        script = (
            f"read_verilog core.v harness.v; setattr -mod -set keep_hierarchy 1 {top}; "
            f"{_SYNTH[chosen.family].format(top=NAME)} -json design.json; tee -q -o stat.json stat -json"
        )
        _yosys(script, folder, deadline)
        stat = (folder / "stat.json").read_text(encoding="utf-8")
        cells, around = cell_counts(stat, top), cell_counts(stat, NAME)
        timings: dict[int, Timing] = {}
        usage: tuple[Usage, ...] = ()
        for done, seed in enumerate(seeds, 1):
            tick(done, total)
            arguments = [*chosen.arguments, "--json", "design.json", "--report", "report.json", "--seed", str(seed)]
            arguments += ["--freq", str(chosen.freq_mhz), "--timing-allow-fail"]
            arguments += ["--lpf-allow-unconstrained"] if chosen.family == "ecp5" else []
            status, log = run_tool(placer, arguments, cwd=folder, deadline=deadline)
            usage = usage_of(chosen, device_utilisation(log), around)
            if status != 0:
                raise placement_failure(chosen, top, usage, log)
            timings[seed] = timing_of((folder / "report.json").read_text(encoding="utf-8"), "clk")
        tick(total, total)
        return _report(top, chosen, usage, cells, timings, ("yosys", placer))


def synthesise_artifact(
    artifact: Artifact,
    part: str,
    *,
    seeds: Sequence[int],
    timeout_s: float,
    clocks: ClockedRun | None = None,
    progress: Progress | None = None,
) -> SynthReport:
    """Synthesise the core of an artifact of the `rtl` target. `clocks`: of its inferences, for their times.

    Raises what `require_rtl` and `synthesise` raise.
    """
    require_rtl(artifact, part)
    core = artifact.folder / "core.v"
    report = synthesise(core, "core", part, seeds=seeds, timeout_s=timeout_s, progress=progress)
    if clocks is None:
        return report
    counts = None if clocks.run is None else clocks_of(clocks.run, clocks.source)
    return replace(report, clocks=counts, notes=clocks.notes)


def require_rtl(artifact: Artifact, part: str) -> None:
    """Raise ArtifactError unless the artifact is of the `rtl` target; UsageError for an unknown part, MissingToolError
    without its tools, DoesNotFitError if it has too little, as far as it is known without synthesis."""
    folder, manifest = artifact.folder, artifact.manifest
    chosen = part_named(part)
    if manifest.target != "rtl":
        what = f"an artifact of target {manifest.target}, only rtl is synthesised"
        raise ArtifactError(Diagnostic("not-rtl", what, str(folder), "compile with --target rtl"))
    require(tools_of(chosen))
    require_fit(folder / "core.v", engine_of(manifest.details), chosen)


def engine_of(details: JsonObject) -> Mapping[str, Any]:
    """What the engine says about itself in the details of a manifest; empty if it is not there."""
    engine = details.get("engine")
    return engine if isinstance(engine, Mapping) else {}


def require_fit(core: Path, engine: Mapping[str, Any], part: Part) -> None:
    """Raise DoesNotFitError if `part` has too little for the core, as far as it is known without synthesis.

    `engine`: what the engine says about itself, as in the manifest.
    """
    if not core.is_file():
        what = f"the artifact has no {core.name}"
        raise ArtifactError(Diagnostic("artifact-file-missing", what, str(core), "compile with --target rtl"))
    faults = known_shortfalls(engine, part)
    if faults:
        raise DoesNotFitError(faults, ())


def tools_of(part: Part) -> list[str]:
    """Names of the tools that synthesis for a part runs."""
    return ["yosys"] if part.family == "xilinx" else ["yosys", f"nextpnr-{part.family}"]


def _yosys(script: str, folder: Path, deadline: Deadline) -> None:
    status, log = run_tool("yosys", ["-q", "-p", script], cwd=folder, deadline=deadline)
    if status != 0:
        raise SynthesisError(Diagnostic("synthesis-failed", f"yosys: {last_lines(log)}", "core.v"))


def usage_of(part: Part, used: Mapping[str, tuple[int, int]], around: Mapping[str, int]) -> tuple[Usage, ...]:
    """What nextpnr counted (`used`: used and available by cell), less the harness's cells `around`, by Yosys."""
    return tuple(
        Usage(r.key, r.label, used[r.cell][0] - extra, extra, used[r.cell][1])
        for r in part.resources
        if r.cell in used
        for extra in [_harness_cells(part, r, around)]
    )


def _harness_cells(part: Part, resource: Resource, around: Mapping[str, int]) -> int:
    if part.family == "ice40" and resource.key == "lut":
        # A logic cell holds a LUT and the flip-flop behind it: every cell of the harness holds one flip-flop.
        return sum(n for cell, n in around.items() if _FLIP_FLOPS.fullmatch(cell))
    return sum(weight * around.get(cell, 0) for cell, weight in resource.cells)


def _report(
    top: str,
    part: Part,
    usage: tuple[Usage, ...],
    cells: Mapping[str, int],
    timings: Mapping[int, Timing],
    tools: Sequence[str],
) -> SynthReport:
    return SynthReport(
        top=top,
        part=part.name,
        device=part.device,
        kind=_KIND.get(part.family, "estimated by place and route"),
        usage=usage,
        flip_flops=sum(n for cell, n in cells.items() if _FLIP_FLOPS.fullmatch(cell)),
        cells=cells,
        seeds=timings,
        tools=tuple(tool_version(t) for t in tools),
    )


def placement_failure(part: Part, top: str, usage: Sequence[Usage], log: str) -> EqcompileError:
    """Why nextpnr gave up: every resource of which there is too little, or what it says itself."""
    faults = [
        Diagnostic(
            "does-not-fit",
            f"{u.label}: {u.needed} needed ({u.core} by the core, {u.harness} by the harness), "
            f"{u.available} available on {part.name}",
            top,
            hint_for(part, u.key, u.needed),
        )
        for u in usage
        if not u.fits
    ]
    if faults:
        return DoesNotFitError(faults, usage)
    shown = ", ".join(f"{u.label} {u.needed}/{u.available}" for u in usage)
    what = f"nextpnr failed with {shown or 'nothing placed'}: {last_lines(log)}"
    # Without a count of cells it never came to placing, and a smaller design would not help.
    hint = "fewer --lanes or a larger part" if usage else ""
    return SynthesisError(Diagnostic("place-and-route-failed", what, top, hint))
