"""The demonstration runs: what `make demo` shows is a table without mismatches and a report."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eqcompile_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_committed_network_compiles_and_agrees(
    demo: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a committed checkpoint did not import, or an artifact differed from golden."""
    monkeypatch.setattr(demo, "TARGETS", ("numpy",))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path / "demo"), "--samples", "2"])
    assert demo.main() == 0
    text = capsys.readouterr().out
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert [r["model"]["file"] for r in report["results"]] == [f"digits_{n}" for n in demo.NETS]
    for r in report["results"]:
        assert r["model"]["file"] in text
        assert r["verification"][0]["mismatches"]["value"] == 0
        assert r["accuracy"]["samples"]["value"] == 360
        assert abs(r["accuracy"]["float"]["value"] - r["accuracy"]["integer"]["value"]) < 0.02
        assert r["accuracy"]["integer"]["value"] > 0.8
    assert (tmp_path / "demo" / "report.html").exists()


@pytest.mark.simulator
def test_a_network_on_loihi_agrees_in_both_configurations(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if the command-line path to Lava, or one of its two configurations, were broken."""
    monkeypatch.setattr(demo, "TARGETS", ("loihi",))
    monkeypatch.setattr(demo, "NETS", ("ternary.pt",))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path / "demo"), "--samples", "2"])
    assert demo.main() == 0
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    checks = {v["simulator"]: v for v in report["results"][0]["verification"]}
    assert set(checks) == {"lava-loihi1", "lava-loihi2"}
    assert all(v["steps"]["value"] == 60 and v["mismatches"]["value"] == 0 for v in checks.values())


def test_the_demo_fails_where_a_simulator_is_missing(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a machine without the simulator ended with success."""
    from eqcompile.sim.simulators import NumpySimulator
    from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError

    def absent(*args: object, **kwargs: object) -> None:
        raise MissingToolError(Diagnostic("missing-tool", "it is not installed"))

    monkeypatch.setattr(NumpySimulator, "run", absent)
    monkeypatch.setattr(demo, "TARGETS", ("numpy",))
    monkeypatch.setattr(demo, "NETS", ("looped.pt",))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path / "demo"), "--samples", "1"])
    assert demo.main() == 1
    assert "not verified" in capsys.readouterr().out
