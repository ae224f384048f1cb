"""Files of safetensors: the library's own reader, with the types that a checkpoint may have."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from ...diagnostics import Diagnostic, ImportFileError
from .arrays import widen_bfloat16
from .containers import READ_ERRORS, damaged
from .format import FileFormat, LoadedFile, config_text

__all__ = ["SAFETENSORS"]

_ELEMENTS: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}


def _matches(data: bytes) -> bool:
    """Whether the bytes begin as a safetensors file: the length of a JSON header, then the header."""
    return len(data) > 8 and int.from_bytes(data[:8], "little") <= len(data) - 8 and data[8:9] == b"{"


def _read(data: bytes, where: str) -> LoadedFile:
    """Tensors (bfloat16 becomes float32, exactly), and `family` and `config` of the metadata.

    The library's own validation holds: offsets contiguous, each size equal to shape times element size.
    """
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = {str(k): str(v) for k, v in (head.get("__metadata__") or {}).items()}
    except (*READ_ERRORS, SafetensorError) as error:
        raise damaged(where, len(data), error) from error
    arrays = {}
    faults = []
    for key, entry in entries:
        kind, shape, raw = entry["dtype"], entry["shape"], entry["data"]
        if kind == "BF16":
            arrays[key] = widen_bfloat16(np.frombuffer(raw, "<u2")).reshape(shape)
        elif kind in _ELEMENTS:
            arrays[key] = np.frombuffer(raw, _ELEMENTS[kind]).reshape(shape)
        else:
            what = f"the tensor has elements of type {kind}, read are {', '.join(_ELEMENTS)} and BF16"
            faults.append(Diagnostic("array-dtype", what, f"{where}:{key[:80]}", "save it as float32"))
    if faults:
        raise ImportFileError(faults)
    config = config_text(metadata.get("config"), where)
    return LoadedFile(where, arrays, metadata.get("family"), config, wrapper="safetensors")


SAFETENSORS = FileFormat("safetensors", _matches, _read)
