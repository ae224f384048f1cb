"""Run the program of an artifact: one call, a time limit, and no process left behind.

Shared by every runner whose simulator is a program of its own:

    result = run_process([sys.executable, "run.py"], cwd=folder, timeout_s=60.0)

The child leads a new process group, so whatever it started dies with it: after a normal end, a time-out or Ctrl-C.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from eqcompile.toolchain.diagnostics import Diagnostic, SimulatorError

__all__ = ["SHARE", "ProcessResult", "end_group", "run_process", "usable_processors"]

SHARE = "EQCOMPILE_PROCESSORS"
"""Environment variable of a worker process: how many processors are its share."""

_SHOWN_LINES = 12
_GRACE_S = 1.0
_POLL_S = 0.01


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


def run_process(
    argv: Sequence[str], *, cwd: Path, timeout_s: float, env: Mapping[str, str] | None = None
) -> ProcessResult:
    """Run `argv` in the folder `cwd` with no standard input; `env` replaces the environment if given.

    Raises SimulatorError, with the last lines of stderr, when the program cannot be started, ends with another status
    than 0, or still runs after `timeout_s` seconds. The whole process group is ended in every case, killed if it
    does not end when asked.
    """
    # Files, not pipes: a surviving grandchild holds a pipe open and would block the reader past the limit.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except OSError as error:
            raise SimulatorError(
                Diagnostic("simulator-start", f"cannot start {argv[0]}: {error.strerror}", str(cwd))
            ) from error
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise SimulatorError(
                Diagnostic(
                    "simulator-timeout",
                    f"no end after {timeout_s:g} s{_tail(err)}",
                    shlex.join(argv),
                    "give fewer samples or a longer --timeout",
                )
            ) from None
        finally:
            end_group(process)
        if status != 0:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            raise SimulatorError(Diagnostic("simulator-died", f"ended with {how}{_tail(err)}", shlex.join(argv)))
        return ProcessResult(_text(out), _text(err))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the group. Asked first, Python's resource tracker frees the shared memory of the others."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        limit = time.monotonic() + patience_s
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < limit:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(_POLL_S)
        except (ProcessLookupError, PermissionError):
            break
    process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _tail(err: IO[bytes]) -> str:
    lines = [line for line in _text(err).splitlines() if line.strip()][-_SHOWN_LINES:]
    return "; its last words:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""
