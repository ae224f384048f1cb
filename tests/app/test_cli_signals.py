"""An interruption at a bad moment: none is lost, and nothing that was started goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eqcompile.app.cli import console

FINALIZER = """
    class Late:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    def command(argv):
        late = Late()
        del late
        time.sleep(60)
"""
LIBRARY = """
    def command(argv):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path("pid").write_text(str(child.pid))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""


def ended(tmp_path: Path, command: str) -> tuple[int, str]:
    """Exit code and standard error of a process whose own entry runs `command`."""
    program = "import os, signal, subprocess, sys, time\nfrom pathlib import Path\n"
    program += "from eqcompile.app.cli import console\n"
    program += textwrap.dedent(command) + "console.end_on_termination()\nsys.exit(console.run(command, []))\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )
    return done.returncode, done.stderr


def test_an_interruption_within_a_finalizer_is_not_lost(tmp_path: Path) -> None:
    """Python drops what a finalizer raises; a termination while a large circuit was freed, for seconds, did nothing."""
    assert ended(tmp_path, FINALIZER) == (130, "error[interrupted]: interrupted; no output was written\n")


def test_a_program_that_a_library_started_does_not_go_on(tmp_path: Path) -> None:
    """Amaranth starts Yosys and does not end it when it is interrupted itself."""
    assert ended(tmp_path, LIBRARY)[0] == 130
    child = int((tmp_path / "pid").read_text(encoding="utf-8"))
    limit = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < limit:
            os.kill(child, 0)
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        pytest.fail("the program goes on")


def test_what_an_interruption_became_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """Python turns one in the middle of a class statement into a RuntimeError, which looked like a defect."""

    def command(argv: Sequence[str]) -> console.Reply:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    assert console.run(command, []) == console.INTERRUPTED
    assert capsys.readouterr().err == "error[interrupted]: interrupted; no output was written\n"


def test_an_interruption_that_a_library_turned_into_an_error_is_an_interruption(tmp_path: Path) -> None:
    """Interrupted while NumPy's extension modules load, its import raises an ImportError that holds no trace of it."""
    command = """
        def command(argv):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt:
                pass
            raise ImportError("Error importing numpy")
    """
    assert ended(tmp_path, command) == (130, "error[interrupted]: interrupted; no output was written\n")
