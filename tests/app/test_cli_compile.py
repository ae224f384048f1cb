"""`eqcompile MODEL`: what it says of labels, of samples that do not settle, and of an output that is there already."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eqcompile.app import compile as pipeline
from eqcompile.app.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples"
CALIBRATION = EXAMPLES / "data" / "digits_calibration.npz"
TEST = EXAMPLES / "data" / "digits_test.npz"


def test_labels_of_the_inputs_become_an_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels in the file of samples were read by nobody: the report said nothing of what the net is for."""
    argv = [str(EXAMPLES / "checkpoints" / "digits_cube.pt"), "--target", "numpy", "-o", str(tmp_path / "out")]
    argv += ["--no-verify", "--calibrate", str(CALIBRATION)]
    assert main([*argv, "--inputs", str(TEST), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["accuracy"]["samples"]["value"] == 360
    assert document["accuracy"]["integer"]["value"] > 0.95
    lost = document["settling"]["not_settled"]["value"]
    assert 0 < lost == sum(column["not_settled"] for column in document["settling"]["histogram"]["bins"])
    with np.load(TEST) as file:
        np.savez(tmp_path / "plain.npz", x=file["x"])
    assert main([*argv, "--inputs", str(tmp_path / "plain.npz"), "--force"]) == 0
    text = capsys.readouterr().out
    assert "accuracy" not in text
    assert "of 16 samples not settled" in text
    assert "least error of" in text
    assert "None" not in text
    assert "needs numpy" in text


def test_an_output_that_exists_is_found_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was found after PyTorch had been loaded and the net was lowered, after 6 to 14 seconds."""
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(pipeline, "import_model", None)
    assert main([str(tmp_path / "m.pt"), "--target", "numpy", "-o", str(tmp_path / "out")]) == 6
    assert capsys.readouterr().err.startswith("error[output-exists]")


@pytest.fixture
def with_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Samples with the logits of the looped net as float32, as PyTorch has them."""
    model = str(EXAMPLES / "checkpoints" / "digits_looped.pt")
    assert main(["run", model, "-i", str(TEST), "-o", str(tmp_path / "float.npz"), "--limit", "40"]) == 0
    capsys.readouterr()
    with np.load(TEST) as file, np.load(tmp_path / "float.npz") as ran:
        np.savez(tmp_path / "x.npz", x=file["x"][:40], logits=ran["logits"].astype(np.float32))
    return tmp_path / "x.npz"


def test_logits_beside_the_samples_are_compared(
    with_logits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import that takes one step too many is certified all the same: only the user's own logits can tell."""
    argv = [str(EXAMPLES / "checkpoints" / "digits_looped.pt"), "--target", "numpy", "--no-verify", "--force"]
    argv += ["-o", str(tmp_path / "out"), "--calibrate", str(CALIBRATION), "--inputs", str(with_logits)]
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (deviation,) = document["deviations"]
    assert deviation["close"]
    assert deviation["samples"]["value"] == 40
    assert 0 < deviation["relative"]["value"] < 1e-6
    assert document["warnings"] == []
    assert main([*argv, "--set", "steps=9", "--report", str(tmp_path / "r")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("WARNING: the imported net is NOT the one that gave the outputs in the first 40 of x.npz")
    assert "ANOTHER NET" in text
    assert "NOT the one that gave the outputs" in (tmp_path / "r" / "report.html").read_text()


def test_the_float_reference_compares_logits_too(
    with_logits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is compiled, one command tells whether the import is the net that was trained."""
    argv = ["run", str(EXAMPLES / "checkpoints" / "digits_looped.pt"), "-i", str(with_logits), "--force"]
    argv += ["-o", str(tmp_path / "y.npz")]
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert "the same net" in text
    assert "WARNING" not in text
    assert "steps: 30 to 30 steps [measured]; 40 of 40 samples spent the whole budget" in text
    assert main([*argv, "--set", "steps=29", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert not document["deviations"][0]["close"]
    assert document["warnings"][0].startswith("the imported net is NOT the one")
