"""Running the program of an artifact: nothing outlives it."""

import sys
import time
from pathlib import Path

import pytest

from eqcompile.sim.process import run_process
from eqcompile.toolchain.diagnostics import SimulatorError

STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("grandchild").write_text(str(os.getpid()))
time.sleep(600)
"""
PARENT = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
while not pathlib.Path("grandchild").exists():
    time.sleep(0.01)
{then}
"""
POLITE = """
import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path("freed").write_text("yes")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
pathlib.Path("ready").write_text("yes")
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return False
    return not any(line.startswith("State:") and "Z" in line for line in status.read_text().splitlines())


@pytest.mark.parametrize("then", ["sys.exit(0)", "sys.exit(3)", "time.sleep(600)"])
def test_a_grandchild_that_ignores_the_request_is_killed(tmp_path: Path, then: str) -> None:
    """A simulator's own processes would go on burning a core after a normal end, a failure or a time-out."""
    argv = [sys.executable, "-c", PARENT.format(child=STUBBORN, then=then)]
    if then == "sys.exit(0)":
        run_process(argv, cwd=tmp_path, timeout_s=30)
    else:
        with pytest.raises(SimulatorError, match="exit status 3" if "3" in then else "no end after 2 s"):
            run_process(argv, cwd=tmp_path, timeout_s=2 if "600" in then else 30)
    assert not alive(int((tmp_path / "grandchild").read_text()))


def test_a_program_past_its_limit_may_clean_up(tmp_path: Path) -> None:
    """Killed at once, a simulator could not free its shared memory."""
    start = time.monotonic()
    with pytest.raises(SimulatorError, match="no end after 1.5 s"):
        run_process([sys.executable, "-c", POLITE], cwd=tmp_path, timeout_s=1.5)
    assert (tmp_path / "ready").exists()
    assert (tmp_path / "freed").exists()
    assert time.monotonic() - start < 30


def test_the_last_words_are_reported(tmp_path: Path) -> None:
    """Without them a user cannot tell why a simulator died."""
    code = "import sys; sys.stderr.write('no such chip\\n'); sys.exit(5)"
    with pytest.raises(SimulatorError) as caught:
        run_process([sys.executable, "-c", code], cwd=tmp_path, timeout_s=30)
    assert "exit status 5; its last words:\n    no such chip" in str(caught.value)
    with pytest.raises(SimulatorError, match="signal SIGSEGV"):
        run_process([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], cwd=tmp_path, timeout_s=30)
    with pytest.raises(SimulatorError, match="cannot start nothing-of-this-name"):
        run_process(["nothing-of-this-name"], cwd=tmp_path, timeout_s=30)
