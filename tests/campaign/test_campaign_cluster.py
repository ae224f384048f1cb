"""Scale-out: a dask cluster gives the same rows, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_toys import installed_toys
from toy_campaigns import define, made, rows

from eqcompile.sim.campaign.exhaust import begin, exhaust
from eqcompile.sim.campaign.run import State, run_campaign
from eqcompile.toolchain.diagnostics import UsageError

pytestmark = pytest.mark.simulator
OPTIONS = {"model": "random-toy", "count": 2400}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    folder = tmp_path / "toys"
    folder.mkdir()
    # The workers inherit the folder of the plug-in, so that they find the model and the engine as this process does.
    for _ in installed_toys(folder, monkeypatch):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True, silence_logs=50
            ) as made_cluster:
                yield made_cluster


def address(cluster: Any) -> str:
    return str(cluster.scheduler_address).removeprefix("tcp://")


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_same_rows_also_when_a_worker_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a chunk were lost with its worker, run twice into the store, or drawn otherwise elsewhere."""
    killed: list[int] = []

    def kill_one(state: State) -> None:
        if state.faults >= 800 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    state = run_campaign(made(tmp_path / "far", **OPTIONS), scheduler=address(cluster), progress=kill_one)
    assert killed
    assert state.finished
    run_campaign(made(tmp_path / "here", **OPTIONS), workers=1)
    assert rows(tmp_path / "far") == rows(tmp_path / "here")


def stored(folder: Path) -> dict[str, bytes]:
    """The file of each block."""
    return {path.name: path.read_bytes() for path in (folder / "outcomes").iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_every_fault_is_the_same_on_a_cluster_also_when_a_worker_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a block were lost with its worker, were another one there, or a run begun there did not go on
    here."""
    codes = {"x": np.random.default_rng(0).integers(-5, 6, (300, 3))}
    killed: list[int] = []
    for place in ("far", "half", "here"):
        begin(define(codes, count="exhaustive"), tmp_path / place, force=False)

    def kill_one(done: int, total: int) -> None:
        if done and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    exhaust(tmp_path / "far", kill_one, scheduler=address(cluster))
    assert killed
    with pytest.raises(KeyboardInterrupt):
        exhaust(tmp_path / "half", stop, scheduler=address(cluster))
    assert 0 < len(stored(tmp_path / "half")) < 5
    exhaust(tmp_path / "half", workers=2)
    exhaust(tmp_path / "here")
    assert len(stored(tmp_path / "here")) == 5
    assert stored(tmp_path / "far") == stored(tmp_path / "here") == stored(tmp_path / "half")


@pytest.mark.filterwarnings("ignore")
def test_nobody_at_the_address_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a wrong address hung, or ended in a traceback."""
    monkeypatch.setattr("eqcompile.sim.campaign.scheduler._CONNECT_S", 1)
    folder = tmp_path / "toys"
    folder.mkdir()
    for _ in installed_toys(folder, monkeypatch):
        campaign = made(tmp_path / "c", **OPTIONS)
        with pytest.raises(UsageError, match="no-scheduler"):
            run_campaign(campaign, scheduler="127.0.0.1:9")
