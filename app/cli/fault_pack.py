"""`eqfault pack`: a campaign as one file to hand over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..options import ForceOption
from .console import Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Pack a campaign into one zip file: EVIDENCE.md, which says first what no figure counts, then the assumptions with their
sources, the result with its intervals, command, versions, seeds and digests; the report; the net, the inputs and every
result; and SHA256SUMS of them all. Two packs of one campaign are equal to the bit."""
_EXAMPLES = """\
  eqfault pack campaign -o evidence.zip"""


def command(argv: Sequence[str]) -> Reply:
    """Pack as the command line says."""
    parser = Parser(prog="eqfault pack", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("campaign", type=Path, metavar="CAMPAIGN", help="folder of the campaign")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.zip", help="the pack")
    add_field_options(parser, ForceOption, None)
    namespace = parser.parse_all(argv)
    from ..report.campaign.evidence import pack

    sums = pack(namespace.campaign, namespace.output, force=build(ForceOption, namespace).force)
    document = {"output": str(namespace.output), "files": dict(sums)}
    return Reply(document, f"{namespace.output}: {len(sums)} files, and their hashes")
