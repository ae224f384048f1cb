"""The table of commands. A command's module is imported when the command is run."""

from __future__ import annotations

from collections.abc import Sequence

from .command import Command, choose, listing
from .console import Reply

__all__ = ["COMMANDS", "run_command"]


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


def _version() -> Reply:
    import platform
    from importlib.metadata import version

    number = version("eqcompile")
    document = {"eqcompile": number, "python": platform.python_version()}
    return Reply(document, f"eqcompile {number} (Python {document['python']})")


def _compile(argv: Sequence[str]) -> Reply:
    from . import compile

    return compile.command(argv, commands=listing(COMMANDS))


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


def _compare(argv: Sequence[str]) -> Reply:
    from . import compare

    return compare.command(argv)


def _certify(argv: Sequence[str]) -> Reply:
    from . import certify

    return certify.command(argv)


def _targets(argv: Sequence[str]) -> Reply:
    from . import targets

    return targets.command(argv)


def _families(argv: Sequence[str]) -> Reply:
    from . import families

    return families.command(argv)


def _new(argv: Sequence[str]) -> Reply:
    from . import new

    return new.command(argv)


def _doctor(argv: Sequence[str]) -> Reply:
    from . import doctor

    return doctor.command(argv)


COMMANDS: tuple[Command, ...] = (
    Command("inspect", "MODEL", "what a checkpoint, a net or an artifact holds", _inspect),
    Command("run", "DIR -i X.npz -o Y.npz", "inputs through an artifact or a checkpoint", _run, "eqsim"),
    Command("verify", "DIR", "hashes of an artifact, and its simulators against golden", _verify),
    Command("compare", "DIR DIR", "two builds: what differs, and how both run on the same samples", _compare),
    Command("certify", "DIR --inputs X.npz", "what is proved of the relaxation, and after upsets", _certify),
    Command(
        "fault",
        "run DIR --model M -o C",
        "inject faults; rates from an orbit, evidence (fault --help)",
        _fault,
        "eqfault",
    ),
    Command("tune", "MODEL --data D.npz -o M.pt", "fine-tune for the integers", _tune, "eqtune"),
    Command("search", "MODEL --inputs X.npz -o DIR", "the smallest widths that keep the labels", _search),
    Command("synth", "DIR --part P", "cells and frequency of an rtl artifact on an FPGA", _synth),
    Command("targets", "", "what can be compiled for, and how to install the rest", _targets),
    Command("families", "", "what can be imported, and its settings", _families),
    Command("new", "family NAME", "a package with a family of your own, to change", _new),
    Command("doctor", "", "what is installed, and what to do next", _doctor),
)
