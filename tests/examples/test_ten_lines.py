"""The shortest way from a checkpoint to a campaign, as the example has it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "ten_lines.py"


@pytest.mark.slow
def test_ten_lines_lead_from_a_checkpoint_to_a_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first page of the documentation promises."""
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(SCRIPT))
    assert names["campaign"].finished
    assert 0 < names["healed"] < 1
    assert {"core", "campaign", "outcomes.svg", "settling.html"} <= {p.name for p in tmp_path.iterdir()}
    lines = SCRIPT.read_text(encoding="utf-8").partition("\nnet = ")[2].strip().splitlines()
    assert len(lines) == 10
