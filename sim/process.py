"""Run the program of an artifact: one call, a time limit, and no process left behind.

Shared by every runner whose simulator is a program of its own:

    result = run_process([sys.executable, "run.py"], cwd=folder, timeout_s=60.0)

Whatever it started dies with it (`toolchain.process`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError
from eqcompile.toolchain.process import run_group

__all__ = ["SHARE", "ProcessResult", "each_second", "run_process", "usable_processors"]

SHARE = "EQCOMPILE_PROCESSORS"
"""Environment variable of a worker process: how many processors are its share."""

_SHOWN_LINES = 12


@dataclass(frozen=True)
class ProcessResult:
    """What a program that ended with exit status 0 wrote (UTF-8, undecodable bytes replaced)."""

    stdout: str
    stderr: str


def usable_processors() -> int:
    """Processors that this process may use: of a worker beside others, its share of them."""
    share = os.environ.get(SHARE)
    if share is not None:
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def each_second(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` once a second, from another thread, while the body runs; never if that takes less."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            tell()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run_process(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    watch: Callable[[], None] | None = None,
) -> ProcessResult:
    """Run `argv` in the folder `cwd` with no standard input; `env` replaces the environment if given. `watch` is called
    each second until it ends.

    Raises SimulatorError, with the last lines of stderr, when the program cannot be started, ends with another status
    than 0, or still runs after `timeout_s` seconds.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            status = run_group(argv, cwd=cwd, timeout_s=timeout_s, out=out, err=err, env=env, watch=watch)
        except OSError as error:
            raise SimulatorError(
                Diagnostic("simulator-start", f"cannot start {argv[0]}: {error.strerror}", str(cwd))
            ) from error
        except subprocess.TimeoutExpired:
            raise SimulatorError(
                Diagnostic(
                    "simulator-timeout",
                    f"no end after {timeout_s:g} s{_tail(err)}",
                    shlex.join(argv),
                    "give fewer samples or a longer --timeout",
                )
            ) from None
        if status != 0:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            raise SimulatorError(Diagnostic("simulator-died", f"ended with {how}{_tail(err)}", shlex.join(argv)))
        return ProcessResult(_text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _tail(err: IO[bytes]) -> str:
    lines = [line for line in _text(err).splitlines() if line.strip()][-_SHOWN_LINES:]
    return "; its last words:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""
