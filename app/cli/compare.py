"""`eqcompile compare`: two builds side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..options import InputsOption, LimitOption
from ..wording import shown
from . import show
from .console import Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Compare two artifacts: target, options, formats, widths, bounds and versions, and whether their integers are the same.
With --inputs both nets run in golden on the same samples: equal labels, and the first code that differs with the codes
around it, where the states have the same scales."""
_EXAMPLES = """\
  eqcompile compare out other
  eqcompile compare out other --inputs test.npz --report page"""
_WIDEST = 48


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, LimitOption):
    pass


def command(argv: Sequence[str]) -> Reply:
    """Compare as the command line says."""
    parser = Parser(prog="eqcompile compare", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("first", type=Path, metavar="DIR", help="artifact folder")
    parser.add_argument("second", type=Path, metavar="DIR", help="another one")
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write report.json and report.html there")
    add_field_options(parser, _Options, "samples")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    from ..comparison import compare_builds, plain_name

    document = compare_builds(namespace.first, namespace.second, options.inputs, limit=options.limit)
    if namespace.report is not None:
        from ..report.comparison import write_comparison

        write_comparison(document, namespace.report)
    rows = [[plain_name(f["name"]), *map(_short, f["values"])] for f in document["facts"] if not f["same"]]
    lines = ["the integers are the same to the bit" if document["same_net"] else "the integers are not the same"]
    lines += [show.table(["what differs", *document["builds"]], rows)] if rows else ["no field differs"]
    if "run" in document:
        run = document["run"]
        if "labels" in run and "labels_equal" in run:
            lines.append(f"{run['labels_equal']:,} of {run['labels']:,} labels equal [simulated], on {run['source']}")
        lines.append(f"first difference: {run['difference']}" if run["difference"] else "no code differs [simulated]")
    return Reply(document, "\n".join(lines))


def _short(value: object) -> str:
    text = "none" if value is None else shown(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
