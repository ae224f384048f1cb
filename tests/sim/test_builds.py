"""A core is compiled once for everybody who runs it, and a build that was killed is no build."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eqcompile.sim import builds
from eqcompile.sim.builds import PROGRAM, built_core

BENCH = """\
import argparse, pathlib, time
parser = argparse.ArgumentParser()
for name in ("--build-only", "--trace", "--saboteurs"):
    parser.add_argument(name, action="store_true")
parser.add_argument("--build", type=pathlib.Path)
options = parser.parse_args()
log = pathlib.Path("LOG")
log.write_text(log.read_text() + "built\\n" if log.exists() else "built\\n")
program = options.build / "Vcore"
program.write_text("half")
time.sleep(float(pathlib.Path("SECONDS").read_text()))
program.write_text(f"whole {options.trace} {options.saboteurs}")
"""
"""A bench whose compiler takes SECONDS, and counts its calls in LOG; the program is half there from the start."""


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return stub(tmp_path / "core")


def stub(folder: Path, *, seconds: float = 0.0) -> Path:
    (folder / "bench").mkdir(parents=True)
    (folder / "bench" / "native.py").write_text(
        BENCH.replace("LOG", str(folder / "log")).replace("SECONDS", str(folder / "seconds"))
    )
    (folder / "core.v").write_text("module core; endmodule\n")
    (folder / "core.json").write_text("{}")
    (folder / "seconds").write_text(str(seconds))
    return folder


def count(folder: Path) -> int:
    return len((folder / "log").read_text().splitlines())


def test_a_core_is_built_once(core: Path) -> None:
    """Every worker of a campaign compiled the same core for itself."""
    places = [built_core(core, variant="saboteurs", timeout_s=60) for _ in range(3)]
    assert len(set(places)) == 1
    assert count(core) == 1
    assert (places[0] / PROGRAM).read_text() == "whole False True"


def test_processes_that_ask_at_once_share_a_build(core: Path) -> None:
    """Workers start together: without a lock each would build."""
    (core / "seconds").write_text("0.5")
    text = f"from eqcompile.sim.builds import *; import pathlib; print(built_core(pathlib.Path({str(core)!r}), "
    argv = [sys.executable, "-c", text + "variant='trace', timeout_s=60))"]
    programs = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(3)]
    assert len({p.communicate(timeout=60)[0] for p in programs}) == 1
    assert count(core) == 1


@pytest.mark.parametrize("name", ["core.v", "core.json", "bench/layout.py", "bench/native.cpp"])
def test_another_core_is_another_program(core: Path, name: str) -> None:
    """A key that leaves out a source would run the program of another net."""
    first = built_core(core, variant="trace", timeout_s=60)
    (core / name).write_text("other")
    assert built_core(core, variant="trace", timeout_s=60) != first
    assert count(core) == 2


def test_a_variant_is_another_program(core: Path) -> None:
    """The core with a trace port answers differently from the delivered one."""
    variants = ("delivered", "trace", "saboteurs")
    assert len({built_core(core, variant=v, timeout_s=60) for v in variants}) == 3  # type: ignore[arg-type]


def test_another_compiler_is_another_program(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the old Verilator would be run after an update of it."""
    first = built_core(core, variant="trace", timeout_s=60)
    monkeypatch.setattr(builds, "_tools", lambda: ["another"])
    assert built_core(core, variant="trace", timeout_s=60) != first


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_nothing_broken(core: Path, number: signal.Signals) -> None:
    """Half a program would be run by the next campaign, or a lock would keep it waiting for ever."""
    (core / "seconds").write_text("30")
    text = f"from eqcompile.sim.builds import *; import pathlib; built_core(pathlib.Path({str(core)!r}), "
    process = subprocess.Popen([sys.executable, "-c", text + "variant='trace', timeout_s=60)"], stderr=subprocess.PIPE)
    while not (core / "log").exists() or not count(core):
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    (core / "seconds").write_text("0")
    place = built_core(core, variant="trace", timeout_s=60)
    assert (place / PROGRAM).read_text().startswith("whole")
    assert count(core) == 2


def test_programs_that_nobody_runs_are_removed(core: Path, tmp_path: Path) -> None:
    """The cache would grow for ever."""
    old, used = (built_core(core, variant=v, timeout_s=60) for v in ("trace", "saboteurs"))  # type: ignore[arg-type]
    for place in (old, used):
        os.utime(place, (0, 0))
    built_core(core, variant="saboteurs", timeout_s=60)
    built_core(stub(tmp_path / "other"), variant="delivered", timeout_s=60)
    assert used.exists()
    assert not old.exists()
    shutil.rmtree(builds.cache_folder())
