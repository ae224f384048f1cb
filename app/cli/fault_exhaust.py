"""`eqfault exhaust`: every fault of a model, and what became of each."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..exhaust import ExhaustOptions
from ..options import ForceOption
from .console import INTERRUPTED, Parser, Reply
from .fault_options import parse_campaign
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Inject every fault of a model: of seu and sites state, each bit of each state in each tick of each sample. Counts are
exact, without intervals. The folder keeps a byte for each fault, compressed; the same command goes on where it was
interrupted. The report shows the weak units, bits, ticks and samples, and the worst case beside what is proved."""
_EXAMPLES = """\
  eqfault exhaust out --model seu --sites state --inputs test.npz -o every
  eqfault exhaust out --model seu --sites weight --inputs test.npz --limit 100 -o weights
  eqfault exhaust out --model pair --across neighbours --inputs test.npz --limit 10 -o pairs
  eqfault replay every 8/state:h.160.7/state:h[160]^80@20 --engine golden"""
_REQUIRED = {"source": "DIR", "output": "-o FOLDER", "model": "--model M"}
VIOLATED = 8


def command(argv: Sequence[str]) -> Reply:
    """Inject every fault, or those that a folder still lacks, and report. Exit code 8 if one is beyond what is proved.

    Raises UsageError for what is wrong with the options, ArtifactError for a folder of something else.
    """
    from .. import exhaust

    parser = Parser(prog="eqfault exhaust", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("source", type=Path, nargs="?", metavar="DIR", help="artifact folder, or net.onnx")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of the outcomes")
    add_field_options(parser, ForceOption, None)
    namespace, options, model_options = parse_campaign(parser, argv, kind=ExhaustOptions, required=_REQUIRED)
    folder: Path = namespace.output
    exhaust.begin(
        options,
        model_options,
        namespace.source,
        options.inputs,
        folder,
        command=shlex.join(["eqfault", "exhaust", *argv]),
        force=build(ForceOption, namespace).force,
    )
    interrupted = False
    try:
        document = exhaust.go_on(folder, options, show=True)
    except KeyboardInterrupt:
        document, interrupted = exhaust.report(folder, proved=0), True
    from ..report.exhaust import summary_lines

    lines = summary_lines(document)
    lines.append("interrupted; the same command goes on" if interrupted else str(folder / "report.html"))
    bound = document["bound"]
    code = INTERRUPTED if interrupted else VIOLATED if bound is not None and bound["violations"] else 0
    return Reply({**document, "interrupted": interrupted, "folder": str(folder)}, "\n".join(lines), code)
