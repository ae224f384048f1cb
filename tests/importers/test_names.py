"""Tensors of a file under names of one's own: read as the family's, or refused with both lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import saved, state, written

from eqcompile.app.cli.main import main
from eqcompile.quantization.qat.checkpoint import Checkpoint
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError
from eqcompile.toolchain.importers.api import import_model

OWN = {"W_in": "enc", "W_rec": "core.fc_rec", "W_out": "head"}
MAP = {own: name for name, own in OWN.items()}
SETTINGS = {"steps": 4}


def own_file(folder: Path, **changes: torch.Tensor) -> Path:
    """A looped net whose layers have names of their own, the recurrent one as torch's spectral norm stores it."""
    tensors = {f"{OWN[key.partition('.')[0]]}.{key.partition('.')[2]}": t for key, t in state().items()}
    return written(folder, saved({**tensors, **changes}))


def net(path: Path, names: dict[str, str], **options: Any) -> Any:
    return import_model(path, family="models.LoopedMLP", settings=SETTINGS, map=names, **options).net


def test_mapped_names_make_the_net_of_the_family(tmp_path: Path) -> None:
    """A renamed tensor must give the very net of a file with the family's names."""
    (tmp_path / "own").mkdir()
    plain = net(written(tmp_path, saved(state())), {})
    assert net(own_file(tmp_path / "own"), MAP) == plain
    whole = {f"{own}.{part}": f"{name}.{part}" for own, name in MAP.items() for part in ("weight", "bias")}
    assert net(own_file(tmp_path / "own"), whole) == plain


def test_names_can_be_exchanged_and_the_longest_holds(tmp_path: Path) -> None:
    """Renaming one after the other would give both tensors one name."""
    square = {"W_in": torch.ones(4, 4), "W_rec": torch.eye(4), "W_out": torch.ones(3, 4)}
    tensors = {f"{k}.weight": v for k, v in square.items()} | {
        f"{k}.bias": torch.zeros(len(v)) for k, v in square.items()
    }
    path = written(tmp_path, saved(tensors))
    exchanged = net(path, {"W_in": "W_rec", "W_rec": "W_in"})
    np.testing.assert_array_equal(exchanged.param("W_rec_weight"), np.ones((4, 4)))
    longest = net(path, {"W_in": "W_rec", "W_rec": "W_in", "W_in.bias": "W_in.bias", "W_rec.bias": "W_rec.bias"})
    assert longest == exchanged


def test_a_name_that_no_tensor_has_is_refused(tmp_path: Path) -> None:
    """A typing error would leave a tensor under the wrong name and blame the family."""
    with pytest.raises(UsageError) as caught:
        net(own_file(tmp_path), {**MAP, "core.fc_rek": "W_rec", "other": "W_x"})
    first, second = caught.value.diagnostics
    assert (first.code, second.code) == ("map-unused", "map-unused")
    assert "did you mean core.fc_rec?" in first.hint
    assert "enc.weight, enc.bias" in first.hint


def test_a_name_that_the_family_does_not_read_is_refused(tmp_path: Path) -> None:
    """Both lists show which names are left to match."""
    with pytest.raises(UsageError) as caught:
        net(own_file(tmp_path, extra=torch.zeros(3)), {**MAP, "extra": "W_skip"})
    (fault,) = caught.value.diagnostics
    assert fault.code == "map-unknown"
    assert "models.LoopedMLP has no tensor W_skip" in fault.what
    assert "W_in.bias, W_in.weight" in fault.hint
    assert "the file holds W_skip" in fault.hint


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    """One of the two would be lost without a word."""
    with pytest.raises(UsageError, match="enc.weight and head.weight would both be called W_in.weight"):
        net(own_file(tmp_path), {**MAP, "head": "W_in"})


def test_a_graph_has_no_names_to_map(tmp_path: Path) -> None:
    """An option that is silently left out is one that the user believes in."""
    (tmp_path / "step.onnx").write_bytes(b"\x08\x08" + bytes(14))
    with pytest.raises(UsageError, match="--map names tensors of a checkpoint"):
        import_model(tmp_path / "step.onnx", map={"a": "b"})


def test_training_goes_on_with_the_mapped_names(tmp_path: Path) -> None:
    """`eqtune` reads the file anew and has to find the same tensors."""
    imported = import_model(own_file(tmp_path), family="models.LoopedMLP", settings=SETTINGS, map=MAP)
    assert {t.key for t in Checkpoint(imported).trainable} == set(state())


def test_the_commands_take_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that reads a checkpoint has the option, and the manifest says what was renamed."""
    path = str(own_file(tmp_path))
    options = [word for pair in MAP.items() for word in ("--map", "=".join(pair))]
    options += ["--family", "models.LoopedMLP", "--set", "steps=4"]
    assert main(["inspect", path, *options, "--json"]) == 0
    given = json.loads(capsys.readouterr().out)["settings"]["given"]
    assert {"name": "core.fc_rec", "value": "read as W_rec", "source": "--map"} in given
    out = tmp_path / "out"
    assert main([path, *options, "--target", "numpy", "-o", str(out), "--no-verify"]) == 0
    capsys.readouterr()
    assert json.loads((out / "manifest.json").read_text())["source"]["given"]["map"] == MAP
    assert main(["inspect", path, "--map", "enc", "--map", "=W_in", "--map", "enc=a b"]) == 2
    assert capsys.readouterr().err.count("is not name=value") == 3


def test_an_unknown_class_is_told_of_maps(tmp_path: Path) -> None:
    """Where a file has a family's shapes under other names, the way is one option."""
    with pytest.raises(ImportFileError) as caught:
        import_model(own_file(tmp_path))
    assert "--map" in caught.value.diagnostics[0].hint
