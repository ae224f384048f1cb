"""Scale-out: a dask cluster gives the same rows, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_toys import installed_toys
from toy_campaigns import made, rows

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
