"""`eqcompile MODEL --target T -o DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .commands import COMMANDS, listing
from .console import Parser, Reply, stage_progress
from .numbers import finite, fraction, integer, positive_seconds
from .widths import weights, widths_of

__all__ = ["command"]

_MISSING_TOOL = 7
_DESCRIPTION = f"""\
Compile a trained equilibrium network for a target, and prove that the artifact computes what the network computes: it
is run through the target's simulator and compared with the golden interpreter at every state and step.

{listing(COMMANDS)}
  eqcompile help COMMAND, eqcompile --version

`eqcompile --target T --help` adds the options of target T."""
_EXAMPLES = """\
  eqcompile model.pt --target loihi --chip loihi2 -o out --calibrate train.npz
  eqcompile model.pt --target numpy -o out --family models.LoopedMLP --set steps=20 --verify 64 --json
  eqcompile model.pt --target rtl --synth ecp5-25k --board ulx3s -o out --inputs test.npz"""


def _parser(*, add_help: bool) -> Parser:
    parser = Parser(prog="eqcompile", description=_DESCRIPTION, examples=_EXAMPLES, add_help=add_help)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="checkpoint file")
    parser.add_argument("--target", metavar="T", help="what to compile for; `eqcompile targets` lists them")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the artifact")
    parser.add_argument("--force", action="store_true", help="replace an artifact (and a report) that exists")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write report.json and report.html there")
    model = parser.add_argument_group("the model")
    add_model_options(model)
    integers = parser.add_argument_group("the integers")
    given: dict[str, Any] = {"default": argparse.SUPPRESS}
    integers.add_argument("--calibrate", type=Path, metavar="X.npz", help="inputs (key x) from which ranges are taken")
    integers.add_argument(
        "--weights",
        action="append",
        default=[],
        type=weights,
        metavar="[TENSOR=]KIND",
        help="codes of float weights: ternary, or int2 to int8 (default int8); with TENSOR= of that weight alone, as "
        "W_rec=int4 (may be given again); weights that hold fewer codes already keep them",
    )
    integers.add_argument(
        "--contract",
        type=fraction,
        metavar="L",
        help="weaken recurrent weights until the net is proved to contract by L < 1 a step; its cost is reported",
    )
    integers.add_argument(
        "--per-tensor", action="store_true", help="one weight scale a tensor (default: one an output row)"
    )
    integers.add_argument("--state-bits", type=integer(2, 16), metavar="N", help="(default 8)", **given)
    integers.add_argument("--input-bits", type=integer(2, 16), metavar="N", help="(default 8)", **given)
    integers.add_argument(
        "--input-range",
        type=finite,
        nargs=2,
        metavar=("LO", "HI"),
        help="of the inputs, where no calibration data is given (default -1 1)",
        **given,
    )
    integers.add_argument(
        "--tolerance",
        type=integer(0),
        metavar="N",
        help="end a sample once no state moved by more than N codes; 0 is exact (default 0)",
        **given,
    )
    checks = parser.add_argument_group("verification (on by default)")
    amount = checks.add_mutually_exclusive_group()
    amount.add_argument("--verify", type=integer(1), metavar="N", help="samples to compare (default 16)")
    amount.add_argument("--no-verify", action="store_true", help="write the artifact without running it")
    checks.add_argument("--inputs", type=Path, metavar="X.npz", help="samples (default: --calibrate, or generated)")
    checks.add_argument(
        "--simulator", action="append", metavar="NAME", help="run only this one (may be given again; default: all)"
    )
    checks.add_argument("--timeout", type=positive_seconds, metavar="S", help="limit of a simulator's run", **given)
    return parser


def add_model_options(group: Any) -> None:
    """Options that say what a checkpoint is, for every command that reads one."""
    group.add_argument("--family", metavar="F", help="class of the network, where the file does not say it")
    group.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="a setting that the file does not hold, as steps=20"
    )
    group.add_argument("--config", type=Path, metavar="FILE", help="settings in a .json or .toml file")


def command(argv: Sequence[str]) -> Reply:
    """Compile as the command line says."""
    first = _parser(add_help=False)
    target_name = first.parse_known_args(argv)[0].target
    parser = _parser(add_help=True)
    if target_name is None:
        namespace = parser.parse_all(argv)
        raise UsageError(_missing(namespace))
    from eqcompile.toolchain import registry
    from eqcompile.toolchain.interfaces import QuantizeOptions

    from .. import compile as pipeline
    from .. import report
    from . import show
    from .options import add_target_options, build_target, parse_settings

    target_class = registry.target_class(target_name)
    add_target_options(parser, target_class)
    namespace = parser.parse_all(argv)
    missing = _missing(namespace)
    if missing:
        raise UsageError(missing)
    chosen = {k: v for k, v in vars(namespace).items() if k in ("state_bits", "input_bits", "tolerance")}
    chosen |= widths_of(namespace.weights)
    if "input_range" in namespace:
        chosen["input_range"] = _range(*namespace.input_range)
    if namespace.report is not None:
        report.check_folder(namespace.report, force=namespace.force)
    request = pipeline.CompileRequest(
        model=namespace.model,
        target=build_target(target_class, namespace),
        output=namespace.output,
        family=namespace.family,
        settings=parse_settings(namespace.set),
        config=namespace.config,
        quantize=QuantizeOptions(per_row=not namespace.per_tensor, contract=namespace.contract, **chosen),
        calibration=namespace.calibrate,
        inputs=namespace.inputs,
        samples=namespace.verify or pipeline.DEFAULT_SAMPLES,
        verify=not namespace.no_verify,
        simulators=namespace.simulator,
        force=namespace.force,
        timeout_s=getattr(namespace, "timeout", pipeline.DEFAULT_TIMEOUT_S),
    )
    with stage_progress() as progress:
        result = pipeline.compile_model(request, progress=progress)
    if namespace.report is not None:
        report.write([result], namespace.report, command=["eqcompile", *argv], force=namespace.force)
    document = report.result_document(result)
    absent = any(v.status == "missing" for v in result.verifications)
    asked = namespace.verify is not None or namespace.simulator is not None
    return Reply(document, show.compilation(document), _MISSING_TOOL if absent and asked else 0)


def _missing(namespace: argparse.Namespace) -> list[Diagnostic]:
    from eqcompile.toolchain.registry import names

    required = (
        ("model", "MODEL", "eqcompile --help"),
        ("target", "--target T", f"one of {', '.join(names('targets'))}; `eqcompile targets` says what is installed"),
        ("output", "-o DIR", "eqcompile --help"),
    )
    return [
        Diagnostic("usage", f"{argument} is missing", hint=hint)
        for name, argument, hint in required
        if getattr(namespace, name) is None
    ]


def _range(low: float, high: float) -> tuple[float, float]:
    if low >= high:
        raise UsageError(
            Diagnostic("input-range", f"LO is {low:g} and HI is {high:g}, LO must be below HI", "--input-range")
        )
    return low, high
