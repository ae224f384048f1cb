"""The tutorial as the notebook that it is, cell by cell."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "digits.md"


@pytest.mark.simulator
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer's first hour: training, equality, proof and faults are what the text around them says."""
    pytest.importorskip("ipykernel")
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = jupytext.read(PAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that talk to the kernel
        nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    floats, integers = (float(share) for share in re.findall(r"([\d.]+)% of the test digits", text))
    assert floats > 95
    assert integers > floats - 1
    assert re.search(r"numpy +[\d,]+ codes \[simulated\] compared, 0 differ", text)
    assert "certified: contracts, L = 0." in text
    assert "theorem " in text
    assert "healed " in text
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert (tmp_path / "campaign" / "report.html").exists()
