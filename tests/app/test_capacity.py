"""Simulators that cannot hold an artifact: which one runs instead, and what is said of the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net

import eqcompile as eq
from eqcompile.app.cli.main import main
from eqcompile.app.verification import verify_artifact
from eqcompile.sim import c_runner
from eqcompile.sim.c_runner import BOARD_BYTES, CODE_BYTES, STACK_BYTES, CortexMSimulator, HostSimulator
from eqcompile.sim.simulators import NativeSimulator, NumpySimulator
from eqcompile.targets.c.target import CTarget
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact, Verification
from eqcompile.toolchain.data import encode
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.interfaces import Simulator
from eqcompile.toolchain.typed_json import JsonObject

LOOPED = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_looped.pt"
NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
TWO = {"c-cortex-m": CortexMSimulator, "c-host": HostSimulator}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return emitted(CTarget(), NET, tmp_path / "c")


def stated(artifact: Artifact, **details: int) -> Artifact:
    """The artifact with other figures in its manifest."""
    changed: JsonObject = {**artifact.manifest.details, **details}
    return replace(artifact, manifest=replace(artifact.manifest, details=changed))


def full(self: object, artifact: Artifact) -> Sequence[Diagnostic]:
    return [Diagnostic("simulator-capacity", "3 bytes needed, it has 2", "numpy", "take another")]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"flash_bytes": BOARD_BYTES - CODE_BYTES}, ()),
        ({"flash_bytes": BOARD_BYTES - CODE_BYTES + 1}, ("3932161", "3932160", "flash")),
        ({"ram_bytes": BOARD_BYTES - STACK_BYTES, "io_bytes": 0}, ()),
        ({"ram_bytes": BOARD_BYTES - STACK_BYTES, "io_bytes": 8}, ("4128776", "4128768", "RAM")),
    ],
)
def test_the_emulated_board_holds_so_much(artifact: Artifact, details: dict[str, int], words: tuple[str, ...]) -> None:
    """Would break if a net that the board cannot hold was linked for it, or one that it holds was not."""
    said = [str(d) for d in CortexMSimulator().shortages(stated(artifact, **details))]
    assert len(said) == bool(words)
    assert all(word in said[0] for word in words)
    assert not HostSimulator().shortages(stated(artifact, **details))


@pytest.mark.parametrize("target", registry.names("targets"))
def test_each_simulator_states_what_it_holds(target: str) -> None:
    """A simulator that judges artifacts must state its numbers, and one without numbers that it has no limit."""
    for name, simulator in registry.simulators_of(target).items():
        # Those of cores judge whether there is a bench to run, which is no number.
        judges = simulator.shortages not in (Simulator.shortages, NativeSimulator.shortages)
        assert simulator.capacity.startswith("no limit of its own") != judges, name
        assert any(c.isdigit() for c in simulator.capacity) == judges, name


@pytest.mark.simulator
def test_the_host_verifies_what_the_board_cannot_hold(artifact: Artifact) -> None:
    """Would break if verification ended in an error of the linker, or nothing said what did not run."""
    large = stated(artifact, flash_bytes=BOARD_BYTES)
    codes = {"x": np.array([[1, -1]])}
    golden = run_golden(NET, codes, trace=True)

    def verified(named: bool) -> tuple[Verification, ...]:
        return verify_artifact(large, codes, golden, TWO, named=named, timeout_s=60, progress=lambda *_: None)

    board, host = verified(named=False)
    assert (board.simulator, board.status) == ("c-cortex-m", "skipped")
    assert f"{BOARD_BYTES} bytes" in board.reason
    assert (host.simulator, host.status, host.mismatches) == ("c-host", "equal", 0)
    with pytest.raises(UsageError, match=f"{BOARD_BYTES} bytes of weights"):
        verified(named=True)


@pytest.mark.slow
def test_a_compilation_that_skips_says_so_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if output, manifest or report left out why a simulator did not run."""
    monkeypatch.setattr(c_runner, "BOARD_BYTES", CODE_BYTES)
    out, pages = tmp_path / "out", tmp_path / "report"
    arguments = [str(LOOPED), "--target", "c", "-o", str(out), "--report", str(pages), "--verify", "2"]
    assert main(arguments) == 0
    assert "c-cortex-m: skipped: " in capsys.readouterr().out
    checks = {v.simulator: v for v in Artifact.open(out).manifest.verification}
    assert (checks["c-host"].status, checks["c-cortex-m"].status) == ("equal", "skipped")
    (result,) = json.loads((pages / "report.json").read_text())["results"]
    assert {v["simulator"]: v["status"] for v in result["verification"]} == {"c-host": "equal", "c-cortex-m": "skipped"}
    assert "skipped: " in (pages / "report.html").read_text()


def test_where_no_simulator_can_hold_the_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if an artifact that nothing can run was said to be verified, or ended in a traceback."""
    monkeypatch.setattr(NumpySimulator, "shortages", full)
    folder = emitted(NumpyTarget(), NET, tmp_path / "out").folder
    for command in (["verify", str(folder)], ["verify", str(folder), "--simulator", "numpy"]):
        assert main(command) == 2
        assert "error[simulator-capacity]: 3 bytes needed, it has 2" in capsys.readouterr().err
    with pytest.raises(UsageError, match="3 bytes needed"):
        eq.open(folder).run({"x": np.array([[1.0, -1.0]])})
    assert main([str(LOOPED), "--target", "numpy", "-o", str(tmp_path / "looped")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "NOT VERIFIED: no simulator of the target can hold the net"


def test_the_first_that_can_hold_the_net_runs(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a run without a named simulator took one that cannot hold the net."""
    monkeypatch.setattr(HostSimulator, "shortages", full)
    codes = encode(artifact.net, {"x": np.array([[1.0, -1.0]])})[0]
    run = run_golden(artifact.net, codes, trace=True)
    monkeypatch.setattr(CortexMSimulator, "run", lambda self, artifact, codes, **rest: run)
    assert eq.Build(artifact).run(np.array([[1.0, -1.0]])).runner == "c-cortex-m"
