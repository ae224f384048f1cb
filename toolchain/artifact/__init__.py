"""Artifact folders: how they are written, what their manifest says, and the one way to open them."""

from __future__ import annotations

from .artifact import Artifact, seal
from .folder import MANIFEST, NET_FILE, demand_replaceable, new_folder, tool_versions, write_arrays, write_json
from .manifest import (
    MANIFEST_VERSION,
    CoreDescription,
    Interface,
    Manifest,
    Source,
    StateRecord,
    Verification,
    manifest_of,
)

__all__ = [
    "MANIFEST",
    "MANIFEST_VERSION",
    "NET_FILE",
    "Artifact",
    "CoreDescription",
    "Interface",
    "Manifest",
    "Source",
    "StateRecord",
    "Verification",
    "demand_replaceable",
    "manifest_of",
    "new_folder",
    "seal",
    "tool_versions",
    "write_arrays",
    "write_json",
]
