"""Folders that are written to a temporary sibling and renamed when whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import ArtifactError, Diagnostic

__all__ = ["MANIFEST", "NET_FILE", "demand_replaceable", "new_folder", "tool_versions", "write_arrays", "write_json"]

MANIFEST = "manifest.json"
NET_FILE = "net.onnx"


def demand_replaceable(path: Path, *, force: bool, marker: str = MANIFEST) -> None:
    """Raise ArtifactError if `path` exists and there is no `force`, or it is not ours (holds no file `marker`)."""
    if path.exists() and not force:
        raise ArtifactError(Diagnostic("output-exists", "the output exists already", str(path), "add --force"))
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file())):
        raise ArtifactError(
            Diagnostic(
                "output-foreign",
                f"the output exists and is not of eqcompile (it has no {marker}); --force does not delete it",
                str(path),
                "choose another folder with -o",
            )
        )


@contextmanager
def new_folder(path: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """Yield an empty temporary sibling of `path`; on success it takes the place of `path`, on any failure (Ctrl-C
    included) it vanishes and `path` is as it was.

    Raises ArtifactError as `demand_replaceable`, or if `path` cannot be written.
    """
    path = path.absolute()
    demand_replaceable(path, force=force, marker=marker)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise ArtifactError(
            Diagnostic("output-not-writable", f"cannot write: {error.strerror}", str(path.parent), "choose another -o")
        ) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        old = temporary.with_name(temporary.name + ".old")
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Pretty JSON with a final newline; NaN and Infinity are refused (ValueError)."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_arrays(path: Path | IO[bytes], arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> None:
    """An .npz file at a path or in an open one, compressed, whose bytes depend on the arrays alone: `numpy.savez`
    stores the time.

    Keys with arrays of any shape and dtype, each of which may be made as it is written.
    """
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays:
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with file.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array)  # type: ignore[no-untyped-call]


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed version of each distribution, those not installed left out."""
    versions = {}
    for package in ("eqcompile", "numpy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
