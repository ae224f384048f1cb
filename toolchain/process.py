"""Run a program in a process group of its own, which ends with it: after a normal end, a time-out or Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["end_group", "run_group"]

_GRACE_S = 1.0
_POLL_S = 0.01
_WATCH_S = 1.0


def run_group(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout_s: float,
    out: IO[bytes],
    err: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    watch: Callable[[], None] | None = None,
) -> int:
    """Exit status of a program (negative: the signal that ended it) that runs in the folder `cwd` without an input.

    What it prints goes to files, with `err` left out to the same one: a surviving grandchild would hold a pipe open and
    block its reader past the limit. `env` replaces the environment. `watch` is called each second until it ends.

    Raises OSError where it cannot be started, and `subprocess.TimeoutExpired` after `timeout_s` seconds.
    """
    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT if err is None else err,
        start_new_session=True,
    )
    try:
        return process.wait(timeout_s) if watch is None else _watched(process, timeout_s, watch)
    finally:
        end_group(process)


def _watched(process: subprocess.Popen[bytes], timeout_s: float, watch: Callable[[], None]) -> int:
    end = time.monotonic() + timeout_s
    while True:
        left = end - time.monotonic()
        try:
            return process.wait(max(0.0, min(_WATCH_S, left)))
        except subprocess.TimeoutExpired:
            if left <= _WATCH_S:
                raise
        watch()


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
