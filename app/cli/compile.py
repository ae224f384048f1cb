"""`eqcompile MODEL --target T -o DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.options import QuantizeOptions

from .console import Parser, Reply
from .numbers import integer, positive_seconds
from .options import add_field_options, add_target_options, build_target, field_options, parse_settings
from .progress import stage_progress
from .widths import add_weights, widths_of

__all__ = ["command"]

_MISSING_TOOL = 7
_DESCRIPTION = """\
Compile a trained equilibrium network for a target, and prove that the artifact computes what the network computes: it
is run through the target's simulator and compared with the golden interpreter at every state and step.

{commands}
  eqcompile help COMMAND, eqcompile --version

`eqcompile --target T --help` adds the options of target T."""
_EXAMPLES = """\
  eqcompile model.pt --target loihi --chip loihi2 -o out --calibrate train.npz
  eqcompile model.pt --target numpy -o out --family models.LoopedMLP --set steps=20 --verify 64 --json
  eqcompile model.pt --target rtl --synth ecp5-25k --board ulx3s -o out --inputs test.npz"""


def _parser(*, commands: str, add_help: bool) -> Parser:
    description = _DESCRIPTION.format(commands=commands)
    parser = Parser(prog="eqcompile", description=description, examples=_EXAMPLES, add_help=add_help)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="checkpoint file")
    parser.add_argument("--target", metavar="T", help="what to compile for; `eqcompile targets` lists them")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the artifact")
    parser.add_argument("--force", action="store_true", help="replace an artifact (and a report) that exists")
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write report.json and report.html there")
    model = parser.add_argument_group("the model")
    add_model_options(model)
    integers = add_field_options(parser, QuantizeOptions, "the integers", skip=("weights", "widths"))
    add_weights(integers, default=QuantizeOptions.weights)
    integers.add_argument("--calibrate", type=Path, metavar="X.npz", help="inputs (key x) from which ranges are taken")
    checks = parser.add_argument_group("verification (on by default)")
    amount = checks.add_mutually_exclusive_group()
    amount.add_argument("--verify", type=integer(1), metavar="N", help="samples to compare (default 16)")
    amount.add_argument("--no-verify", action="store_true", help="write the artifact without running it")
    checks.add_argument("--inputs", type=Path, metavar="X.npz", help="samples (default: --calibrate, or generated)")
    checks.add_argument(
        "--simulator", action="append", metavar="NAME", help="run only this one (may be given again; default: all)"
    )
    checks.add_argument(
        "--timeout", type=positive_seconds, metavar="S", default=argparse.SUPPRESS, help="limit of a simulator's run"
    )
    return parser


def add_model_options(group: Any) -> None:
    """Options that say what a checkpoint is, for every command that reads one."""
    group.add_argument("--family", metavar="F", help="class of the network, where the file does not say it")
    group.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="a setting that the file does not hold, as steps=20"
    )
    group.add_argument("--config", type=Path, metavar="FILE", help="settings in a .json or .toml file")


def command(argv: Sequence[str], *, commands: str) -> Reply:
    """Compile as the command line says.

    Raises UsageError for what is missing, and what `compile_model` raises.
    """
    first = _parser(commands=commands, add_help=False)
    target_name = first.parse_known_args(argv)[0].target
    parser = _parser(commands=commands, add_help=True)
    if target_name is None:
        namespace = parser.parse_all(argv)
        raise UsageError(_missing(namespace))
    from eqcompile.quantization.options import check_options
    from eqcompile.toolchain import registry

    from .. import compile as pipeline
    from .. import report
    from . import show

    target_class = registry.target_class(target_name)
    add_target_options(parser, target_class)
    namespace = parser.parse_all(argv)
    missing = _missing(namespace)
    if missing:
        raise UsageError(missing)
    quantize = QuantizeOptions(**field_options(namespace, QuantizeOptions), **widths_of(namespace.weights))
    check_options(quantize)
    if namespace.report is not None:
        report.check_folder(namespace.report, force=namespace.force)
    request = pipeline.CompileRequest(
        model=namespace.model,
        target=build_target(target_class, namespace),
        output=namespace.output,
        family=namespace.family,
        settings=parse_settings(namespace.set),
        config=namespace.config,
        quantize=quantize,
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
