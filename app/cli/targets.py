"""`eqcompile targets`: what is installed, and how to install the rest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import MissingToolError, PluginError
from eqcompile.toolchain.options import QuantizeOptions

from ..options import ModelOptions
from .console import Parser, Reply
from .documents import TargetState
from .options import add_field_options, field_options
from .show import table
from .widths import add_integers, integers_of

__all__ = ["command", "describe"]

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
    rows = [describe(name) for name in registry.names("targets")]
    if namespace.model is not None:
        refusals = _refusals(namespace)
        rows = [{**r, "refusals": refusals.get(r["name"], [])} for r in rows]
        return Reply({"targets": rows}, "\n".join(_lines(rows)))
    lines = [
        table(
            ["target", "state", "simulators", "summary"],
            [[r["name"], _state(r), ", ".join(r["simulators"]) or "none", r["summary"]] for r in rows],
        )
    ]
    lines += [f"install the tools of {r['name']}: {r['install']}" for r in rows if r["missing"] and r["install"]]
    return Reply({"targets": rows}, "\n".join(lines))


def _refusals(namespace: argparse.Namespace) -> dict[str, list[dict[str, str]]]:
    """What each target that can be loaded refuses of a model, by name."""
    from eqcompile.quantization.requirements import requirements_of
    from eqcompile.toolchain.importers.api import import_model

    net = import_model(namespace.model, **field_options(namespace, ModelOptions)).net
    needs = requirements_of(net, integers_of(namespace), calibrated=False)
    refusals = {}
    for name in registry.names("targets"):
        with suppress(MissingToolError, PluginError):
            faults = registry.target_class(name).of().preflight(needs)
            refusals[name] = [{"code": d.code, "what": d.what, "where": d.where, "hint": d.hint} for d in faults]
    return refusals


def _lines(rows: Sequence[TargetState]) -> list[str]:
    lines = []
    for row in rows:
        faults = row.get("refusals", [])
        said = f"refuses it ({len(faults)})" if faults else "nothing is refused before quantization"
        lines.append(f"{row['name']}: {said}")
        lines += [f"  {d['where']}: {d['what']}" + (f"; {d['hint']}" if d["hint"] else "") for d in faults]
    return lines


def describe(name: str) -> TargetState:
    """A target as JSON values; one that cannot be loaded has no summary, and its reasons under `missing`."""
    try:
        target = registry.target_class(name)
    except (MissingToolError, PluginError) as error:
        return {
            "name": name,
            "summary": "",
            "installed": False,
            "missing": [d.what for d in error.diagnostics],
            "install": "",
            "simulators": [],
        }
    # Absence is a property of the class; its options have defaults, so that it can be made without a command line.
    missing = list(target().missing())
    return {
        "name": name,
        "summary": target.summary,
        "installed": not missing,
        "missing": missing,
        "install": target.install,
        "simulators": list(registry.simulators_of(name)),
    }


def _state(row: TargetState) -> str:
    return "installed" if row["installed"] else f"missing: {', '.join(row['missing'])}"
