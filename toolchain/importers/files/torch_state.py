"""The state_dict in a torch file, whatever training scripts put around it."""

from __future__ import annotations

from collections.abc import Mapping

from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError
from ...interfaces import Assumption
from .containers import zip_names
from .format import SAVE_STATE, FileFormat, LoadedFile, config_table, refuse
from .pickles import Opaque, StoredTensor
from .pt import LEGACY_MAGIC, TorchFile, is_torch_zip, read_pt

__all__ = ["TORCH"]

_WRAPPERS = {"model_state_dict": "trainer file", "state_dict": "model file"}
_ENTRIES = ("model", "net", "network", "model_state", "params")
"""Names under which training scripts put a state_dict among other things; which of them is taken is an assumption."""


def _matches(data: bytes) -> bool:
    names = zip_names(data)
    return data.startswith(LEGACY_MAGIC) or is_torch_zip(names) or any(n.endswith("/version") for n in names)


def _read(data: bytes, label: str) -> LoadedFile:
    names = zip_names(data)
    if any(n.endswith("/constants.pkl") for n in names):
        refuse("torchscript", "this is a TorchScript archive, which holds code", label, SAVE_STATE)
    if names and not is_torch_zip(names):
        what = "the file is what a failed torch.save leaves: it holds no network"
        hint = f"torch.save(model) fails for models with spectral norm and other parametrizations: {SAVE_STATE}"
        refuse("file-no-network", what, label, hint)
    return _unwrap(read_pt(data, label), label)


TORCH = FileFormat("torch", _matches, _read)


def _unwrap(file: TorchFile, label: str) -> LoadedFile:
    """The state_dict inside the object of a torch file."""
    value = file.value
    if isinstance(value, StoredTensor):
        refuse("file-no-network", f"the file holds one tensor {list(value.shape)}, no network", label, SAVE_STATE)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, StoredTensor) for v in value):
        numbered: dict[object, object] = {str(i): tensor for i, tensor in enumerate(value)}
        names = "0" if len(value) == 1 else f"0 to {len(value) - 1}"
        called = Assumption("tensor names", names, f"the file holds a {type(value).__name__} of tensors without names")
        return LoadedFile(label, _tensors(numbered, file, label), wrapper="list", assumed=(called,))
    if not isinstance(value, dict):
        refuse("file-no-network", f"the file holds {_kind(value)}, no network", label, SAVE_STATE)
    if not value:
        refuse("file-no-network", "the file holds an empty dictionary, no network", label, SAVE_STATE)
    keys = set(value)
    if {"config", "embedding", "model", "output_head"} <= keys:
        what = (
            "this is a three-part file of archive_v1 (embedding, model, output_head: the older "
            "LoopedTransformerBlock), which is not a family that can be imported"
        )
        refuse("file-archive-v1", what, label, "train the network with one of the families of `eqcompile families`")
    if {"state", "param_groups"} <= keys and "model_state_dict" not in keys:
        refuse("file-no-network", "the file holds the state of an optimizer, no network", label, SAVE_STATE)
    name, assumed = _entry(value, label)
    if name is None:
        return LoadedFile(label, _tensors(value, file, label))
    state = value[name]
    if not isinstance(state, dict):
        refuse("file-no-network", f"{name} is {_kind(state)}, must be a dictionary of tensors", label, SAVE_STATE)
    config = "config" if "config" in keys else "hyper_parameters"
    return LoadedFile(
        label,
        _tensors(state, file, label),
        _stated(value, label),
        config_table(value.get(config, {}), config, label),
        config_table(value.get("forward_kwargs", {}), "forward_kwargs", label),
        _WRAPPERS.get(name, f"dictionary with {name}"),
        assumed,
    )


def _entry(value: Mapping[object, object], label: str) -> tuple[str | None, tuple[Assumption, ...]]:
    """The entry that holds the state_dict, None if the dictionary itself is one."""
    stated = next((name for name in _WRAPPERS if name in value), None)
    if stated is not None or any(isinstance(v, StoredTensor) and v.shape for v in value.values()):
        return stated, ()
    names = [n for n in _ENTRIES if _holds_tensors(value.get(n))]
    if len(names) > 1:
        what = f"the entries {', '.join(names)} each hold tensors, and nothing says which is the network"
        refuse("file-several", what, label, f"save that entry alone: torch.save(file[{names[0]!r}], path)")
    if not names:
        return None, ()
    return names[0], (Assumption("state_dict", names[0], "the entry of the file that holds tensors"),)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(v, StoredTensor) for v in value.values())


def _kind(value: object) -> str:
    """What an entry is, in words."""
    names = {dict: "a dictionary", StoredTensor: "a tensor", type(None): "None"}
    text = names.get(type(value), f"a {type(value).__name__}")
    return f"an object ({value.name.replace(' ', '.')})" if isinstance(value, Opaque) else text


def _stated(value: Mapping[str, object], label: str) -> str | None:
    """The class that the file names: `key`, else `package` and `model_class`, else `model_class` alone."""
    parts: dict[str, str] = {}
    for name in ("key", "package", "model_class"):
        text = value.get(name)
        if isinstance(text, str):
            parts[name] = text
        elif text is not None:
            refuse("file-family", f"{name} is a {type(text).__name__}, must be a string", label)
    if "key" in parts:
        return parts["key"]
    if "model_class" not in parts:
        return None
    return ".".join(parts[n] for n in ("package", "model_class") if n in parts)


def _tensors(state: Mapping[object, object], file: TorchFile, label: str) -> dict[str, Array]:
    arrays = {}
    faults = []
    for key, tensor in state.items():
        if not isinstance(key, str):
            what = f"the state_dict has a key of type {type(key).__name__} ({str(key)[:40]}), must be a string"
            faults.append(Diagnostic("key-not-string", what, label, SAVE_STATE))
        elif not isinstance(tensor, StoredTensor):
            inside = _holds_tensors(tensor)
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
