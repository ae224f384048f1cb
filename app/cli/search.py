"""`eqcompile search`: the smallest widths with which a net keeps its labels."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eqcompile.toolchain import artifact
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.kept_labels import kept_labels

from ..files import replacing
from ..numbers import fraction, integer
from ..options import ForceOption, ModelOptions
from ..report.pareto import picture
from ..width_words import width_words
from . import show
from .console import TARGET_MISSED, Parser, Reply
from .options import add_field_options, build
from .widths import NO_WIDTHS, add_integers, integers_of

__all__ = ["command"]

_DESCRIPTION = """\
Find the smallest widths of weights (each tensor its own: int8 to int3, ternary), states and inputs with which the
integer net tells the labels of the float64 net for a share of the inputs.

Every other input chooses the widths (search half), the rest judges them (validation half). Starting from the widest,
the step that saves most bits is tried first; a width that fails is kept. A trial needs the target and a margin of one
standard error on the search half. Where the widest widths miss the target, guard bits are added first, then bits of
those states and values whose rounding moves the outputs most.
Accepted trials are judged narrowest first until one meets the target on the
validation half; if none does, the exit code is 9. Agreement is simulated (golden)."""
_EXAMPLES = """\
  eqcompile search model.pt --inputs test.npz --calibrate train.npz --target-agreement 0.999 -o widths
  eqcompile search model.pt --inputs test.npz --target-agreement 0.98 -o widths --state-bits 6 --json"""
_JSON, _PICTURE, _HALF = "search.json", "pareto.svg", "calibration.npz"


def command(argv: Sequence[str]) -> Reply:
    """Search as the command line says."""
    namespace = _parsed(argv)
    from ..stages.model import Model
    from ..stages.tools import find_widths

    folder, force = namespace.output, build(ForceOption, namespace).force
    model = Model(import_model(namespace.model, **asdict(build(ModelOptions, namespace))))
    with (
        replacing(folder / _JSON, force=force) as document_file,
        replacing(folder / _PICTURE, force=force) as picture_file,
        contextlib.ExitStack() as stack,
    ):
        found = find_widths(
            model,
            namespace.inputs,
            integers_of(namespace),
            calibrate=namespace.calibrate,
            target=namespace.target_agreement,
            samples=namespace.samples,
            show=True,
        )
        if namespace.calibrate is None:
            # The command line that is printed calibrates on what the search did: the net is the same, digest and all.
            half_file = stack.enter_context(replacing(folder / _HALF, force=force))
            with half_file.open("wb") as file:
                np.savez(file, **found.calibration.arrays)
        table = found.to_json()
        document = {
            "warnings": list(model.imported.warnings),
            "model": namespace.model.name,
            "family": model.family,
            "inputs": namespace.inputs.name,
            "calibration": "the search half" if namespace.calibrate is None else namespace.calibrate.name,
            **table,
            "command": _command_line(namespace, table),
            "tools": artifact.tool_versions(),
            "output": str(folder),
        }
        artifact.write_json(document_file, document)
        picture_file.write_text(picture(found.result), encoding="utf-8")
    return Reply(document, _text(document), 0 if found.meets_target else TARGET_MISSED)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="eqcompile search", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="checkpoint file")
    parser.add_argument("--inputs", type=Path, required=True, metavar="X.npz", help="inputs (key x) to keep labels on")
    parser.add_argument("--calibrate", type=Path, metavar="C.npz", help="calibration inputs (default: the search half)")
    parser.add_argument(
        "--target-agreement", type=fraction, default=0.999, metavar="A", help="share of equal labels (default 0.999)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"for {_JSON}, {_PICTURE} and, without --calibrate, {_HALF}",
    )
    parser.add_argument("--samples", type=integer(2), default=2000, metavar="N", help="inputs to use (default 2000)")
    add_field_options(parser, ForceOption, None)
    add_field_options(parser, ModelOptions, "the model")
    add_integers(parser, "the widest integers", weights_default=None, skip=NO_WIDTHS)
    return parser.parse_all(argv)


def _command_line(namespace: argparse.Namespace, found: Mapping[str, Any]) -> str:
    """How to compile with the widths that were found."""
    best = found["best"]
    words = ["eqcompile", str(namespace.model), "--target", "numpy", "-o", "out"]
    words += ["--calibrate", str(namespace.calibrate or namespace.output / _HALF)]
    for name, kind in best["weights"].items():
        words += ["--weights", f"{name}={kind}"]
    words += ["--state-bits", str(best["state_bits"]), "--input-bits", str(best["input_bits"])]
    words += width_words(found["states"], found["guard_bits"], found["guards"])
    words += [] if integers_of(namespace).per_row else ["--per-tensor"]
    model = build(ModelOptions, namespace)
    words += [] if model.family is None else ["--family", model.family]
    words += [] if model.config is None else ["--config", str(model.config)]
    for flag, pairs in (("--set", model.settings), ("--map", model.map)):
        words += [word for name, value in pairs.items() for word in (flag, f"{name}={value}")]
    words += ["--assume"] if model.assume else []
    return shlex.join(words)


def _text(d: Mapping[str, Any]) -> str:
    widest, best, validation = d["widest"], d["best"], d["validation"]
    head = ["tried", "bits", "labels equal", "share", "kept"]
    rows = [
        [
            _changed(t),
            f"{t['bits']:,}",
            f"{t['labels_equal']} of {t['labels']}",
            f"{t['agreement']:.4f}",
            "yes" if t["accepted"] else "no",
        ]
        for t in d["trials"]
    ]
    kept = ", ".join(d["exact_tensors"])
    met = "meets" if validation["meets_target"] else "MISSES"
    judged = f", {validation['judged']} accepted settings judged" if validation["judged"] > 1 else ""
    lines = [
        *show.warnings(d["warnings"]),
        f"{d['model']}: {d['family']}, labels of {d['inputs']}, calibrated on {d['calibration']}",
        *_precision(d),
        show.table(head, rows),
        (
            f"widths      {', '.join(f'{n} {k}' for n, k in best['weights'].items())}; "
            f"states {best['state_bits']} bits, inputs {best['input_bits']} bits"
        ),
        *([f"            {kept}: holds codes already, which are kept"] if kept else []),
        (
            f"memory      {best['bits']:,} bits of weights, states and inputs; {best['bits'] / widest['bits']:.1%} of "
            f"the widest ({widest['bits']:,})"
        ),
        (
            f"search      {best['labels_equal']} of {best['labels']} labels equal ({best['agreement']:.4f}) [simulated]"
            f"; needed: {d['required_agreement']:.4f}"
        ),
        (
            f"validation  {validation['labels_equal']} of {validation['labels']} labels equal "
            f"({validation['agreement']:.4f}) [simulated]: {met} the target {d['target_agreement']:g}{judged}"
        ),
        f"digest      {d['digest']}",
        f"compile     {d['command']}",
        f"written     {d['output']} ({_JSON}, {_PICTURE})",
    ]
    return "\n".join(lines)


def _precision(d: Mapping[str, Any]) -> list[str]:
    kept = kept_labels([d["widening"]]) if d["widening"] else None
    lines = [] if kept is None else show.widening(kept, "the search half")
    return [f"{'' if k else 'precision':<12}{line}" for k, line in enumerate(lines)]


def _changed(trial: Mapping[str, Any]) -> str:
    name = trial["changed"]
    if not name:
        return "widest"
    value = trial["weights"].get(name) or trial[name.replace(" ", "_")]
    return f"{name} {value}"
