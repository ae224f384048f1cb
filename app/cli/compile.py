"""`eqcompile MODEL --target T -o DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.kept_labels import kept_labels
from eqcompile.toolchain.options import QuantizeOptions

from ..options import ForceOption, ModelOptions, VerifyOptions
from ..progress import stage_progress
from .console import TARGET_MISSED, Parser, Reply
from .options import Faults, add_field_options, add_target_options, build, build_target, field_options
from .widths import add_integers, integers_of

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
    parser.add_argument("--report", type=Path, metavar="DIR", help="also write report.json and report.html there")
    add_field_options(parser, ForceOption, None)
    add_field_options(parser, ModelOptions, "the model")
    integers = add_integers(parser, "the integers", weights_default=QuantizeOptions.weights)
    integers.add_argument("--calibrate", type=Path, metavar="X.npz", help="inputs (key x) from which ranges are taken")
    add_field_options(parser, VerifyOptions, "verification (on by default)")
    return parser


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
    from ..verification import simulators_for
    from . import show

    target_class = registry.target_class(target_name)
    add_target_options(parser, target_class, argv)
    namespace, diagnostics = parser.parse(argv)
    faults = Faults([*diagnostics, *_missing(namespace)])
    with faults.gathering():
        quantize = integers_of(namespace)
        check_options(quantize)
    with faults.gathering():
        target = build_target(target_class, namespace)
    with faults.gathering():
        model = field_options(namespace, ModelOptions)
    checks = field_options(namespace, VerifyOptions)
    if "samples" in checks and "verify" in checks:
        faults.append(Diagnostic("usage", "--verify and --no-verify together", hint="leave one out"))
    with faults.gathering():
        simulators_for(target_name, checks.get("simulators"))
    faults.require()
    if namespace.report is not None:
        report.check_folder(namespace.report, force=build(ForceOption, namespace).force)
    request = pipeline.CompileRequest(
        model=namespace.model,
        target=target,
        output=namespace.output,
        quantize=quantize,
        calibration=namespace.calibrate,
        **model,
        **checks,
        **field_options(namespace, ForceOption),
    )
    with stage_progress() as progress:
        result = pipeline.compile_model(request, progress=progress)
    if namespace.report is not None:
        report.write([result], namespace.report, command=["eqcompile", *argv], force=request.force)
    document = report.result_document(result)
    absent = any(v.status == "missing" for v in result.verifications)
    asked = not checks.keys().isdisjoint({"samples", "simulators"})
    kept = kept_labels(result.lowered.choices)
    code = _MISSING_TOOL if absent and asked else TARGET_MISSED if kept is not None and not kept.met else 0
    return Reply(document, show.compilation(document), code)


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
