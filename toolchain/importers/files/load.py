"""From a file on disk to named arrays, whatever wraps them; the content decides what a file is, its name only hints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...diagnostics import Diagnostic, ImportFileError
from ...interfaces import Assumption
from .arrays import NPY_MAGIC, NpzFile
from .containers import READ_ERRORS, open_zip, regular_file
from .pickles import Opaque, StoredTensor
from .pt import LEGACY_MAGIC, SAVE_STATE, TorchFile, is_torch_zip, read_pt, refuse_pickle
from .safetensors_file import is_safetensors, read_safetensors

__all__ = ["LoadedFile", "load_file"]

_COMPILED = "_orig_mod."
_PARALLEL = "module."
_WRAPPERS = {"model_state_dict": "trainer file", "state_dict": "model file"}
_ENTRIES = ("model", "net", "network", "model_state", "params")
"""Names under which training scripts put a state_dict among other things; which of them is taken is an assumption."""


@dataclass(frozen=True)
class LoadedFile:
    """Tensors of one file by the file's own keys, without the prefixes of torch.compile and DataParallel, and what the
    file says about them.

    `family` is the network's class as the file states it (`package.Class`, or a bare class name), None if it does
    not; `config` holds constructor arguments, `forward_kwargs` arguments of the call. `wrapper` names the form;
    `assumed` says which part of the file was taken for the network where its form does not.
    """

    label: str
    arrays: Mapping[str, NDArray[Any]]
    family: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    forward_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrapper: str = "state_dict"
    assumed: tuple[Assumption, ...] = ()


def load_file(path: Path) -> LoadedFile:
    """Read a checkpoint: a torch file (bare state_dict, trainer file, a file of Lightning, a dictionary with
    `state_dict`, `key`, `config`, `forward_kwargs` or with a state_dict under another usual name, or a list of tensors,
    which are called 0, 1, ...), a `.safetensors` file (metadata `family`, `config`) or an `.npz` (members `__family__`,
    `__config__`). PyTorch is not needed.

    Nothing in the file is executed and no size in it is believed. Raises ImportFileError with every fault found:
    unreadable or damaged file, no network in it, keys or types that are not a network's, NaN or infinite entries.
    """
    regular_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error.strerror}", str(path))) from error
    loaded = _load(data, path.name)
    faults = _not_finite(loaded)
    if faults:
        raise ImportFileError(faults)
    return loaded


def _load(data: bytes, label: str) -> LoadedFile:
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _load_zip(data, label)
    if data.startswith(LEGACY_MAGIC):
        return _unwrap(read_pt(data, label), label)
    if is_safetensors(data):
        arrays, metadata = read_safetensors(data, label)
        config = _config_text(metadata.get("config"), label)
        return LoadedFile(label, _keys(arrays, label), metadata.get("family"), config, wrapper="safetensors")
    if data.startswith(b"\x80"):
        raise refuse_pickle(data, label)
    if data.startswith(NPY_MAGIC):
        _refuse("file-no-network", "this is a single array, not a network", label, SAVE_STATE)
    if data.startswith(b"version https://git-lfs"):
        _refuse("file-lfs-pointer", "this is a Git LFS pointer, the model was not fetched", label, "git lfs pull")
    ending = Path(label).suffix
    named = f", although its name ends in {ending}" if ending in (".pt", ".pth", ".npz", ".safetensors") else ""
    what = f"this is not a .pt, .npz or .safetensors file{named}: its {len(data)} bytes begin with {data[:8]!r}"
    _refuse("file-format", what, label, "give a checkpoint; if it should be one, copy or save it again")


def _load_zip(data: bytes, label: str) -> LoadedFile:
    with open_zip(BytesIO(data), label, len(data), compressed=True) as archive:
        names = archive.namelist()
    if any(n.endswith("/constants.pkl") for n in names):
        what = "this is a TorchScript archive, which holds code"
        _refuse("torchscript", what, label, SAVE_STATE)
    if is_torch_zip(names):
        return _unwrap(read_pt(data, label), label)
    if any(n.endswith("/version") for n in names):
        what = "the file is what a failed torch.save leaves: it holds no network"
        hint = f"torch.save(model) fails for models with spectral norm and other parametrizations: {SAVE_STATE}"
        _refuse("file-no-network", what, label, hint)
    if not any(n.endswith(".npy") for n in names):
        shown = ", ".join(n[:40] for n in names[:4]) or "nothing"
        what = f"this zip archive is neither a torch file nor an .npz: it holds {shown}"
        _refuse("file-format", what, label, "give the checkpoint inside it")
    file = NpzFile(BytesIO(data), len(data), label)
    arrays = {key: file.read(key) for key in file.headers if not key.startswith("__")}
    for key, array in arrays.items():
        if array.dtype.kind == "U":
            _refuse("array-dtype", f"{key} holds text, must be numbers", label, "leave it out, or name it __note__")
    config = _config_text(file.text("__config__"), label)
    return LoadedFile(label, _keys(arrays, label), file.text("__family__"), config, wrapper="npz")


def _config_text(text: str | None, label: str) -> Mapping[str, Any]:
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except READ_ERRORS as error:
        raise ImportFileError(Diagnostic("config-not-json", f"the config is not JSON: {error}", label)) from error
    return _config(config, "config", label)


def _unwrap(file: TorchFile, label: str) -> LoadedFile:
    """The state_dict inside the object of a torch file."""
    value = file.value
    if isinstance(value, StoredTensor):
        _refuse("file-no-network", f"the file holds one tensor {list(value.shape)}, no network", label, SAVE_STATE)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, StoredTensor) for v in value):
        numbered = {str(i): tensor for i, tensor in enumerate(value)}
        names = "0" if len(value) == 1 else f"0 to {len(value) - 1}"
        called = Assumption("tensor names", names, f"the file holds a {type(value).__name__} of tensors without names")
        return LoadedFile(label, _tensors(numbered, file, label), wrapper="list", assumed=(called,))
    if not isinstance(value, dict):
        _refuse("file-no-network", f"the file holds {_kind(value)}, no network", label, SAVE_STATE)
    if not value:
        _refuse("file-no-network", "the file holds an empty dictionary, no network", label, SAVE_STATE)
    keys = set(value)
    if {"config", "embedding", "model", "output_head"} <= keys:
        what = (
            "this is a three-part file of archive_v1 (embedding, model, output_head: the older "
            "LoopedTransformerBlock), which is not a family that can be imported"
        )
        _refuse("file-archive-v1", what, label, "train the network with one of the families of `eqcompile families`")
    if {"state", "param_groups"} <= keys and "model_state_dict" not in keys:
        _refuse("file-no-network", "the file holds the state of an optimizer, no network", label, SAVE_STATE)
    name, assumed = _entry(value, label)
    if name is None:
        return LoadedFile(label, _keys(_tensors(value, file, label), label))
    state = value[name]
    if not isinstance(state, dict):
        _refuse("file-no-network", f"{name} is {_kind(state)}, must be a dictionary of tensors", label, SAVE_STATE)
    config = "config" if "config" in keys else "hyper_parameters"
    return LoadedFile(
        label,
        _keys(_tensors(state, file, label), label),
        _stated(value, label),
        _config(value.get(config, {}), config, label),
        _config(value.get("forward_kwargs", {}), "forward_kwargs", label),
        _WRAPPERS.get(name, f"dictionary with {name}"),
        assumed,
    )


def _entry(value: Mapping[Any, Any], label: str) -> tuple[str | None, tuple[Assumption, ...]]:
    """The entry that holds the state_dict, None if the dictionary itself is one."""
    stated = next((name for name in _WRAPPERS if name in value), None)
    if stated is not None or any(isinstance(v, StoredTensor) and v.shape for v in value.values()):
        return stated, ()
    names = [n for n in _ENTRIES if isinstance(value.get(n), dict) and _holds_tensors(value[n])]
    if len(names) > 1:
        what = f"the entries {', '.join(names)} each hold tensors, and nothing says which is the network"
        _refuse("file-several", what, label, f"save that entry alone: torch.save(file[{names[0]!r}], path)")
    if not names:
        return None, ()
    return names[0], (Assumption("state_dict", names[0], "the entry of the file that holds tensors"),)


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(v, StoredTensor) for v in value.values())


def _kind(value: Any) -> str:
    """What an entry is, in words."""
    names = {dict: "a dictionary", StoredTensor: "a tensor", type(None): "None"}
    text = names.get(type(value), f"a {type(value).__name__}")
    return f"an object ({value.name.replace(' ', '.')})" if isinstance(value, Opaque) else text


def _stated(value: Mapping[str, Any], label: str) -> str | None:
    """The class that the file names: `key`, else `package` and `model_class`, else `model_class` alone."""
    parts = {n: value[n] for n in ("key", "package", "model_class") if value.get(n) is not None}
    for name, text in parts.items():
        if not isinstance(text, str):
            _refuse("file-family", f"{name} is a {type(text).__name__}, must be a string", label)
    if "key" in parts:
        return str(parts["key"])
    if "model_class" not in parts:
        return None
    return ".".join(parts[n] for n in ("package", "model_class") if n in parts)


def _config(value: Any, name: str, label: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        _refuse("config-not-table", f"{name} is a {type(value).__name__}, must be a table of names", label)
    return dict(value)


def _tensors(state: Mapping[Any, Any], file: TorchFile, label: str) -> dict[str, NDArray[Any]]:
    arrays = {}
    faults = []
    for key, tensor in state.items():
        if not isinstance(key, str):
            what = f"the state_dict has a key of type {type(key).__name__} ({str(key)[:40]}), must be a string"
            faults.append(Diagnostic("key-not-string", what, label, SAVE_STATE))
        elif not isinstance(tensor, StoredTensor):
            inside = isinstance(tensor, dict) and _holds_tensors(tensor)
            hint = f"save that entry alone: torch.save(file[{key[:80]!r}], path)" if inside else SAVE_STATE
            what = f"the entry is {_kind(tensor)}, must be a tensor"
            faults.append(Diagnostic("entry-not-tensor", what, f"{label}:{key[:80]}", hint))
        else:
            try:
                arrays[key] = file.array(tensor)
            except ValueError as error:
                what = f"the tensor {' '.join(str(error).split())[:200]}"
                faults.append(Diagnostic("tensor-type", what, f"{label}:{key[:80]}", "save it as float32"))
    if faults:
        raise ImportFileError(faults)
    return arrays


def _keys(arrays: Mapping[str, NDArray[Any]], label: str) -> dict[str, NDArray[Any]]:
    """The same arrays without the prefixes that torch.compile and DataParallel put before keys."""
    if not arrays:
        _refuse("file-no-network", "the file holds no tensors, no network", label, SAVE_STATE)
    plain = {key: key.replace(_COMPILED, "") for key in arrays}
    parallel = all(k.startswith(_PARALLEL) for k in plain.values())
    unwrapped: dict[str, NDArray[Any]] = {}
    faults = []
    for key, array in arrays.items():
        name = plain[key].removeprefix(_PARALLEL) if parallel else plain[key]
        if name in unwrapped:
            faults.append(Diagnostic("key-twice", f"two tensors are called {name[:80]!r}", f"{label}:{key[:80]}"))
        unwrapped[name] = array
    if faults:
        raise ImportFileError(faults)
    return unwrapped


def _not_finite(loaded: LoadedFile) -> list[Diagnostic]:
    faults = []
    for key, array in loaded.arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
            what = f"{nan} NaN and {inf} infinite of {array.size} entries"
            hint = "the training diverged: take an earlier checkpoint"
            faults.append(Diagnostic("tensor-not-finite", what, f"{loaded.label}:{key[:80]}", hint))
    return faults


def _refuse(code: str, what: str, where: str, hint: str = "") -> NoReturn:
    raise ImportFileError(Diagnostic(code, what, where, hint))
