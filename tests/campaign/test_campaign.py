"""Campaigns: the same rows whoever runs them, however often they are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fault_toys import installed_toys
from toy_campaigns import define, made, rows

from eqcompile.app import campaign as app
from eqcompile.app.campaign_options import WorkerOptions
from eqcompile.sim.campaign import api, scheduler
from eqcompile.sim.campaign.chunks import run_chunk, table_digest
from eqcompile.sim.campaign.definition import CAMPAIGN, INPUTS, STORE, read_campaign
from eqcompile.sim.campaign.run import State, run_campaign
from eqcompile.sim.campaign.store import open_store
from eqcompile.sim.faults.engine import Engine
from eqcompile.sim.faults.fast.engine import FastEngine
from eqcompile.sim.process import SHARE
from eqcompile.toolchain.diagnostics import ArtifactError, SimulatorError, UsageError


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "toys"
    folder.mkdir()
    for _ in installed_toys(folder, monkeypatch):
        yield


def test_a_small_population_is_injected_whole(tmp_path: Path) -> None:
    """Would break if `auto` sampled where knowing everything costs no more."""
    state = run_campaign(made(tmp_path / "c"), workers=1)
    assert state.finished
    assert state.faults == state.plan.population == 4 * 6 * 3 * 8
    assert state.plan.method == "exhaustive"
    assert state.margin == 0.0
    found = rows(tmp_path / "c")
    assert len(set(zip(found["sample"], found["unit"], found["bit"], found["tick"], strict=True))) == state.faults


def test_without_replacement_no_fault_comes_twice(tmp_path: Path) -> None:
    """Would break if chunks drew from the whole population each for itself."""
    run_campaign(made(tmp_path / "c", count=450), workers=1)
    found = rows(tmp_path / "c")
    assert len(set(zip(found["sample"], found["unit"], found["bit"], found["tick"], strict=True))) == 450


@pytest.mark.slow
def test_two_workers_give_the_same_rows_as_one(tmp_path: Path) -> None:
    """Would break if a row depended on who ran it, or on the order in which chunks came back."""
    options = {"model": "random-toy", "count": 2000, "stop_at_margin": 0.05}
    one = run_campaign(made(tmp_path / "one", **options), workers=1)
    two = run_campaign(made(tmp_path / "two", **options), workers=2)
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert (one.stopped, one.faults) == (two.stopped, two.faults)
    run_campaign(made(tmp_path / "other", **options, seed=4), workers=1)
    assert rows(tmp_path / "other") != rows(tmp_path / "one")


def test_an_engine_is_compiled_before_the_workers_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker compiled the kernel for itself, without a word, and the bar took that minute for the speed of
    faults."""
    seen: list[str] = []

    def prepare(self: Engine, net: object) -> None:
        while "compiling" not in seen:
            time.sleep(0.01)
        seen.append("compiled")

    def pool(*arguments: Any) -> Any:
        seen.append("pool")
        return plain(*arguments)

    plain = scheduler.make_pool
    monkeypatch.setattr(Engine, "prepare", prepare)
    monkeypatch.setattr("eqcompile.sim.campaign.run.make_pool", pool)

    def tell(state: State) -> None:
        seen.append("compiling" if state.preparing else f"{state.faults}")

    run_campaign(made(tmp_path / "c"), workers=1, progress=tell)
    assert [word for k, word in enumerate(seen) if word not in seen[:k]][:4] == ["0", "compiling", "compiled", "pool"]
    assert seen[seen.index("compiled") + 1 : seen.index("pool")] == ["0"], "the speed of faults counts from there on"


@pytest.mark.parametrize(
    ("engine", "faults", "installed", "said"),
    [
        ("golden", 2_000, True, True),
        ("golden", 2_000, False, True),
        ("golden", 1_999, True, False),
        ("fast", 2_000, True, False),
    ],
)
def test_whoever_waits_for_golden_hears_of_the_faster_engine(
    engine: str,
    faults: int,
    installed: bool,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The default engine is the definition of right, and takes minutes where another takes seconds: nothing said so."""
    monkeypatch.setattr(app, "resume", lambda *_, **__: None)
    monkeypatch.setattr(FastEngine, "missing", lambda _: [] if installed else ["numba"])
    folder = made(tmp_path / "c", engine=engine, count=faults, model="random-toy")
    app.begin(folder, workers=WorkerOptions(), show=True)
    install = "" if installed else " (pip install numba)"
    line = f"2,000 faults in engine golden: --engine fast{install} gives the same results sooner\n"
    assert capsys.readouterr().err == (line if said else "")
    app.begin(folder, workers=WorkerOptions(), show=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("finished", [False, True])
def test_what_compiles_is_named(finished: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bar of faults that stands at nothing for a minute looks like one that hangs."""
    plan = read_campaign(made(tmp_path / "c")).plan
    shown: list[tuple[str, int, int]] = []
    state = State(plan, 3, preparing="" if finished else "fast")
    monkeypatch.setattr(api, "resume", lambda *_, progress, **__: progress("", state))
    monkeypatch.setattr(app, "progress_if", lambda *_: nullcontext(lambda *now: shown.append(now)))
    monkeypatch.setattr("eqcompile.app.report.campaign.write", lambda _: None)
    app.resume(tmp_path / "c", workers=WorkerOptions(), show=True)
    compiled = ("engine fast is compiled, once for this machine", 0, 0)
    assert shown == [("faults", 3, plan.size) if finished else compiled]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if the chunks of a dead process were forgotten, or stored twice."""
    monkeypatch.setenv("TOY_SECONDS", "0.05")
    options = {"model": "random-toy", "count": 2000}
    killed: list[int] = []

    def kill_one(state: State) -> None:
        children = multiprocessing.active_children()
        if state.faults >= 400 and not killed and children:
            killed.append(children[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    state = run_campaign(made(tmp_path / "killed", **options), workers=2, progress=kill_one)
    assert killed
    assert state.finished
    monkeypatch.setenv("TOY_SECONDS", "0")
    run_campaign(made(tmp_path / "calm", **options), workers=1)
    assert rows(tmp_path / "killed") == rows(tmp_path / "calm")


def test_a_worker_lives_as_long_as_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if workers of a campaign that was killed went on, or ended at once."""
    statuses: Queue[int] = Queue()
    monkeypatch.setattr("os._exit", statuses.put)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(scheduler, "_given_work", None)
    monkeypatch.setenv(SHARE, "1")
    ours, parents = multiprocessing.Pipe()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: SimpleNamespace(sentinel=ours))
    content: Any = object()
    scheduler._begin(content, run_chunk, 3)
    given = scheduler._given_work
    assert given == (content, run_chunk)
    assert (os.environ["NUMBA_NUM_THREADS"], os.environ[SHARE]) == ("1", "3")
    with pytest.raises(Empty):
        statuses.get(timeout=0.2)
    parents.close()
    assert statuses.get(timeout=60) == 1


@pytest.mark.simulator
def test_workers_that_always_die_end_the_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a chunk that kills whoever runs it were given out for ever."""
    monkeypatch.setattr("eqcompile.sim.campaign.scheduler._DEATHS", 1)
    folder = made(tmp_path / "c", model="random-toy", count=1000)
    plugin = tmp_path / "toys" / "eqfault_toys.py"
    plugin.write_text(plugin.read_text().replace("rows = np.zeros", "os._exit(9)\n        rows = np.zeros"))
    with pytest.raises(SimulatorError, match="workers-died"):
        run_campaign(folder, workers=2)


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """What there is of a store and its log."""
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob(f"{STORE}*"))]


@pytest.mark.simulator
def test_killed_at_random_moments_it_resumes_without_loss(tmp_path: Path) -> None:
    """Would break if a row could be lost or doubled by kill -9 during an injection, a commit or the start."""
    options = {"model": "random-toy", "count": 12_000}
    folder = made(tmp_path / "killed", **options)
    argv = [sys.executable, "-m", "eqcompile", "fault", "resume", str(folder), "--workers", "1"]
    environment = {**os.environ, "TOY_SECONDS": "0.15"}
    lots, seen = random.Random(5), []
    for _ in range(6):
        before = _files(folder)
        process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while _files(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.6 * lots.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        seen.append(api.standing(folder)["campaign"]["faults"])
    assert seen == sorted(seen)
    assert 0 < seen[-1] < 12_000, seen
    run_campaign(folder, workers=1)
    run_campaign(made(tmp_path / "calm", **options), workers=1)
    assert rows(folder) == rows(tmp_path / "calm")


def test_a_store_refuses_a_chunk_that_it_has(tmp_path: Path) -> None:
    """Would break if a chunk that was run twice were counted twice."""
    import duckdb

    from eqcompile.sim.campaign.definition import read_content

    folder = made(tmp_path / "c", count=450)
    chunk = run_chunk(read_content(folder), 0)
    with open_store(folder / STORE, write=True) as store:
        store.append(chunk)
        with pytest.raises(duckdb.ConstraintException):
            store.append(chunk)
        assert sum(store.outcomes().values()) == len(chunk.faults)


def test_stopping_at_a_margin_looks_only_where_it_was_planned(tmp_path: Path) -> None:
    """Would break if the campaign stopped at a moment that depends on what it saw other than at a look."""
    changes = {"model": "random-toy", "count": 4000, "stop_at_margin": 0.05}
    state = run_campaign(made(tmp_path / "c", **changes), workers=1)
    plan = state.plan
    assert state.stopped
    assert state.faults in {look * plan.chunk for look in plan.looks}
    assert state.faults < plan.size
    assert state.margin <= 0.05
    assert run_campaign(tmp_path / "c", workers=1).faults == state.faults


def test_what_a_reset_leaves_is_injected_again(tmp_path: Path) -> None:
    """Would break if the control missed that weights stay wrong, or blamed a reset for an upset that it heals."""
    from eqcompile.sim.campaign.chunks import NOT_RUN

    run_campaign(made(tmp_path / "state"), workers=1)
    assert set(rows(tmp_path / "state")["after_reset"]) == {NOT_RUN}
    run_campaign(made(tmp_path / "param", options={"site": "param"}), workers=1)
    assert NOT_RUN not in rows(tmp_path / "param")["after_reset"]


def test_a_reset_leaves_weights_of_a_core_as_they_are() -> None:
    """Would break if an upset of the weight memory were healed by a reset, or one of a register were not."""
    from eqcompile.sim.campaign.reset import left_after_reset
    from eqcompile.sim.faults.table import FaultTable, parse_fault

    kinds = ("register:engine.phase", "loaded:engine.table.words", "memory:engine.h_codes_0.words")
    table = FaultTable.of([parse_fault(f"1/{kind}.2.0/core:{kind.split(':')[1]}[0]^4@40") for kind in kinds])
    which, left = left_after_reset(table, 6)
    assert which.tolist() == [1]
    assert str(left[0]).endswith("core:engine.table.words[0]^4@0")


def test_the_core_goes_with_the_campaign(tmp_path: Path) -> None:
    """Would break if a worker, or a resume, built another core than the one that the campaign is about."""
    core = {"arch": "serial", "lanes": 2, "harden": "secded"}
    for given in (core, {}):
        folder = made(tmp_path / str(len(given)), core=given)
        read = read_campaign(folder)
        assert read.core == json.loads((folder / CAMPAIGN).read_text())["core"] == given


def test_results_of_other_faults_are_refused(tmp_path: Path) -> None:
    """Would break if a campaign went on although its model now draws other faults."""
    folder = made(tmp_path / "c", count=450)
    run_campaign(folder, workers=1)
    with open_store(folder / STORE, write=True) as store:
        store._db.execute("UPDATE chunks SET digest = 'other' WHERE chunk = 0")
    with pytest.raises(ArtifactError, match="campaign-changed"):
        run_campaign(folder, workers=1)


class Spoiled:
    """What a pickle runs when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_no_code_of_a_campaign_s_files_is_run(tmp_path: Path) -> None:
    """A campaign is passed on with its inputs, and NumPy's files can hold pickled objects."""
    folder = made(tmp_path / "c")
    np.savez(folder / INPUTS, x=np.array([Spoiled(tmp_path / "touched")], dtype=object))
    with pytest.raises((ArtifactError, ValueError)):
        read_campaign(folder)
    assert not (tmp_path / "touched").exists()


def test_a_changed_or_damaged_campaign_is_refused(tmp_path: Path) -> None:
    """Would break if results were added to a campaign whose net, inputs or text are no longer what they were."""
    folder = made(tmp_path / "c")
    said = json.loads((folder / CAMPAIGN).read_text())
    for key, value in (("ir_digest", "0" * 64), ("campaign_version", 99)):
        (folder / CAMPAIGN).write_text(json.dumps({**said, key: value}))
        with pytest.raises(ArtifactError, match="campaign-(changed|version)"):
            run_campaign(folder, workers=1)
    for text in ("[]", "{", json.dumps({"campaign_version": 1})):
        (folder / CAMPAIGN).write_text(text)
        with pytest.raises(ArtifactError):
            read_campaign(folder)


def test_a_campaign_is_never_half_written(tmp_path: Path) -> None:
    """Would break if a folder of something else could be replaced, or an existing campaign without being asked."""
    folder = made(tmp_path / "c")
    with pytest.raises(ArtifactError, match="output-exists"):
        api.create(define(), folder, force=False)
    api.create(define(seed=9), folder, force=True)
    assert read_campaign(folder).plan.seed == 9
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("")
    with pytest.raises(ArtifactError, match="output-foreign"):
        api.create(define(), foreign, force=True)


def test_a_chunk_is_the_same_whenever_it_is_asked_for(tmp_path: Path) -> None:
    """Would break if faults depended on anything but the seed and the number of the chunk."""
    for changes in ({"count": 450}, {"model": "random-toy", "count": 450}, {}):
        first, second = define(**changes), define(**changes)
        backwards = [table_digest(first.faults(k)) for k in reversed(range(first.plan.chunks))]
        assert backwards[::-1] == [table_digest(second.faults(k)) for k in range(second.plan.chunks)]


def test_an_unknown_scheduler_is_a_usage_error(tmp_path: Path) -> None:
    """Would break if a typing mistake started a campaign on this machine."""
    folder = made(tmp_path / "c")
    for text in ("lokal", "host:", ":8786", "host:port"):
        with pytest.raises(UsageError, match="scheduler"):
            run_campaign(folder, scheduler=text)
