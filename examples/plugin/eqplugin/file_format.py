"""File format `json`: tensors as nested lists, `{"tensors": {"loop.weight": [[0.5, 0.1], ...], ...}}`."""

from __future__ import annotations

import json

import numpy as np

from eqcompile.toolchain.diagnostics import Diagnostic, ImportFileError
from eqcompile.toolchain.importers.files.format import FileFormat, LoadedFile

__all__ = ["JSON"]

BEGINNING = b'{"tensors"'


def read(data: bytes, label: str) -> LoadedFile:
    """The tensors of a file. A file is not to be trusted: whatever is wrong with it is an ImportFileError."""
    try:
        tensors = json.loads(data)["tensors"]
        arrays = {name: np.array(values, np.float64) for name, values in tensors.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImportFileError(Diagnostic("json-damaged", f"no tensors as nested lists: {error}", label)) from error
    return LoadedFile(label, arrays, wrapper="json")


JSON = FileFormat("json", lambda data: data.startswith(BEGINNING), read)
