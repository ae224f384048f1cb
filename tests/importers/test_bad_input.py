"""Files that are wrong: each is refused with a message that says what, where and what to do."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import KNOWN, npy_of, npz_of, only, refusal, saved, state, written
from torch.nn.utils.parametrizations import spectral_norm

from eqcompile.toolchain.diagnostics import ImportFileError
from eqcompile.toolchain.importers.api import import_model


def not_a_network() -> dict[str, tuple[Any, str]]:
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    old = {"config": {}, "embedding": {}, "model": state(), "output_head": {}, "test_acc": 0.5}
    return {
        "tensor": (torch.zeros(3, 2), "one tensor [3, 2], no network"),
        "list": ([torch.zeros(2), 1], "holds a list, no network"),
        "none": (None, "holds None, no network"),
        "dtype": (torch.float32, "holds an object (torch.float32), no network"),
        "two-networks": ({"model": state(), "net": state()}, "the entries model, net each hold tensors"),
        "empty": ({}, "empty dictionary"),
        "empty-state": ({"model_state_dict": {}}, "no tensors"),
        "optimizer": (adam.state_dict(), "state of an optimizer"),
        "archive-v1": (old, "three-part file of archive_v1"),
        "state-is-list": ({"state_dict": [1]}, "state_dict is a list, must be a dictionary of tensors"),
        "config-is-list": ({"state_dict": state(), "config": [1]}, "config is a list, must be a table"),
        "family-is-number": ({"state_dict": state(), "key": 3}, "key is a int, must be a string"),
        "prefix-clash": ({"a": torch.zeros(1), "_orig_mod.a": torch.zeros(1)}, "two tensors are called 'a'"),
        "complex": ({"a": torch.zeros(1, dtype=torch.complex64)}, "ComplexFloatStorage"),
        "sparse": ({"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor"),
    }


@pytest.mark.parametrize("case", sorted(not_a_network()))
def test_a_file_with_no_network_says_what_it_holds(tmp_path: Path, case: str) -> None:
    """If it breaks, a user who saved the wrong thing is told about keys instead of the mistake."""
    value, text = not_a_network()[case]
    found = only(refusal(written(tmp_path, saved(value))))
    assert text in found.what
    assert found.where.startswith("net.pt")


def test_entries_that_are_not_tensors_are_all_named(tmp_path: Path) -> None:
    """Two faults of a state_dict must show in one run, and a nested network must be pointed at."""
    path = written(tmp_path, saved({"net": state(), "epoch": 3, 5: torch.zeros(1)}))
    found = {d.where: d for d in refusal(path).diagnostics}
    assert "file['net']" in found["net.pt:net"].hint
    assert "the entry is a int, must be a tensor" in found["net.pt:epoch"].what
    assert "key of type int (5), must be a string" in found["net.pt"].what


def test_not_finite_weights_are_named_and_counted(tmp_path: Path) -> None:
    """A diverged training must be named before any compilation starts; every tensor at once."""
    value = state()
    value["W_rec.weight"][0, :2] = torch.nan
    value["W_out.bias"][1] = -torch.inf
    found = {d.where: d.what for d in refusal(written(tmp_path, saved(value))).diagnostics}
    assert found == {
        "net.pt:W_rec.weight": "2 NaN and 0 infinite of 16 entries",
        "net.pt:W_out.bias": "0 NaN and 1 infinite of 3 entries",
    }


def test_missing_folder_pipe_and_empty_file(tmp_path: Path) -> None:
    """Each kind of path that is not a file has its own message, and a pipe must not block."""
    assert "No such file" in only(refusal(tmp_path / "absent.pt")).what
    assert "folder" in only(refusal(tmp_path)).what
    assert "empty (0 bytes)" in only(refusal(written(tmp_path, b""))).what
    os.mkfifo(tmp_path / "pipe.pt")
    assert "pipe" in only(refusal(tmp_path / "pipe.pt")).what


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello world, this is text", "although its name ends in .pt: its 25 bytes begin with b'hello wo'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (npy_of(np.zeros(3)), "single array, not a network"),
        (npz_of("readme.txt", b"hi"), "neither a torch file nor an .npz: it holds readme.txt"),
        (npz_of("w.npy", b"hi"), "cut short or damaged"),
        (pickle.dumps([1, 2]), "not a file of torch.save; it was not unpickled"),
    ],
)
def test_other_formats_are_told_apart(tmp_path: Path, data: bytes, text: str) -> None:
    """The content decides: whatever a file is called, the message says what it is."""
    assert text in only(refusal(written(tmp_path, data))).what


def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A TorchScript archive holds code, compressed in part: the message must not speak of compression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), tmp_path / "net.pt")
    fault = only(refusal(tmp_path / "net.pt"))
    assert fault.code == "torchscript"
    assert "state_dict" in fault.hint


def test_what_a_failed_save_leaves_is_told_from_an_archive(tmp_path: Path) -> None:
    """torch.save(model) fails for spectral norm and leaves a file: its user must hear of state_dict."""
    with pytest.raises(RuntimeError, match="state_dict"):
        torch.save(spectral_norm(torch.nn.Linear(3, 3)), tmp_path / "net.pt")
    fault = only(refusal(tmp_path / "net.pt"))
    assert "failed torch.save" in fault.what
    assert "state_dict" in fault.hint


def test_weights_that_do_not_chain_name_keys_and_shapes(tmp_path: Path) -> None:
    """If it breaks, a wrong checkpoint surfaces as a NumPy message deep inside a build."""
    value = state() | {"W_rec.weight": torch.zeros(4, 5), "W_out.bias": torch.zeros(7)}
    with pytest.raises(ImportFileError) as caught:
        import_model(written(tmp_path, saved(value)), known=KNOWN)
    text = str(caught.value)
    assert "W_rec.weight" in text
    assert "[4, 5]" in text
    assert "[4]" in text


def test_a_symmetric_coupling_is_square(tmp_path: Path) -> None:
    """If it breaks, a wrong setting surfaces as a NumPy message about shapes that do not broadcast."""
    shapes = {"Wx.weight": (4, 3), "Wx.bias": (4,), "_Wh.weight": (4, 5), "_Wh.bias": (4,), "Head.weight": (2, 4)}
    np.savez(tmp_path / "net.npz", **{name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    with pytest.raises(ImportFileError, match=r"_Wh\.weight is \[4, 5\], a symmetric coupling must be square"):
        import_model(
            tmp_path / "net.npz", family="archive.LoopedMLP", settings={"symmetric": True, "steps": 4, "alpha": 0.5}
        )


def test_missing_and_orphan_norm_vectors(tmp_path: Path) -> None:
    """Without the stored vectors the deployed weight is unknown: all layers concerned are named in one run."""
    value = state()
    for name in ("W_in", "W_rec"):
        value[f"{name}.parametrizations.weight.original"] = value.pop(f"{name}.weight")
    value["W_in.parametrizations.weight.0._u"] = torch.ones(9)
    value["W_in.parametrizations.weight.0._v"] = torch.ones(6)
    value["W_x.weight_u"] = torch.ones(2)
    with pytest.raises(ImportFileError) as caught:
        import_model(written(tmp_path, saved(value)), known=KNOWN)
    assert {d.code for d in caught.value.diagnostics} == {
        "spectral-norm-vectors",
        "spectral-norm-shape",
        "spectral-norm-weight",
    }
    assert "have shapes [9] and [6], the weight needs [4] and [6]" in str(caught.value)
    assert "W_rec.parametrizations.weight.0._u" in str(caught.value)


def test_a_weight_stored_twice_is_refused(tmp_path: Path) -> None:
    """With a plain and a parametrised weight under one name, neither may win in silence."""
    value = state()
    value |= {"W_in.weight_orig": value["W_in.weight"], "W_in.weight_u": torch.ones(4), "W_in.weight_v": torch.ones(6)}
    with pytest.raises(ImportFileError, match=r"W_in.weight and W_in.weight_orig are both the weight W_in.weight"):
        import_model(written(tmp_path, saved(value)), known=KNOWN)


def test_config_and_tensors_of_two_networks(tmp_path: Path) -> None:
    """A file whose stated width is not that of its tensors was put together from two runs."""
    path = written(tmp_path, saved({"state_dict": state(), "config": {"hidden_dim": 256}}))
    with pytest.raises(ImportFileError, match="hidden_dim=256, the tensors say 4"):
        import_model(path, known=KNOWN)
