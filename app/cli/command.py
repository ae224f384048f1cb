"""What a command is, and how one of a table is chosen."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .console import Reply

__all__ = ["Command", "choose", "listing"]


@dataclass(frozen=True)
class Command:
    """A subcommand. `usage`: what follows its name; `function` takes the words after the name; `short`: the program
    that is the same command."""

    name: str
    usage: str
    summary: str
    function: Callable[[Sequence[str]], Reply]
    short: str = ""


def choose(commands: Sequence[Command], argv: Sequence[str], prog: str = "eqcompile") -> Command | None:
    """The command that the first word names, None if it names none.

    Raises UsageError if that word is no file and close to a command's name.
    """
    word = next(iter(argv), "")
    named = {c.name: c for c in commands}
    if word in named:
        return named[word]
    near = difflib.get_close_matches(word, named, n=1)
    if near and not word.startswith("-") and not Path(word).exists():
        what = f"there is no command and no file {word!r}"
        raise UsageError(Diagnostic("unknown-command", what, hint=f"did you mean {prog} {near[0]}?"))
    return None


def listing(commands: Sequence[Command], prog: str = "eqcompile") -> str:
    """One indented line for each command."""
    rows = [(f"{prog} {c.name} {c.usage}".rstrip(), f"{c.summary}{f' ({c.short})' * bool(c.short)}") for c in commands]
    width = max(len(call) for call, _ in rows)
    return "\n".join(f"  {call:<{width}}  {summary}" for call, summary in rows)
