"""Torch files read by NumPy alone: the numbers are those that torch itself loads, whatever wraps them."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import KNOWN, repacked, saved, state, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.importers.files.pickles import StoredTensor
from eqcompile.toolchain.importers.files.pt import read_pt
from eqcompile.toolchain.interfaces import Assumption

COMMITTED = sorted((Path(__file__).parents[2] / "examples" / "checkpoints").rglob("*.pt"))
TYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def differences(data: bytes) -> list[str]:
    """Where the tree that NumPy reads differs from what torch loads: keys, plain values, types, shapes or bits."""
    file = read_pt(data, "net.pt")
    faults: list[str] = []

    def visit(path: str, value: Any, expected: Any) -> None:
        if isinstance(expected, torch.Tensor):
            plain = expected.detach()
            wide = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
            array = file.array(value) if isinstance(value, StoredTensor) else np.empty(0, object)
            same = array.dtype == wide.dtype and array.shape == wide.shape and array.tobytes() == wide.tobytes()
        elif isinstance(expected, dict):
            same = isinstance(value, dict) and list(value) == list(expected)
            for key in expected if same else ():
                visit(f"{path}/{key}", value[key], expected[key])
        elif isinstance(expected, (list, tuple)):
            same = type(value) is type(expected) and len(value) == len(expected)
            for i, pair in enumerate(zip(value, expected, strict=True) if same else ()):
                visit(f"{path}/{i}", *pair)
        else:
            same = type(value) is type(expected) and repr(value) == repr(expected)
        if not same:
            faults.append(path)

    visit("", file.value, torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    return faults


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_checkpoints_are_read_to_the_bit(path: Path) -> None:
    """If it breaks, every net made from a .pt may have other weights than the trained ones."""
    assert differences(path.read_bytes()) == []


def test_a_difference_is_noticed() -> None:
    """A comparison that cannot fail shows nothing."""
    data = saved({"a": torch.arange(4.0), "b": {"c": [1, 2.0, "x", None, True]}})
    assert differences(data) == []
    altered = repacked(data, {"data/0": torch.tensor([0.0, 1.0, 2.0, -3.0]).numpy().tobytes()})
    file, original = read_pt(altered, "net.pt"), read_pt(data, "net.pt")
    assert file.array(file.value["a"]).tobytes() != original.array(original.value["a"]).tobytes()


@st.composite
def views(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Tensors of all types over shared blocks: slices with steps, transposes, empty axes, numbers, parameters."""
    found: dict[str, torch.Tensor] = {}
    for name in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        kind = draw(st.sampled_from(TYPES))
        seed = draw(st.integers(0, 2**16))
        block = (50 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(kind)
        found[f"block{name}"] = block
        for other in range(draw(st.integers(0, 2))):
            view = block.permute(draw(st.permutations(range(block.ndim))))
            index = tuple(slice(draw(st.integers(0, 2)), None, draw(st.integers(1, 3))) for _ in shape)
            found[f"view{name}.{other}"] = view[index]
        if kind.is_floating_point and draw(st.booleans()):
            found[f"parameter{name}"] = torch.nn.Parameter(block)
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tensors=views(), modern=st.booleans())
def test_any_view_of_any_type_is_read_to_the_bit(tensors: dict[str, torch.Tensor], modern: bool) -> None:
    """Offsets, strides and types decide which bytes are a weight; both formats store them differently."""
    assert differences(saved(tensors, _use_new_zipfile_serialization=modern)) == []


def test_a_big_endian_archive(tmp_path: Path) -> None:
    """A file written on such a machine says so in a member of its own; the numbers are the same."""
    values = {"a": torch.randn(5), "b": torch.arange(4).to(torch.int16), "c": torch.randn(3).to(torch.bfloat16)}
    data = saved(values)
    stored = {
        f"data/{i}": t.view(torch.int16 if t.dtype == torch.bfloat16 else t.dtype)
        for i, t in enumerate(values.values())
    }
    swapped = repacked(data, {"byteorder": b"big", **{k: t.numpy().byteswap().tobytes() for k, t in stored.items()}})
    expected, found = (load_file(written(tmp_path, d)).arrays for d in (data, swapped))
    assert all(found[k].tobytes() == expected[k].tobytes() and found[k].dtype.isnative for k in values)


@pytest.mark.parametrize("modern", [True, False])
def test_importing_needs_no_torch(tmp_path: Path, modern: bool) -> None:
    """PyTorch is 5 GB that only training needs: with it blocked, a checkpoint imports."""
    path = written(
        tmp_path, saved({"state_dict": state(), "key": "models.LoopedMLP"}, _use_new_zipfile_serialization=modern)
    )
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from eqcompile.toolchain.importers.api import import_model\n"
        f"print(import_model(Path({str(path)!r})).net.digest)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == import_model(path).net.digest


def lightning(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint as LightningModule.save_hyperparameters and Trainer write it."""
    return {
        "epoch": 3,
        "global_step": 120,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{key}": tensor for key, tensor in tensors.items()},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "best_model_path": "x"}
        },
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"max_steps": 12, "lr": 1e-3},
    }


@pytest.mark.parametrize("entry", ["model", "net", "network", "model_state", "params"])
def test_a_state_dict_under_a_usual_name(tmp_path: Path, entry: str) -> None:
    """Training scripts save the weights among other things; which entry was taken is said, never silent."""
    value = {entry: state(), "args": argparse.Namespace(lr=0.1), "epoch": 3, "optimizer": {"state": {}}}
    done = import_model(written(tmp_path, saved(value)), known=KNOWN)
    plain = import_model(written(tmp_path, saved(state()), "plain.pt"), known=KNOWN)
    assert done.net.digest == plain.net.digest
    assert done.assumed[0] == Assumption("state_dict", entry, "the entry of the file that holds tensors")


def test_lightning_files(tmp_path: Path) -> None:
    """The prefix of the module that holds the network goes, and the constructor's arguments are settings."""
    done = import_model(written(tmp_path, saved(lightning(state()))), known=KNOWN)
    assert done.net.schedule.steps == 12
    assert done.assumed == (Assumption("prefix", "model.", "all keys of the file begin with it; it was removed"),)
    assert done.net.param("W_in_weight").shape == (4, 6)


@pytest.mark.parametrize("prefix", ["net.", "model.net.", "module.model.", "model._orig_mod."])
def test_prefixes_that_all_keys_share(tmp_path: Path, prefix: str) -> None:
    """One more level of modules is the commonest difference between a file and its family."""
    data = saved({prefix + key: tensor for key, tensor in state().items()})
    plain = import_model(written(tmp_path, saved(state()), "plain.pt"), known=KNOWN)
    assert import_model(written(tmp_path, data), known=KNOWN).net.digest == plain.net.digest


def test_a_prefix_that_belongs_to_the_family_stays(tmp_path: Path) -> None:
    """The layers of a feed-forward network are called net.0, net.2: its own keys fit, nothing is removed."""
    value = {"net.0.weight": torch.zeros(4, 3), "net.0.bias": torch.zeros(4), "net.2.weight": torch.zeros(2, 4)}
    value["net.2.bias"] = torch.zeros(2)
    assert [a.name for a in import_model(written(tmp_path, saved(value))).assumed] == ["steps"]
    wrapped = import_model(written(tmp_path, saved({f"model.{k}": t for k, t in value.items()})))
    assert [(a.name, a.value) for a in wrapped.assumed] == [("prefix", "model."), ("steps", 1)]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_bare_list_of_tensors(tmp_path: Path, kind: type) -> None:
    """Without names a plug-in still can read it: the tensors are numbered, and the output says so."""
    loaded = load_file(written(tmp_path, saved(kind([torch.arange(3.0), torch.zeros(2, 2)]))))
    assert {k: a.shape for k, a in loaded.arrays.items()} == {"0": (3,), "1": (2, 2)}
    assert loaded.assumed[0].value == "0 to 1"
