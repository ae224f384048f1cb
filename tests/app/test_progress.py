"""Progress on standard error: a bar for people, lines for logs."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path

import pytest
from strategies import small_net

from eqcompile.app import compile as pipeline
from eqcompile.app.progress import of_simulator, stage_progress
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain.bench import bench_vectors

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a long stage showed nothing."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with stage_progress() as progress:
        progress("golden", 0, 4)
        progress("golden", 4, 4)
        progress("numpy", 1, 2)
    assert "golden" in terminal.getvalue()
    assert "numpy" in terminal.getvalue()


def test_progress_is_a_line_now_and_then_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if bars went into a log file, or a run of hours left no sign of life there."""
    log, clock = io.StringIO(), iter([0.0, 3.0, 11.0, 12.0, 30.0])
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("eqcompile.app.progress.time.monotonic", lambda: next(clock))
    with stage_progress() as progress:
        for done in (1, 2000, 3000, 4000):
            progress("golden", done, 4000)
    assert log.getvalue() == "golden: 2,000 of 4,000, 250 a second, about 8 s left\ngolden: 4,000 of 4,000\n"


def test_a_rate_is_that_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling for minutes is no part of how fast samples are simulated, and what was there before is none of it."""
    log, clock = io.StringIO(), iter([0.0, 100.0, 100.0, 120.0, 140.0])
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("eqcompile.app.progress.time.monotonic", lambda: next(clock))
    with stage_progress() as progress:
        tell = of_simulator(progress, "verilator")
        tell(0, 0)
        for done in (5, 25, 35):
            tell(done, 100)
    lines = [
        "verilator compiles the artifact, 0 s",
        "verilator: 25 of 100, 1 a second, about 75 s left",
        "verilator: 35 of 100, 0.75 a second, about 87 s left",
    ]
    assert log.getvalue().splitlines() == lines


@pytest.mark.parametrize(
    ("total", "left"), [(110, "10 s"), (199, "99 s"), (220, "2 min"), (5400, "88 min"), (9100, "2.5 h")]
)
def test_what_is_left_is_told_in_a_unit_of_its_size(monkeypatch: pytest.MonkeyPatch, total: int, left: str) -> None:
    """A log that says how many were done leaves the division to who waits; 9,000 s would leave another."""
    log, clock = io.StringIO(), iter([0.0, 0.0, 100.0])
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr("eqcompile.app.progress.time.monotonic", lambda: next(clock))
    with stage_progress() as progress:
        progress("golden", 0, total)
        progress("golden", 100, total)
    assert log.getvalue() == f"golden: 100 of {total:,}, 1 a second, about {left} left\n"


def test_a_stage_of_unknown_length_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "0 of 0" would be taken for an end."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for log in (Terminal(), io.StringIO()):
        clock = iter([0.0, 11.0])
        monkeypatch.setattr(sys, "stderr", log)
        if not log.isatty():
            monkeypatch.setattr("eqcompile.app.progress.time.monotonic", lambda: next(clock))  # noqa: B023
        with stage_progress() as progress:
            progress("placing", 0, 0)
        assert "placing" in log.getvalue()
        assert "0 of 0" not in log.getvalue()
        assert "it/s" not in log.getvalue()


def test_each_stage_is_told_from_its_start_to_its_end(tmp_path: Path) -> None:
    """Would break if a bar ended before its stage, or went on after it."""
    reports: dict[str, list[tuple[int, int]]] = {}
    request = pipeline.CompileRequest(
        model=EXAMPLES / "checkpoints" / "digits_looped.pt",
        target=NumpyTarget(),
        output=tmp_path / "out",
        calibration=EXAMPLES / "data" / "digits_calibration.npz",
        samples=1,
    )
    pipeline.compile_model(
        request, progress=lambda stage, done, total: reports.setdefault(stage, []).append((done, total))
    )
    assert {"quantize", "golden", "reference", "numpy"} <= set(reports)
    for stage, rows in reports.items():
        assert len({total for _, total in rows}) == 1, stage
        assert [done for done, _ in rows] == sorted(done for done, _ in rows), stage
        assert rows[-1][0] == rows[-1][1], stage


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"trace": True}, {"saboteurs": True}])
def test_a_core_is_told_part_by_part(options: dict[str, bool], tmp_path: Path) -> None:
    """A core of many weights is minutes in the writing, and the bar stood at nothing until it was done."""
    net = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
    plan = RtlTarget.of(arch="serial", **options).require_plan(net)
    calls: list[tuple[int, int]] = []
    plan.emit(tmp_path, bench_vectors(plan), lambda done, total: calls.append((done, total)))
    written = len([*tmp_path.glob("core.v"), *tmp_path.glob("bench/traced.v"), *tmp_path.glob("bench/injected.v")])
    assert written > 0
    assert plan.emission_parts == 2 * written
    assert calls == [(done, plan.emission_parts) for done in range(1, plan.emission_parts + 1)]


def test_progress_is_a_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error of a notebook is no terminal: long work would show a line now and then."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    bars = []
    module = types.ModuleType("tqdm.auto")
    monkeypatch.setattr(module, "tqdm", lambda **options: bars.append(options) or FakeBar(), raising=False)
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with stage_progress() as progress:
        progress("golden", 1, 4)
    assert [bar["desc"] for bar in bars] == ["golden"]
    shell.config.clear()
    with stage_progress() as progress:
        progress("golden", 1, 4)
    assert len(bars) == 1


class FakeBar:
    """Takes what a bar takes."""

    total = n = 0

    def update(self, by: int) -> None:
        self.n += by

    def close(self) -> None:
        """Nothing is drawn."""
