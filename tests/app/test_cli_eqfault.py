"""The command `eqfault`: what it writes, says and refuses."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import small_net
from tqdm import tqdm

from eqcompile.app.cli.main import eqfault as main
from eqcompile.sim.campaign import run as campaign_run
from eqcompile.targets.rtl.synth.flow import SynthReport, Usage
from eqcompile.toolchain.artifact import CoreDescription, manifest_of, seal
from eqcompile.toolchain.ir.serial import save

NET = small_net([[1, -1, 0], [0, 1, 1], [-1, 0, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a net and samples, in which the command is run."""
    save(NET, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.array([[1, 0, -1], [5, -3, 0], [2, 2, 2]]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def eqfault(capsys: pytest.CaptureFixture[str], *argv: str, want: int = 0) -> Any:
    code = main([*argv, "--json"])
    out = capsys.readouterr().out
    assert code == want, out
    return json.loads(out)


RUN = ("run", "net.onnx", "--model", "seu", "--sites", "state", "--inputs", "x.npz", "-o", "c", "--workers", "1")


@pytest.mark.slow
def test_a_run_writes_a_campaign_and_its_report(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the command and the folder told different numbers."""
    said = eqfault(capsys, *RUN)
    assert sorted(p.name for p in (place / "c").iterdir()) == [
        "campaign.json",
        "inputs.npz",
        "net.onnx",
        "report.html",
        "report.json",
        "results.duckdb",
    ]
    found = json.loads((place / "c" / "report.json").read_text())
    campaign = said["campaign"]
    assert campaign["finished"]
    assert campaign["faults"] == campaign["plan"]["population"] == found["faults"]["value"] == 3 * 3 * 8 * 7
    assert {k: v["faults"] for k, v in campaign["outcomes"].items()} == {
        o["outcome"]: o["faults"] for o in found["outcomes"]
    }
    assert found["campaign"]["command"].startswith("eqfault run net.onnx --model seu")
    assert found["campaign"]["options"] == {"sites": "state"}
    before = (place / "c" / "results.duckdb").read_bytes()
    assert eqfault(capsys, "resume", "c")["campaign"] == campaign
    assert (place / "c" / "results.duckdb").read_bytes() == before


def test_a_campaign_on_a_terminal_shows_a_bar(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if hours of injection passed without a sign, or bars went into a log file."""

    class Terminal(io.StringIO):
        def __init__(self, is_terminal: bool) -> None:
            super().__init__()
            self.is_terminal = is_terminal

        def isatty(self) -> bool:
            return self.is_terminal

    make_bar, shown = tqdm.__init__, {}
    # Every change is drawn, however short the time since the last one.
    at_once = {"mininterval": 0, "miniters": 1}
    monkeypatch.setattr(tqdm, "__init__", lambda *given, **options: make_bar(*given, **options, **at_once))
    for is_terminal in (True, False):
        stream = Terminal(is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        assert main([*RUN, "--force", "--json"]) == 0
        shown[is_terminal] = stream.getvalue()
    assert "504/504" in shown[True]
    assert shown[False] == ""


def test_the_core_is_the_one_of_the_artifact(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if faults were injected into a core that the artifact is not."""
    core = {"arch": "serial", "lanes": 2, "harden": "secded"}
    usage = (Usage("lut", "LUT4", 900, 100, 24_000), Usage("bram", "block RAM", 3, 0, 56))
    figures = SynthReport("core", "ecp5-25k", "25k", "placed", usage, 70, {"LUT4": 900}, {}, ("Yosys 9",)).to_json()
    for target, details in (("rtl", {"synthesis": [figures]}), ("numpy", {})):
        folder = place / target
        folder.mkdir()
        described = CoreDescription(options=core) if details else None
        seal(folder, NET, manifest_of(NET, target=target, options={}, details=details, core=described))
        said = eqfault(capsys, "run", target, *RUN[2:], "--force", "--faults", "200", "--baseline", "net.onnx")
        assert said["campaign"]["core"] == (core if details else {})
        assert said["baseline"]["core"] == {}
        source = json.loads((place / "c" / "campaign.json").read_text())["source"]
        if target == "rtl":
            (kept,) = source["synthesis"]
            assert (kept["part"], kept["cells"], kept["flip_flops"]) == ("ecp5-25k", {"lut": 900, "bram": 3}, 70)
            assert (kept["fmax_mhz"], kept["kind"], kept["how"]) == (None, "estimated", "placed")
        else:
            assert "synthesis" not in source
        assert ("core: arch serial, lanes 2, harden secded" in (place / "c" / "report.html").read_text()) is bool(
            details
        )


def test_a_core_that_is_not_described_is_no_default_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if faults were injected into the core without hardening, since the folder does not tell of it."""
    folder = place / "old"
    folder.mkdir()
    seal(folder, NET, manifest_of(NET, target="rtl", options={}, details={}))
    assert main(["run", "old", *RUN[2:], "--faults", "20"]) == 6
    assert "does not say which core" in capsys.readouterr().err


def test_text_for_people_shows_intervals(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a rate were printed without how sure it is."""
    assert main([*RUN, "--faults", "200"]) == 0
    out = capsys.readouterr().out
    assert "200 of 504 faults, each at most once, seed 0" in out
    assert "masked" in out
    assert all("[" in line for line in out.splitlines() if line.startswith("  masked"))
    assert out.rstrip().endswith("report.html")


@pytest.mark.slow
def test_the_terminal_tells_the_mean_time_to_failure(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if whoever asked for rates had to open the page to see them, or were told others than it has."""
    assert main([*RUN, "--faults", "40", "--env", "leo", "--part", "sram-sun-synchronous", "--mission", "5y"]) == 0
    out = capsys.readouterr().out
    page = (place / "c" / "report.html").read_text()
    line = next(line for line in out.splitlines() if line.startswith("  MTTF, low Earth orbit: "))
    assert line.endswith(" (estimated)")
    assert line.removeprefix("  MTTF, low Earth orbit: ").removesuffix(" (estimated)") in page
    assert " FIT, " in out


@pytest.mark.slow
def test_a_baseline_is_run_and_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the control were another campaign than the one asked for, or were left out of a resume."""
    said = eqfault(capsys, *RUN, "--baseline", "net.onnx", "--faults", "200")
    assert said["baseline"]["outcomes"] == said["campaign"]["outcomes"]
    report = json.loads((place / "c" / "report.json").read_text())
    assert report["baselines"][0]["difference"]
    assert not any(d["intervals_apart"] for d in report["baselines"][0]["difference"])
    said = eqfault(capsys, *RUN, "--force", "--baseline", "net.onnx", "--baseline", "net.onnx", "--faults", "200")
    assert said["baseline"]["outcomes"] == said["baseline2"]["outcomes"] == said["campaign"]["outcomes"]
    assert eqfault(capsys, "resume", "c")["baseline2"] == said["baseline2"]
    assert (place / "c" / "report.html").read_text().count("<h2>Against baseline") == 2
    assert len(json.loads((place / "c" / "report.json").read_text())["baselines"]) == 2
    eqfault(capsys, *(*RUN[:-4], "-o", "d", "--faults", "200", "--seed", "5"))
    assert [b["name"] for b in eqfault(capsys, "report", "d", "--against", "c")["baselines"]] == ["c"]


def test_a_fault_is_replayed_by_its_id_and_by_its_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if an id in the report did not lead back to its fault."""
    eqfault(capsys, *RUN)
    first = eqfault(capsys, "replay", "c", "0.17")
    again = eqfault(capsys, "replay", "c", first["fault"], "-o", "s.npz")
    assert again["ticks"] == first["ticks"]
    assert len(again["ticks"]) == 6
    with np.load(place / "s.npz") as held:
        assert held["state.h"].shape == (6, 3)
    for text in ("0.99999", "99.0", "nonsense", "9/state:h.0.1/state:h[0]^2@1"):
        code = eqfault(capsys, "replay", "c", text, want=2)["error"][0]["code"]
        assert code.startswith("fault-"), code


def test_plans_without_running(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if planning wrote or ran something, or lost the number that everyone knows."""
    assert eqfault(capsys, "plan", "--population", "1000000000")["faults"] == 9604
    assert eqfault(capsys, "plan", "--population", "10000", "--margin", "5%", "--confidence", "99%")["faults"] == 623
    assert eqfault(capsys, "plan", "net.onnx", "--model", "seu", "--inputs", "x.npz")["method"] == "exhaustive"
    assert eqfault(capsys, "plan", "net.onnx", want=2)["error"][0]["code"] == "usage"
    assert sorted(p.name for p in place.iterdir()) == ["net.onnx", "x.npz"]


def test_models_and_engines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if an installed model or engine could not be found by its name."""
    said = eqfault(capsys, "models")
    assert "seu" in said["models"]
    assert "golden" in said["engines"]


@pytest.mark.parametrize("name", ["model.pt", "nowhere"])
def test_whoever_hands_over_a_model_hears_that_it_is_compiled_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint was "not an ONNX file, or truncated: write it again", which leads nowhere."""
    monkeypatch.chdir(tmp_path)
    Path("model.pt").write_bytes(b"PK of a checkpoint")
    assert main(["run", name, "--model", "seu", "-o", "c"]) == 3
    assert "help: eqcompile MODEL --target numpy -o DIR compiles a model" in capsys.readouterr().err
    for command in ("resume", "report"):
        assert main([command, "nowhere"]) == 6
        err = capsys.readouterr().err
        assert "no readable campaign: No such file or directory\n" in err


@pytest.mark.parametrize(
    ("argv", "code", "want"),
    [
        (["run", "net.onnx", "--model", "sue", "-o", "c"], 2, "unknown-fault"),
        (["run", "net.onnx", "--model", "seu", "--engine", "goldn", "-o", "c"], 2, "unknown-engine"),
        (["run", "none.onnx", "--model", "seu", "-o", "c"], 3, "net-file"),
        (["run", ".", "--model", "seu", "-o", "c"], 6, "not-an-artifact"),
        (["run", "net.onnx", "--model", "seu", "--inputs", "none.npz", "-o", "c"], 3, "file-not-readable"),
        (["run", "net.onnx", "--model", "seu", "--margin", "0", "-o", "c"], 2, "usage"),
        (["run", "net.onnx", "--model", "seu", "--faults", "many", "-o", "c"], 2, "usage"),
        (["run", "net.onnx", "--model", "seu", "--sits", "state", "-o", "c"], 2, "unknown-option"),
        (["run", "net.onnx", "--model", "seu", "--env", "leo", "-o", "c"], 2, "environment-rate"),
        (["run", "net.onnx", "--model", "seu", "--part", "x", "-o", "c"], 2, "usage"),
        (["run", "net.onnx", "--model", "seu", "--faults", "1", "-o", "x.npz"], 6, "output-exists"),
        (["resume", "nowhere"], 6, "not-a-campaign"),
        (["report", "."], 6, "not-a-campaign"),
        (["frobnicate"], 2, "usage"),
        ([], 2, "usage"),
    ],
)
def test_mistakes_are_said_and_leave_nothing(
    argv: list[str], code: int, want: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a mistake ended in a traceback or left half a campaign."""
    before = sorted(p.name for p in place.iterdir())
    found = eqfault(capsys, *argv, want=code)["error"][0]
    assert found["code"] == want
    assert sorted(p.name for p in place.iterdir()) == before


def test_ctrl_c_leaves_a_campaign_that_resumes(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if an interrupted campaign lost its rows or did not say how to go on."""
    true_run = campaign_run.run_chunk

    def interrupted(content: Any, number: int) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return true_run(content, number)

    monkeypatch.setattr(campaign_run, "run_chunk", interrupted)
    said = eqfault(capsys, *RUN, "--faults", "450", want=130)
    assert said["interrupted"]
    assert said["campaign"]["faults"] == 400
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert eqfault(capsys, "resume", "c", "--workers", "1")["campaign"]["faults"] == 450


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.simulator
def test_a_real_interrupt_ends_the_workers_and_exits_130(place: Path) -> None:
    """Would break if Ctrl-C left processes behind, or the wrong exit code."""
    argv = [sys.executable, "-m", "eqcompile", "fault", *RUN[:-1], "2", "--faults", "400", "--seed", "1"]
    slow = {**os.environ, "PYTHONPATH": str(place)}
    (place / "sitecustomize.py").write_text(
        "import signal, time\n"
        # A job started in the background of a script inherits that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import eqcompile.sim.campaign.chunks as chunks\n"
        "true = chunks.left_after_reset\n"
        "chunks.left_after_reset = lambda *a: (time.sleep(2), true(*a))[1]\n"
    )
    process = subprocess.Popen(
        argv, env=slow, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (place / "c" / "results.duckdb").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "eqfault resume c goes on" in out
    deadline = time.monotonic() + 10
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid)


def test_without_a_command_all_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A bare `eqfault` is a question: the answer must name what there is, rates and evidence among it."""
    assert main([]) == 2
    err = capsys.readouterr().err
    [line] = [line for line in err.splitlines() if "a command is missing: run, resume, " in line]
    assert {"pack", "rate", "models"} <= set(line.partition(": run, ")[2].split(", "))


def test_every_fault_of_a_command_line_is_told_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Each run of the command told one fault: a user mended six mistakes in six runs."""
    argv = ["run", "--model", "sue", "--engine", "golde", "--margin", "2", "--faults", "some", "--seed", "-1"]
    argv += ["--scrub", "soon", "--mission", "5y", "--devices", "0", "--bogus"]
    assert main(argv) == 2
    text = capsys.readouterr().err
    for word in (
        "DIR is missing",
        "-o CAMPAIGN is missing",
        "sue",
        "golde",
        "argument --margin: '2' is not a finite number between 0 and 1",
        "argument --faults: 'some' is not a whole number of at least 1 or auto or exhaustive",
        "argument --seed: '-1' is not a whole number of at least 0",
        "argument --scrub: 'soon' is no positive time",
        "argument --devices: '0'",
        "--mission without an environment",
    ):
        assert word in text, word
    assert main(["run", "x", "-o", "y", "--model", "seu", "--env", "mars", "--bogus"]) == 2
    text = capsys.readouterr().err
    assert "there is no option '--bogus' here" in text
    assert "mars" in text


def test_the_help_of_a_campaign_states_bounds_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    """Options that are written by hand had neither."""
    assert main(["run", "--model", "seu", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("(default 0.95)", "(default 1 LSB)", "(default auto)", "in seconds, or as 90s", "--sites"):
        assert word in text, word


@pytest.mark.slow
def test_a_rate_of_an_orbit_is_told_and_totalled(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if text and JSON told different numbers, or a mission of no bits had no upsets."""
    orbit = str(Path(__file__).parents[2] / "examples" / "orbit_kinds.toml")
    said = eqfault(capsys, "rate", orbit, "--mission", "5y", "--devices", "2")
    assert main(["rate", orbit, "--mission", "5y", "--devices", "2"]) == 0
    text = capsys.readouterr().out
    assert f"{said['total_per_day']:.4g}" in text
    assert f"{said['mission']['upsets']:.4g} upsets expected" in text
    assert f"{said['kinds']['block-ram']['events_per_day']['2']:.4g} of 2 bits" in text
    (place / "bare.toml").write_text(
        'title = "a"\n[kinds.flip-flop]\nsource = "s"\nupsets_per_bit_day = 1e-7\n', encoding="utf-8"
    )
    assert eqfault(capsys, "rate", "bare.toml")["uncounted"] == ["flip-flop"]
    assert main(["rate", "bare.toml", "--mission", "5y"]) == 2
    assert "no kind has bits" in capsys.readouterr().err


def test_every_fault_is_injected_and_counted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the command said other numbers than its folder, or began anew where it can go on."""
    argv = ("exhaust", "net.onnx", "--model", "seu", "--sites", "state", "--inputs", "x.npz", "-o", "every")
    argv += ("--engine", "golden")
    said = eqfault(capsys, *argv)
    assert said["finished"]
    assert said["faults"] == said["population"] == sum(said["outcomes"].values()) == 3 * 3 * 8 * 7
    written = json.loads((place / "every" / "report.json").read_text())
    assert written["outcomes"] == said["outcomes"]
    assert "Every fault" in (place / "every" / "report.html").read_text()
    stored = place / "every" / "outcomes" / "000000.npz"
    before = stored.stat().st_mtime_ns
    assert eqfault(capsys, *argv)["outcomes"] == said["outcomes"]
    assert stored.stat().st_mtime_ns == before
    eqfault(capsys, *argv, "--near-lsb", "3", want=6)
    assert eqfault(capsys, "replay", "every", "0/state:h.0.3/state:h[0]^8@2")["engine"] == "golden"


def test_at_a_distance_of_0_other_ends_are_told_apart(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Then only faults of the readout, which leave all states as they should be, count as near."""
    argv = ("exhaust", "net.onnx", "--model", "seu", "--sites", "state", "--inputs", "x.npz", "--engine", "golden")
    near, exact = (eqfault(capsys, *argv, "-o", k, "--near-lsb", k)["outcomes"] for k in ("90", "0"))
    assert near["near"] > exact["near"] == 3 * 3 * 8
    left = ("near", "other", "unsettled")
    assert {k: n for k, n in near.items() if k not in left} == {k: n for k, n in exact.items() if k not in left}


def test_a_fault_beyond_a_proof_is_exit_code_8(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a certificate that is wrong ended a run with success."""
    from eqcompile.sim.campaign.exhaust import document

    row = {"site": "state:h", "sample": 0, "ticks": 3, "proved": 1, "simulated": 4, "silent": 0}
    violated = {"samples": 3, "rows": [], "violations": 1, "first": [row], "reason": ""}
    monkeypatch.setattr(document, "bound_of", lambda campaign, totals, proved: violated)
    argv = ("exhaust", "net.onnx", "--model", "seu", "--sites", "state", "-o", "every", "--engine", "golden")
    assert eqfault(capsys, *argv, "--limit", "2", want=8)["bound"]["violations"] == 1
