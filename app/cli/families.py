"""`eqcompile families`: the classes of network that can be imported, and their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eqcompile.toolchain import registry
from eqcompile.toolchain.importers.family import Family

from .console import Parser, Reply
from .show import table

__all__ = ["command", "describe"]


def command(argv: Sequence[str]) -> Reply:
    """List every registered family with the settings that a file may not hold."""
    parser = Parser(
        prog="eqcompile families",
        description="List the classes of network that can be imported and the settings that a file may not hold.",
        examples="  eqcompile families --json",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.parse_all(argv)
    loaded = registry.load_all("families", Family)
    rows = [describe(f) for f in loaded.entries.values()]
    text = table(
        ["family", "settings", "summary"],
        [
            [r["family"], ", ".join(f"{s['name']}={s['default']}" for s in r["settings"]) or "none", r["summary"]]
            for r in rows
        ],
    )
    lines = [f"unavailable: {u.name} ({u.entry_point}): {u.reason}" for u in loaded.unavailable]
    document = {"families": rows, "unavailable": [asdict(u) for u in loaded.unavailable]}
    return Reply(document, "\n".join([text, *lines]))


def describe(family: Family) -> dict[str, Any]:
    """A family as JSON values; a default of null must be given."""
    settings = [{"name": s.name, "default": s.default, "doc": s.doc} for s in family.settings]
    return {"family": family.key, "summary": family.summary, "settings": settings}
