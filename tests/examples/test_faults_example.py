"""The story of examples/faults.py holds."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
faults = importlib.import_module("faults")
sys.path.remove(str(EXAMPLES))


@pytest.mark.simulator
def test_the_equilibrium_net_heals_and_the_feed_forward_net_does_not(tmp_path: Path) -> None:
    """Would break if the nets, the engine or the comparison changed so that the example's claim no longer holds."""
    assert faults.main(["--out", str(tmp_path), "--faults", "400"]) == 0
    found = json.loads((tmp_path / "campaign" / "report.json").read_text())
    healed = next(d for d in found["baselines"][0]["difference"] if d["measure"].startswith("healed exactly"))
    assert healed["intervals_apart"]
    assert healed["net"]["low"] > 0.6
    assert healed["baseline"]["estimate"] == 0.0
    assert (tmp_path / "campaign" / "report.html").stat().st_size > 20_000
