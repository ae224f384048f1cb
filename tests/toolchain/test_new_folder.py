"""Folders that are written beside their place and renamed when whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from eqcompile.toolchain.artifact import new_folder


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would break if a disk error between the two renames cost the user the artifact that was there."""
    place = tmp_path / "out"
    place.mkdir()
    (place / "manifest.json").write_text("old")
    rename = os.rename

    def failing(source: Any, target: Any) -> None:
        if Path(target) == place and not str(source).endswith(".old"):
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no space left"), new_folder(place, force=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert (place / "manifest.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
