"""Every mistake that a command line can hold: its message, its exit code, and that nothing is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.app import compile
from eqcompile.app.cli.main import main
from eqcompile.sim.simulators import NumpySimulator
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Refusals, Run

EXAMPLES = Path(__file__).parents[2] / "examples"
LOOPED = EXAMPLES / "checkpoints" / "digits_looped.pt"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"


def compiled(*extra: str, out: Path) -> int:
    return main([str(LOOPED), "--target", "numpy", "-o", str(out), "--calibrate", str(CALIBRATION), *extra])


# Arguments, exit code, code of the diagnostic, and what the message must name. OUT is a new folder.
MISTAKES = {
    "nothing": ([], 2, "usage", "MODEL is missing"),
    "no target": (["MODEL", "-o", "OUT"], 2, "usage", "--target T is missing"),
    "no output": (["MODEL", "--target", "numpy"], 2, "usage", "-o DIR is missing"),
    "unknown target": (["MODEL", "--target", "numppy", "-o", "OUT"], 2, "unknown-target", "did you mean 'numpy'?"),
    "unknown simulator": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--simulator", "nunpy"],
        2,
        "unknown-simulator",
        "did you mean 'numpy'?",
    ),
    "simulator of another target": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--simulator", "lava-loihi1"],
        2,
        "simulator-of-other-target",
        "runs artifacts of loihi, not of numpy",
    ),
    "unknown option": (["MODEL", "--target", "numpy", "-o", "OUT", "--verfy", "3"], 2, "unknown-option", "--verify"),
    "one argument too many": (
        ["MODEL", "two.pt", "--target", "numpy", "-o", "OUT"],
        2,
        "unknown-argument",
        "'two.pt'",
    ),
    "abbreviated option": (["MODEL", "--target", "numpy", "-o", "OUT", "--calib", "x"], 2, "unknown-option", "--calib"),
    "unknown setting": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--set", "stepz=3"],
        2,
        "unknown-setting",
        "did you mean 'steps'?",
    ),
    "setting without value": (["MODEL", "--target", "numpy", "-o", "OUT", "--set", "steps"], 2, "bad-setting", "steps"),
    "setting twice": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--set", "steps=3", "--set", "steps=4"],
        2,
        "setting-twice",
        "'3' and '4'",
    ),
    "setting of a wrong type": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--set", "steps=many"],
        2,
        "setting-type",
        "must be an integer",
    ),
    "unknown family": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--family", "models.LoopedMPL"],
        2,
        "unknown-family",
        "did you mean 'models.LoopedMLP'?",
    ),
    "family against the file": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--family", "models.TernaryEqProp"],
        2,
        "family-contradiction",
        "the file says that it is models.LoopedMLP",
    ),
    "unknown weights": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--weights", "int9"],
        2,
        "usage",
        "'int9' is not [TENSOR=]KIND",
    ),
    "state bits": (["MODEL", "--target", "numpy", "-o", "OUT", "--state-bits", "40"], 2, "usage", "from 2 to 16"),
    "input bits": (["MODEL", "--target", "numpy", "-o", "OUT", "--input-bits", "x"], 2, "usage", "from 2 to 16"),
    "tolerance": (["MODEL", "--target", "numpy", "-o", "OUT", "--tolerance", "-1"], 2, "usage", "at least 0"),
    "no samples": (["MODEL", "--target", "numpy", "-o", "OUT", "--verify", "0"], 2, "usage", "at least 1"),
    "verify and not": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--verify", "3", "--no-verify"],
        2,
        "usage",
        "--verify and --no-verify together",
    ),
    "time limit": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--timeout", "0"],
        2,
        "usage",
        "is no positive time; units: s, min, h, d, y",
    ),
    "falling range": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--input-range", "1", "-1"],
        2,
        "option-range",
        "1.0 to -1.0, must be finite and rising",
    ),
    "range not finite": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--input-range", "0", "inf"],
        2,
        "usage",
        "'inf' is not a finite number",
    ),
    "unknown choice of a target": (
        ["MODEL", "--target", "loihi", "-o", "OUT", "--chip", "loihi9"],
        2,
        "usage",
        "invalid choice: 'loihi9'",
    ),
    "no such model": (["nowhere.pt", "--target", "numpy", "-o", "OUT"], 3, "file-not-readable", "No such file"),
    "a folder as model": ([".", "--target", "numpy", "-o", "OUT"], 3, "file-is-folder", "folder"),
    "no such data": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--calibrate", "no.npz"],
        3,
        "file-not-readable",
        "No such file",
    ),
    "no such inputs": (
        ["MODEL", "--target", "numpy", "-o", "OUT", "--inputs", "no.npz"],
        3,
        "file-not-readable",
        "No such file",
    ),
    "config": (["MODEL", "--target", "numpy", "-o", "OUT", "--config", "c.ini"], 2, "config-format", ".json or .toml"),
    "output in no folder": (["MODEL", "--target", "numpy", "-o", "/proc/nowhere/x"], 6, "output-not-writable", "/proc"),
    "inspect nothing": (["inspect"], 2, "usage", "MODEL"),
    "inspect no file": (["inspect", "nowhere.pt"], 3, "file-not-readable", "No such file"),
    "inspect no artifact": (["inspect", "."], 6, "not-an-artifact", "manifest.json"),
    "targets and more": (["targets", "model.pt", "more"], 2, "unknown-argument", "'more'"),
    "families and more": (["families", "--jason"], 2, "unknown-option", "did you mean --json"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_exit_code_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a mistake passed, showed a traceback, had another exit code, or left a folder behind."""
    argv, exit_code, code, words = MISTAKES[name]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    argv = [{"MODEL": str(LOOPED), "OUT": "out"}.get(a, a) for a in argv]
    assert main(argv) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error[{code}]" in captured.err
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert list(work.iterdir()) == []
    assert main([*argv, "--json"]) == exit_code
    captured = capsys.readouterr()
    assert captured.err == ""
    document = json.loads(captured.out)
    assert list(document) == ["error"]
    assert {tuple(d) for d in document["error"]} == {("code", "what", "where", "hint")}
    assert code in [d["code"] for d in document["error"]]


def test_all_missing_arguments_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a user had to run three times to learn of three faults."""
    assert main(["--json"]) == 2
    assert len(json.loads(capsys.readouterr().out)["error"]) == 3


def test_an_existing_output_needs_force_and_a_foreign_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a folder of the user's were overwritten, with or without --force."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    assert compiled(out=mine) == 6
    assert "error[output-exists]" in capsys.readouterr().err
    assert compiled("--force", out=mine) == 6
    assert "error[output-foreign]" in capsys.readouterr().err
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]


def test_an_output_below_a_file_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a path through a file were a traceback."""
    (tmp_path / "file").write_text("")
    assert compiled(out=tmp_path / "file" / "out") == 6
    assert "error[output-not-writable]" in capsys.readouterr().err


def test_a_report_that_exists_needs_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a report were replaced unasked, or only found out about after minutes of work."""
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text("{}")
    assert compiled("--report", str(report), out=tmp_path / "out") == 6
    assert "there is a report already" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert compiled("--report", str(report), "--force", out=tmp_path / "out") == 0
    assert (report / "report.html").exists()


def test_a_net_that_the_target_refuses_is_told_with_every_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if refusals were passed over, or only the first reason shown."""
    reasons = [Diagnostic("too-wide", "33 bits, the target holds 32"), Diagnostic("too-many", "9 cores of 8")]
    monkeypatch.setattr(NumpyTarget, "plan", lambda self, net, source: Refusals(tuple(reasons)))
    assert compiled(out=tmp_path / "out") == 5
    err = capsys.readouterr().err
    assert "error[too-wide]" in err
    assert "error[too-many]" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["states", "outputs", "steps"])
def test_a_simulator_that_differs_in_one_code_fails_and_leaves_no_artifact(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if verification could not fail: one code of one state, output or step count is changed."""
    real = NumpySimulator.run

    def mutant(self: NumpySimulator, *args: Any, **kwargs: Any) -> Run:
        run = real(self, *args, **kwargs)
        if part == "steps":
            steps = run.steps.copy()
            steps[3] += 1
            return replace(run, steps=steps)
        arrays = {n: a.copy() for n, a in getattr(run, part).items()}
        first = next(iter(arrays.values()))
        first[(7, 3, 5) if part == "states" else (3, 5)] += 1
        return replace(run, **{part: arrays})

    monkeypatch.setattr(NumpySimulator, "run", mutant)
    assert compiled(out=tmp_path / "out") == 8
    err = capsys.readouterr().err
    assert "error[compare-diverges]" in err
    assert "sample 3" in err
    assert "expected" in err
    if part == "states":
        assert "state h[5] of sample 3 after tick 7" in err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_verification_keeps_the_artifact_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if --force deleted a good artifact for one that then fails."""
    out = tmp_path / "out"
    assert compiled(out=out) == 0
    before = (out / "manifest.json").read_bytes()
    monkeypatch.setattr(NumpySimulator, "run", lambda *args, **kwargs: Run({}, {}, np.zeros(16, np.int64)))
    assert compiled("--force", out=out) == 8
    assert (out / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_in_a_simulator_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if Ctrl-C left a half-written folder, or a traceback."""

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NumpySimulator, "run", interrupted)
    assert compiled(out=tmp_path / "out") == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error[interrupted]: interrupted; no output was written\n"
    assert compiled("--json", out=tmp_path / "out") == 130
    assert json.loads(capsys.readouterr().out)["error"][0]["code"] == "interrupted"
    assert list(tmp_path.iterdir()) == []


def _ended(pid: int) -> bool:
    """Whether a process that was killed is gone; the system may take a moment, and whoever adopted it another to ask
    for its status."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_the_simulator_too(tmp_path: Path, number: signal.Signals) -> None:
    """Would break if Ctrl-C or a termination left a simulator running or a hidden folder behind."""
    program = textwrap.dedent("""
        import signal
        import sys
        from pathlib import Path
        from eqcompile.sim.simulators import NumpySimulator
        from eqcompile.sim.process import run_process
        from eqcompile.app.cli.main import main
        child = "import os, pathlib, time; pathlib.Path('pid.part').write_text(str(os.getpid()));"
        child += "os.rename('pid.part', 'pid'); time.sleep(600)"
        def run(self, folder, inputs, **kwargs):
            run_process([sys.executable, "-c", child], cwd=Path.cwd(), timeout_s=600)
        NumpySimulator.run = run
        # A job started in the background of a script inherits that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(main())
    """)
    argv = [sys.executable, "-c", program, str(LOOPED), "--target", "numpy", "-o", "out"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 60
        while not (tmp_path / "pid").exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error[interrupted]: interrupted; no output was written\n")
    assert _ended(int((tmp_path / "pid").read_text()))
    assert [p.name for p in tmp_path.iterdir()] == ["pid"]


def test_a_defect_is_one_line_and_a_traceback_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a user met a traceback, or a developer could not get one."""

    def defect(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(NumpyTarget, "plan", defect)
    assert compiled(out=tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "error[defect]: ZeroDivisionError: one two"
    assert "this is a defect" in err
    assert "Traceback" not in err
    monkeypatch.setenv("EQCOMPILE_DEBUG", "1")
    assert compiled(out=tmp_path / "out") == 1
    assert "Traceback" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_a_simulator_prints_does_not_spoil_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if chatter on standard output came before the document."""
    golden = compile.run_golden

    def chatty(*args: Any, **kwargs: Any) -> Run:
        sys.stdout.write("hello from the simulator\n")
        run: Run = golden(*args, **kwargs)
        return run

    monkeypatch.setattr(compile, "run_golden", chatty)
    assert compiled("--json", out=tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ir_digest"]
    assert "hello from the simulator" in captured.err


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """Would break if `eqcompile families | head -1` ended in a traceback."""
    command = f"{sys.executable} -m eqcompile.app.cli.main families; echo $? >status"
    argv = ["bash", "-c", f"set -o pipefail; ({command}) | true"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert (tmp_path / "status").read_text().strip() in ("0", "141")
