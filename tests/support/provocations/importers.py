"""Checkpoints: files that are damaged, hostile or ambiguous, and settings."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from checkpoint_files import npy_of, npz_of, repacked, saved, state
from safetensors.numpy import save as save_safetensors

from eqcompile.toolchain import registry
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.config import settings_from_config
from eqcompile.toolchain.importers.families import family as declared
from eqcompile.toolchain.importers.family import Family
from eqcompile.toolchain.importers.files import containers, pt

from .case import CHECKPOINTS, ROOT, Case, Provocations
from .graphs import nir_file

LOOPED = "models.LoopedMLP"
KINDS = ("weight", "bias")
SCALE = "weight_quant.tensor_quant.scaling_impl.value"
QUANTIZER = "Int8WeightPerTensorFloat"
KNOWN_STEPS = {"steps": 4}


def read(case: Case, content: bytes, name: str = "net.pt", family: str | None = LOOPED, **settings: Any) -> Any:
    """A checkpoint with this content."""
    return import_model(case.file(name, content), family=family, settings=settings)


def arrays(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The tensors of a looped net, some of them changed; None leaves one out."""
    found = {name: tensor.numpy() for name, tensor in state().items()} | (changes or {})
    return {name: array for name, array in found.items() if array is not None}


def looped(case: Case, changes: dict[str, Any] | None = None, *, family: str | None = LOOPED, **settings: Any) -> Any:
    """A looped net with other tensors, as an .npz."""
    return import_model(case.arrays("net.npz", **arrays(changes)), family=family, settings=settings or KNOWN_STEPS)


def mapped(case: Case, **names: str) -> Any:
    """A looped net, some of its tensors under other names."""
    return import_model(case.arrays("net.npz", **arrays()), family=LOOPED, settings=KNOWN_STEPS, map=names)


def configured(case: Case, name: str, text: str) -> Any:
    """A looped net with a file of settings."""
    return import_model(case.arrays("net.npz", **arrays()), family=LOOPED, config=case.file(name, text))


def safetensors(case: Case, config: str) -> Any:
    """A looped net whose metadata hold this configuration."""
    return read(case, save_safetensors(arrays(), {"family": LOOPED, "config": config}), "net.safetensors")


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive, a name in it maybe twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def brevitas(case: Case, key: str = SCALE, scale: float = 0.1, **settings: Any) -> Any:
    """A looped net with a quantizer's parameter beside a weight."""
    return looped(case, {f"W_rec.{key}": np.float32(scale)}, steps=4, **settings)


def normalised(case: Case, u: Any, v: Any, weight: Any = "same") -> Any:
    """A looped net whose recurrent weight is spectrally normalised."""
    changes = {
        "W_rec.weight": None,
        "W_rec.parametrizations.weight.original": arrays()["W_rec.weight"] if isinstance(weight, str) else weight,
        "W_rec.parametrizations.weight.0._u": u,
        "W_rec.parametrizations.weight.0._v": v,
    }
    return looped(case, changes)


class Payload:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def twice_normalised(case: Case) -> Any:
    changes = {
        "W_rec.weight_orig": arrays()["W_rec.weight"],
        "W_rec.weight_u": np.ones(4, np.float32),
        "W_rec.weight_v": np.ones(4, np.float32),
    }
    return looped(case, changes)


def chain(*layers: int) -> dict[str, Any]:
    """A chain with these layers."""
    ends = {"W_in.weight": np.eye(3), "W_in.bias": np.zeros(3), "W_out.weight": np.eye(3), "W_out.bias": np.zeros(3)}
    return {
        **ends,
        **{f"chain.{n}.weight": np.eye(3) for n in layers},
        **{f"chain.{n}.bias": np.zeros(3) for n in layers},
    }


def pipe(case: Case) -> Any:
    os.mkfifo(case.folder / "net.pt")
    return import_model(case.folder / "net.pt")


def bomb(case: Case) -> Any:
    case.patch.setattr(containers, "UNPACK_FREE", 1000)
    content = zipped([("W.npy", npy_of(np.zeros(1 << 16)))], zipfile.ZIP_DEFLATED)
    return read(case, content, "net.npz")


def large_pickle(case: Case) -> Any:
    case.patch.setattr(pt, "_MAX_PICKLE", 10)
    return read(case, saved(state()))


def no_formats(case: Case) -> Any:
    case.patch.setattr(registry, "_group", lambda group: {})
    return import_model(case.file("net.bin", "text"))


def zoo_file(case: Case, name: str) -> Any:
    """A checkpoint of the zoo without any setting."""
    with np.load(ROOT / "tests" / "data" / "zoo" / f"{name}.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        weights = {key.removeprefix("weights/"): file[key] for key in file.files if key.startswith("weights/")}
    return import_model(case.arrays("net.npz", **weights), family=meta["family"])


def stateful(case: Case) -> Any:
    family = registry.find("families", "models.HomeostaticEqProp", Family)
    return settings_from_config(family, {}, {"apply_homeostasis": True})


def wide_config(case: Case) -> Any:
    content = {"key": LOOPED, "config": {"hidden_dim": 9}, "model_state_dict": state()}
    return read(case, saved(content), family=None)


IMPORTERS: Provocations = {
    "archive-bomb": bomb,
    "archive-members": lambda case: read(case, zipped([("a.npy", b""), ("A.npy", b"")]), "net.npz"),
    "archive-method": lambda case: read(case, repacked(saved(state()), {}, method=zipfile.ZIP_DEFLATED)),
    "array-dtype": lambda case: read(case, npz_of("W.npy", npy_of(np.array(["a"]))), "net.npz"),
    "array-foreign": lambda case: read(case, zipped([("W.npy", npy_of(np.zeros(2))), ("x.txt", b"")]), "net.npz"),
    "array-objects": lambda case: read(case, npz_of("W.npy", npy_of(np.array([{}], object))), "net.npz"),
    "array-size": lambda case: read(case, npz_of("W.npy", npy_of(np.zeros(9))[:-8]), "net.npz"),
    "assumption-empties": lambda case: looped(
        case, {n: np.full_like(a, 0.1) for n, a in arrays().items()}, family="models.TernaryEqProp"
    ),
    "brevitas-key": lambda case: brevitas(case, "input_quant.scale"),
    "brevitas-quantizer": lambda case: brevitas(case),
    "brevitas-scale": lambda case: brevitas(case, scale=-1.0, weight_quant=QUANTIZER + "MSE"),
    "brevitas-setting": lambda case: brevitas(case, weight_quant=QUANTIZER, weight_bit_width=99),
    "config-format": lambda case: configured(case, "settings.toml", "steps = ["),
    "config-not-json": lambda case: safetensors(case, "{"),
    "config-not-readable": lambda case: import_model(
        case.arrays("net.npz", **arrays()), family=LOOPED, config=case.folder / "none.toml"
    ),
    "config-not-table": lambda case: safetensors(case, "[1]"),
    "config-width": wide_config,
    "entry-not-tensor": lambda case: read(case, saved({**state(), "epoch": 3})),
    "family-ambiguous": lambda case: looped(case, family=None),
    "family-contradiction": lambda case: import_model(CHECKPOINTS / "digits_looped.pt", family="models.TernaryEqProp"),
    "family-mismatch": lambda case: import_model(nir_file(case), family=LOOPED),
    "file-archive-v1": lambda case: read(
        case, saved(dict.fromkeys(("config", "embedding", "model", "output_head"), OrderedDict(state())))
    ),
    "file-damaged": lambda case: read(case, saved(state())[:-40]),
    "file-empty": lambda case: read(case, b""),
    "file-family": lambda case: read(case, saved({"model_class": "Mine", "model_state_dict": state()}), family=None),
    "file-is-folder": lambda case: import_model(case.folder),
    "file-lfs-pointer": lambda case: read(case, b"version https://git-lfs.github.com/spec/v1\n"),
    "file-no-network": lambda case: read(case, saved({"state": {}, "param_groups": []})),
    "file-not-readable": lambda case: import_model(case.folder / "none.pt"),
    "file-not-regular": pipe,
    "file-several": lambda case: read(case, saved({"model": state(), "net": state()})),
    "key-not-string": lambda case: read(case, saved({**state(), 5: torch.zeros(1)})),
    "key-twice": lambda case: read(
        case, saved({**state(), **{f"_orig_mod.{name}": tensor for name, tensor in state().items()}})
    ),
    "map-twice": lambda case: mapped(case, W_in="W_rec"),
    "map-unknown": lambda case: mapped(case, W_in="W_inn"),
    "map-unused": lambda case: mapped(case, W_inn="W_in"),
    "missing-layer": lambda case: import_model(
        case.arrays("net.npz", **chain(0, 2)),
        family="models.DeepHebbianChain",
    ),
    "missing-setting": lambda case: zoo_file(case, "ConvEqProp_release_sn"),
    "missing-tensor": lambda case: looped(case, {"W_rec.bias": None}),
    "more-differences": lambda case: looped(case, {f"extra.{k}": np.zeros(1) for k in range(40)}),
    "no-family": lambda case: import_model(case.arrays("net.npz", strange=np.eye(3))),
    "no-plugins": no_formats,
    "pickle-foreign": lambda case: read(case, pickle.dumps({"a": 1})),
    "pickle-global": lambda case: read(case, repacked(saved(state()), {"data.pkl": pickle.dumps(Payload(), 2)})),
    "pickle-malformed": lambda case: read(case, repacked(saved(state()), {"data.pkl": b"\x80\x02}q\x00"})),
    "pickle-size": large_pickle,
    "setting-assumed": lambda case: import_model(
        case.arrays("net.npz", **arrays()), family="models.TernaryEqProp", assume=False
    ),
    "setting-type": lambda case: looped(case, steps="many"),
    "setting-value": lambda case: looped(case, steps=0),
    "shape-mismatch": lambda case: looped(case, {"W_rec.bias": np.zeros(9, np.float32)}),
    "spectral-norm-shape": lambda case: normalised(case, np.ones(9, np.float32), np.ones(4, np.float32)),
    "spectral-norm-vectors": lambda case: normalised(case, np.ones(4, np.float32), None),
    "spectral-norm-weight": lambda case: normalised(case, np.ones(4, np.float32), np.ones(4, np.float32), None),
    "spectral-norm-zero": lambda case: normalised(case, np.zeros(4, np.float32), np.zeros(4, np.float32)),
    "stateful-call": stateful,
    "tensor-larger-than-storage": lambda case: read(case, saved({"w": torch.zeros(1).expand(100_000, 100_000)})),
    "tensor-not-finite": lambda case: looped(case, {"W_rec.bias": np.full(4, np.nan, np.float32)}),
    "tensor-type": lambda case: read(case, saved({**state(), "c": torch.empty_strided((0, 1 << 62, 4), (1, 1, 1))})),
    "tensors-do-not-fit": lambda case: import_model(
        case.arrays("net.npz", **arrays()), known={"my.Net": declared("my.Net", "")(lambda b: {}[b.find("W") is None])}
    ),
    "torchscript": lambda case: read(case, zipped([("net/data.pkl", b""), ("net/constants.pkl", b"")])),
    "unexpected-tensor": lambda case: looped(case, {"W_more.weight": np.eye(3)}),
    "unknown-family": lambda case: looped(case, family="models.LoopedMPL"),
    "unknown-setting": lambda case: looped(case, step=4),
    "weight-twice": twice_normalised,
}
