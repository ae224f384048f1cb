"""Calibration data that cannot be what the net was trained on: refused, or said first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eqcompile.app.cli.main import main
from eqcompile.quantization.lower import lower
from eqcompile.toolchain.diagnostics import UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "checkpoints" / "digits_looped.pt"


def test_an_input_that_is_zero_throughout_is_refused() -> None:
    """It gave the scale 1 and the range [0, 0]: a net that codes every input as 0 to 255 steps."""
    net = import_model(CHECKPOINT).net
    with pytest.raises(UsageError, match="calibration-zero"):
        lower(net, QuantizeOptions(), calibration={"x": np.zeros((4, 64))})


def test_inputs_on_another_scale_are_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pixels of 0 to 255 for a net that was trained on 0 to 1 went through at 106 LSB of error."""
    with np.load(EXAMPLES / "data" / "digits_calibration.npz") as file:
        x = file["x"][:32]
    for name, factor in (("right", 1.0), ("wrong", 255.0)):
        np.savez(tmp_path / f"{name}.npz", x=factor * x)
        options = ["--calibrate", str(tmp_path / f"{name}.npz"), "--no-verify", "-o", str(tmp_path / name)]
        assert main([str(CHECKPOINT), "--target", "numpy", *options]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("WARNING: state h") == (name == "wrong")
        assert ("LSB away" in first) == (name == "wrong")
