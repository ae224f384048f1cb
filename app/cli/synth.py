"""`eqcompile synth`: what the core of an artifact costs on a part, and how fast it runs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.targets.rtl.synth.parts import PARTS
from eqcompile.toolchain.options import Bounds, option

from ..options import InputsOption, SeedsOption
from ..stages.build import open as open_build
from ..stages.tools import synthesise
from .console import TARGET_MISSED, Parser, Reply
from .options import add_field_options, build

__all__ = ["command"]

_DESCRIPTION = """\
Synthesise the core of an artifact of the rtl target, place and route it, and say what it costs and how fast it runs:
cells, frequency, and, from clocks that are simulated, the time of an inference.

The figures are estimates of the open tools (Yosys, nextpnr), the frequency their median over the seeds with its
spread. For xilinx there is synthesis only, and no frequency. The first run compiles the tools, which takes minutes."""
_EXAMPLES = """\
  eqcompile synth out --part ecp5-25k
  eqcompile synth out --part ecp5-25k --clock 50
  eqcompile synth out --part up5k --seeds 5 --inputs test.npz --json"""


@dataclass(frozen=True, kw_only=True)
class _Options(InputsOption, SeedsOption):
    clock: float | None = option(
        None,
        metavar="MHZ",
        bounds=Bounds(0, above=True),
        help="frequency that the median of the seeds must reach, in MHz; exit code 9 if it does not",
    )
    timeout_s: float = option(
        1800.0, flag="--timeout", metavar="S", unit="s", bounds=Bounds(0, above=True), help="limit of all of it"
    )


def command(argv: Sequence[str]) -> Reply:
    """Synthesise as the command line says; exit code 9 if a clock that was asked for is missed."""
    parser = Parser(prog="eqcompile synth", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="artifact of the rtl target")
    parser.add_argument("--part", required=True, metavar="PART", help=f"one of {', '.join(PARTS)}")
    add_field_options(parser, _Options, "synthesis")
    namespace = parser.parse_all(argv)
    options = build(_Options, namespace)
    report = synthesise(
        open_build(namespace.folder),
        part=namespace.part,
        seeds=options.seeds,
        clock_mhz=options.clock,
        inputs=options.inputs,
        timeout_s=options.timeout_s,
    ).result
    return Reply(report.to_json(), report.text(), TARGET_MISSED if report.meets_clock is False else 0)
