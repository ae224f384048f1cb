"""Artifact folders: written to a temporary sibling, renamed when whole; `manifest.json` says what they are."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .diagnostics import ArtifactError, Diagnostic
from .ir import IntNet

__all__ = ["MANIFEST", "manifest_of", "new_folder", "read_manifest", "tool_versions", "write_json"]

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1


@contextmanager
def new_folder(path: Path, *, force: bool, marker: str = MANIFEST) -> Iterator[Path]:
    """Yield an empty temporary sibling of `path`; on success it takes the place of `path`, on any failure (Ctrl-C
    included) it vanishes and `path` is as it was.

    Raises ArtifactError if `path` exists without `force`, is not ours (holds no file `marker`), or cannot be written.
    """
    path = path.absolute()
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


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Pretty JSON with a final newline; NaN and Infinity are refused (ValueError)."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def tool_versions(*packages: str) -> dict[str, str]:
    """Installed version of each distribution, those not installed left out."""
    found = {}
    for package in ("eqcompile", "numpy", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def manifest_of(net: IntNet, *, target: str, options: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of an artifact: digest, interface, formats, options and the target's details (JSON values)."""
    return {
        "manifest_version": MANIFEST_VERSION,
        "target": target,
        "net": net.name,
        "family": net.family,
        "ir_digest": net.digest,
        "inputs": [asdict(i) for i in net.inputs],
        "outputs": [asdict(o) for o in net.outputs],
        "states": [
            {"name": s.name, "shape": list(s.shape), "format": str(net.formats[s.name]), "frac": s.frac}
            for s in net.states
        ],
        "schedule": asdict(net.schedule),
        "options": dict(options),
        "tools": tool_versions(),
        "details": dict(details),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artifact folder; ArtifactError if there is none or it is another version."""
    path = folder / MANIFEST
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            Diagnostic(
                "not-an-artifact", f"no readable {MANIFEST}: {error}", str(folder), "compile into a folder first"
            )
        ) from error
    found = loaded.get("manifest_version") if isinstance(loaded, dict) else None
    if found != MANIFEST_VERSION:
        raise ArtifactError(
            Diagnostic(
                "manifest-version", f"manifest version {found}, this eqcompile reads {MANIFEST_VERSION}", str(path)
            )
        )
    manifest: dict[str, Any] = loaded
    return manifest
