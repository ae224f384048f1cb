"""The ways for a class of one's own: they are named where an import ends, and the package works as it is written."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_files import saved, written

from eqcompile.app.cli.main import main
from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import ImportFileError
from eqcompile.toolchain.importers.api import import_model


def test_an_unknown_class_is_shown_the_roads(tmp_path: Path) -> None:
    """`nearest is ...` alone was a dead end."""
    path = written(tmp_path, saved({"fc_rec.weight": torch.zeros(3, 3)}))
    with pytest.raises(ImportFileError) as caught:
        import_model(path)
    first, *differences = caught.value.diagnostics
    assert "the nearest is " in first.what
    for road in ("--map fc_rec=W_rec", "eqcompile.load(step", "ONNX", "NIR", "eqcompile new family NAME"):
        assert road in first.hint
    assert any(d.code == "missing-tensor" for d in differences)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a family, as the command writes it."""
    folder = tmp_path_factory.mktemp("own") / "my_net"
    assert main(["new", "family", "MyNet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def site(package: Path) -> Path:
    """A folder that the package is installed into, and nothing else."""
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    target = package.parent / "site"
    done = subprocess.run([*argv, "--target", str(target), str(package)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_the_package_passes_its_test(package: Path, site: Path) -> None:
    """What the command writes must install, be known, and compute what it says, before anything is changed."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_my_net.py")]
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(argv, env=env, cwd=site.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [("", ""), ('"tanh"', '"sigmoid"'), ('b.read(h, "W_out")', 'b.read(drive, "W_out")'), ('h, "W_rec"', 'h, "W_rek"')],
)
def test_its_test_notices_a_mistake(
    package: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    """A test that passes whatever the family says would assure its reader of nothing."""
    copy = shutil.copytree(site, tmp_path / "site", ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / "my_net.py").read_text(encoding="utf-8")
    assert not old or text.count(old) == 1
    (copy / "my_net.py").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.syspath_prepend(copy)
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    registry._group.cache_clear()
    test = runpy.run_path(str(package / "test_my_net.py"))["test_the_net_relaxes_as_the_network_does"]
    try:
        if old:
            with pytest.raises((AssertionError, ImportFileError)):
                test(tmp_path)
        else:
            test(tmp_path)
    finally:
        sys.modules.pop("my_net", None)
        registry._group.cache_clear()


def test_a_package_replaces_nothing(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A family that was changed for hours would be gone."""
    assert main(["new", "family", "MyNet", "--out", str(package)]) == 6
    assert "the output exists already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my-net", "class", "3d", "own.Net", ""])
def test_a_name_that_no_class_can_have_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package would not import."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "family", name]) == 2
    assert "is no name of a class" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "module"), [("MyNet", "my_net"), ("EqNet2D", "eq_net2_d"), ("Json", "json_net"), ("net", "net")]
)
def test_the_folder_is_named_after_the_class(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module called `json` would hide that of Python."""
    monkeypatch.chdir(tmp_path)
    assert main(["new", "family", name]) == 0
    names = {path.name for path in (tmp_path / module).iterdir()}
    assert names == {"pyproject.toml", f"{module}.py", f"test_{module}.py"}
    assert not any(re.search(r"\$\w", path.read_text()) for path in (tmp_path / module).iterdir())
