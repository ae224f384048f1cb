"""What a campaign takes from the artifact, the engine and the inputs where the user states nothing."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_sessions import instrumented
from strategies import small_net

from eqcompile.app import campaign as campaign_args
from eqcompile.app.campaign_options import EnvironmentOptions
from eqcompile.app.cli.console import Parser
from eqcompile.app.cli.main import eqfault
from eqcompile.app.cli.options import add_field_options, build
from eqcompile.app.numbers import duration
from eqcompile.app.report.campaign import write
from eqcompile.sim.campaign import api, chunks
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.ir.serial import save

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
INPUTS = {"x": np.array([[1, 0, -1], [5, -3, 0], [0, 0, 0]])}
TOOLS = ("g++", "make", "perl")


def define(**changes: Any) -> api.Campaign:
    given: dict[str, Any] = {"model": "seu", "options": {}, "engine": "golden", "near": 1, "count": 20, "seed": 3}
    given |= {"margin": 0.01, "confidence": 0.95, "stop_at_margin": None, "notes": {}}
    return api.define(NET, INPUTS, **{**given, **changes})


def no_build(target: str) -> Path:
    raise AssertionError(f"built for {target}")


@pytest.mark.parametrize(
    ("target", "core", "options", "words"),
    [
        (None, {}, {}, 0),
        ("numpy", {}, {}, 0),
        ("loihi", {}, {"accumulators": "event"}, 1),
        ("rtl", {"arch": "serial"}, {"sites": "state,accumulator,drive,weight", "accumulators": "event"}, 2),
        ("rtl", {"arch": "parallel"}, {"sites": "state,drive"}, 1),
        ("rtl", {"arch": "lattice"}, {"sites": "state,drive"}, 1),
    ],
)
def test_what_a_core_stores_decides_what_is_upset(
    target: str | None, core: dict[str, Any], options: dict[str, Any], words: int
) -> None:
    """A serial core stores its sums and increments them: an upset of one stays. Taken for sums that are computed anew
    in every tick, silent corruption was understated more than ten times."""
    campaign = define(target=target, core=core)
    assert campaign.options == options
    assert len(campaign.notes.get("choices", [])) == words
    assert define(target=target, core=core, options={"sites": "state", "accumulators": "dense"}).options == {
        "sites": "state",
        "accumulators": "dense",
    }


def test_sites_are_those_that_the_engine_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that refuses the default sites cannot be used without knowing what it refuses."""
    monkeypatch.setattr("eqcompile.sim.faults.gpu.engine.GpuEngine.missing", lambda self: [])
    campaign = define(engine="gpu")
    assert campaign.options == {"sites": "state"}
    assert campaign.notes["choices"] == ["sites state: engine gpu takes state, others where --sites asks for them"]
    assert define(engine="gpu", model="mbu").options == {"sites": "state"}
    with pytest.raises(UsageError, match="engine gpu takes no upsets of table"):
        define(engine="gpu", options={"sites": "state,table"})


@pytest.mark.parametrize(
    ("core", "sites", "want"),
    [
        ({}, "state,table", "a serial core takes no upsets of table"),
        ({"arch": "parallel"}, "weight", "a parallel core takes no upsets of weight"),
    ],
)
def test_sites_are_refused_before_anything_is_built(
    core: dict[str, Any], sites: str, want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core that is compiled for a minute and then refuses its faults wastes it."""
    monkeypatch.setattr("eqcompile.sim.faults.rtl.engine.RtlEngine.missing", lambda self: [])
    with pytest.raises(UsageError, match=want):
        define(engine="rtl", core=core, options={"sites": sites}, instrument=no_build)
    with pytest.raises(UsageError, match="--engine rtl"):
        define(engine="fast", model="core", instrument=no_build)


@pytest.mark.simulator
@pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason="no tools for Verilator")
def test_upsets_fall_in_the_clocks_of_an_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window longer than every inference counts upsets that come too late, and a shorter one misses late ones. The
    report of the campaign needs no simulator, and its folder nothing outside it."""
    folder = instrumented("rtl", NET)
    campaign = define(engine="rtl", model="core", options={"words": "engine.phase"}, instrument=lambda _: folder)
    (site,) = campaign.population.sites
    session = chunks.open_engine(campaign)
    assert site.ticks == session.clocks == campaign.options["clocks"] < 500
    assert campaign.notes["choices"] == [f"clocks {session.clocks}: the longest inference of the inputs takes as many"]
    made = define(engine="rtl", options={"sites": "state"}, instrument=lambda _: folder, count=300)
    api.create(made, tmp_path / "c", force=False)
    shutil.rmtree(folder)
    api.resume(tmp_path / "c", scheduler="local", workers=1)
    monkeypatch.setattr("eqcompile.sim.faults.rtl.engine.RtlEngine.open", no_build)
    found = write(tmp_path / "c")
    assert found["recovery"]["curves"]
    assert found["recovery"]["how"].startswith("engine rtl")


def test_a_report_opens_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that runs the simulator again cannot be written where it is not installed."""
    api.create(define(options={"sites": "state"}, count=250), tmp_path / "c", force=False)
    api.resume(tmp_path / "c", scheduler="local", workers=1)
    session = chunks.open_engine(define())
    monkeypatch.setattr("eqcompile.sim.faults.golden_engine.GoldenEngine.open", no_build)
    curves = write(tmp_path / "c")["recovery"]["curves"]
    assert 10 < len(curves) <= 60
    for curve in curves:
        from eqcompile.sim.faults.table import parse_fault

        fault = parse_fault(curve["id"])
        states, clean = session.trace(fault)["h"], session.clean(fault.sample)["h"]
        assert curve["distance"] == np.abs(states - clean).max(axis=1)[fault.upsets[0].first :].tolist()


def test_a_campaign_that_no_engine_takes_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without rows is one that `eqfault resume` cannot finish either."""
    monkeypatch.chdir(tmp_path)
    save(NET, tmp_path / "net.onnx")

    def refuse(*_: Any) -> Any:
        raise UsageError("no")

    monkeypatch.setattr("eqcompile.sim.campaign.run.run_chunk", refuse)
    argv = ["run", "net.onnx", "--model", "seu", "--faults", "20", "--workers", "1", "-o", "c"]
    assert eqfault(argv) == 2
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [("--target", "--engine"), ("--control", "--baseline"), ("--near", "--near-lsb"), ("--n", "--faults")],
)
def test_old_options_name_the_new_ones(old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script of last year must say what to change, not that it is wrong."""
    save(NET, tmp_path / "net.onnx")
    argv = ["run", str(tmp_path / "net.onnx"), "--model", "seu", "-o", str(tmp_path / "c"), old, "1"]
    assert eqfault(argv) == 2
    assert new in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("5min", 300.0), ("12h", 43_200.0), ("365d", 31_536_000.0)]
)
def test_times_take_units(text: str, seconds: float) -> None:
    """A mission is a year to everybody but a parser."""
    assert duration(text) == seconds


def test_a_mission_takes_a_unit_on_the_command_line() -> None:
    """Would break if the option had a parser of numbers alone."""
    parser = Parser(prog="eqfault run", description="", examples="")
    add_field_options(parser, EnvironmentOptions, None)
    options = build(EnvironmentOptions, parser.parse_all(["--mission", "365d", "--scrub", "5min"]))
    assert (options.mission_s, options.scrub_s) == (365 * 86_400, 300)


@pytest.mark.parametrize("text", ["", "d", "-1d", "0", "1w", "inf"])
def test_what_is_no_time_is_refused_with_the_units(text: str) -> None:
    """Would break if a mission of no length, or in an unknown unit, were simulated."""
    with pytest.raises(argparse.ArgumentTypeError, match="units: s, min, h, d, y"):
        duration(text)


@pytest.mark.slow
def test_another_campaign_stands_beside_the_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if `--against` took the place of the baseline, or both columns had one name."""
    monkeypatch.chdir(tmp_path)
    save(NET, tmp_path / "net.onnx")
    run = ["run", "net.onnx", "--model", "seu", "--sites", "state", "--faults", "50", "--workers", "1"]
    assert eqfault([*run, "-o", "other", "--seed", "4"]) == 0
    assert eqfault([*run, "-o", "c", "--baseline", "net.onnx"]) == 0
    assert eqfault(["report", "c", "--against", "other"]) == 0
    page = (tmp_path / "c" / "against_other" / "report.html").read_text()
    assert re.findall(r"<h2>(Against [^<]+)<", page) == ["Against baseline", "Against other"]
    assert "Against other" not in (tmp_path / "c" / "report.html").read_text()
    shutil.copytree("other", "deep/copy/other")
    assert eqfault(["report", "c", "--against", "other", "--against", "deep/copy/other"]) == 0
    both = json.loads((tmp_path / "c" / f"against_{tmp_path.name}-other_copy-other" / "report.json").read_text())
    assert [b["name"] for b in both["baselines"]] == ["baseline", f"{tmp_path.name}/other", "copy/other"]


def test_hardware_of_another_target_is_no_rtl_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if upsets of a core were injected into one that the artifact is not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign_args, "read_net", lambda _: (NET, {}, {"path": "a", "target": "loihi"}))
    assert eqfault(["run", "a", "--model", "core", "--engine", "rtl", "-o", "c"]) == 2
    assert "this artifact is of loihi" in capsys.readouterr().err


def test_a_full_disk_is_an_output_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a full disk looked like a defect of the program."""
    import duckdb

    def full(self: Any, chunk: Any) -> None:
        raise duckdb.IOException("Could not write file: No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eqcompile.sim.campaign.store.Store.append", full)
    save(NET, tmp_path / "net.onnx")
    assert eqfault(["run", "net.onnx", "--model", "seu", "--faults", "20", "--workers", "1", "-o", "c"]) == 6
    assert "No space left on device" in capsys.readouterr().err
