"""`eqcompile verify`: whether an artifact is the one that was written, and computes what golden computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..options import InputsOption, LimitOption, SimulatorsOption, TimeoutOption
from ..verdict import verify_folder
from . import show
from .console import Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Check the SHA-256 of every file of an artifact, then run it in its simulators and compare every state, output and step
count with the golden interpreter. The first divergence is named with step, state, unit, expected and actual code.
A simulator that cannot hold the net is skipped, one that would take longer than its limit runs fewer samples or none,
and the numbers say why; --simulator makes it run them all.

Without --inputs the samples are zeros, both ends of the input codes and uniform codes."""
_EXAMPLES = """\
  eqcompile verify out
  eqcompile verify out --inputs test.npz --limit 100 --simulator verilator-native"""
_MISSING_TOOL = 7


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
    verdict = verify_folder(
        namespace.folder,
        options.inputs,
        limit=options.limit,
        simulators=options.simulators,
        timeout_s=options.timeout_s,
        show=True,
    )
    return Reply(verdict.document, show.verification(verdict.document), 0 if verdict.ran else _MISSING_TOOL)
