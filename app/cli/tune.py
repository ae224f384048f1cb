"""`eqcompile tune` (`eqtune`): fine-tune a checkpoint for the integers that it will become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from eqcompile.toolchain.options import TuneOptions

from ..options import ForceOption, ModelOptions
from . import console
from .options import add_field_options, build, field_options
from .widths import NO_WIDTHS, add_integers, integers_of

if TYPE_CHECKING:
    from ..documents import TuneDocument
    from ..report.schema import Number

__all__ = ["command"]

_WEIGHTS = "ternary"
"""The kind of weights that are trained for where no option names one."""

_DESCRIPTION = """\
Fine-tune a checkpoint so that it stays accurate as integers.

Every batch is run by the golden interpreter on the net as it would be lowered at that moment: rounded weights, states
and sums, activation tables, all steps. Gradients pass straight through the rounding (Brevitas quantizers for weights)
and back through the last ticks of the relaxation. The result is a checkpoint of the same family, which eqcompile
lowers to the very integers that were measured here, given the same options and --calibrate D.npz."""
_EXAMPLES = """\
  eqcompile tune model.pt --data train.npz --weights ternary -o tuned.pt
  eqcompile tune model.pt --data train.npz --test test.npz --weights int4 --state-bits 4 --epochs 50 -o tuned.pt --json
  eqcompile tune model.pt --data train.npz --weights ternary --max-lipschitz 0.7 --margin 2 -o contracting.pt
  eqcompile tuned.pt --target numpy --weights ternary --calibrate train.npz -o out"""


def _parser() -> console.Parser:
    parser = console.Parser(prog="eqcompile tune", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="checkpoint file")
    parser.add_argument("--data", type=Path, required=True, metavar="D.npz", help="samples (key x) and their labels")
    parser.add_argument("--test", type=Path, metavar="X.npz", help="samples that are only measured, at the end")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.pt", help="the trained checkpoint")
    add_field_options(parser, ForceOption, None)
    add_field_options(parser, ModelOptions, "the model")
    add_integers(parser, "the integers", weights_default=_WEIGHTS, skip=NO_WIDTHS)
    add_field_options(parser, TuneOptions, "training", skip=("quantize",))
    return parser


def command(argv: Sequence[str]) -> console.Reply:
    """Train as the command line says."""
    namespace = _parser().parse_all(argv)
    from eqcompile.toolchain import data
    from eqcompile.toolchain.importers.api import import_model

    from ..files import demand_writable
    from ..tuning import tune_checkpoint

    force = build(ForceOption, namespace).force
    options = TuneOptions(quantize=integers_of(namespace, weights=_WEIGHTS), **field_options(namespace, TuneOptions))
    demand_writable(namespace.output, force=force)
    imported = import_model(namespace.model, **asdict(build(ModelOptions, namespace)))
    document = tune_checkpoint(
        imported,
        data.read_inputs(namespace.data, imported.net),
        options,
        namespace.output,
        test=None if namespace.test is None else data.read_inputs(namespace.test, imported.net),
        data=str(namespace.data),
        force=force,
        show=True,
    )
    return console.Reply(document, _text(document))


def _prices(d: TuneDocument) -> list[str]:
    """What a bound and a margin that were asked for cost, beside trainings without them."""
    if d["max_lipschitz"] is None and not d["margin"]:
        return []
    from .show import table

    def row(name: str, bound: Number | None, accuracy: Mapping[str, Number]) -> list[str]:
        shares = [f"{accuracy[part]['value']:.4f}" if part in accuracy else "diverged" for part in d["accuracy"]]
        return [name, "unknown" if bound is None else f"{bound['value']:.6g}", *shares]

    kept = row("as written", d["bound"], {part: a["integers_after"] for part, a in d["accuracy"].items()})
    rows = [kept, *(row(name, o["bound"], o["accuracy"]) for name, o in d["others"].items())]
    return [
        table(["training", "L a step", *d["accuracy"]], rows),
        "L [proved], an upper bound of the integers; accuracy of the integers [measured]",
    ]


def _text(d: TuneDocument) -> str:
    from .show import table

    rows = [
        [
            name,
            str(a["samples"]["value"]),
            *(f"{share['value']:.4f}" for share in (a["float_before"], a["integers_before"], a["integers_after"])),
        ]
        for name, a in d["accuracy"].items()
    ]
    head = ["samples", "count", "float", "integers before", "integers after"]
    lines = [table(head, rows)] if rows else ["no samples were held out or given as --test: nothing was measured"]
    lines += [
        "accuracy [measured]: float by the float64 reference, integers by golden",
        (
            f"trained on {d['trained_on']['value']} samples for {len(d['history'])} epochs in "
            f"{d['seconds']['value']:.1f} s [measured]; epoch {d['epoch']['value']} is kept, the best on the held-out "
            "samples"
        ),
        *_prices(d),
        *(f"not trained: {name}: {why}" for name, why in d["frozen"].items()),
        f"written: {d['output']}, lowers to net {d['digest'][:12]}",
        f"next: eqcompile {d['output']} --target T -o DIR {d['compile_options']}",
    ]
    return "\n".join(lines)
