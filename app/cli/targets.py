"""`eqcompile targets`: what is installed, and how to install the rest."""

from __future__ import annotations

from collections.abc import Sequence

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import MissingToolError, PluginError

from .console import Parser, Reply
from .documents import TargetState
from .show import table

__all__ = ["command", "describe"]


def command(argv: Sequence[str]) -> Reply:
    """List every registered target; a missing tool or a plug-in that cannot be loaded is a row, never an error."""
    parser = Parser(
        prog="eqcompile targets",
        description="List the targets: whether their tools are installed, and the simulators that check them.",
        examples="  eqcompile targets --json",
    )
    parser.parse_all(argv)
    rows = [describe(name) for name in registry.names("targets")]
    lines = [
        table(
            ["target", "state", "simulators", "summary"],
            [[r["name"], _state(r), ", ".join(r["simulators"]) or "none", r["summary"]] for r in rows],
        )
    ]
    lines += [f"install the tools of {r['name']}: {r['install']}" for r in rows if r["missing"] and r["install"]]
    return Reply({"targets": rows}, "\n".join(lines))


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
