"""File formats are plug-ins: one more takes one file and one entry point, and no two claim the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import KNOWN, saved, state, written
from safetensors.numpy import save

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import ImportFileError, PluginError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.files.format import FileFormat
from eqcompile.toolchain.importers.files.load import load_file

PLUGIN = """
import numpy as np

from eqcompile.toolchain.importers.files.format import FileFormat, LoadedFile


def read(data, label):
    units = data[5]
    sizes = {"W_in": (units, 2), "W_rec": (units, units), "W_out": (3, units)}
    arrays = {f"module.{name}.weight": np.full(size, 0.1) for name, size in sizes.items()}
    arrays |= {f"module.{name}.bias": np.zeros(size[0]) for name, size in sizes.items()}
    return LoadedFile(label, arrays, "models.LoopedMLP", {"max_steps": 4})


TOY = FileFormat("toy", lambda data: data.startswith(b"TOY:"), read)
"""


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "toy_format.py").write_text(PLUGIN)
    info = tmp_path / "toy_format-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-format\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[eqcompile.formats]\ntoy = toy_format:TOY\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._group.cache_clear()
    yield
    registry._group.cache_clear()


@pytest.mark.usefixtures("_plugin")
def test_a_stranger_adds_a_format(tmp_path: Path) -> None:
    """Formats were an if-chain in the loader: another one took a change of eqcompile."""
    done = import_model(written(tmp_path, b"TOY: \x05", "net.toy"))
    assert done.net.schedule.steps == 4
    assert done.net.param("W_rec_weight").shape == (5, 5)
    with pytest.raises(ImportFileError, match=r"known format \(npz, safetensors, torch, toy\)"):
        load_file(written(tmp_path, b"TAY: \x05", "net.toy"))


def test_each_file_is_of_one_format() -> None:
    """Were two formats to claim a file, their order would decide what it means."""
    arrays = {key: value.numpy() for key, value in state().items()}
    stored = io.BytesIO()
    np.savez(stored, **arrays)
    files = {
        "torch": saved(state()),
        "legacy": saved(state(), _use_new_zipfile_serialization=False),
        "npz": stored.getvalue(),
        "safetensors": save(arrays),
    }
    formats = registry.load_all("formats", FileFormat).entries.values()
    claims = {name: [f.name for f in formats if f.matches(data)] for name, data in files.items()}
    assert claims == {"torch": ["torch"], "legacy": ["torch"], "npz": ["npz"], "safetensors": ["safetensors"]}


def test_without_installed_formats_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation must not read as a broken file."""
    monkeypatch.setattr(registry, "names", lambda group: ())
    with pytest.raises(PluginError, match="install eqcompile again"):
        import_model(written(tmp_path, saved(state())), known=KNOWN)
