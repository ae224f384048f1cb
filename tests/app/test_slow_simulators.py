"""Simulators that would take too long for an artifact: fewer samples, another one, and what is said of it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net

from eqcompile.app.verification import verify_artifact
from eqcompile.sim import builds
from eqcompile.sim.simulators import IcarusSimulator, NativeSimulator, NumpySimulator, VerilatorSimulator
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain.artifact import Artifact, Verification
from eqcompile.toolchain.diagnostics import BuildTimeoutError, Diagnostic, SimulatorError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Run, Simulator

NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
CODES = {"x": np.array([[1, -1], [2, 1], [0, 3], [-1, -1]])}
LIMIT_S = 600.0


class Fast(NumpySimulator):
    """Says how many clocks its samples took."""

    name: ClassVar[str] = "fast"

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], **rest: Any) -> Run:
        run = super().run(artifact, inputs, **rest)
        return replace(run, details={"cycles": 1000 * len(run.steps)})


class Slow(NumpySimulator):
    """Takes `each` seconds for a sample of 1,000 clocks."""

    name: ClassVar[str] = "slow"
    few: ClassVar[int | None] = 2
    each: ClassVar[float] = 0.0

    def sample_s(self, run: Run) -> float | None:
        cycles = run.details["cycles"]
        assert isinstance(cycles, int)
        return self.each * cycles / len(run.steps) / 1000


class Stuck(Slow):
    """Is not compiled in time."""

    name: ClassVar[str] = "stuck"
    few: ClassVar[int | None] = None
    compiler: ClassVar[str] = "verilator"

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], **rest: Any) -> Run:
        raise BuildTimeoutError(Diagnostic("simulator-timeout", "no end after 600 s"))


class AlsoStuck(Stuck):
    """Needs the same compiler, and would fail the test if it ran."""

    name: ClassVar[str] = "also-stuck"

    def run(self, artifact: Artifact, inputs: Mapping[str, Any], **rest: Any) -> Run:
        raise AssertionError("compiled a second time")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return emitted(NumpyTarget(), NET, tmp_path / "numpy")


def verified(artifact: Artifact, *simulators: type[Simulator], named: bool = False) -> dict[str, Verification]:
    known = {s.name: s for s in simulators}
    golden = run_golden(NET, CODES, trace=True)
    checks = verify_artifact(artifact, CODES, golden, known, named=named, timeout_s=LIMIT_S, progress=lambda *_: None)
    assert [c.simulator for c in checks] == list(known)
    return {c.simulator: c for c in checks}


@pytest.mark.parametrize(("each", "samples"), [(100.0, 2), (151.0, 1), (600.0, 1), (601.0, 0)])
@pytest.mark.slow
def test_a_slow_simulator_runs_what_fits_in_its_limit(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, each: float, samples: int
) -> None:
    """Would break if a large net ended verification at the limit of a slow simulator while a fast one runs it, or if
    nothing said that samples were left out. The slow one is named first: it still has to wait for the estimate."""
    monkeypatch.setattr(Slow, "each", each)
    checks = verified(artifact, Slow, Fast)
    slow, fast = checks["slow"], checks["fast"]
    assert (fast.status, fast.samples) == ("equal", 4)
    assert (slow.status, slow.samples) == ("equal" if samples else "skipped", samples)
    said = slow.reason if not samples else " ".join(map(str, slow.details.get("summary", [])))  # type: ignore[arg-type]
    expected = f"{samples} of 2 samples: each takes about {each:,.0f} s [estimated], the limit is 600 s"
    assert said == ("" if samples == 2 else expected)
    asked = verified(artifact, Slow, Fast, named=True)
    assert (asked["slow"].status, asked["slow"].samples) == ("equal", 4)


def test_a_core_that_is_not_compiled_in_time_runs_elsewhere(artifact: Artifact) -> None:
    """Would break if one compiler that is too slow failed a verification that another simulator can make, was started
    again for the next one, or if an artifact that nothing ran counted as verified."""
    checks = verified(artifact, Stuck, AlsoStuck, Fast)
    assert [(c.status, c.reason) for c in checks.values()] == [
        ("skipped", "verilator did not compile it in 600 s"),
        ("skipped", "verilator did not compile it in 600 s"),
        ("equal", ""),
    ]
    with pytest.raises(BuildTimeoutError, match="no end after 600 s"):
        verified(artifact, Stuck, AlsoStuck)
    with pytest.raises(BuildTimeoutError):
        verified(artifact, Stuck, Fast, named=True)


def test_what_hangs_is_no_slow_simulator(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core that hangs ends at the limit too: that must stay an error, whatever others say of it."""

    def hang(self: object, *arguments: Any, **rest: Any) -> Run:
        raise SimulatorError(Diagnostic("simulator-timeout", "no end after 600 s"))

    monkeypatch.setattr(Slow, "run", hang)
    with pytest.raises(SimulatorError, match="no end"):
        verified(artifact, Slow, Fast)


def test_seconds_of_a_sample_come_from_its_clocks() -> None:
    """By a run of two samples of 20,000 clocks each; the native program tells nothing of itself."""
    run = Run({}, {}, np.array([3, 4]), details={"cycles": 40_000})
    assert VerilatorSimulator().sample_s(run) == pytest.approx(0.5)
    assert IcarusSimulator().sample_s(run) == pytest.approx(2.0)
    assert NativeSimulator().sample_s(run) is None
    assert VerilatorSimulator().sample_s(replace(run, details={})) is None
    assert NativeSimulator.compiler == VerilatorSimulator.compiler != IcarusSimulator.compiler


@pytest.mark.parametrize("simulator", [VerilatorSimulator, IcarusSimulator])
def test_rates_are_those_that_were_measured(simulator: type[VerilatorSimulator]) -> None:
    """Would break if a rate were changed by hand, or another were recorded and nobody looked."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "rtl_speed.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["data"]["clocks_per_second"]
    measured = statistics.median(recorded[simulator.name])
    digit = 10 ** math.floor(math.log10(measured))
    assert simulator.clocks_per_second == measured // digit * digit


def test_the_limit_of_compiling_is_told_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that fails is an error of the core; only one that does not end is a reason to go on without it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bench").mkdir()
    (tmp_path / "core.json").write_text("{}")
    native = tmp_path / "bench" / "native.py"
    native.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(BuildTimeoutError):
        builds.built_core(tmp_path, variant="delivered", timeout_s=0.2)
    native.write_text("raise SystemExit(3)\n")
    with pytest.raises(SimulatorError, match="exit status 3") as error:
        builds.built_core(tmp_path, variant="delivered", timeout_s=30)
    assert not isinstance(error.value, BuildTimeoutError)
