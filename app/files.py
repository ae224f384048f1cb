"""The one way to write a file: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic

__all__ = ["demand_writable", "replacing"]


def demand_writable(path: Path, *, force: bool) -> None:
    """Raise ArtifactError if the file `path` exists without `force`, or is a folder: before long work."""
    if path.is_dir():
        raise ArtifactError(Diagnostic("output-is-folder", "the output file is a folder", str(path), "choose another"))
    if path.exists() and not force:
        raise ArtifactError(Diagnostic("output-exists", "the output exists already", str(path), "add --force"))


@contextlib.contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary sibling of the file `path`, which takes its place on success and vanishes on any failure.

    Raises ArtifactError if `path` exists without `force`, is a folder, or cannot be written.
    """
    demand_writable(path, force=force)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise ArtifactError(
            Diagnostic("output-not-writable", f"cannot write: {error.strerror}", str(path), "choose another -o")
        ) from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
