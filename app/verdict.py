"""Whether an artifact is the one that was written, and computes what golden computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.data import Inputs
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import example_codes

from .clocks import InputCodes
from .documents import VerifyDocument
from .progress import progress_if
from .report.data import verification_document
from .verification import first_able, simulators_for, verify_artifact

__all__ = ["Verdict", "verify_folder"]

_UNIFORM = 13
"""Uniform samples beside those of one code throughout: 16 in all."""
_FRAMES = 4


@dataclass(frozen=True)
class Verdict:
    """The document, and whether what was asked for `ran`: each simulator that was named, else any of all."""

    document: VerifyDocument
    ran: bool


def verify_folder(
    folder: Path,
    inputs: Inputs | Path | None,
    *,
    limit: int | None,
    simulators: Sequence[str] | None,
    timeout_s: float,
    show: bool,
) -> Verdict:
    """Open an artifact, run it in its simulators and compare every state, output and count of steps with golden.

    Args:
        folder: of the artifact.
        inputs: real samples; without them zeros, both ends of the input codes and uniform codes.
        limit: the first samples alone.
        simulators: only these, each on all samples.
        timeout_s: limit of each simulator's run, in seconds.
        show: whether progress is shown.

    Raises UsageError if no simulator can run or hold the artifact, and what opening and comparing raise.
    """
    artifact = Artifact.open(folder)
    target = artifact.manifest.target
    known = simulators_for(target, simulators)
    if not known:
        raise UsageError(Diagnostic("no-simulator", f"target {target} has no simulator", str(folder)))
    first_able(artifact, known)
    codes = _codes(artifact.net, inputs, limit)
    golden = run_golden(artifact.net, codes.codes, trace=True)
    with progress_if(show) as progress:
        checks = verify_artifact(
            artifact,
            codes.codes,
            golden,
            known,
            named=simulators is not None,
            timeout_s=timeout_s,
            progress=progress,
        )
    document: VerifyDocument = {
        "artifact": str(folder),
        "target": target,
        "ir_digest": artifact.net.digest,
        "files": len(artifact.files),
        "samples": codes.source,
        "verification": [verification_document(check) for check in checks],
    }
    missing = [check.status == "missing" for check in checks if check.status != "skipped"]
    return Verdict(document, not (any(missing) if simulators else all(missing)))


def _codes(net: IntNet, inputs: Inputs | Path | None, limit: int | None) -> InputCodes:
    if isinstance(inputs, Path):
        return InputCodes.read(inputs, net, limit)
    if inputs is not None:
        return InputCodes.of(net, inputs, f"{inputs.count} that were handed over")
    codes = example_codes(net, uniform=_UNIFORM, frames=_FRAMES if net.schedule.frames else None)
    codes = {name: array[:limit] for name, array in codes.items()}
    return InputCodes(codes, f"{len(next(iter(codes.values())))} generated: zeros, both ends, uniform codes")
