"""`eqcompile synth`: what the core of an artifact costs on a part, and how fast it runs there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eqcompile.targets.rtl.synth.flow import require_rtl, synthesise_artifact
from eqcompile.toolchain import data
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.ir import IntNet

from ..clocks import MAX_INPUTS, InputCodes, bench_inputs, count_clocks
from .console import Parser, Reply
from .numbers import integer, positive_seconds
from .progress import stage_progress

__all__ = ["command"]

_DESCRIPTION = """\
Synthesise the core of an artifact of the rtl target, place and route it, and say what it costs and how fast it runs:
cells, frequency, and, from clocks that are simulated, the time of an inference.

The figures are estimates of the open tools (Yosys, nextpnr), the frequency their median over the seeds with its
spread. For xilinx there is synthesis only, and no frequency. The first run compiles the tools, which takes minutes."""
_EXAMPLES = """\
  eqcompile synth out --part ecp5-25k
  eqcompile synth out --part up5k --seeds 5 --inputs test.npz --json"""
_PARTS = ("ecp5-25k", "ecp5-85k", "up5k", "xilinx")


def command(argv: Sequence[str]) -> Reply:
    """Synthesise as the command line says."""
    parser = Parser(prog="eqcompile synth", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="DIR", help="artifact of the rtl target")
    parser.add_argument("--part", required=True, metavar="PART", help=f"one of {', '.join(_PARTS)}")
    parser.add_argument("--seeds", type=integer(1), default=3, metavar="N", help="placements to make (default 3)")
    parser.add_argument(
        "--timeout", type=positive_seconds, default=1800.0, metavar="S", help="limit of all of it (default 1800 s)"
    )
    parser.add_argument(
        "--inputs", type=Path, metavar="X.npz", help="samples whose clocks are counted (default: the bench's vectors)"
    )
    namespace = parser.parse_all(argv)
    artifact = Artifact.open(namespace.folder)
    require_rtl(artifact, namespace.part)
    inputs = bench_inputs(artifact) if namespace.inputs is None else _inputs(artifact.net, namespace.inputs)
    with stage_progress() as progress:
        report = synthesise_artifact(
            artifact,
            namespace.part,
            seeds=range(1, namespace.seeds + 1),
            timeout_s=namespace.timeout,
            clocks=count_clocks(artifact, inputs, timeout_s=namespace.timeout),
            progress=None if progress is None else lambda done, total: progress("synthesis", done, total),
        )
    return Reply(report.to_json(), report.text())


def _inputs(net: IntNet, path: Path) -> InputCodes:
    codes, _ = data.encode(net, data.read_inputs(path, net, limit=MAX_INPUTS))
    return InputCodes(codes, f"the first {len(next(iter(codes.values())))} of {path.name}")
