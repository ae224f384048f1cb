"""Open synthesis and place-and-route: what a design costs on a part, and how fast it runs there.

    report = synthesise(Path("core.v"), "core", "ecp5-25k", seeds=(1, 2, 3), timeout_s=600.0)

Yosys maps the design, nextpnr places and routes it once a seed. All figures are estimates of these tools, not
measurements of silicon. For `xilinx` there are Yosys' 7-series cell counts and no place and route.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, EqcompileError, UnsupportedError, UsageError
from eqcompile.toolchain.interfaces import ClockedRun, StageProgress
from eqcompile.toolchain.typed_json import JsonObject

from .advance import advance
from .clocks import clocks_of
from .fit import SPRAM_HINT, hint_for, known_shortfalls
from .harness import NAME, core_ports, harness
from .memory import gathered
from .parse import Timing, cell_counts, device_utilisation, timing_of
from .parts import Part, Resource, part_named
from .report import SynthReport, Usage
from .tools import Deadline, SynthesisError, last_lines, require, run_tool, tool_version

__all__ = [
    "DoesNotFitError",
    "Workshop",
    "placement_failure",
    "require_clock",
    "require_fit",
    "require_rtl",
    "synthesise",
    "synthesise_artifact",
    "too_slow",
    "usage_of",
    "within",
]

_SAFE = re.compile(r"[A-Za-z_]\w*")
_MARK = "mapped.txt"
"""Says of which sources the netlist is; written when it is whole."""
_FLIP_FLOPS = re.compile(r"SB_DFF\w*|TRELLIS_FF|FD[RSCP]E")


@dataclass(frozen=True)
class Workshop:
    """The folder in which the tools work for a part until a deadline."""

    folder: Path
    part: Part
    deadline: Deadline

    def write(self, sources: Mapping[str, str]) -> None:
        """Put files, by name, where the tools read them; the contents of memories go to files of their own."""
        for name, source in sources.items():
            text, memories = gathered(source)
            for file, content in {name: text, **memories}.items():
                (self.folder / file).write_text(content, encoding="utf-8")

    def read(self, name: str) -> str:
        """A file that a tool wrote."""
        return (self.folder / name).read_text(encoding="utf-8")

    def holds(self, mark: str) -> bool:
        """Whether the netlist in the folder is that of the sources with this mark."""
        return (self.folder / _MARK).is_file() and self.read(_MARK) == mark

    def run(self, tool: str, arguments: Sequence[str], top: str, progress: Callable[[], None] | None = None) -> None:
        """Run a tool, calling `progress` each second; SynthesisError if it fails or is too slow."""
        watch = None if progress is None else lambda log: progress()
        status, log = run_tool(tool, arguments, cwd=self.folder, deadline=self.deadline, watch=watch)
        if status != 0:
            raise SynthesisError(Diagnostic("synthesis-failed", f"{tool}: {last_lines(log)}", top))

    def yosys(self, script: str, top: str, progress: Callable[[], None] | None = None) -> None:
        """Run a script of Yosys; as `run`."""
        self.run("yosys", ["-q", "-p", script], top, progress)

    def place(
        self,
        arguments: Sequence[str],
        top: str,
        around: Mapping[str, int] | None = None,
        *,
        clock: str = "clk",
        progress: StageProgress | None = None,
    ) -> tuple[tuple[Usage, ...], Timing]:
        """Place and route with these arguments, however slow it comes out; what it takes and how fast its `clock` is.

        `around`: cells of a harness, by Yosys, which are none of the design's. `progress` is what the tool says of
        itself. Raises DoesNotFitError, SynthesisError.
        """
        slow = ["--report", "report.json", "--timing-allow-fail"]
        status, log = run_tool(
            self.part.family.placer,
            [*arguments, *slow],
            cwd=self.folder,
            deadline=self.deadline,
            watch=None if progress is None else lambda text: progress(*advance(text)),
        )
        usage = usage_of(self.part, device_utilisation(log), around or {})
        if status != 0:
            raise placement_failure(self.part, top, usage, log)
        return usage, timing_of(self.read("report.json"), clock)


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
    clock_mhz: float | None = None,
    progress: StageProgress | None = None,
    clock: str = "clk",
    kept: Path | None = None,
) -> SynthReport:
    """Map module `top` of the file `verilog` to `part` (a name of `PARTS`) and place and route it once a seed. Files
    `*.hex` beside it hold the contents of its memories.

    The design is measured inside a harness that needs three pins (see `harness`); its cells are taken off. `clock` is
    the one clock input, `clock_mhz` the frequency that the report compares with. `timeout_s` limits the whole job. A
    folder `kept` keeps what the tools write: while it has the netlist of the same files, a call places further seeds
    without mapping the design again.

    Raises UsageError (unknown part, module or clock, no seeds, a frequency of a part without any), MissingToolError
    with the install command, DoesNotFitError (resource, needed, available, and what would help), SynthesisError (a tool
    failed or was too slow).
    """
    chosen = part_named(part)
    family = chosen.family
    require(family.tools)
    faults = []
    if family.placer and not seeds:
        faults.append(Diagnostic("no-seeds", "0 seeds given, at least 1 is needed", hint="--seeds 3"))
    if not verilog.is_file():
        faults.append(Diagnostic("no-verilog", "there is no such file", str(verilog)))
    if not _SAFE.fullmatch(top):
        faults.append(Diagnostic("no-top", f"{top!r} is not a Verilog identifier", hint="name the top module"))
    faults += require_clock(chosen, clock_mhz)
    if faults:
        raise UsageError(faults)
    tell = progress or (lambda stage, done, total: None)
    with tempfile.TemporaryDirectory(prefix="eqcompile-synth-") as name:
        shop = Workshop(kept or Path(name), chosen, Deadline.after(timeout_s))
        contents = {file.name: file.read_text(encoding="utf-8") for file in verilog.parent.glob("*.hex")}
        sources = {"core.v": verilog.read_text(encoding="utf-8"), **contents}
        said = json.dumps([sources, top, clock, family.synth, tool_version("yosys")])
        mark = hashlib.sha256(said.encode()).hexdigest()
        if not shop.holds(mark):
            shop.write({**sources, _MARK: ""})
            _map(shop, top, clock, lambda: tell("mapping", 0, 0))
            shop.write({_MARK: mark})
        usage: tuple[Usage, ...] = ()
        timings: dict[int, Timing] = {}
        if family.placer:
            around = cell_counts(shop.read("stat.json"), NAME)
            asked = ["--freq", f"{max(chosen.freq_mhz, clock_mhz or 0):g}"]
            for number, seed in enumerate(seeds, 1):
                which = f"seed {seed}, {number} of {len(seeds)}: "
                arguments = [*chosen.arguments, "--json", "design.json", "--seed", str(seed), *asked, *family.place]
                usage, timings[seed] = shop.place(arguments, top, around, progress=within(tell, which))
        cells = cell_counts(shop.read("stat.json"), top)
    return SynthReport(
        top=top,
        part=chosen.name,
        device=chosen.device,
        kind="estimated by place and route" if family.placer else "synthesis only, no place and route",
        usage=usage,
        flip_flops=sum(n for cell, n in cells.items() if _FLIP_FLOPS.fullmatch(cell)),
        cells=cells,
        seeds=timings,
        tools=tuple(tool_version(t) for t in family.tools),
        clock_mhz=clock_mhz,
    )


def _map(shop: Workshop, top: str, clock: str, progress: Callable[[], None]) -> None:
    """Write `design.json`, the netlist of `core.v` in its harness, where the part has a placer, and `stat.json`."""
    family = shop.part.family
    progress()
    shop.yosys("read_verilog -lib core.v; write_json ports.json", top, progress)
    ports = core_ports(json.loads(shop.read("ports.json")), top)
    if not family.placer:
        shop.yosys(f"read_verilog core.v; {family.synth} -top {top}; tee -q -o stat.json stat -json", top, progress)
        return
    shop.write({"harness.v": harness(top, ports, clock)})
    keep = f"setattr -mod -set keep_hierarchy 1 {top}"
    mapped = f"{family.synth} -top {NAME} -json design.json; tee -q -o stat.json stat -json"
    shop.yosys(f"read_verilog core.v harness.v; {keep}; {mapped}", top, progress)


def within(progress: StageProgress, where: str) -> StageProgress:
    """Progress whose stages are parts of another: `where` stands before their names."""
    return lambda stage, done, total: progress(f"{where}{stage}", done, total)


def too_slow(timing: Timing, clock_mhz: float, whose: str) -> SynthesisError:
    """Why a design does not run at a clock; `whose` clock it is."""
    what = f"the design reaches {timing.fmax_mhz:.1f} MHz, {whose} is {clock_mhz:g} MHz"
    path = f"{timing.start} to {timing.end}"
    return SynthesisError(Diagnostic("too-slow", what, path, "fewer --lanes, or --arch serial"))


def require_clock(part: Part, clock_mhz: float | None) -> list[Diagnostic]:
    """What is wrong with asking a part for a frequency; nothing if none is asked for."""
    if clock_mhz is None or part.family.placer:
        return []
    what = f"{part.name} has synthesis alone, which tells no frequency"
    return [Diagnostic("no-frequency", what, "clock", "leave --clock out, or take another part")]


def synthesise_artifact(
    artifact: Artifact,
    part: str,
    *,
    seeds: Sequence[int],
    timeout_s: float,
    clock_mhz: float | None = None,
    clocks: ClockedRun | None = None,
    progress: StageProgress | None = None,
) -> SynthReport:
    """Synthesise the core of an artifact of the `rtl` target. `clocks`: of its inferences, for their times.

    Raises what `require_rtl` and `synthesise` raise.
    """
    require_rtl(artifact, part)
    core = artifact.folder / "core.v"
    report = synthesise(core, "core", part, seeds=seeds, timeout_s=timeout_s, clock_mhz=clock_mhz, progress=progress)
    if clocks is None:
        return report
    counts = None if clocks.run is None else clocks_of(clocks.run, clocks.source)
    return replace(report, clocks=counts, notes=clocks.notes)


def require_rtl(artifact: Artifact, part: str, clock_mhz: float | None = None) -> None:
    """Raise ArtifactError unless the artifact is of the `rtl` target; UsageError for an unknown part, or a frequency of
    a part without any; MissingToolError without its tools; DoesNotFitError if it has too little, as far as it is known
    without synthesis."""
    folder, manifest = artifact.folder, artifact.manifest
    chosen = part_named(part)
    if manifest.target != "rtl":
        what = f"an artifact of target {manifest.target}, only rtl is synthesised"
        raise ArtifactError(Diagnostic("not-rtl", what, str(folder), "compile with --target rtl"))
    faults = require_clock(chosen, clock_mhz)
    if faults:
        raise UsageError(faults)
    require(chosen.family.tools)
    require_fit(folder / "core.v", engine_of(manifest.details), chosen)


def engine_of(details: JsonObject) -> JsonObject:
    """What the engine says about itself in the details of a manifest; empty if it is not there."""
    engine = details.get("engine")
    return engine if isinstance(engine, Mapping) else {}


def require_fit(core: Path, engine: JsonObject, part: Part) -> None:
    """Raise DoesNotFitError if `part` has too little for the core, as far as it is known without synthesis.

    `engine`: what the engine says about itself, as in the manifest.
    """
    if not core.is_file():
        what = f"the artifact has no {core.name}"
        raise ArtifactError(Diagnostic("artifact-file-missing", what, str(core), "compile with --target rtl"))
    faults = known_shortfalls(engine, part)
    if faults:
        raise DoesNotFitError(faults, ())


def usage_of(part: Part, used: Mapping[str, tuple[int, int]], around: Mapping[str, int]) -> tuple[Usage, ...]:
    """What nextpnr counted (`used`: used and available by cell), less the harness's cells `around`, by Yosys."""
    return tuple(
        Usage(r.key, r.label, used[r.cell][0] - extra, extra, used[r.cell][1])
        for r in part.family.resources
        if r.cell in used
        for extra in [_harness_cells(part, r, around)]
    )


def _harness_cells(part: Part, resource: Resource, around: Mapping[str, int]) -> int:
    if part.family.placer == "nextpnr-ice40" and resource.key == "lut":
        # A logic cell holds a LUT and the flip-flop behind it: every cell of the harness holds one flip-flop.
        return sum(n for cell, n in around.items() if _FLIP_FLOPS.fullmatch(cell))
    return sum(weight * around.get(cell, 0) for cell, weight in resource.cells.items())


def placement_failure(part: Part, top: str, usage: Sequence[Usage], log: str) -> EqcompileError:
    """Why nextpnr gave up: every resource of which there is too little, or what it says itself."""
    # Block RAM is short and nothing is in single-port RAM.
    moved = {"bram"} if any(u.key == "spram" and not u.needed for u in usage) else set()
    faults = [
        Diagnostic(
            "does-not-fit",
            f"{u.label}: {u.needed} needed ({u.core} by the core, {u.harness} by the harness), "
            f"{u.available} available on {part.name}",
            top,
            "; ".join([*([SPRAM_HINT] if u.key in moved else []), hint_for(part, u.key, u.needed)]),
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
