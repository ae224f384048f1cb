"""What an import assumes: said first where it may be another net, refused where it empties a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import saved, state, written

import eqcompile
from eqcompile.app.cli.main import main
from eqcompile.toolchain.data import read_inputs
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError
from eqcompile.toolchain.importers.api import import_model

TERNARY = {"models.TernaryEqProp": ["W_in", "W_rec", "W_out"], "archive.TernaryEqProp": ["W_in", "layers.0"]}


@pytest.mark.parametrize("family", sorted(TERNARY))
def test_an_assumed_threshold_that_empties_a_weight_stops(tmp_path: Path, family: str) -> None:
    """A net trained at threshold 0.1 was read at 0.5, lost its recurrent weights and was certified for it."""
    names = {"W_rec": "layers.0", "W_out": "head"} if family.startswith("archive") else {}
    tensors = {}
    for key, tensor in state().items():
        name, _, part = key.partition(".")
        tensors[f"{names.get(name, name)}.{part}"] = 0.1 * tensor if name in ("W_rec", "W_out") else tensor
    path = written(tmp_path, saved(tensors))
    with pytest.raises(UsageError) as caught:
        import_model(path, family=family)
    (fault,) = caught.value.diagnostics
    assert fault.code == "assumption-empties"
    assert "threshold = 0.5 is assumed" in fault.what
    assert TERNARY[family][1] in fault.what
    assert "--set threshold=" in fault.hint
    assert import_model(path, family=family, settings={"threshold": ".01"}).net.param("W_in_ternary").any()
    assert import_model(path, family=family, settings={"threshold": 0.5}).given["threshold"] == 0.5


@pytest.mark.slow
def test_assumed_settings_are_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A default among twenty lines of output is not read: another number of steps is another network."""
    path = written(tmp_path, saved({"state_dict": state(), "key": "models.LoopedMLP"}))
    target = ["--target", "numpy", "-o", str(tmp_path / "out"), "--verify", "2"]
    for argv in (["inspect", str(path)], [str(path), *target, "--report", str(tmp_path / "report"), "--assume"]):
        assert main(argv) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith("WARNING: steps = 30 is a default of models.LoopedMLP")
        assert main([*argv, "--force", "--set", "steps=7"] if target[0] in argv else [*argv, "--set", "steps=7"]) == 0
        assert "WARNING" not in capsys.readouterr().out
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 6)))
    assert main(["run", str(path), "-i", str(tmp_path / "x.npz"), "-o", str(tmp_path / "y.npz"), "--assume"]) == 0
    assert capsys.readouterr().out.startswith("WARNING: steps = 30")
    assert main([str(path), *target, "--force", "--report", str(tmp_path / "again"), "--assume"]) == 0
    assert "steps = 30 is a default" in (tmp_path / "again" / "report.html").read_text()


def damped(folder: Path) -> Path:
    names = {"W_in": "Wx", "W_rec": "_Wh", "W_out": "Head"}
    tensors = {".".join([names[key.partition(".")[0]], key.partition(".")[2]]): t for key, t in state().items()}
    return written(folder, saved(tensors))


def test_a_default_that_makes_another_net_is_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that computes with a net took defaults for what nobody stated, and certified the result."""
    path, out = damped(tmp_path), tmp_path / "out"
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 6)))
    inputs = str(tmp_path / "x.npz")
    commands = [
        [str(path), "--target", "numpy", "-o", str(out)],
        ["run", str(path), "-i", inputs, "-o", str(out)],
        ["search", str(path), "--inputs", inputs, "-o", str(out)],
        ["tune", str(path), "--data", inputs, "-o", str(out)],
    ]
    for argv in commands:
        assert main(argv) == 2, argv
        error = capsys.readouterr().err
        assert "error[setting-assumed]: the file does not state steps, alpha, symmetric" in error
        assert "--set steps=30 --set alpha=0.5 --set symmetric=false" in error
        assert "--assume takes these, the defaults of archive.LoopedMLP" in error
        assert not out.exists()
    with pytest.raises(UsageError, match="steps = 30 and alpha = 0.5 and symmetric = False"):
        eqcompile.load(path)


def test_a_file_that_states_its_class_and_arguments_is_whole(tmp_path: Path) -> None:
    """What a constructor was not given, it took by default; neither half of that statement says so alone."""
    for name, content, whole in (
        ("both", {"key": "models.LoopedMLP", "config": {"hidden_dim": 4}}, True),
        ("class", {"key": "models.LoopedMLP"}, False),
        ("arguments", {"config": {"hidden_dim": 4}}, False),
    ):
        (tmp_path / name).mkdir()
        path = written(tmp_path / name, saved({"state_dict": state(), **content}))
        if whole:
            assert [a.name for a in import_model(path, assume=False).assumed] == ["steps"]
            assert import_model(path, assume=False).warnings
        else:
            with pytest.raises(UsageError, match="setting-assumed"):
                import_model(path, family="models.LoopedMLP", assume=False)


def test_what_is_to_be_typed_is_what_the_error_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The options in the error, as they stand, and `--assume` compile the same net."""
    path, digests = damped(tmp_path), []
    argv = [str(path), "--target", "numpy", "--verify", "2", "-o"]
    assert main([*argv, str(tmp_path / "none")]) == 2
    words = capsys.readouterr().err.split("trained with: ")[1].split("  (")[0].split()
    for name, more in (("stated", words), ("assumed", ["--assume"])):
        assert main([*argv, str(tmp_path / name), *more]) == 0
        assert capsys.readouterr().out.startswith("WARNING") is (name == "assumed")
        digests.append(eqcompile.open(tmp_path / name).net.digest)
    assert digests[0] == digests[1]


def test_all_that_is_open_is_asked_for_at_once(tmp_path: Path) -> None:
    """One setting an attempt: a user who is asked for height, then width, then steps."""
    channels, rng = 8, np.random.default_rng(0)
    arrays = {"norm.weight": np.ones(channels), "norm.bias": np.zeros(channels)}
    for key, shape in {"embed": (channels, 1), "W1": (2 * channels, channels), "W2": (channels, 2 * channels)}.items():
        arrays |= {f"{key}.weight": rng.normal(size=(*shape, 3, 3)), f"{key}.bias": np.zeros(shape[0])}
    arrays |= {"head.2.weight": rng.normal(size=(10, channels)), "head.2.bias": np.zeros(10)}
    np.savez(tmp_path / "conv.npz", **arrays)
    with pytest.raises(UsageError) as caught:
        import_model(tmp_path / "conv.npz", assume=False)
    missing, assumed = caught.value.diagnostics
    assert (missing.code, assumed.code) == ("missing-setting", "setting-assumed")
    assert "--set height=8 --set width=8" in missing.hint
    assert "--set steps=25 --set gamma=0.5" in assumed.hint
    settings = {"height": "4", "width": "5", "steps": "3", "gamma": "0.5"}
    net = import_model(tmp_path / "conv.npz", settings=settings, assume=False).net
    assert net.inputs[0].shape == (1, 4, 5)


def test_the_shape_of_the_input_needs_no_word(tmp_path: Path) -> None:
    """A wrong length is refused where inputs are read: to ask for it as well would be noise."""
    rng = np.random.default_rng(0)
    arrays = {f"{key}.weight": rng.normal(size=(4, 4)) for key in ("W_in", "W_rec")}
    arrays |= {"token_emb.weight": rng.normal(size=(6, 4)), "pos_emb.weight": rng.normal(size=(5, 4))}
    arrays |= {"lm_head.weight": rng.normal(size=(6, 4)), "lm_head.bias": np.zeros(6)}
    arrays |= {f"{key}.bias": np.zeros(4) for key in ("W_in", "W_rec")}
    np.savez(tmp_path / "text.npz", **arrays)
    done = import_model(tmp_path / "text.npz", settings={"steps": 4}, assume=False)
    assert [a.name for a in done.assumed] == ["length"]
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.int64))
    with pytest.raises(ImportFileError, match="wants .batch, 5"):
        read_inputs(tmp_path / "x.npz", done.net)


def test_feed_forward_nets_assume_nothing_that_matters(tmp_path: Path) -> None:
    """One tick computes them whatever is said: a warning there would teach people to skip warnings."""
    arrays = {"net.0.weight": np.ones((4, 3)), "net.0.bias": np.ones(4), "net.2.weight": np.ones((2, 4))}
    np.savez(tmp_path / "a.npz", **arrays, **{"net.2.bias": np.ones(2)})
    done = import_model(tmp_path / "a.npz", assume=False)
    assert [a.name for a in done.assumed] == ["steps"]
    assert done.warnings == ()
