"""`eqtune` as a command: what it writes, what it says, and how it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from eqcompile.app import tuning
from eqcompile.app.cli.main import eqtune, main
from eqcompile.quantization.lower import lower
from eqcompile.quantization.qat import stage, train
from eqcompile.toolchain import data, golden
from eqcompile.toolchain.certificate import certify
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import QuantizeOptions
from eqcompile.toolchain.ir.serial import load

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
LOOPED = CHECKPOINTS / "digits_looped.pt"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = load_digits(return_X_y=True)
    path = tmp_path_factory.mktemp("data") / "train.npz"
    np.savez(path, x=(x[:300] / 16).astype(np.float32), labels=y[:300])
    return path


def run(samples: Path, out: Path, *more: str, model: Path = LOOPED) -> int:
    argv = [str(model), "--data", str(samples), "-o", str(out), "--epochs", "3", "--batch", "64", "--json", *more]
    return eqtune(argv)


def document(capsys: pytest.CaptureFixture[str]) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", [LOOPED, CHECKPOINTS / "digits_ternary.pt"])
def test_the_checkpoint_compiles_to_the_net_that_was_measured(
    model: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if the file lowered to other codes, labels or accuracy than eqtune reported."""
    out = tmp_path / "tuned.pt"
    assert run(samples, out, "--weights", "ternary", "--test", str(samples), model=model) == 0
    reply = document(capsys)
    argv = [str(out), "--target", "numpy", "-o", str(tmp_path / "out"), "--json", "--calibrate", str(samples)]
    assert main([*argv, "--weights", "ternary", "--verify", "8"]) == 0
    net = load(tmp_path / "out" / "net.onnx")
    assert net.digest == reply["digest"]
    inputs = data.read_inputs(samples, net)
    codes, _ = data.encode(net, inputs)  # type: ignore[arg-type]
    right = (golden.run(net, codes, trace=False).outputs["logits"].argmax(-1) == inputs.labels).mean()  # type: ignore[arg-type]
    assert right == reply["accuracy"]["test"]["integers_after"]["value"]
    for p in net.params:
        if p.name.endswith(("W_in_weight", "W_rec_weight", "W_out_weight", "_ternary")):
            assert np.abs(p.value).max() == 1


@pytest.mark.slow
def test_training_lowers_the_loss_and_follows_its_seed(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if gradients had the wrong sign, or anything but the seed decided the result."""
    digests = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run(samples, tmp_path / f"{name}.pt", "--seed", seed, "--hold-out", "0") == 0
        reply = document(capsys)
        digests.append(reply["digest"])
        losses = [row["loss"] for row in reply["history"]]
        assert losses[-1] < 0.95 * losses[0]
    assert digests[0] == digests[1] != digests[2]


def test_single_widths_and_the_text(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if a width of one tensor were lost on the way, or the command that follows could not be pasted."""
    out = tmp_path / "tuned.pt"
    argv = [str(LOOPED), "--data", str(samples), "-o", str(out), "--epochs", "1", "--weights", "W_out=int4"]
    assert eqtune(argv) == 0
    text = capsys.readouterr().out
    options = text.split("-o DIR ")[1].splitlines()[0].split()
    argv = [str(out), "--target", "numpy", "-o", str(tmp_path / "out"), "--no-verify", *options]
    assert main(argv) == 0
    net = load(tmp_path / "out" / "net.onnx")
    assert np.abs(net.param("W_rec_weight")).max() == 1
    assert 1 < np.abs(net.param("W_out_weight")).max() <= 7
    assert net.digest[:12] in text


@pytest.mark.parametrize(
    ("more", "code", "reply"),
    [
        (["--hold-out", "1.0"], 2, "usage"),
        (["--hold-out", "0.999"], 2, "tune-data"),
        (["--lr", "-1"], 2, "usage"),
        (["--lr", "1e30"], 2, "tune-diverged"),
        (["--weights", "int9"], 2, "usage"),
        (["--weights", "nothing=int4"], 2, "unknown-weight"),
        (["--epochs", "0"], 2, "usage"),
    ],
)
def test_wrong_options_are_said_and_write_nothing(
    more: list[str], code: int, reply: str, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would break if a wrong option gave a traceback, or left a file."""
    assert run(samples, tmp_path / "tuned.pt", *more) == code
    assert document(capsys)["error"][0]["code"] == reply
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_bound_holds_after_every_batch_and_its_price_is_told(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The net of the file has a spectral norm of 1. Would break if the bound were met at the end alone, or by codes
    other than those that are written; the trainings without bound and margin must not be bounded."""
    out = tmp_path / "tuned.pt"
    more = ("--weights", "ternary", "--max-lipschitz", "0.6", "--margin", "1", "--epochs", "1", "--test", str(samples))
    assert run(samples, out, *more) == 0
    reply = document(capsys)
    assert all(0.5 < row["bound"] <= 0.6 for row in reply["history"])
    inputs = data.read_inputs(samples, import_model(out).net)
    net = lower(import_model(out).net, QuantizeOptions(weights="ternary"), calibration=inputs).net
    assert net.digest == reply["digest"]
    assert certify(net).bound == reply["bound"]["value"] <= 0.6
    others = reply["others"]
    assert set(others) == {"without the margin", "without bound and margin", "weaker weights, no training"}
    assert others["without the margin"]["bound"]["value"] <= 0.6 < others["without bound and margin"]["bound"]["value"]
    assert others["weaker weights, no training"]["bound"]["value"] <= 0.6
    assert all(set(o["accuracy"]) == {"held-out", "test"} for o in others.values())


def test_a_comparison_that_diverges_loses_nothing(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its bound a net may diverge; the training that was asked for is finished by then."""
    fit = train._fit

    def diverging(checkpoint: Any, data: Any, options: Any, *rest: Any) -> Any:
        if options.max_lipschitz is None:
            raise UsageError(Diagnostic("tune-diverged", "the loss is nan", "--lr", "lower it"))
        return fit(checkpoint, data, options, *rest)

    monkeypatch.setattr(train, "_fit", diverging)
    assert run(samples, tmp_path / "tuned.pt", "--max-lipschitz", "0.6", "--epochs", "1") == 0
    assert document(capsys)["others"]["without the bound"] == {"accuracy": {}, "bound": None}
    assert (tmp_path / "tuned.pt").exists()


def test_a_bound_that_cannot_be_held_is_refused(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A family that ternarizes by itself has no scale to shrink."""
    ternary = CHECKPOINTS / "digits_ternary.pt"
    assert run(samples, tmp_path / "tuned.pt", "--max-lipschitz", "0.6", "--skip-cost", model=ternary) == 2
    error = document(capsys)["error"][0]
    assert error["code"] == "contract-impossible"
    assert "the scale of" in error["what"]
    assert not list(tmp_path.iterdir())


def test_a_margin_alone_is_priced(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if the margin did not change what is learned, or if one were priced that nobody asked for."""
    assert run(samples, tmp_path / "a.pt", "--margin", "2", "--epochs", "1", "--hold-out", "0") == 0
    priced = document(capsys)
    assert set(priced["others"]) == {"without the margin"}
    assert run(samples, tmp_path / "b.pt", "--epochs", "1", "--hold-out", "0") == 0
    plain = document(capsys)
    assert plain["others"] == {}
    assert priced["digest"] != plain["digest"]
    assert priced["others"]["without the margin"]["bound"] == plain["bound"]


def test_data_without_labels_is_refused(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if training went on without anything to learn."""
    with np.load(samples) as file:
        np.savez(tmp_path / "x.npz", x=file["x"])
    assert run(tmp_path / "x.npz", tmp_path / "tuned.pt") == 2
    assert document(capsys)["error"][0]["code"] == "tune-labels"


def test_what_cannot_be_trained_is_refused(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Would break if an output that exists were replaced unasked."""
    (tmp_path / "tuned.pt").write_bytes(b"mine")
    assert run(samples, tmp_path / "tuned.pt") == 6
    assert document(capsys)["error"][0]["code"] == "output-exists"
    assert (tmp_path / "tuned.pt").read_bytes() == b"mine"


def test_missing_packages_are_explained(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if a missing Brevitas were an import error."""
    monkeypatch.setattr(stage, "find_spec", lambda name: None if name == "brevitas" else object())
    assert run(samples, tmp_path / "tuned.pt") == 7
    error = document(capsys)["error"][0]
    assert "brevitas" in error["what"]
    assert error["hint"] == "pip install 'eqcompile[qat]'"


def test_an_interruption_leaves_nothing(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would break if Ctrl-C during training left half a checkpoint."""

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    assert run(samples, tmp_path / "tuned.pt") == 130
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_lowers_to_other_codes_is_not_kept(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: one weight of the written file is another one; the check after writing has to see it."""
    write = tuning._write

    def spoilt(path: Path, checkpoint: Mapping[str, Any]) -> None:
        state = dict(checkpoint["state_dict"])
        state["W_rec.weight"] = -state["W_rec.weight"]
        write(path, {**checkpoint, "state_dict": state})

    monkeypatch.setattr(tuning, "_write", spoilt)
    assert run(samples, tmp_path / "tuned.pt") == 8
    assert document(capsys)["error"][0]["code"] == "tune-changed"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_codes_are_those_of_the_last_forward_pass(samples: Path, tmp_path: Path) -> None:
    """Would break if the lowering rounded again what training had rounded: `tuned.pt` in every width keeps each row."""
    for kind in ("int3", "int8"):
        out = tmp_path / f"{kind}.pt"
        assert run(samples, out, "--weights", kind) == 0
        inputs = data.read_inputs(samples, import_model(out).net)
        lowered = lower(import_model(out).net, QuantizeOptions(weights=kind), calibration=inputs)
        rows = [row for row in lowered.choices if row["what"] == "tensor"]
        assert len(rows) == 3
        assert all(row["exact"] for row in rows)
        assert not any(row["what"] == "bias" for row in lowered.choices)


def test_the_command_is_installed() -> None:
    """Would break if the entry point named another function."""
    from importlib.metadata import entry_points

    (found,) = entry_points(group="console_scripts", name="eqtune")
    assert found.load() is eqtune
    assert "torch" in sys.modules  # by this test module alone: see test_start_time for the commands


def test_a_training_is_watched_by_the_estimate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The words of the test below would reach nobody if the training were given another callback."""

    class EndedError(Exception):
        """After the first epoch."""

    def trained(*_: object, progress: Callable[[str, int, int], None], **__: object) -> None:
        progress("tune", 10, 1500)
        raise EndedError

    clock = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr("eqcompile.app.tuning.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("eqcompile.app.tuning.tune", trained)
    options: Any = SimpleNamespace(epochs=150)
    unread: Any = None
    with pytest.raises(EndedError):
        tuning.tune_checkpoint(unread, unread, options, tmp_path / "o.pt", test=None, data="x", force=False, show=False)
    assert "150 epochs take about 50 minutes" in capsys.readouterr().err


def test_the_first_epoch_tells_how_long_all_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training of an hour would begin without a word of it."""
    clock = iter([0.0, 20.0, 21.0])
    monkeypatch.setattr("eqcompile.app.tuning.time.perf_counter", lambda: next(clock))
    seen: list[tuple[int, int]] = []
    report = tuning._with_estimate(lambda stage, done, total: seen.append((done, total)), epochs=150)
    for done in (5, 10, 20):
        report("tune", done, 1500)
    assert capsys.readouterr().err == (
        "one epoch took 20.0 s: 150 epochs take about 50 minutes (--epochs sets their number)\n"
    )
    assert seen == [(5, 1500), (10, 1500), (20, 1500)]
    quick = iter([0.0, 0.1])
    monkeypatch.setattr("eqcompile.app.tuning.time.perf_counter", lambda: next(quick))
    tuning._with_estimate(None, epochs=150)("tune", 10, 1500)
    assert capsys.readouterr().err == ""
