"""Damage anywhere in a model file ends in success or in an EqcompileError, never in a traceback."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import KNOWN, saved, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqcompile.toolchain.diagnostics import EqcompileError
from eqcompile.toolchain.importers.api import import_model


def seeds() -> dict[str, bytes]:
    from safetensors.numpy import save

    arrays = {key: value.numpy() for key, value in state(2, 2, 2).items()}
    stored, packed = io.BytesIO(), io.BytesIO()
    np.savez(stored, **arrays, __family__="models.LoopedMLP", __config__=json.dumps({"max_steps": 5}))
    np.savez_compressed(packed, **arrays)
    return {
        "pt": saved(state(2, 2, 2)),
        "legacy": saved({"state_dict": state(2, 2, 2), "key": "LoopedMLP"}, _use_new_zipfile_serialization=False),
        "npz": stored.getvalue(),
        "npz-packed": packed.getvalue(),
        "safetensors": save(arrays, {"family": "models.LoopedMLP", "config": '{"max_steps": 5}'}),
    }


SEEDS = seeds()
BOUNDED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tried(path: Path, data: bytes) -> bool:
    """Whether the file imports; anything but success or an EqcompileError propagates."""
    path.write_bytes(data)
    try:
        import_model(path, known=KNOWN)
    except EqcompileError as error:
        return not error.diagnostics
    return True


@pytest.mark.parametrize("form", sorted(SEEDS))
def test_the_undamaged_seed_imports(tmp_path: Path, form: str) -> None:
    """Without it, the two properties below could hold because nothing ever loads."""
    assert tried(tmp_path / "net.pt", SEEDS[form])


@pytest.mark.parametrize("form", sorted(SEEDS))
@BOUNDED
@given(data=st.data())
def test_a_file_cut_anywhere_never_imports(tmp_path: Path, form: str, data: st.DataObject) -> None:
    """A truncated download ends in an EqcompileError, never in a traceback or a network."""
    whole = SEEDS[form]
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert not tried(tmp_path / "net.pt", whole[:cut])


@pytest.mark.parametrize("form", sorted(SEEDS))
@BOUNDED
@given(data=st.data())
def test_a_flipped_byte_never_ends_in_a_traceback(tmp_path: Path, form: str, data: st.DataObject) -> None:
    """Damage anywhere gives success (where the byte does not matter or is a weight) or an EqcompileError."""
    whole = bytearray(SEEDS[form])
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    tried(tmp_path / "net.pt", bytes(whole))


@pytest.mark.parametrize("form", ["npz", "pt"])
@BOUNDED
@given(data=st.data())
def test_damage_behind_a_right_checksum_never_ends_in_a_traceback(
    tmp_path: Path, form: str, data: st.DataObject
) -> None:
    """A crafted file has right checksums: the pickle's opcodes and the array's header are what must hold then."""
    with zipfile.ZipFile(io.BytesIO(SEEDS[form])) as archive:
        names = [n for n in archive.namelist() if n.endswith(("data.pkl", "weight.npy", "config__.npy"))]
        contents = {n: archive.read(n) for n in archive.namelist()}
    name = data.draw(st.sampled_from(names))
    text = bytearray(contents[name])
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in contents.items():
            archive.writestr(member, bytes(text) if member == name else content)
    tried(tmp_path / "net.pt", out.getvalue())
