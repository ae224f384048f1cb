"""The entry points: `eqcompile`, and `eqsim`, `eqfault`, `eqtune`, which are short names of its commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["eqfault", "eqsim", "eqtune", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eqcompile` with `argv` (default: the process's arguments); return the exit code."""
    return _enter((), argv)


def eqsim(argv: Sequence[str] | None = None) -> int:
    """`eqcompile run`."""
    return _enter(("run",), argv)


def eqfault(argv: Sequence[str] | None = None) -> int:
    """`eqcompile fault`."""
    return _enter(("fault",), argv)


def eqtune(argv: Sequence[str] | None = None) -> int:
    """`eqcompile tune`."""
    return _enter(("tune",), argv)


def _enter(command: Sequence[str], argv: Sequence[str] | None) -> int:
    try:
        from . import commands, console

        if argv is None:
            console.end_on_termination()
    except KeyboardInterrupt:
        sys.stderr.write("error[interrupted]: interrupted; no output was written\n")
        return 130
    words = sys.argv[1:] if argv is None else argv
    # A short name has a version too, which its command does not know.
    return console.run(commands.run_command, words if words[:1] == ["--version"] else [*command, *words])


if __name__ == "__main__":
    sys.exit(main())
