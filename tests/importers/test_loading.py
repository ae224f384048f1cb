"""From files to arrays to a verified net: every container gives the same numbers, and nothing is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.families import Builder
from eqcompile.toolchain.importers.families import family as declared
from eqcompile.toolchain.importers.families.looped import archive_looped_mlp, models_looped_mlp
from eqcompile.toolchain.importers.families.ternary import models_ternary
from eqcompile.toolchain.importers.family import Setting, Tensors
from eqcompile.toolchain.importers.files.load import load_file
from eqcompile.toolchain.interfaces import Assumption
from eqcompile.toolchain.ir import EqNet, Input, Output, Param, Schedule, State, ops

KNOWN = {f.key: f for f in (models_looped_mlp, archive_looped_mlp, models_ternary)}


class Looped(torch.nn.Module):
    """The layers of a looped MLP with spectral norm, as the research code makes them."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        wrap = spectral_norm if norm else (lambda layer: layer)
        self.W_in = wrap(torch.nn.Linear(6, 4))
        self.W_rec = wrap(torch.nn.Linear(4, 4))
        self.W_out = wrap(torch.nn.Linear(4, 3))


@pytest.fixture
def model() -> Looped:
    torch.manual_seed(3)
    return Looped().eval()


def save(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def mixed() -> dict[str, torch.Tensor]:
    """One tensor of each type, with a view that is not contiguous, a scalar and an empty one."""
    generator = torch.Generator().manual_seed(1)
    real = torch.randn(3, 5, generator=generator)
    found = {str(t)[6:]: real.to(t) for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
    found |= {
        str(t)[6:]: torch.arange(4).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    }
    return found | {"mask": real > 0, "turned": real.t(), "scalar": torch.tensor(0.5), "none": torch.zeros(0, 3)}


def same(arrays: Any, expected: dict[str, torch.Tensor]) -> bool:
    """Equal keys, shapes and numbers, and types as stored (bfloat16 as float32)."""
    plain = {k: (t.float() if t.dtype == torch.bfloat16 else t).numpy() for k, t in expected.items()}
    return list(arrays) == list(plain) and all(
        a.dtype == plain[k].dtype and a.shape == plain[k].shape and np.array_equal(a, plain[k])
        for k, a in arrays.items()
    )


@pytest.mark.parametrize("modern", [True, False])
def test_torch_files_keep_every_number_and_type(tmp_path: Path, modern: bool) -> None:
    """The new and the old format of torch.save give the same arrays, bit for bit."""
    loaded = load_file(save(tmp_path / "a.pt", mixed(), _use_new_zipfile_serialization=modern))
    assert same(loaded.arrays, mixed())
    changed = mixed()
    changed["float16"][0, 0] += 1
    assert not same(loaded.arrays, changed), "a comparison that cannot fail shows nothing"


def test_the_ending_only_hints(tmp_path: Path) -> None:
    """A .pt that is called .npz, or has no ending, is still read as what it is."""
    for name in ("a.npz", "a", "a.safetensors"):
        assert same(load_file(save(tmp_path / name, mixed())).arrays, mixed())


def test_npz_and_safetensors_carry_family_and_config(tmp_path: Path) -> None:
    """Files from elsewhere can say what they are; the marks are no tensors."""
    from safetensors.torch import save_file

    expected = mixed()
    expected["turned"] = expected["turned"].contiguous()
    config = json.dumps({"max_steps": 12})
    save_file(expected, tmp_path / "a.safetensors", {"family": "models.LoopedMLP", "config": config})
    loaded = load_file(tmp_path / "a.safetensors")
    assert same({k: loaded.arrays[k] for k in expected}, expected)
    assert (loaded.family, loaded.config, loaded.wrapper) == ("models.LoopedMLP", {"max_steps": 12}, "safetensors")
    del expected["bfloat16"]
    arrays = {k: t.numpy() for k, t in expected.items()}
    np.savez(tmp_path / "a.npz", **arrays, __family__="LoopedMLP", __config__=config)
    loaded = load_file(tmp_path / "a.npz")
    assert same(loaded.arrays, expected)
    assert (loaded.family, loaded.config, loaded.wrapper) == ("LoopedMLP", {"max_steps": 12}, "npz")


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        ({"__config__": "{"}, "the config is not JSON"),
        ({"__config__": "[1]"}, "config is a list, must be a table"),
        ({"__config__": "[" * 50_000}, "the config is not JSON"),
        ({"__config__": np.zeros(2)}, "__config__ is float64"),
        ({"__family__": np.array(["a", "b"])}, "must be one string"),
    ],
)
def test_marks_that_cannot_be_read(tmp_path: Path, marks: dict[str, Any], text: str) -> None:
    """A broken mark must not be taken for no mark: the settings in it would be lost in silence."""
    np.savez(tmp_path / "a.npz", w=np.zeros(2), **marks)
    with pytest.raises(ImportFileError, match=text.replace("[", r"\[")):
        load_file(tmp_path / "a.npz")


def test_wrapped_state_dicts(tmp_path: Path) -> None:
    """A trainer's file, one with a config beside it, and the self-describing form hold the same tensors."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    trainer = {
        "epoch": 1,
        "step": 2,
        "model_state_dict": mixed(),
        "optimizer_state_dict": optimizer.state_dict(),
        "best_metric": float("inf"),
        "history": {"train_loss": [2.3]},
    }
    loaded = load_file(save(tmp_path / "a.pt", trainer))
    assert same(loaded.arrays, mixed())
    assert (loaded.family, loaded.config, loaded.wrapper) == (None, {}, "trainer file")
    loaded = load_file(save(tmp_path / "b.pt", trainer | {"config": {"eq_steps": 15, "model": "modern"}}))
    assert loaded.config == {"eq_steps": 15, "model": "modern"}
    described = {
        "model_class": "LoopedMLP",
        "module": "models.looped_mlp",
        "package": "models",
        "key": "models.LoopedMLP",
        "config": {"max_steps": 30},
        "forward_kwargs": {"steps": 20},
        "state_dict": mixed(),
    }
    loaded = load_file(save(tmp_path / "c.pt", described))
    assert same(loaded.arrays, mixed())
    assert (loaded.family, loaded.wrapper) == ("models.LoopedMLP", "model file")
    assert (loaded.config, loaded.forward_kwargs) == ({"max_steps": 30}, {"steps": 20})
    del described["key"]
    assert load_file(save(tmp_path / "d.pt", described)).family == "models.LoopedMLP"
    del described["package"]
    assert load_file(save(tmp_path / "e.pt", described)).family == "LoopedMLP"


def test_prefixes_of_compiled_and_parallel_models_are_removed(tmp_path: Path) -> None:
    """The same network saved from torch.compile or DataParallel has other keys; a layer called module stays."""
    for prefix in ("_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."):
        value = {prefix + k: t for k, t in mixed().items()}
        assert same(load_file(save(tmp_path / "a.pt", value)).arrays, mixed()), prefix
    partly = {"module.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    assert set(load_file(save(tmp_path / "b.pt", partly)).arrays) == set(partly)


def test_parameters_that_require_gradients_load(tmp_path: Path) -> None:
    """dict(model.named_parameters()) is a common way to save."""
    loaded = load_file(save(tmp_path / "a.pt", dict(torch.nn.Linear(2, 3).named_parameters())))
    assert {k: a.shape for k, a in loaded.arrays.items()} == {"weight": (3, 2), "bias": (3,)}


def test_spectral_norm_is_folded_with_the_stored_vectors(tmp_path: Path, model: Looped) -> None:
    """The deployed weight is the one torch computes in eval mode, to the last bits; neither the raw nor an SVD one."""
    with torch.no_grad():
        # A training step leaves the stored vectors one step behind the weight.
        model.W_rec.parametrizations.weight.original += 0.1 * torch.randn(4, 4)
    path = save(tmp_path / "a.pt", model.state_dict())
    net = import_model(path, family="models.LoopedMLP", known=KNOWN).net
    found = net.param("W_rec_weight")
    with torch.no_grad():
        deployed = model.double().W_rec.weight.numpy()
        raw = model.W_rec.parametrizations.weight.original.numpy()
    assert np.abs(found - deployed).max() < 1e-15
    assert np.abs(found - raw).max() > 1e-2
    assert np.abs(found - raw / np.linalg.svd(raw, compute_uv=False)[0]).max() > 1e-3
    (source,) = [p.source for p in net.params if p.name == "W_rec_weight"]
    assert source == "a.pt:W_rec.parametrizations.weight.original (spectral norm folded)"


def test_every_container_gives_the_same_net(tmp_path: Path, model: Looped) -> None:
    """The digest says that nothing of the meaning depends on how a checkpoint was stored."""
    from safetensors.torch import save_file

    state = model.state_dict()
    np.savez(tmp_path / "a.npz", **{k: t.numpy() for k, t in state.items()})
    save_file(dict(state), tmp_path / "a.safetensors")
    paths = [
        save(tmp_path / "a.pt", state),
        save(tmp_path / "b.pt", state, _use_new_zipfile_serialization=False),
        save(tmp_path / "c.pt", {"model_state_dict": state, "epoch": 1}),
        tmp_path / "a.npz",
        tmp_path / "a.safetensors",
    ]
    digests = {import_model(p, family="models.LoopedMLP", known=KNOWN).net.digest for p in paths}
    assert len(digests) == 1
    state["W_in.bias"][0] += 1e-6
    other = import_model(save(tmp_path / "d.pt", state), family="models.LoopedMLP", known=KNOWN)
    assert other.net.digest not in digests


def test_the_order_of_sources_reaches_the_net(tmp_path: Path, model: Looped) -> None:
    """User over config file over checkpoint over default; what is assumed and what is given are told apart."""
    state = model.state_dict()
    bare = save(tmp_path / "a.pt", state)
    full = save(tmp_path / "b.pt", {"state_dict": state, "key": "models.LoopedMLP", "config": {"max_steps": 12}})
    config = tmp_path / "c.toml"
    config.write_text("steps = 9\n")
    found = import_model(bare, family="models.LoopedMLP", known=KNOWN)
    assert found.net.schedule.steps == 30
    assert found.assumed == (Assumption("steps", 30, "default of models.LoopedMLP"),)
    found = import_model(full, known=KNOWN)
    assert (found.net.schedule.steps, found.assumed, found.given) == (12, (), {"steps": 12})
    assert import_model(full, config=config, known=KNOWN).net.schedule.steps == 9
    assert import_model(full, config=config, settings={"steps": "7"}, known=KNOWN).net.schedule.steps == 7


def test_a_bare_file_that_fits_two_families_is_not_guessed(tmp_path: Path) -> None:
    """A looped and a ternary network share every key and shape: read as the other, accuracy collapses unnoticed."""
    path = save(tmp_path / "a.pt", Looped(norm=False).state_dict())
    with pytest.raises(ImportFileError, match="--family models.TernaryEqProp") as caught:
        import_model(path, known=KNOWN)
    assert "--family models.LoopedMLP" in str(caught.value)
    settings: dict[str, dict[str, Any]] = {"LoopedMLP": {}, "TernaryEqProp": {"threshold": 0.1}}
    looped, ternary = (import_model(path, family=f, settings=s, known=KNOWN).net for f, s in settings.items())
    assert looped != ternary


def test_a_ternary_net_has_the_threshold_of_its_source_where_none_is_stated(tmp_path: Path) -> None:
    """Weights between the default threshold and another would count as zero: another network, and no word of it."""
    weight, bias = torch.tensor([[0.6, 0.4], [-0.6, 1.4]]), torch.zeros(2)
    layers = ("W_in", "W_rec", "W_out")
    state = {f"{name}.weight": weight for name in layers} | {f"{name}.bias": bias for name in layers}
    found = import_model(save(tmp_path / "a.pt", state), family="models.TernaryEqProp", known=KNOWN)
    assert found.net.param("W_rec_ternary").tolist() == [[1.0, 0.0], [-1.0, 1.0]]
    assert {a.name: a.value for a in found.assumed}["threshold"] == 0.5


def test_settings_out_of_range_are_refused(tmp_path: Path, model: Looped) -> None:
    """No steps, or none that exist, is no network."""
    path = save(tmp_path / "a.pt", model.state_dict())
    for settings, text in (({"steps": "0"}, "steps is 0"), ({"stesp": "3"}, "did you mean 'steps'")):
        with pytest.raises(UsageError, match=text):
            import_model(path, family="models.LoopedMLP", settings=settings, known=KNOWN)


def build(tensors: Tensors, settings: Any) -> EqNet:
    """A net that reads one weight, and a bias if there is one."""
    params = [Param("w", tensors["w.weight"], tensors.source("w.weight"))]
    if "w.bias" in tensors:
        params.append(Param("b", tensors["w.bias"], tensors.source("w.bias")))
    if settings["gain"] > 1.0:
        params.append(Param("w", np.zeros(()), "twice"))
    return EqNet(
        name="Toy",
        family="toy.Toy",
        inputs=(Input("x", (settings["inputs"],)),),
        params=tuple(params),
        states=(State("h", tensors["w.weight"].shape[:1], "new"),),
        drive=(ops.Linear(out="new", x="x", weight="w", bias="b" if "w.bias" in tensors else None),),
        step=(),
        readout=(),
        outputs=(Output("y", "h", "values"),),
        schedule=Schedule(1),
    )


@declared("toy.Toy", "a toy", Setting("inputs", 3, "inputs"), Setting("gain", 1.0, "gain"), unused=(r"feedback\..*",))
def toy(b: Builder) -> EqNet:
    """The tensors that `build` takes."""
    b.find("w.weight")
    if b.has("w.bias"):
        b.find("w.bias")
    return build(b.tensors, b.settings)


def test_tensors_that_were_not_read_are_listed(tmp_path: Path) -> None:
    """Dead weight is no error, but a tensor that is dropped must show; singular vectors belong to their weight."""
    weight = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    value = {
        "w.parametrizations.weight.original": weight,
        "w.parametrizations.weight.0._u": torch.tensor([1.0, 0.0]),
        "w.parametrizations.weight.0._v": torch.tensor([1.0, 0.0, 0.0]),
        "feedback.weight_orig": weight,
        "feedback.weight_u": torch.ones(2),
        "feedback.weight_v": torch.ones(3),
    }
    found = import_model(save(tmp_path / "a.pt", value), known={"toy.Toy": toy})
    assert found.ignored == ("feedback.weight_orig", "feedback.weight_u", "feedback.weight_v")
    assert np.array_equal(found.net.param("w"), weight.double().numpy() / 3.0)
    with_bias = {"w.weight": weight, "w.bias": torch.zeros(2)}
    assert import_model(save(tmp_path / "b.pt", with_bias), known={"toy.Toy": toy}).ignored == ()


def test_a_net_that_does_not_verify_is_not_returned(tmp_path: Path) -> None:
    """Shapes that a family does not check itself, and rules of the IR, end in the file's own keys and both shapes."""
    path = save(tmp_path / "a.pt", {"w.weight": torch.zeros(2, 3)})
    with pytest.raises(ImportFileError) as caught:
        import_model(path, settings={"inputs": "4"}, known={"toy.Toy": toy})
    assert "linear has weight [2, 3] on an input of shape [4]" in str(caught.value)
    assert "the file holds w.weight [2, 3]" in str(caught.value)
    with pytest.raises(ImportFileError, match="the name 'w' is defined twice"):
        import_model(path, settings={"gain": "2"}, known={"toy.Toy": toy})
    broken = declared("toy.Toy", "")(lambda b: {}[b.find("w.weight") is None])
    with pytest.raises(ImportFileError, match="toy.Toy cannot be built from these tensors"):
        import_model(path, known={"toy.Toy": broken})


def test_every_registered_family_is_whole() -> None:
    """Each entry point must load, and its key must be the name that users give."""
    found = all_families()
    assert set(found) == {*registry.names("families"), *(t.key for f in found.values() for t in f.twins)}
    assert [key for key, family in found.items() if family.key != key or not family.summary] == []
