"""`eqcompile targets`: what is installed, and how to install the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eqcompile.toolchain.options import QuantizeOptions

from ..documents import TargetState
from ..installation import refusals, targets
from ..options import ModelOptions
from .console import Parser, Reply
from .options import add_field_options, field_options
from .show import table
from .widths import add_integers, integers_of

__all__ = ["command"]

_DESCRIPTION = """\
List the targets: whether their tools are installed, and the simulators that check them. With MODEL, say of every target
with its default options what it refuses of this network for certain, without quantizing it."""
_EXAMPLES = """\
  eqcompile targets --json
  eqcompile targets model.pt --weights int4"""


def command(argv: Sequence[str]) -> Reply:
    """List every registered target; a missing tool or a plug-in that cannot be loaded is a row, never an error. Of a
    model, also why each target with its default options refuses it.

    Raises what `import_model` raises, and UsageError for options without a model.
    """
    parser = Parser(prog="eqcompile targets", description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="checkpoint file: say who refuses it")
    add_field_options(parser, ModelOptions, "the model")
    add_integers(parser, "the integers", weights_default=QuantizeOptions.weights)
    namespace = parser.parse_all(argv)
    rows = targets()
    if namespace.model is not None:
        from eqcompile.toolchain.importers.api import import_model

        net = import_model(namespace.model, **field_options(namespace, ModelOptions)).net
        reasons = refusals(net, integers_of(namespace))
        rows = [{**r, "refusals": reasons.get(r["name"], [])} for r in rows]
        return Reply({"targets": rows}, "\n".join(_lines(rows)))
    lines = [
        table(
            ["target", "state", "simulators", "summary"],
            [[r["name"], _state(r), ", ".join(r["simulators"]) or "none", r["summary"]] for r in rows],
        )
    ]
    lines += [f"install the tools of {r['name']}: {r['install']}" for r in rows if r["missing"] and r["install"]]
    return Reply({"targets": rows}, "\n".join(lines))


def _lines(rows: Sequence[TargetState]) -> list[str]:
    lines = []
    for row in rows:
        faults = row.get("refusals", [])
        said = f"refuses it ({len(faults)})" if faults else "nothing is refused before quantization"
        lines.append(f"{row['name']}: {said}")
        lines += [f"  {d['where']}: {d['what']}" + (f"; {d['hint']}" if d["hint"] else "") for d in faults]
    return lines


def _state(row: TargetState) -> str:
    return "installed" if row["installed"] else f"missing: {', '.join(row['missing'])}"
