"""The third stage: an artifact for a target, run and verified in its simulators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.interfaces import Target
from eqcompile.toolchain.ir import IntNet

from ..compile import DEFAULT_TIMEOUT_S, CompileRequest, CompileResult, compile_model
from ..options import VerifyOptions
from ..progress import progress_if
from ..report import write
from ..report.schema import VerificationDocument
from ..verdict import Verdict, verify_folder
from ..wording import labelled
from .display import Display, Picture, Row
from .inference import Inference, relax_artifact
from .quantization import Quantization
from .samples import SampleSource, samples_of

if TYPE_CHECKING:
    from ..report.schema import ReportDocument

__all__ = ["Build", "VerifiedBuild", "compile", "open", "target"]

_DRAWN = 8
"""Samples of a picture."""


@dataclass(frozen=True, eq=False)
class Build(Display):
    """An artifact in its folder. `artifact`: its net, manifest and files; `result`: how it was compiled, None of one
    that was opened."""

    artifact: Artifact
    result: CompileResult | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.artifact.folder

    @property
    def net(self) -> IntNet:
        """The integer net that it computes."""
        return self.artifact.net

    @property
    def target(self) -> str:
        """The name of its target."""
        return self.artifact.manifest.target

    def run(
        self,
        x: SampleSource,
        *,
        simulator: str | None = None,
        limit: int | None = None,
        trace: bool = True,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        progress: bool = True,
    ) -> Inference:
        """Run samples `[samples, (frame,) *shape]` of real numbers, or a file of them, in a simulator: the named one,
        `golden`, or by default the first of the target's that can hold the artifact.

        Raises UsageError: no such simulator, or none that can hold the artifact. MissingToolError: its tool is absent.
        SimulatorError: it died or ran for longer than `timeout_s` seconds. ImportFileError: samples that do not fit.
        """
        return relax_artifact(
            self.artifact, x, simulator=simulator, limit=limit, trace=trace, timeout_s=timeout_s, show=progress
        )

    def verify(
        self,
        x: SampleSource | None = None,
        *,
        simulators: Sequence[str] | None = None,
        limit: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        progress: bool = True,
    ) -> VerifiedBuild:
        """Check the hash of every file, then run the artifact in its simulators and compare every state, output and
        count of steps with golden: on samples `[samples, (frame,) *shape]` of real numbers, or without them on zeros,
        both ends of the input codes and uniform codes.

        Raises ArtifactError: a file that is not the one that was written. SimulatorError: the first divergence.
        UsageError: a simulator that there is not, or none that can hold the artifact.
        """
        samples = None if x is None else samples_of(x, self.net, limit=limit)
        verdict = verify_folder(
            self.folder, samples, limit=limit, simulators=simulators, timeout_s=timeout_s, show=progress
        )
        return VerifiedBuild(self, verdict)

    def report(self, folder: str | Path, *, force: bool = False) -> ReportDocument:
        """Write `report.json` and `report.html` of the compilation; return the document.

        Raises UsageError for an artifact that was opened, ArtifactError if the folder holds a report without `force`.
        """
        if self.result is None:
            what = "the artifact was opened: what a report says of the compilation is not in its folder"
            raise UsageError(Diagnostic("no-report", what, str(self.folder), "call report on what eq.compile returns"))
        return write([self.result], Path(folder), command=["eq.compile"], force=force)

    def rows(self) -> Sequence[Row]:
        """Target, options, what the target says of itself, and how it was verified."""
        manifest = self.artifact.manifest
        rows: list[Row] = [("folder", str(self.folder)), ("target", manifest.target), ("net", self.net.name)]
        options = ", ".join(f"{name} {value}" for name, value in manifest.options.items())
        rows += [("options", options)] if options else []
        rows += [("target says", line) for line in manifest.summary]
        for check in manifest.verification:
            rows.append((f"verified by {check.simulator}", check.reason or f"{check.status}, {check.samples} samples"))
        if self.result is not None and self.result.judgement.accuracy is not None:
            a = self.result.judgement.accuracy
            rows.append(("accuracy", f"{a.float_correct} of {a.samples} in float64, {a.int_correct} as integers"))
        return [*rows, ("digest", self.net.digest[:16])]

    def plot(self, x: SampleSource | None = None) -> Picture:
        """How samples settle in golden, which the artifact equals: of `x`, or of those that it was compared on; nothing
        for an artifact that was opened, without `x`."""
        samples = x if x is not None else None if self.result is None else self.result.samples.real.first(_DRAWN)
        if samples is None:
            return Picture(())
        return self.run(samples, simulator="golden", limit=_DRAWN, progress=False).plot()


@dataclass(frozen=True, eq=False)
class VerifiedBuild(Display):
    """A build beside golden. `verdict`: a row for each simulator, with what it ran or why it did not."""

    build: Build
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether every simulator that was asked for, or any of all, ran: what differs from golden raises at once."""
        return self.verdict.ran

    @property
    def simulators(self) -> Sequence[VerificationDocument]:
        """A document for each simulator."""
        return self.verdict.document["verification"]

    def rows(self) -> Sequence[Row]:
        """Files, samples, and a row for each simulator."""
        d = self.verdict.document
        rows: list[Row] = [("artifact", d["artifact"]), ("files", f"{d['files']}, each hash as written")]
        rows.append(("samples", d["samples"]))
        for check in d["verification"]:
            if check["status"] == "equal":
                text = f"{labelled(check['values'])} compared, {check['mismatches']['value']:.0f} differ"
                rows.append((check["simulator"], text))
            else:
                rows.append((check["simulator"], f"{check['status']}: {check['reason']}"))
        return rows

    def plot(self) -> Picture:
        """How the samples of the compilation settle."""
        return self.build.plot()


def target(name: str, **options: Any) -> Target:
    """The target `name` with its options, checked; for `compile`.

    Raises UsageError: no such target, naming the nearest, or an option out of its range. MissingToolError,
    PluginError: it cannot be loaded.
    """
    return registry.target_class(name).of(**options)


def open(folder: str | Path) -> Build:
    """The artifact in a folder, the hash of each of its files checked; ArtifactError with all faults."""
    return Build(Artifact.open(Path(folder)))


def compile(
    q: Quantization,
    *,
    target: str | Target,
    out: str | Path,
    inputs: SampleSource | None = None,
    samples: int = VerifyOptions.samples,
    verify: bool = True,
    simulators: Sequence[str] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> Build:
    """Emit a quantized net for a target and verify it against golden; the folder appears only if everything held.

    art = eq.compile(q, target="rtl", out="core", inputs="test.npz", arch="parallel")

    Args:
        q: what `quantize` returns.
        target: its name, with its options as further keywords, or a `Target` of `eq.target`.
        out: the folder of the artifact, replaced with `force`.
        inputs: real samples `[samples, (frame,) *shape]`, or a file of them, to compare on, `samples` of them; by
            default those that calibrated the net, or generated ones.
        verify: whether simulators are run; `simulators`: only these, on all samples.
        timeout_s: limit of each simulator's run, in seconds.
        progress: whether progress is shown.

    Raises:
        UsageError: an option that means nothing, or a simulator that there is not. UnsupportedError: everything that
            the target does not take. SimulatorError: the first divergence from golden. ArtifactError: the folder exists
            or cannot be written. MissingToolError: a package that emitting needs is absent.
    """
    chosen = _chosen(target, options)
    memory = None if inputs is None else samples_of(inputs, q.model.net)
    request = CompileRequest(
        model=q.model.imported,
        target=chosen,
        output=Path(out),
        quantize=q.options,
        calibration=q.calibration_file or q.calibration,
        lowered=q.lowered,
        memory=memory,
        samples=samples,
        verify=verify,
        simulators=None if simulators is None else tuple(simulators),
        timeout_s=timeout_s,
        force=force,
    )
    with progress_if(progress) as report:
        result = compile_model(request, progress=report)
    return Build(Artifact.open(Path(out)), result)


def _chosen(target: str | Target, options: dict[str, Any]) -> Target:
    if isinstance(target, str):
        return registry.target_class(target).of(**options)
    if options:
        what = f"{', '.join(options)} beside a target that has its options already"
        raise UsageError(Diagnostic("usage", what, "eq.compile", "give them to eq.target"))
    return target
