"""`eqcompile families`: the classes of network that can be imported, and their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from eqcompile.toolchain import registry
from eqcompile.toolchain.importers.family import Family

from .console import Parser, Reply
from .documents import FamilyDocument, SettingDocument
from .show import table

__all__ = ["command", "describe"]


def command(argv: Sequence[str]) -> Reply:
    """List every registered family with the settings that a file may not hold."""
    parser = Parser(
        prog="eqcompile families",
        description="List the classes of network that can be imported, the settings that a file may not hold, and the "
        "classes that compute the same under another name.",
        examples="  eqcompile families --json",
    )
    parser.parse_all(argv)
    loaded = registry.load_all("families", Family)
    rows = [describe(f) for primary in loaded.entries.values() for f in (primary, *primary.twins)]
    text = table(
        ["family", "settings", "summary"],
        [
            [
                r["family"],
                ", ".join(f"{s['name']}={s['default']}" for s in r["settings"]) or "none",
                f"the same as {r['same_as']}" if r["same_as"] else r["summary"],
            ]
            for r in rows
        ],
    )
    lines = [f"unavailable: {u.name} ({u.entry_point}): {u.reason}" for u in loaded.unavailable]
    document = {"families": rows, "unavailable": [asdict(u) for u in loaded.unavailable]}
    return Reply(document, "\n".join([text, *lines]))


def describe(family: Family) -> FamilyDocument:
    """A family as JSON values; a default of null must be given."""
    settings: list[SettingDocument] = [{"name": s.name, "default": s.default, "doc": s.doc} for s in family.settings]
    return {
        "family": family.key,
        "summary": family.summary,
        "settings": settings,
        "same_as": family.same_as,
        "offer": family.offer,
    }
