"""The committed float MNIST checkpoint is the network it is said to be, and the script that made it runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.reference import run_reference

EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKPOINT = EXAMPLES / "checkpoints" / "mnist_looped.npz"
WEIGHTS = ("W_in_weight", "W_rec_weight", "W_out_weight")

sys.path.insert(0, str(EXAMPLES))
mnist = importlib.import_module("train_mnist")
script = importlib.import_module("train_mnist_looped")
sys.path.remove(str(EXAMPLES))


def test_the_file_is_a_spectrally_normalised_float_net() -> None:
    """It is what quantization is measured on: a net of other norms, or of ternary weights, would measure another
    thing."""
    imported = import_model(CHECKPOINT)
    assert imported.family == "models.LoopedMLP"
    assert not imported.assumed
    assert not imported.ignored
    weights = [imported.net.param(name) for name in WEIGHTS]
    assert [w.shape for w in weights] == [(256, 784), (256, 256), (10, 256)]
    for weight in weights:
        assert np.linalg.norm(weight, 2) == pytest.approx(1.0, abs=1e-5)
        assert len(np.unique(np.abs(weight))) > 500
    assert CHECKPOINT.stat().st_size < 600_000


@pytest.mark.slow
def test_training_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accuracy that is printed is that of the file, rounded to half precision, as eqcompile reads it."""
    monkeypatch.setattr(mnist, "HELD_OUT", 200)
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for name, count in (("train", 712), ("test", 300)):
        parts[f"x_{name}"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        parts[f"y_{name}"] = (parts[f"x_{name}"][:, 14, 14] // 128).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", **parts)
    out = tmp_path / "net.npz"
    assert script.main(["--data", str(tmp_path / "mnist.npz"), "-o", str(out), "--epochs", "1"]) == 0
    said = float(capsys.readouterr().out.split("test accuracy ")[1].split()[0])
    net = import_model(out).net
    logits = run_reference(net, {"x": parts["x_test"].reshape(-1, 784) / 255}).outputs["logits"]
    assert said == pytest.approx((logits.argmax(axis=1) == parts["y_test"]).mean(), abs=0.005)
    with np.load(out) as file:
        assert {file[k].dtype for k in file if k.endswith(".original")} == {np.dtype(np.float16)}
