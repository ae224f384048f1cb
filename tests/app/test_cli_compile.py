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
    assert document["settling"]["not_settled"]["value"] > 0
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
