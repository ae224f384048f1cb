"""`eqcompile families`: the classes of network that can be imported, and their settings."""

from __future__ import annotations

from collections.abc import Sequence

from ..installation import families
from .console import Parser, Reply
from .show import table

__all__ = ["command"]


def command(argv: Sequence[str]) -> Reply:
    """List every registered family with the settings that a file may not hold."""
    parser = Parser(
        prog="eqcompile families",
        description="List the classes of network that can be imported, the settings that a file may not hold, and the "
        "classes that compute the same under another name.",
        examples="  eqcompile families --json",
    )
    parser.parse_all(argv)
    document = families()
    text = table(
        ["family", "settings", "summary"],
        [
            [
                r["family"],
                ", ".join(f"{s['name']}={s['default']}" for s in r["settings"]) or "none",
                f"the same as {r['same_as']}" if r["same_as"] else r["summary"],
            ]
            for r in document["families"]
        ],
    )
    lines = [f"unavailable: {u['name']} ({u['entry_point']}): {u['reason']}" for u in document["unavailable"]]
    return Reply(document, "\n".join([text, *lines]))
