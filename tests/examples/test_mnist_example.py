"""The committed MNIST checkpoint is the network it is said to be, and the script that made it runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eqcompile.quantization.lower import lower
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import Imported, QuantizeOptions
from eqcompile.toolchain.reference import run_reference

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CHECKPOINT = EXAMPLES / "checkpoints" / "mnist_ternary.npz"
DIGITS = EXAMPLES / "data" / "digits_test.npz"
"""Handwritten digits that are part of the project; MNIST is not."""
SHAPES = {"W_in_ternary": (256, 784), "W_rec_ternary": (256, 256), "W_out_ternary": (10, 256)}
STEPS = 30

sys.path.insert(0, str(EXAMPLES))
script = importlib.import_module("train_mnist")
sys.path.remove(str(EXAMPLES))

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def imported() -> Imported:
    return import_model(CHECKPOINT)


@pytest.fixture(scope="module")
def sample() -> tuple[Floats, NDArray[np.int64]]:
    """100 digits of 8x8 pixels, three times as large within a margin of two, and their classes."""
    with np.load(DIGITS) as file:
        large = np.kron(file["x"][:100].reshape(-1, 8, 8), np.ones((1, 3, 3)))
        pixels = np.rint(np.pad(large, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784) * 255)
        return pixels / 255, file["labels"][:100].astype(np.int64)


@pytest.fixture(scope="module")
def stored() -> dict[str, Floats]:
    with np.load(CHECKPOINT) as file:
        return {name: file[name].astype(np.float64) for name in file if not name.startswith("__")}


def equations(stored: dict[str, Floats], x: Floats) -> Floats:
    """Logits written down anew from the file alone."""
    h = np.zeros((len(x), 256))
    for _ in range(STEPS):
        drive = x @ stored["W_in.weight"].T + stored["W_in.bias"] + stored["W_rec.bias"]
        h = np.tanh(drive + h @ stored["W_rec.weight"].T)
    return h @ stored["W_out.weight"].T + stored["W_out.bias"]


def integer_logits(imported: Imported, x: Floats, bits: int) -> tuple[Floats, NDArray[np.int64]]:
    """Real logits of the integer network, and the steps it took."""
    options = QuantizeOptions(state_bits=bits, input_range=(0.0, 1.0))
    net = lower(imported.net, options, calibration=None).net
    run = golden.run(net, data.encode(net, {"x": x})[0], trace=False)
    scale = next(o.scale for o in net.outputs if o.name == "logits")
    return run.outputs["logits"] * scale, run.steps


def test_the_file_says_what_it_is_and_holds_only_ternary_weights(imported: Imported, stored: dict[str, Floats]) -> None:
    """A file that needs --family, or whose weights are shadows, is not the compact checkpoint that is documented."""
    assert imported.family == "models.TernaryEqProp"
    assert not imported.assumed
    assert not imported.ignored
    assert imported.net.schedule.steps == STEPS
    found = {p.name: p.value for p in imported.net.params if p.name in SHAPES}
    assert {name: value.shape for name, value in found.items()} == SHAPES
    for name, value in found.items():
        assert set(np.unique(value)) == {-1.0, 0.0, 1.0}, name
        np.testing.assert_array_equal(stored[f"{name.removesuffix('_ternary')}.weight"], value)
    assert CHECKPOINT.stat().st_size < 60_000


@pytest.mark.parametrize(("bits", "error"), [(8, 0.35), (4, 5.0)])
def test_integers_follow_the_equations(
    bits: int, error: float, imported: Imported, stored: dict[str, Floats], sample: tuple[Floats, NDArray[np.int64]]
) -> None:
    """The accuracy of the integer network means nothing if it computes another network."""
    x, y = sample
    found, steps = integer_logits(imported, x, bits)
    wanted = equations(stored, x)
    assert np.abs(found - wanted).max() < error
    assert int((found.argmax(axis=1) == wanted.argmax(axis=1)).sum()) >= 97
    assert int((found.argmax(axis=1) == y).sum()) > 50, "digits of another data set should still be told apart"
    assert np.median(steps) <= 10


def mutants(stored: dict[str, Floats]) -> dict[str, dict[str, Floats]]:
    turned = stored["W_rec.weight"].copy()
    turned[tuple(np.argwhere(turned)[0])] *= -1
    return {
        "one weight turned": {**stored, "W_rec.weight": turned},
        "no recurrence": {**stored, "W_rec.weight": np.zeros_like(turned)},
        "inputs mirrored": {**stored, "W_in.weight": stored["W_in.weight"][:, ::-1]},
        "no bias": {**stored, "W_in.bias": np.zeros_like(stored["W_in.bias"])},
    }


def test_the_import_follows_the_equations(
    imported: Imported, stored: dict[str, Floats], sample: tuple[Floats, NDArray[np.int64]]
) -> None:
    """Half-precision weights and the family and settings in the file must be read as they were meant."""
    x, _ = sample
    found = run_reference(imported.net, {"x": x}).outputs["logits"]
    assert np.abs(found - equations(stored, x)).max() < 1e-9
    for name, mutant in mutants(stored).items():
        assert np.abs(found - equations(mutant, x)).max() > 1e-6, name


def test_the_integer_comparison_notices_another_network(
    imported: Imported, stored: dict[str, Floats], sample: tuple[Floats, NDArray[np.int64]]
) -> None:
    """The tolerance that rounding needs must not hide a missing part."""
    x, _ = sample
    found, _ = integer_logits(imported, x, 8)
    for name, mutant in mutants(stored).items():
        if name != "one weight turned":
            assert np.abs(found - equations(mutant, x)).max() > 0.35, name


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images held out: measuring them takes longest."""
    monkeypatch.setattr(script, "HELD_OUT", 200)


def write_set(path: Path, **change: Any) -> Path:
    """A file shaped as MNIST with noise in it."""
    rng = np.random.default_rng(0)
    held = script.HELD_OUT + script.Settings().batch
    parts: dict[str, Any] = {
        "x_train": rng.integers(0, 256, (held, 28, 28), np.uint8),
        "y_train": rng.integers(0, 10, held, np.uint8),
        "x_test": rng.integers(0, 256, (20, 28, 28), np.uint8),
        "y_test": rng.integers(0, 10, 20, np.uint8),
    }
    np.savez(path, **{k: v for k, v in {**parts, **change}.items() if v is not None})
    return path


@pytest.mark.usefixtures("_small")
@pytest.mark.slow
def test_training_writes_what_it_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint that is not the trained network, or that cannot be imported, wastes the training."""
    source = write_set(tmp_path / "mnist.npz")
    out = tmp_path / "net.npz"
    assert script.main(["--data", str(source), "-o", str(out), "--epochs", "1"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    trained = script.train(script.load_mnist(source, "cpu"), script.Settings(), seed=0, epochs=1, progress=False)
    net = import_model(out).net
    for param in net.params:
        if param.name in SHAPES:
            layer = getattr(trained, param.name.removesuffix("_ternary"))
            np.testing.assert_array_equal(param.value, trained.ternary(layer.weight).round().numpy())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mnist.npz", "net.npz"]


@pytest.mark.usefixtures("_small")
def test_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    """Choices made on images that were trained on are no choices."""
    mnist = script.load_mnist(write_set(tmp_path / "mnist.npz"), "cpu")
    kept = {image.numpy().tobytes() for image in mnist.x}
    assert len(mnist.held_y) == script.HELD_OUT
    assert not [image for image in mnist.held_x if image.numpy().tobytes() in kept]


@pytest.mark.usefixtures("_small")
def test_an_interrupted_training_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while writing must not cost the checkpoint of the day before."""
    source = write_set(tmp_path / "mnist.npz")
    out = tmp_path / "out" / "net.npz"
    out.parent.mkdir()
    out.write_bytes(b"old")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    assert script.main(["--data", str(source), "-o", str(out), "--epochs", "1"]) == 130
    assert [p.read_bytes() for p in out.parent.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y_test": None}, "y_test"),
        ({"x_train": np.zeros((9, 28, 28))}, "not MNIST"),
        ({"x_test": np.zeros((20, 32, 32), np.uint8)}, "not MNIST"),
        ({"x_train": np.zeros((9, 28, 28), np.uint8), "y_train": np.zeros(9, np.uint8)}, "9 training images"),
    ],
)
def test_a_file_that_is_not_mnist_is_refused(
    change: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an hour of training on the wrong array is worse than one line now."""
    source = write_set(tmp_path / "mnist.npz", **change)
    assert script.main(["--data", str(source), "-o", str(tmp_path / "net.npz")]) == 2
    assert says in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mnist.npz"]


@pytest.mark.slow
def test_the_benchmark_prints_its_figures(tmp_path: Path, sample: tuple[Floats, NDArray[np.int64]]) -> None:
    """The figures of the documentation come from this command."""
    images = (sample[0] * 255).reshape(-1, 28, 28).astype(np.uint8)
    source = write_set(tmp_path / "mnist.npz", x_test=images, y_test=sample[1].astype(np.uint8))
    argv = [sys.executable, str(ROOT / "benchmarks" / "mnist.py"), "--data", str(source)]
    done = subprocess.run([*argv, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "mnist.json").read_text(encoding="utf-8"))["blocks"][1]["rows"]
    assert all(value in done.stdout for _, *values in rows for value in values)
    assert "of 100)" in done.stdout
    assert "recurrent additions skipped" in done.stdout


def test_the_benchmark_refuses_another_file() -> None:
    """A wrong path must say so, not end in a traceback."""
    argv = [sys.executable, str(ROOT / "benchmarks" / "mnist.py"), "--data", str(CHECKPOINT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "x_test" in done.stderr
