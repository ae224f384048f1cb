"""A plug-in that is broken is listed with its reason and harms nobody else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eqcompile.app.cli.main import main
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import MissingToolError, PluginError
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.importers.detect import all_families
from eqcompile.toolchain.importers.family import Family
from eqcompile.toolchain.interfaces import Target

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "mnist_ternary.npz"
ENTRY_POINTS = """
[eqcompile.families]
broken.Raises = broken_raises:FAMILY
broken.Missing = broken_missing:FAMILY
broken.Wrong = broken_wrong:FAMILY
[eqcompile.targets]
broken = broken_raises:Target
[eqcompile.simulators]
broken = broken_raises:Simulator
"""
MODULES = {
    "broken_raises": "raise ValueError('out of order')",
    "broken_missing": "import no_such_package",
    "broken_wrong": "FAMILY = 3",
}


@pytest.fixture(autouse=True)
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    info = tmp_path / "broken_plugin-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    registry._group.cache_clear()
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    registry._group.cache_clear()


def test_a_broken_family_breaks_no_import() -> None:
    """One family that could not be imported broke the import of every checkpoint."""
    assert "broken.Raises" in registry.names("families")
    assert import_model(CHECKPOINT).family == "models.TernaryEqProp"
    assert import_model(CHECKPOINT.with_name("digits_ternary.pt")).family == "models.TernaryEqProp"


def test_each_broken_entry_is_listed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """A user could otherwise not find out why a family that was installed is not there."""
    assert main(["families", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    reasons = {u["name"]: u["reason"] for u in document["unavailable"]}
    assert set(reasons) == {"broken.Raises", "broken.Missing", "broken.Wrong"}
    assert "ValueError: out of order" in reasons["broken.Raises"]
    assert "no_such_package" in reasons["broken.Missing"]
    assert "must be an instance of Family, it is 3" in reasons["broken.Wrong"]
    assert len(document["families"]) == len(all_families())
    assert main(["targets"]) == 0
    assert "broken failed to load: ValueError: out of order" in capsys.readouterr().out


def test_using_a_broken_entry_says_whose_it_is() -> None:
    """The next step is to repair or uninstall one package, which must be named."""
    with pytest.raises(PluginError, match="uninstall broken-plugin"):
        registry.find_class("targets", "broken", Target)
    with pytest.raises(MissingToolError, match="no_such_package"):
        registry.find("families", "broken.Missing", Family)


def test_a_broken_simulator_leaves_the_others() -> None:
    """Simulators of one target are loaded to see whose they are."""
    assert "numpy" in registry.simulators_of("numpy")
