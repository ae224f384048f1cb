"""`eqcompile tune` (`eqtune`): fine-tune a checkpoint for the integers that it will become."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eqcompile.toolchain.options import QuantizeOptions, TuneOptions

from ..files import replacing
from ..options import ForceOption, ModelOptions
from ..progress import stage_progress
from ..width_words import width_words
from . import console
from .options import add_field_options, build, field_options
from .widths import NO_WIDTHS, add_integers, integers_of

if TYPE_CHECKING:
    import argparse

    from eqcompile.toolchain.arrays import Array
    from eqcompile.toolchain.data import Inputs
    from eqcompile.toolchain.interfaces import StageProgress, Tuned

    from ..documents import TuneDocument
    from ..report.schema import Number

__all__ = ["command"]

_LONG_S = 30.0
"""Training that takes longer is announced."""
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
    from eqcompile.quantization.qat.stage import tune
    from eqcompile.toolchain import data
    from eqcompile.toolchain.importers.api import import_model

    integers = integers_of(namespace, weights=_WEIGHTS)
    options = TuneOptions(quantize=integers, **field_options(namespace, TuneOptions))
    with (
        replacing(namespace.output, force=build(ForceOption, namespace).force) as temporary,
        stage_progress() as progress,
    ):
        imported = import_model(namespace.model, **asdict(build(ModelOptions, namespace)))
        samples = data.read_inputs(namespace.data, imported.net)
        test = None if namespace.test is None else data.read_inputs(namespace.test, imported.net)
        start = time.perf_counter()
        tuned = tune(imported, samples, options, test=test, progress=_with_estimate(progress, options.epochs))
        seconds = time.perf_counter() - start
        _write(temporary, tuned.checkpoint)
        _demand_same(temporary, namespace.output, tuned, integers, samples)
    document = _document(namespace, options, imported.family, tuned, seconds)
    return console.Reply(document, _text(document))


def _with_estimate(progress: StageProgress | None, epochs: int) -> StageProgress:
    """A callback that also says after the first epoch, on standard error, how long all of them will take."""
    start, pending = time.perf_counter(), True

    def report(stage: str, done: int, total: int) -> None:
        nonlocal pending
        if pending and done * epochs >= total:
            pending, seconds = False, time.perf_counter() - start
            if seconds * epochs > _LONG_S:
                sys.stderr.write(
                    f"one epoch took {seconds:.1f} s: {epochs} epochs take about {seconds * epochs / 60:.0f} minutes "
                    "(--epochs sets their number)\n"
                )
        if progress is not None:
            progress(stage, done, total)

    return report


def _write(path: Path, checkpoint: Mapping[str, object]) -> None:
    import torch

    tensors = cast("Mapping[str, Array]", checkpoint["state_dict"])
    state = {key: torch.tensor(array) for key, array in tensors.items()}
    with path.open("wb") as file:
        torch.save({**checkpoint, "state_dict": state}, file)


def _demand_same(path: Path, output: Path, tuned: Tuned, options: QuantizeOptions, samples: Inputs) -> None:
    """The file as written lowers to the net that was measured, or it is not kept."""
    from eqcompile.quantization.lower import lower
    from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError
    from eqcompile.toolchain.importers.api import import_model

    net = lower(import_model(path, assume=False).net, options, calibration=samples).net
    if net.digest != tuned.net.digest:
        what = f"the checkpoint lowers to {net.digest[:12]}, the net that was measured is {tuned.net.digest[:12]}"
        raise SimulatorError(Diagnostic("tune-changed", what, output.name, "please report this with the checkpoint"))


def _document(
    namespace: argparse.Namespace, options: TuneOptions, family: str, tuned: Tuned, seconds: float
) -> TuneDocument:
    from ..report.data import number

    integers = options.quantize
    return {
        "source": str(namespace.model),
        "output": str(namespace.output),
        "family": family,
        "weights": integers.weights,
        "widths": dict(integers.widths),
        "state_bits": integers.state_bits,
        "states": dict(integers.states),
        "guard_bits": integers.guard_bits,
        "guards": dict(integers.guards),
        "digest": tuned.net.digest,
        "max_lipschitz": options.max_lipschitz,
        "margin": options.margin,
        "bound": _bound(tuned.bound),
        "others": {
            name: {
                "accuracy": {
                    part: number(share, "measured", "fraction", "golden") for part, share in o.accuracy.items()
                },
                "bound": _bound(o.bound),
            }
            for name, o in tuned.others.items()
        },
        "accuracy": {
            name: {
                "samples": number(tuned.samples[name], "measured", "samples"),
                "float_before": number(found["float"], "measured", "fraction", "float64 reference"),
                "integers_before": number(found["before"], "measured", "fraction", "golden, without training"),
                "integers_after": number(found["after"], "measured", "fraction", "golden"),
            }
            for name, found in tuned.accuracy.items()
        },
        "trained_on": number(tuned.samples["trained"], "measured", "samples"),
        "epoch": number(tuned.epoch, "measured", "epochs", f"chosen of {len(tuned.history)}"),
        "seconds": number(seconds, "measured", "s", "wall-clock time on this machine"),
        "frozen": dict(tuned.frozen),
        "history": list(tuned.history),
        "compile_options": _compile_options(integers, namespace.data),
    }


def _bound(value: float) -> Number | None:
    from ..report.data import number

    return number(value, "proved", "a step", "certificate of the integers") if math.isfinite(value) else None


def _compile_options(options: QuantizeOptions, path: Path) -> str:
    """What `eqcompile` has to be told to make the same integers."""
    words = [f"--weights {options.weights}", *(f"--weights {name}={kind}" for name, kind in options.widths.items())]
    words += [] if options.per_row else ["--per-tensor"]
    words += [f"--state-bits {options.state_bits}", f"--input-bits {options.input_bits}"]
    words += width_words(options.states, options.guard_bits, options.guards)
    return " ".join([*words, f"--calibrate {path}"])


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
