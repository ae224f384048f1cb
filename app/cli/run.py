"""`eqcompile run` (`eqsim`): run inputs through an artifact or a checkpoint and write what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..files import replacing
from ..options import ForceOption, LimitOption, ModelOptions, TimeoutOption
from . import console
from .options import add_field_options, build, field_options

__all__ = ["command"]

_DESCRIPTION = """\
Run inputs through an artifact folder (in its simulator, or in golden) or a checkpoint (in the float64 reference).

The input file is an .npz with the key x (or the name of each input). The output file is an .npz with one key for each
output (logits: integer codes of an artifact, real values of a checkpoint), labels where the output tells classes,
steps, and with --trace one key state.NAME for each state, [tick, sample, ...]."""
_EXAMPLES = """\
  eqcompile run out -i test.npz -o results.npz
  eqcompile run out -i test.npz -o golden.npz --simulator golden --trace
  eqcompile run model.pt -i test.npz -o float.npz"""


def command(argv: Sequence[str]) -> console.Reply:
    """Run as the command line says.

    Raises UsageError for options that do not fit the source.
    """
    parser = console.Parser(prog="eqcompile run", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("source", type=Path, metavar="DIR|MODEL", help="artifact folder or checkpoint")
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="X.npz", help="samples")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="Y.npz", help="results")
    add_field_options(parser, LimitOption, None)
    parser.add_argument("--trace", action="store_true", help="write every state after every tick too")
    parser.add_argument(
        "--simulator", metavar="NAME", help="golden, or one of the target's (default: first that holds it)"
    )
    add_field_options(parser, TimeoutOption, None)
    add_field_options(parser, ForceOption, None)
    add_field_options(parser, ModelOptions, "a checkpoint")
    namespace = parser.parse_all(argv)
    from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

    from ..stages.inference import relax_artifact, relax_floats
    from . import show

    source, limit, trace = namespace.source, build(LimitOption, namespace).limit, namespace.trace
    if source.is_dir() and field_options(namespace, ModelOptions):
        what = "--family, --set, --config, --map and --assume describe a checkpoint, this is an artifact folder"
        raise UsageError(Diagnostic("usage", what, str(source)))
    if not source.is_dir() and namespace.simulator is not None:
        what = "a checkpoint runs in the float64 reference and has no simulator"
        hint = "compile it first, or leave --simulator out"
        raise UsageError(Diagnostic("usage", what, str(source), hint))
    with replacing(namespace.output, force=build(ForceOption, namespace).force) as temporary:
        if source.is_dir():
            from eqcompile.toolchain.artifact import Artifact

            inference = relax_artifact(
                Artifact.open(source),
                namespace.input,
                simulator=namespace.simulator,
                limit=limit,
                trace=trace,
                timeout_s=build(TimeoutOption, namespace).timeout_s,
                show=True,
            )
        else:
            from eqcompile.toolchain.importers.api import import_model

            imported = import_model(source, **asdict(build(ModelOptions, namespace)))
            inference = relax_floats(imported, namespace.input, limit=limit, trace=trace)
        document = inference.to_json()
        document["keys"] = inference.write(temporary, trace=trace)
        document["output"] = str(namespace.output)
    return console.Reply(document, show.simulation(document))
