"""`eqcompile doctor`: what is installed, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence

from ..installation import Extra, Installation, installation
from .console import Parser, Reply
from .show import table

__all__ = ["command"]

_FIRST_STEPS = (
    "eqcompile inspect MODEL                    what a checkpoint holds",
    "eqcompile MODEL --target numpy -o out      compile it for the target that needs nothing else",
)


def command(argv: Sequence[str]) -> Reply:
    """Report the installation; what is missing is a row with its install command, never an error."""
    parser = Parser(
        prog="eqcompile doctor",
        description="Say what is installed (Python, extras, programs, plug-ins) and what to do next.",
        examples="  eqcompile doctor\n  eqcompile doctor --json",
    )
    parser.parse_all(argv)
    document = installation()
    return Reply(document, _text(document))


def _text(d: Installation) -> str:
    python = d["python"]
    where = "in a virtual environment" if python["virtual_environment"] else "outside of a virtual environment"
    head = f"eqcompile {d['eqcompile']} on Python {python['version']} ({python['executable']}, {where})"
    extras = [[e["name"], _state(e), e["purpose"]] for e in d["extras"]]
    programs = [[p["name"], p["path"] or "missing", p["purpose"]] for p in d["programs"]]
    targets = [
        [t["name"], "ready" if t["installed"] else f"missing: {', '.join(t['missing'])}", ", ".join(t["simulators"])]
        for t in d["targets"]
    ]
    steps = d["next"] or ["nothing is missing"]
    return "\n\n".join(
        [
            f"{head}\n{python['platform']}, {python['processors']} processors",
            table(["extra", "state", "for"], extras),
            table(["program", "path", "for"], programs),
            table(["target", "state", "simulators"], targets),
            "\n  ".join(["to install what is missing, as far as you need it:", *steps]),
            "\n  ".join(["to start:", *_FIRST_STEPS]),
        ]
    )


def _state(extra: Extra) -> str:
    if not extra["available"]:
        return "not on this Python"
    return "installed" if extra["installed"] else f"missing: {', '.join(extra['missing'])}"
