"""Running the program of an artifact: nothing outlives it."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from living import alive

from eqcompile.sim.process import run_process
from eqcompile.toolchain import process
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


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], float]:
    """A time limit that runs out once a file is there, so that no test depends on the speed of the machine."""

    def of(event: Path) -> float:
        wait = subprocess.Popen.wait

        def until(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
            while timeout is not None and self.poll() is None:
                if event.exists():
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.01)
            return wait(self)

        monkeypatch.setattr(subprocess.Popen, "wait", until)
        return 7.0

    return of


@pytest.mark.parametrize(("then", "says"), [("sys.exit(0)", ""), ("sys.exit(3)", "exit status 3")])
def test_a_grandchild_that_ignores_the_request_is_killed(tmp_path: Path, then: str, says: str) -> None:
    """A simulator's own processes would go on burning a core after a normal end or a failure."""
    argv = [sys.executable, "-c", PARENT.format(child=STUBBORN, then=then)]
    with pytest.raises(SimulatorError, match=says) if says else nullcontext():
        run_process(argv, cwd=tmp_path, timeout_s=600)
    assert not alive(int((tmp_path / "grandchild").read_text()))


def test_a_grandchild_is_killed_at_the_limit(tmp_path: Path, limit: Callable[[Path], float]) -> None:
    """A simulator's own processes would go on after a time-out."""
    argv = [sys.executable, "-c", PARENT.format(child=STUBBORN, then="time.sleep(600)")]
    with pytest.raises(SimulatorError, match="no end after 7 s"):
        run_process(argv, cwd=tmp_path, timeout_s=limit(tmp_path / "grandchild"))
    assert not alive(int((tmp_path / "grandchild").read_text()))


def test_a_program_past_its_limit_may_clean_up(
    tmp_path: Path, limit: Callable[[Path], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at once, a simulator could not free its shared memory."""
    monkeypatch.setattr(process, "_GRACE_S", 600.0)
    with pytest.raises(SimulatorError, match="no end after 7 s"):
        run_process([sys.executable, "-c", POLITE], cwd=tmp_path, timeout_s=limit(tmp_path / "ready"))
    assert (tmp_path / "freed").exists()


def test_the_limit_is_what_was_asked_for(tmp_path: Path) -> None:
    """A program that never ends would hold up a campaign for ever."""
    with pytest.raises(SimulatorError, match="no end after 0.1 s"):
        run_process([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path, timeout_s=0.1)


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
