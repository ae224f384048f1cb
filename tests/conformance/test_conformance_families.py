"""What holds for every family that is installed, a stranger's included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plugged import under_test
from safetensors.numpy import save_file

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import EqcompileError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import fit
from eqcompile.toolchain.importers.family import Family, Tensors


@pytest.mark.parametrize("name", under_test("families"))
def test_a_family_says_what_it_reads(name: str) -> None:
    """A family whose key is another than its entry point could never be asked for, and one must need some tensor."""
    family = registry.find("families", name, Family)
    assert family.key == name
    assert family.summary
    assert fit(family, Tensors("empty", {})).missing
    assert len({s.name for s in family.settings}) == len(family.settings)
    assert all(s.doc for s in family.settings)


@pytest.mark.parametrize("name", under_test("families"))
def test_a_file_of_another_layout_is_refused(name: str, tmp_path: Path) -> None:
    """Would break if a family built a net of tensors that are not there."""
    save_file({"nothing.of_this_name": np.zeros((2, 2), np.float32)}, tmp_path / "net.safetensors")
    with pytest.raises(EqcompileError):
        import_model(tmp_path / "net.safetensors", family=name)
