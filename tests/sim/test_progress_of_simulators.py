"""Simulators that compile or run for long tell how far they are, and leave nothing behind when they are interrupted."""

from __future__ import annotations

import runpy
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emitting import emitted
from living import alive
from strategies import small_net

from eqcompile.sim import c_runner, script_runner
from eqcompile.sim.c_runner import CortexMSimulator, HostSimulator
from eqcompile.sim.simulators import Hls4mlSimulator, Loihi1Simulator
from eqcompile.targets.c.target import CTarget
from eqcompile.targets.hls4ml.target import Hls4mlTarget
from eqcompile.targets.loihi.target import LoihiTarget
from eqcompile.toolchain.interfaces import Simulator, Target

NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=3)
CODES = {"x": np.array([[1, -1], [2, 1], [0, 3], [-1, -1]])}


def told_by(
    simulator: Simulator, target: Target, folder: Path, monkeypatch: pytest.MonkeyPatch, *, trace: bool
) -> list[tuple[int, int]]:
    """What a simulator says of four samples, if whoever watches looks once more when its program has ended."""
    module = c_runner if isinstance(simulator, HostSimulator | CortexMSimulator) else script_runner
    plain = module.run_process

    def watched(*arguments: Any, watch: script_runner.Watch, **options: Any) -> object:
        done = plain(*arguments, watch=watch, **options)
        watch()
        return done

    monkeypatch.setattr(module, "run_process", watched)
    told: list[tuple[int, int]] = []
    artifact = emitted(target, NET, folder)
    simulator.run(artifact, CODES, trace=trace, timeout_s=120.0, progress=lambda *now: told.append(now))
    return told


@pytest.mark.simulator
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("simulator", [HostSimulator(), CortexMSimulator()])
def test_c_is_compiled_and_then_run(
    simulator: Simulator, trace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar stood at nothing until the last sample was done."""
    told = told_by(simulator, CTarget(), tmp_path / "a", monkeypatch, trace=trace)
    assert told[0] == (0, 0)
    assert told[-1] == (4, 4)


def test_samples_of_c_are_counted_as_they_are_written(tmp_path: Path) -> None:
    """A line that is half written when it is read would be counted twice, or never."""
    told: list[tuple[int, int]] = []
    results = tmp_path / "out.txt"
    watch = c_runner._watch(results, 3, lambda *now: told.append(now))
    watch()
    for part in ("output y 1\nst", "eps 4\noutput y 2\nsteps", " 3\n", "output steps 3\nsteps 1\n"):
        with results.open("a", encoding="utf-8") as file:
            file.write(part)
        watch()
    assert told == [(0, 0), (0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.simulator
def test_a_project_of_hls4ml_is_compiled_and_then_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of compiling looked like samples that took a minute each."""
    told = told_by(Hls4mlSimulator(), Hls4mlTarget(), tmp_path / "a", monkeypatch, trace=True)
    assert told[0] == (0, 0)
    assert told[-1] == (4, 4)


@pytest.mark.simulator
def test_a_network_of_lava_is_told_by_its_time_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of the network counts the time steps: told by all, four samples would be eight or more."""
    told = told_by(Loihi1Simulator(), LoihiTarget(), tmp_path / "a", monkeypatch, trace=False)
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)


@pytest.mark.parametrize(("batch", "steps"), [(4, 11), (7, 3), (1, 5)])
def test_time_steps_are_shared_among_the_samples(
    batch: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples of a pass end together: told at their end, a bar would stand still for minutes and then be full."""
    model = types.ModuleType("lava.magma.core.model.py.model")
    monkeypatch.setattr(model, "PyLoihiProcessModel", object, raising=False)
    monkeypatch.setitem(sys.modules, model.__name__, model)
    for name in ("lava", "lava.magma", "lava.magma.core", "lava.magma.core.model", "lava.magma.core.model.py"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    lanes = Path(script_runner.__file__).parents[1] / "targets" / "loihi" / "templates" / "lanes.py.tmpl"
    monkeypatch.setenv(script_runner.PROGRESS, str(tmp_path / "progress"))
    teller = object.__new__(runpy.run_path(str(lanes))["LaneModel"])
    teller.batch, teller.plan = batch, [("step", 0, 0)] * steps
    sizes = []
    for teller.time_step in range(1, steps + 1):
        teller.tell()
        sizes.append((tmp_path / "progress").stat().st_size)
    assert sizes == [step * batch // steps for step in range(1, steps + 1)]


class Endless(HostSimulator):
    """Has a program that starts another, and ends with neither."""

    pids: Path

    def goals(self, build: Path) -> Sequence[Sequence[str]]:
        return (["sh", "-c", f"sleep 600 & echo $! $$ > {self.pids}.part; mv {self.pids}.part {self.pids}; wait"],)


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C would leave a compiler, or an emulator, that goes on for ever, and its files in the temporary folder."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    artifact = emitted(CTarget(), NET, tmp_path / "a")
    files = {path: path.read_bytes() for path in artifact.folder.rglob("*") if path.is_file()}
    simulator = Endless()
    simulator.pids = tmp_path / "pids"

    def interrupt(done: int, total: int) -> None:
        if simulator.pids.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulator.run(artifact, CODES, trace=False, timeout_s=60.0, progress=interrupt)
    assert not any(alive(int(pid)) for pid in simulator.pids.read_text(encoding="utf-8").split())
    assert list(place.iterdir()) == []
    assert {path: path.read_bytes() for path in artifact.folder.rglob("*") if path.is_file()} == files
