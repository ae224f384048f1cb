"""The one way to open an artifact folder: its manifest is read, and the hash of every file checked, once.

    artifact = Artifact.open(Path("out"))
    artifact.net, artifact.manifest.target, artifact.files["weights.npz"]

Files that the manifest does not list are allowed, for a build leaves some; nothing of eqcompile reads them. A listed
file must be a regular one: a symbolic link could point to what changes later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..diagnostics import ArtifactError, Diagnostic, EqcompileError
from ..ir import IntNet
from ..ir.serial import load, save
from ..typed_json import JSON, ReadError, decode_as, encode
from .folder import MANIFEST, NET_FILE, write_json
from .manifest import MANIFEST_VERSION, Manifest

__all__ = ["Artifact", "seal"]

AGAIN = "compile it again"
MAX_MANIFEST_BYTES = 1 << 26
SHOWN = 12
"""Digits of a hash in a message."""


@dataclass(frozen=True)
class Artifact:
    """An artifact folder: the integer net in it, and what its manifest says. `open` is the way to get one."""

    folder: Path
    net: IntNet
    manifest: Manifest

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 of every file but the manifest, by its path in the folder."""
        return self.manifest.files

    @classmethod
    def open(cls, folder: Path) -> Artifact:
        """The artifact in `folder`.

        Raises ArtifactError, with all faults at once: no readable manifest (`not-an-artifact`), another version of it
        (`manifest-version`), a listed file that is absent (`artifact-file-missing`) or not the one that was written
        (`artifact-changed`).
        """
        manifest = _read_manifest(folder)
        faults = [fault for path, sha256 in manifest.files.items() for fault in _file_faults(folder, path, sha256)]
        if NET_FILE not in manifest.files:
            faults.append(Diagnostic("artifact-file-missing", f"the manifest lists no {NET_FILE}", str(folder), AGAIN))
        if faults:
            raise ArtifactError(faults)
        try:
            net = load(folder / NET_FILE)
        except EqcompileError as error:
            raise ArtifactError(error.diagnostics) from error
        if not isinstance(net, IntNet) or net.digest != manifest.ir_digest:
            what = f"{NET_FILE} has digest {net.digest[:SHOWN]}, the manifest says {manifest.ir_digest[:SHOWN]}"
            raise ArtifactError(Diagnostic("artifact-changed", what, str(folder), AGAIN))
        return cls(folder, net, manifest)


def seal(folder: Path, net: IntNet, manifest: Manifest) -> Artifact:
    """Finish a folder that holds everything but net and manifest: write both, with the hash of every file.

    Raises ArtifactError if it cannot be written.
    """
    save(net, folder / NET_FILE)
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    sealed = replace(manifest, files={p.relative_to(folder).as_posix(): _sha256(p) for p in paths})
    write_json(folder / MANIFEST, encode(sealed))
    return Artifact(folder, net, sealed)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {path.stat().st_size} bytes, at most {MAX_MANIFEST_BYTES}")  # noqa: TRY301
        loaded: JSON = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"no readable {MANIFEST}: {getattr(error, 'strerror', None) or error}"
        raise ArtifactError(Diagnostic("not-an-artifact", what, str(folder), "compile into a folder first")) from error
    version = loaded.get("manifest_version") if isinstance(loaded, dict) else None
    if version != MANIFEST_VERSION:
        what = f"manifest version {version!r}, this eqcompile reads {MANIFEST_VERSION}"
        raise ArtifactError(Diagnostic("manifest-version", what, str(path), "compile it again with this eqcompile"))
    try:
        return decode_as(Manifest, loaded, MANIFEST)
    except (ReadError, RecursionError) as error:
        what = f"the manifest is damaged or was changed: {error}"
        raise ArtifactError(Diagnostic("manifest-damaged", what, str(path), AGAIN)) from error


def _file_faults(folder: Path, path: str, sha256: str) -> Iterator[Diagnostic]:
    parts, place = PurePosixPath(path), folder / path
    if parts.is_absolute() or ".." in parts.parts:
        yield Diagnostic("manifest-damaged", f"the manifest lists {path!r}, outside of the folder", str(folder), AGAIN)
        return
    if any((folder / p).is_symlink() for p in (parts, *parts.parents) if p != PurePosixPath()):
        yield Diagnostic("artifact-changed", f"{path} is a symbolic link or lies behind one", str(place), AGAIN)
        return
    try:
        actual = _sha256(place)
    except OSError as error:
        yield Diagnostic("artifact-file-missing", f"{path} cannot be read: {error.strerror}", str(place), AGAIN)
        return
    if actual != sha256:
        what = f"{path} has SHA-256 {actual[:SHOWN]}, the manifest says {sha256[:SHOWN]}"
        yield Diagnostic("artifact-changed", what, str(place), AGAIN)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
