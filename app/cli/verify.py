"""`eqcompile verify`: whether an artifact is the one that was written, and computes what golden computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import data
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import example_codes

from ..clocks import MAX_INPUTS
from ..compile import simulators_for
from ..report.data import verification_document
from ..verification import verify_artifact
from . import show
from .console import Parser, Reply
from .numbers import integer, positive_seconds
from .progress import stage_progress

__all__ = ["command"]

_DESCRIPTION = """\
Check the SHA-256 of every file of an artifact, then run it in its simulators and compare every state, output and step
count with the golden interpreter. The first divergence is named with step, state, unit, expected and actual code.

Without --inputs the samples are zeros, both ends of the input codes and uniform codes."""
_EXAMPLES = """\
  eqcompile verify out
  eqcompile verify out --inputs test.npz --limit 100 --simulator verilator-native"""
_MISSING_TOOL = 7
_UNIFORM = 13
"""Uniform samples beside those of one code throughout: 16 in all."""
_FRAMES = 4


def command(argv: Sequence[str]) -> Reply:
    """Verify as the command line says; exit code 7 if a simulator that was asked for, or every one, is missing.

    Raises UsageError if no simulator can run the artifact, and what opening and comparing raise.
    """
    parser = Parser(prog="eqcompile verify", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="artifact folder")
    parser.add_argument("--inputs", type=Path, metavar="X.npz", help="samples (default: generated codes)")
    parser.add_argument("--limit", type=integer(1), metavar="N", help="run the first N samples only")
    parser.add_argument(
        "--simulator", action="append", metavar="NAME", help="run only this one (may be given again; default: all)"
    )
    parser.add_argument("--timeout", type=positive_seconds, default=600.0, metavar="S", help="limit (default 600 s)")
    namespace = parser.parse_all(argv)
    artifact = Artifact.open(namespace.folder)
    target = artifact.manifest.target
    simulators = simulators_for(target, namespace.simulator)
    if not simulators:
        what = f"target {target} has no simulator"
        raise UsageError(Diagnostic("no-simulator", what, str(namespace.folder)))
    codes, source = _codes(artifact.net, namespace.inputs, namespace.limit)
    golden = run_golden(artifact.net, codes, trace=True)
    with stage_progress() as progress:
        checks = verify_artifact(artifact, codes, golden, simulators, timeout_s=namespace.timeout, progress=progress)
    document = {
        "artifact": str(namespace.folder),
        "target": target,
        "ir_digest": artifact.net.digest,
        "files": len(artifact.files),
        "samples": source,
        "verification": [verification_document(check) for check in checks],
    }
    missing = [check.status == "missing" for check in checks]
    failed = any(missing) if namespace.simulator else all(missing)
    return Reply(document, show.verification(document), _MISSING_TOOL if failed else 0)


def _codes(net: IntNet, path: Path | None, limit: int | None) -> tuple[Mapping[str, NDArray[np.int64]], str]:
    if path is not None:
        codes, _ = data.encode(net, data.read_inputs(path, net, limit=limit or MAX_INPUTS))
        return codes, f"the first {len(next(iter(codes.values())))} of {path.name}"
    codes = example_codes(net, uniform=_UNIFORM, frames=_FRAMES if net.schedule.frames else None)
    codes = {name: array[:limit] for name, array in codes.items()}
    return codes, f"{len(next(iter(codes.values())))} generated: zeros, both ends, uniform codes"
