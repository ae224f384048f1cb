"""`eqcompile certify`: what it proves of a net and of samples, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from emitting import emitted
from strategies import small_net

from eqcompile.app.cli.main import main
from eqcompile.targets.numpy.target import NumpyTarget

SMALL = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=6)
NET = replace(SMALL, outputs=tuple(replace(o, kind="classes") for o in SMALL.outputs))
MLP = Path(__file__).parents[2] / "examples" / "checkpoints" / "digits_mlp.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return emitted(NumpyTarget(), NET, tmp_path / "out").folder


@pytest.mark.slow
def test_a_net_and_samples_are_certified(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is a statement about every setting of the states; the folder and its net say the same."""
    np.savez(tmp_path / "x.npz", x=np.array([[0.5, -0.5], [0.1, 0.2], [1.0, 1.0]]))
    documents = []
    for source in (folder, folder / "net.onnx"):
        assert main(["certify", str(source), "--inputs", str(tmp_path / "x.npz"), "--ticks", "3", "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    first, second = (d["recovery"] for d in documents)
    assert first == second
    assert [row["ticks"] for row in first["rows"]] == [1, 2, 3]
    assert {row[key]["kind"] for row in first["rows"] for key in ("safe", "apart_most")} == {"proved"}
    assert first["settled"]["kind"] == "simulated"
    assert first["count"] == len(first["harmless_from"]) == 3
    assert documents[0]["certificate"]["kind"] == "proved"


def test_what_people_read(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without samples the certificate alone; more ticks than the net runs are as many as it can be left."""
    assert main(["certify", str(folder)]) == 0
    alone = capsys.readouterr().out
    assert "[proved]" in alone
    assert "ticks left" not in alone
    np.savez(tmp_path / "x.npz", x=np.array([[0.5, -0.5]]))
    assert main(["certify", str(folder), "--inputs", str(tmp_path / "x.npz"), "--ticks", "99"]) == 0
    text = capsys.readouterr().out
    assert "after an upset of any size in any number of states [proved]" in text
    assert "within 5 ticks" in text


def test_what_holds_no_integers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint is what the hardware does not compute."""
    assert main(["certify", str(MLP)]) == 2
    assert "holds no integers" in capsys.readouterr().err
