"""What every command shares: one way to run, to fail and to print.

Standard output holds the reply (text, or one JSON document with `--json`); errors and progress go to standard error.
With `--json` an error is a JSON document on standard output too: `{"error": [diagnostic, ...]}`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import difflib
import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from eqcompile.toolchain.diagnostics import (
    ArtifactError,
    Diagnostic,
    EqcompileError,
    MissingToolError,
    UsageError,
)

__all__ = [
    "EXIT_CODES",
    "INTERRUPTED",
    "RENAMED",
    "TARGET_MISSED",
    "Parser",
    "Reply",
    "end_on_termination",
    "run",
]

INTERRUPTED = 130
TARGET_MISSED = 9
_BROKEN_PIPE = 141
_DEBUG = "EQCOMPILE_DEBUG"
_AGAIN_S = 0.01
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

RENAMED = {
    "--contract": "--max-lipschitz",
    "--control": "--baseline",
    "--control-inputs": "--baseline-inputs",
    "--n": "--faults",
    "--near": "--near-lsb",
    "--target": "--engine",
}
"""New names of options. A command that has only the new one refuses the old one and names the new one."""

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (1, "a defect of eqcompile or of a plug-in (EQCOMPILE_DEBUG=1 shows the traceback)"),
    (2, "wrong command line or argument"),
    (3, "a model or data file cannot be read as what it claims to be"),
    (4, "a net breaks a rule of the IR"),
    (5, "the model or the target does not take an operation of this net"),
    (6, "the output cannot be written, or a folder given is not an artifact"),
    (7, "an optional tool is not installed (compile: only if --verify or --simulator was given)"),
    (8, "a tool or simulator died or hung, results differ from golden (no artifact is left), or a fault from a proof"),
    (
        TARGET_MISSED,
        "search, --keep-labels, certify --safe: target missed; synth: --clock is not reached (the result is written)",
    ),
    (INTERRUPTED, "interrupted or terminated (no artifact is left)"),
)


@dataclass(frozen=True)
class Reply:
    """What a command answers: the JSON document, the same for people, and the exit code."""

    document: Mapping[str, object]
    text: str
    exit_code: int = 0


class Parser(argparse.ArgumentParser):
    """An argument parser that reports as diagnostics do, knows `--json`, and lists the exit codes in its help."""

    def __init__(self, *, prog: str, description: str, examples: str, add_help: bool = True) -> None:
        codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES)
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}\n\nexit codes:\n{codes}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=add_help,
        )
        self._faults: list[Diagnostic] = []
        self.add_argument("--json", action="store_true", help="one JSON document on standard output")

    def error(self, message: str) -> NoReturn:
        raise UsageError([*self._faults, self._usage(message)])

    def _usage(self, message: str) -> Diagnostic:
        return Diagnostic("usage", message, hint=f"{self.prog} --help")

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> object:
        """The values of an option; none but a fault more where it does not take them. argparse would stop there."""
        try:
            return super()._get_values(action, arg_strings)
        except argparse.ArgumentError as error:
            self._faults.append(self._usage(str(error)))
            return argparse.SUPPRESS

    def parse(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[Diagnostic]]:
        """Parse, and say what is wrong: an unknown option with the nearest known one, a renamed one with its new name,
        every value that an option does not take.

        Raises UsageError for what cannot be parsed at all, as an option without its value.
        """
        known = [s for action in self._actions for s in action.option_strings]
        self._faults = []
        for name in (word.partition("=")[0] for word in argv):
            if name not in known and RENAMED.get(name) in known:
                self._faults.append(
                    Diagnostic("renamed-option", f"{name} has a new name", name, f"use {RENAMED[name]}")
                )
        if self._faults:
            raise UsageError(self._faults)
        namespace, rest = self.parse_known_args(argv)
        for word in rest:
            near = difflib.get_close_matches(word.split("=")[0], known, n=1) if word.startswith("-") else []
            hint = f"did you mean {near[0]}? {self.prog} --help" if near else f"{self.prog} --help"
            kind = "option" if word.startswith("-") else "argument"
            self._faults.append(Diagnostic(f"unknown-{kind}", f"there is no {kind} {word!r} here", hint=hint))
        return namespace, self._faults

    def parse_all(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse; UsageError with everything that `parse` finds wrong."""
        namespace, faults = self.parse(argv)
        if faults:
            raise UsageError(faults)
        return namespace


class _Signals:
    """Whether an interruption arrived: some imports turn its KeyboardInterrupt into another exception and drop it."""

    arrived = False

    @classmethod
    def interrupt(cls, number: int, frame: object) -> NoReturn:
        cls.arrived = True
        raise KeyboardInterrupt


def end_on_termination() -> None:
    """Treat SIGTERM as Ctrl-C: temporary outputs vanish, and whatever was started is ended. For the process's own entry
    only."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _Signals.interrupt)
    sys.unraisablehook = _interrupt_again
    atexit.register(_end_children)


def _interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised within a finalizer: an interruption there would be no interruption."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(lost)


def _end_children() -> None:
    """End programs that are still there: an interruption may come while one is being started, and libraries start some
    (Amaranth: Yosys) that they do not end. Where the system does not list them, they end by themselves."""
    for listed in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = listed.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
            number = int(listed.parent.name)
            if int(parent) == os.getpid():
                end = os.killpg if os.getpgid(number) == number else os.kill
                end(number, signal.SIGTERM)


def run(command: Callable[[Sequence[str]], Reply], argv: Sequence[str]) -> int:
    """Run a command, print its reply or its failure, and return the exit code. Raises nothing."""
    as_json = "--json" in argv
    try:
        # A simulator that prints must not spoil the one document on standard output.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            reply = command(argv)
        _write(reply.document if as_json else reply.text)
    except KeyboardInterrupt:
        return _interrupted(as_json)
    except BrokenPipeError:
        # The reader of a pipe left; point stdout elsewhere, so that Python's own flush at exit does not fail again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user sees one line, not a traceback
        if _Signals.arrived or _is_interruption(error):
            return _interrupted(as_json)
        failure = error if isinstance(error, EqcompileError) else _explained(error)
        if failure.exit_code == 1 and os.environ.get(_DEBUG):
            traceback.print_exc(file=sys.stderr)
        package, diagnostics = _absent_package(error), failure.diagnostics
        if package and isinstance(failure, MissingToolError):
            diagnostics = tuple(_with_install(diagnostics, package))
        return _failed(diagnostics, as_json, failure.exit_code)
    else:
        return reply.exit_code


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_interruption(error: BaseException) -> bool:
    """Whether an interruption made something fail: Python itself raises others in its place, at some imports."""
    return any(isinstance(e, KeyboardInterrupt) for e in _chain(error))


def _explained(error: Exception) -> EqcompileError:
    """What an exception that nobody expected says of the machine, or else that it is a defect."""
    for e in _chain(error):
        # NumPy's `tofile` says only that fewer items were written than it had.
        if isinstance(e, OSError) and (e.errno in _FULL or str(e).endswith(" written")) or "No space left" in str(e):
            where = getattr(e, "filename", None) or ""
            what = f"the disk is full or a quota is spent: {' '.join(str(e).split())}"
            return ArtifactError(Diagnostic("disk-full", what, str(where), "free some space, or choose another -o"))
    package = _absent_package(error)
    if package and not package.startswith("eqcompile"):
        return MissingToolError(Diagnostic("missing-tool", f"the Python package {package} is not installed"))
    text = " ".join(str(error).split()) or "no message"
    hint = f"this is a defect of eqcompile or of a plug-in; run again with {_DEBUG}=1 for the traceback"
    return EqcompileError(Diagnostic("defect", f"{type(error).__name__}: {text}", hint=hint))


def _absent_package(error: BaseException | None) -> str:
    """The package that an exception says is not installed; empty if it says none."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return "" if error is None else error.name or ""


def _with_install(diagnostics: Sequence[Diagnostic], package: str) -> Sequence[Diagnostic]:
    """The diagnostics, each with the command that installs `package` where it has no hint of its own."""
    from ..packages import install_command

    return [d if d.hint else replace(d, hint=install_command(package)) for d in diagnostics]


def _interrupted(as_json: bool) -> int:
    return _failed((Diagnostic("interrupted", "interrupted; no output was written"),), as_json, INTERRUPTED)


def _failed(diagnostics: Sequence[Diagnostic], as_json: bool, code: int) -> int:
    if as_json:
        _write({"error": [d.to_json() for d in diagnostics]})
    else:
        sys.stderr.write("\n".join(str(d) for d in diagnostics) + "\n")
    return code


def _write(reply: Mapping[str, object] | str) -> None:
    text = reply if isinstance(reply, str) else json.dumps(reply, indent=2, allow_nan=False)
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
