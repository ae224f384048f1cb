"""`eqcompile certify`: what is proved of the relaxation of an integer net, for every input and for given samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import Bounds, option

from ..certification import certification, integers_in, safe_share
from ..clocks import InputCodes
from ..options import InputsOption, LimitOption, TicksOption
from ..progress import stage_progress
from . import show
from .console import TARGET_MISSED, Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
State what is proved of the relaxation of an integer net, in exact integers or with directed rounding.

For every input: how much closer one step takes two runs (L), and how far rounding may leave them apart. For the samples
of --inputs: how many ticks an upset must leave, of any size and in any number of states, so that it cannot change the
label, and by how many codes a state can still be off. Of samples for which that is not proved within --ticks: how large
an upset may be, and a run that ends elsewhere or in a cycle, if one is found."""
_EXAMPLES = """\
  eqcompile certify out
  eqcompile certify out --inputs test.npz --ticks 20
  eqcompile certify out --inputs test.npz --ticks 10 --safe 0.99
  eqcompile certify out/net.onnx --inputs test.npz --limit 100 --json"""


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, LimitOption, TicksOption):
    safe: float | None = option(
        None,
        metavar="A",
        bounds=Bounds(0, 1, above=True),
        help="the share of the samples whose label must be proved to stay with --ticks left; a miss is exit code 9",
    )


def command(argv: Sequence[str]) -> Reply:
    """Certify as the command line says.

    Raises UsageError if the source holds no integers, and what opening it raises.
    """
    parser = Parser(prog="eqcompile certify", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("source", type=Path, metavar="DIR|NET", help="artifact folder or its net.onnx")
    add_field_options(parser, _Options, "samples")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    if options.safe is not None and options.inputs is None:
        raise UsageError(Diagnostic("usage", "--safe is a share of samples", "certify", "give them: --inputs X.npz"))
    net = integers_in(namespace.source)
    with stage_progress("sample") as progress:
        document = certification(
            net,
            source=namespace.source,
            inputs=None if options.inputs is None else InputCodes.read(options.inputs, net, options.limit),
            ticks=options.ticks,
            progress=lambda done, total: progress("certify", done, total),
        )
    missed = options.safe is not None and safe_share(document) < options.safe
    return Reply(document, show.certification(document), TARGET_MISSED if missed else 0)
