"""From a file on disk to named arrays, whatever wraps them; the content decides what a file is, its name only hints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import numpy as np

from ... import registry
from ...arrays import Array
from ...diagnostics import Diagnostic, ImportFileError, PluginError
from .arrays import NPY_MAGIC
from .containers import ZIP_MAGIC, open_zip, regular_file
from .format import SAVE_STATE, FileFormat, LoadedFile, refuse
from .pt import refuse_pickle

__all__ = ["load_file"]

_COMPILED = "_orig_mod."
_PARALLEL = "module."
_ENDINGS = (".pt", ".pth", ".npz", ".safetensors")


def load_file(path: Path) -> LoadedFile:
    """Read a checkpoint of any registered format: a torch file (bare state_dict, trainer file, a file of Lightning, a
    dictionary with `state_dict`, `key`, `config`, `forward_kwargs` or with a state_dict under another usual name, or a
    list of tensors, which are called 0, 1, ...), a `.safetensors` file (metadata `family`, `config`) or an `.npz`
    (members `__family__`, `__config__`). PyTorch is not needed. Keys come without the prefixes that torch.compile and
    DataParallel put before them.

    Nothing in the file is executed and no size in it is believed. Raises ImportFileError with every fault found:
    unreadable or damaged file, no network in it, keys or types that are not a network's, NaN or infinite entries.
    """
    regular_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImportFileError(Diagnostic("file-not-readable", f"cannot read: {error.strerror}", str(path))) from error
    formats = registry.load_all("formats", FileFormat).entries.values()
    match = next((f for f in formats if f.matches(data)), None)
    if match is None:
        _refuse_unknown(data, path.name, [f.name for f in formats])
    loaded = match.read(data, path.name)
    loaded = replace(loaded, arrays=_keys(loaded.arrays, path.name))
    faults = _not_finite(loaded)
    if faults:
        raise ImportFileError(faults)
    return loaded


def _refuse_unknown(data: bytes, label: str, known: list[str]) -> NoReturn:
    """Say what bytes of no known format are."""
    if not known:
        hint = "install eqcompile again: formats are registered by its entry points"
        raise PluginError(Diagnostic("no-plugins", "0 file formats are installed", label, hint))
    if data.startswith(ZIP_MAGIC):
        with open_zip(BytesIO(data), label, len(data), compressed=True) as archive:
            names = archive.namelist()
        shown = ", ".join(n[:40] for n in names[:4]) or "nothing"
        what = f"this zip archive is neither a torch file nor an .npz: it holds {shown}"
        refuse("file-format", what, label, "give the checkpoint inside it")
    if data.startswith(b"\x80"):
        raise refuse_pickle(data, label)
    if data.startswith(NPY_MAGIC):
        refuse("file-no-network", "this is a single array, not a network", label, SAVE_STATE)
    if data.startswith(b"version https://git-lfs"):
        refuse("file-lfs-pointer", "this is a Git LFS pointer, the model was not fetched", label, "git lfs pull")
    ending = Path(label).suffix
    named = f", although its name ends in {ending}" if ending in _ENDINGS else ""
    what = f"this is not a file of a known format ({', '.join(known)}){named}"
    hint = "give a checkpoint; if it should be one, copy or save it again"
    refuse("file-format", f"{what}: its {len(data)} bytes begin with {data[:8]!r}", label, hint)


def _keys(arrays: Mapping[str, Array], label: str) -> dict[str, Array]:
    """The same arrays without the prefixes that torch.compile and DataParallel put before keys."""
    if not arrays:
        refuse("file-no-network", "the file holds no tensors, no network", label, SAVE_STATE)
    plain = {key: key.replace(_COMPILED, "") for key in arrays}
    parallel = all(k.startswith(_PARALLEL) for k in plain.values())
    unwrapped: dict[str, Array] = {}
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
