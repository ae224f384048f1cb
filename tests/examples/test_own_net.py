"""The page on nets of one's own: its code runs as it stands there, its lists are those of the readers."""

from __future__ import annotations

import re
import runpy
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest

from eqcompile.app.cli.main import main
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.importers.graphs.aten_forms import ATEN_FORMS
from eqcompile.toolchain.importers.graphs.onnx_forms import ONNX_FORMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "own-net.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader copies these blocks and lines; one that fails costs a user."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "own_net_page"}
    typed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for language, text in BLOCKS:
            if language == "python":
                exec(compile(text, "own-net.md", "exec"), names)
                continue
            for line in text.splitlines():
                program, *words = shlex.split(line)
                assert program == "eqcompile"
                assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
                typed += 1
    assert typed == 4
    shown = capsys.readouterr().out
    assert "log is not read" in shown
    assert "sort is not read" in shown
    assert Artifact.open(tmp_path / "from_onnx").net.schedule.steps == 30
    assert np.load(tmp_path / "train.npz")["x"].shape == (200, 8)


@pytest.mark.parametrize(("head", "forms"), [("Of PyTorch,", ATEN_FORMS), ("Of ONNX:", ONNX_FORMS)])
def test_the_page_lists_what_is_read(head: str, forms: dict[str, object]) -> None:
    """A list that lags behind sends a user to another road."""
    paragraph = PAGE.split(head)[1].split("\n\n")[1]
    assert re.findall(r"`(\w+)`", paragraph) == sorted(name for name in forms if not name.startswith("_"))


def test_the_example_makes_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten lines that a reader tries first."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "own_net.py"))
    manifest = Artifact.open(tmp_path / "own_net").manifest
    assert [v.status for v in manifest.verification] == ["equal"]
