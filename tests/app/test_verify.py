"""`eqcompile verify`, and what a compilation says that nothing verified."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net

from eqcompile.app.cli.main import main
from eqcompile.sim import script_runner
from eqcompile.sim.simulators import NumpySimulator
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.targets.rtl.target import RtlTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, MissingToolError
from eqcompile.toolchain.interfaces import Run

LOOPED = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_looped.pt"
NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return emitted(NumpyTarget(), NET, tmp_path / "out").folder


def absent(*args: Any, **kwargs: Any) -> None:
    raise MissingToolError(Diagnostic("missing-tool", "tool is not installed", "numpy", "pip install tool"))


def test_a_whole_artifact_is_verified(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the command compared nothing, or with inputs other than those it names."""
    assert main(["verify", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert f"{len(Artifact.open(folder).files)} files as they were written" in shown
    assert "16 generated" in shown
    assert "equal to golden" in shown
    np.savez(tmp_path / "x.npz", x=np.array([[0.5, -0.5], [0.1, 0.2], [1.0, 1.0]]))
    assert main(["verify", str(folder), "--inputs", str(tmp_path / "x.npz"), "--limit", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["samples"] == "the first 2 of x.npz"
    (check,) = document["verification"]
    assert (check["status"], check["samples"]["value"], check["mismatches"]["value"]) == ("equal", 2, 0)


def test_the_first_divergence_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a simulator that differs in one code passed, or the user had to look for where."""
    real = NumpySimulator.run

    def differs(self: NumpySimulator, *args: Any, **kwargs: Any) -> Run:
        run = real(self, *args, **kwargs)
        codes = run.states["h"].copy()
        codes[2, 1, 0] += 1
        return replace(run, states={"h": codes})

    monkeypatch.setattr(NumpySimulator, "run", differs)
    assert main(["verify", str(folder)]) == 8
    shown = capsys.readouterr().err
    assert "h[0]" in shown
    assert "expected" in shown


def test_a_changed_file_stops_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if one bit of the weights could change unseen."""
    content = bytearray((folder / "weights.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "weights.npz").write_bytes(content)
    np.savez(folder.parent / "x.npz", x=np.zeros((2, 2)))
    run = ["run", str(folder), "-i", str(folder.parent / "x.npz"), "-o", str(folder.parent / "y.npz")]
    for argv in (["verify", str(folder)], run):
        assert main(argv) == 6
        assert "weights.npz has SHA-256" in capsys.readouterr().err


def test_without_the_tool_nothing_is_verified(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a verification that ran nothing ended as one that succeeded."""
    monkeypatch.setattr(script_runner, "run_process", absent)
    assert main(["verify", str(folder)]) == 7
    assert capsys.readouterr().out.splitlines()[-1].endswith("install one with: pip install tool")


def test_a_compilation_that_nothing_verified_says_so_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if an artifact that no simulator ran looked like a verified one."""
    monkeypatch.setattr(script_runner, "run_process", absent)
    assert main([str(LOOPED), "--target", "numpy", "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("NOT VERIFIED: ")


def test_the_rtl_target_without_its_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a bare installation ended in a ModuleNotFoundError."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name.startswith("amaranth") else find(name, *rest)
    )
    with pytest.raises(MissingToolError, match=r"pip install 'eqcompile\[rtl\]'") as caught:
        RtlTarget().plan(NET)
    assert caught.value.exit_code == 7


@pytest.mark.slow
def test_a_bare_installation_refuses_the_rtl_target(tmp_path: Path) -> None:
    """Anything that the command imports before the target is asked would end in a ModuleNotFoundError."""
    argv = [str(LOOPED), "--target", "rtl", "-o", str(tmp_path / "out")]
    lines = ("import sys", "sys.modules['amaranth'] = None", "from eqcompile.app.cli.main import main")
    code = "\n".join([*lines, "sys.exit(main(sys.argv[1:]))"])
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "pip install 'eqcompile[rtl]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_slow_simulator_runs_a_few_samples_unless_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a slow simulator ran all samples by default, or fewer than were asked of it by name."""
    monkeypatch.setattr(NumpySimulator, "few", 2)
    for options, samples in (([], 2), (["--simulator", "numpy"], 16)):
        assert main(["verify", str(folder), *options, "--json"]) == 0
        (check,) = json.loads(capsys.readouterr().out)["verification"]
        assert (check["samples"]["value"], check["status"]) == (samples, "equal")
    few = {name: simulator.few for name, simulator in registry.simulators_of("rtl").items()}
    assert few == {"cocotb-icarus": 2, "cocotb-verilator": 2, "verilator-native": None}
