"""The table of commands, and how one is chosen. A command's module is imported when the command is run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from eqcompile.toolchain.diagnostics import Diagnostic, UsageError

from .console import Reply

__all__ = ["COMMANDS", "Command", "choose", "listing", "run_command"]


@dataclass(frozen=True)
class Command:
    """A subcommand. `usage`: what follows its name; `function` takes the words after the name; `short`: the program
    that is the same command."""

    name: str
    usage: str
    summary: str
    function: Callable[[Sequence[str]], Reply]
    short: str = ""


def run_command(argv: Sequence[str]) -> Reply:
    """Run one command line of `eqcompile`: a subcommand, or without one the compilation of a model.

    Raises UsageError: a word that is no file and close to a command's name (code `unknown-command`).
    """
    match argv[:1]:
        case ["--version"]:
            return _version()
        case ["help"] if len(argv) > 1:
            return run_command([*argv[1:], "--help"])
        case ["help"]:
            return run_command(["--help"])
        case _:
            chosen = choose(COMMANDS, argv)
            return _compile(argv) if chosen is None else chosen.function(argv[1:])


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


def _version() -> Reply:
    import platform
    from importlib.metadata import version

    number = version("eqcompile")
    document = {"eqcompile": number, "python": platform.python_version()}
    return Reply(document, f"eqcompile {number} (Python {document['python']})")


def _compile(argv: Sequence[str]) -> Reply:
    from . import compile

    return compile.command(argv)


def _run(argv: Sequence[str]) -> Reply:
    from . import run

    return run.command(argv)


def _fault(argv: Sequence[str]) -> Reply:
    from . import eqfault

    return eqfault.command(argv)


def _tune(argv: Sequence[str]) -> Reply:
    from . import tune

    return tune.command(argv)


def _search(argv: Sequence[str]) -> Reply:
    from . import search

    return search.command(argv)


def _synth(argv: Sequence[str]) -> Reply:
    from . import synth

    return synth.command(argv)


def _inspect(argv: Sequence[str]) -> Reply:
    from . import inspect

    return inspect.command(argv)


def _verify(argv: Sequence[str]) -> Reply:
    from . import verify

    return verify.command(argv)


def _targets(argv: Sequence[str]) -> Reply:
    from . import targets

    return targets.command(argv)


def _families(argv: Sequence[str]) -> Reply:
    from . import families

    return families.command(argv)


def _doctor(argv: Sequence[str]) -> Reply:
    from . import doctor

    return doctor.command(argv)


COMMANDS: tuple[Command, ...] = (
    Command("inspect", "MODEL", "what a checkpoint, a net or an artifact holds", _inspect),
    Command("run", "DIR -i X.npz -o Y.npz", "inputs through an artifact or a checkpoint", _run, "eqsim"),
    Command("verify", "DIR", "hashes of an artifact, and its simulators against golden", _verify),
    Command("fault", "run DIR --model M -o C", "inject faults and say what becomes of them", _fault, "eqfault"),
    Command("tune", "MODEL --data D.npz -o M.pt", "fine-tune for the integers", _tune, "eqtune"),
    Command("search", "MODEL --inputs X.npz -o DIR", "the smallest widths that keep the labels", _search),
    Command("synth", "DIR --part P", "cells and frequency of an rtl artifact on an FPGA", _synth),
    Command("targets", "", "what can be compiled for, and how to install the rest", _targets),
    Command("families", "", "what can be imported, and its settings", _families),
    Command("doctor", "", "what is installed, and what to do next", _doctor),
)
