"""`eqcompile`: compile a trained equilibrium network, inspect one, or list the targets."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import console

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eqcompile` with `argv` (default: the process's arguments); return the exit code."""
    if argv is None:
        console.end_on_termination()
    return console.run(_command, sys.argv[1:] if argv is None else argv)


def _command(argv: Sequence[str]) -> console.Reply:
    # A command is imported when it is asked for: help must not wait for NumPy.
    match argv[:1]:
        case ["targets"]:
            from . import targets

            return targets.command(argv[1:])
        case ["inspect"]:
            from . import inspect

            return inspect.command(argv[1:])
        case ["families"]:
            from . import families

            return families.command(argv[1:])
        case ["search"]:
            from . import search

            return search.command(argv[1:])
        case ["synth"]:
            from . import synth

            return synth.command(argv[1:])
        case _:
            from . import compile

            return compile.command(argv)


if __name__ == "__main__":
    sys.exit(main())
