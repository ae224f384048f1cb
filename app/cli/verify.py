"""`eqcompile verify`: whether an artifact is the one that was written, and computes what golden computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.passes import example_codes

from ..clocks import InputCodes
from ..compile import simulators_for
from ..documents import VerifyDocument
from ..options import InputsOption, LimitOption, SimulatorsOption, TimeoutOption
from ..progress import stage_progress
from ..report.data import verification_document
from ..verification import first_able, verify_artifact
from . import show
from .console import Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Check the SHA-256 of every file of an artifact, then run it in its simulators and compare every state, output and step
count with the golden interpreter. The first divergence is named with step, state, unit, expected and actual code.
A simulator that cannot hold the net is skipped, and the numbers say why.

Without --inputs the samples are zeros, both ends of the input codes and uniform codes."""
_EXAMPLES = """\
  eqcompile verify out
  eqcompile verify out --inputs test.npz --limit 100 --simulator verilator-native"""
_MISSING_TOOL = 7
_UNIFORM = 13
"""Uniform samples beside those of one code throughout: 16 in all."""
_FRAMES = 4


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, LimitOption, SimulatorsOption, TimeoutOption):
    pass


def command(argv: Sequence[str]) -> Reply:
    """Verify as the command line says; exit code 7 if a simulator that was asked for, or every one that can hold the
    artifact, is missing.

    Raises UsageError if no simulator can run or hold the artifact, and what opening and comparing raise.
    """
    parser = Parser(prog="eqcompile verify", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="artifact folder")
    add_field_options(parser, _Options, "verification")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    artifact = Artifact.open(namespace.folder)
    target = artifact.manifest.target
    simulators = simulators_for(target, options.simulators)
    if not simulators:
        what = f"target {target} has no simulator"
        raise UsageError(Diagnostic("no-simulator", what, str(namespace.folder)))
    first_able(artifact, simulators)
    inputs = _codes(artifact.net, options.inputs, options.limit)
    golden = run_golden(artifact.net, inputs.codes, trace=True)
    with stage_progress() as progress:
        checks = verify_artifact(
            artifact,
            inputs.codes,
            golden,
            simulators,
            named=options.simulators is not None,
            timeout_s=options.timeout_s,
            progress=progress,
        )
    document: VerifyDocument = {
        "artifact": str(namespace.folder),
        "target": target,
        "ir_digest": artifact.net.digest,
        "files": len(artifact.files),
        "samples": inputs.source,
        "verification": [verification_document(check) for check in checks],
    }
    missing = [check.status == "missing" for check in checks if check.status != "skipped"]
    failed = any(missing) if options.simulators else all(missing)
    return Reply(document, show.verification(document), _MISSING_TOOL if failed else 0)


def _codes(net: IntNet, path: Path | None, limit: int | None) -> InputCodes:
    if path is not None:
        return InputCodes.read(path, net, limit)
    codes = example_codes(net, uniform=_UNIFORM, frames=_FRAMES if net.schedule.frames else None)
    codes = {name: array[:limit] for name, array in codes.items()}
    return InputCodes(codes, f"{len(next(iter(codes.values())))} generated: zeros, both ends, uniform codes")
