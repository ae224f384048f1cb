"""Checkpoint files in memory, whole and spoiled, and what refuses them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eqcompile.toolchain.diagnostics import Diagnostic, EqcompileError, ImportFileError
from eqcompile.toolchain.importers.families.looped import models_looped_mlp
from eqcompile.toolchain.importers.files.load import load_file

KNOWN = {models_looped_mlp.key: models_looped_mlp}


def state(inputs: int = 6, units: int = 4, classes: int = 3) -> dict[str, torch.Tensor]:
    """A state_dict of a looped MLP without spectral norm."""
    generator = torch.Generator().manual_seed(7)
    shapes = {"W_in": (units, inputs), "W_rec": (units, units), "W_out": (classes, units)}
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = torch.randn(shape, generator=generator)
        found[f"{name}.bias"] = torch.randn(shape[:1], generator=generator)
    return found


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def repacked(data: bytes, changes: dict[str, bytes | None], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A torch archive with the members that end so replaced, or dropped (None); new ones are added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", method) as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            change = changes.get(name.removeprefix(root + "/"), b"")
            if change is not None:
                new.writestr(name, change or old.read(name))
        for name, content in changes.items():
            if content is not None and f"{root}/{name}" not in old.namelist():
                new.writestr(f"{root}/{name}", content)
    return out.getvalue()


def written(tmp_path: Path, data: bytes, name: str = "net.pt") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refusal(path: Path) -> ImportFileError:
    with pytest.raises(ImportFileError) as caught:
        load_file(path)
    return caught.value


def only(error: EqcompileError) -> Diagnostic:
    assert len(error.diagnostics) == 1, str(error)
    return error.diagnostics[0]


def npz_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


def npy_of(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()
