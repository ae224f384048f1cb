"""The claims of the field: how a verdict follows from rows, and that all trainings that are asked for are recorded."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

CLAIMS = Path(__file__).parents[2] / "benchmarks" / "claims"

sys.path.insert(0, str(CLAIMS))
common = importlib.import_module("common")
robustness = importlib.import_module("robustness")
cost = importlib.import_module("cost")
training = importlib.import_module("trainings")
sys.path.remove(str(CLAIMS))


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        ((True, True), "confirmed"),
        ((True, False), "confirmed with conditions"),
        ((False, True), "confirmed with conditions"),
        ((False, False), "refuted"),
    ],
)
def test_a_verdict_follows_from_the_rows(held: tuple[bool, ...], verdict: str) -> None:
    rows = [common.Row("net", "measured", holds, {}) for holds in held]
    assert common.Claim("words", "rule", "measured", rows).verdict == verdict


def test_an_interval_is_students() -> None:
    """Three draws of mean 2 and deviation 1: 2 -+ 4.303 / sqrt(3)."""
    mean, low, high = common.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)


def test_every_training_is_recorded() -> None:
    """Would break if a row of the table rested on fewer nets or seeds than the program trains."""
    found = json.loads((CLAIMS / "trainings.json").read_text())["trainings"]
    assert [{k: row[k] for k in vars(job)} for row, job in zip(found, training.jobs(), strict=True)] == [
        vars(job) for job in training.jobs()
    ]


def test_connections_are_those_of_the_lattice() -> None:
    """The formula beside the neighbours that the net of 5^3 units has."""
    neighbours = common.net("digits_eqprop_cube").param("neighbor_indices")
    (row,) = (row for row in cost.connections().rows if row.case == "5^3 units")
    assert row.data["fewer"] == pytest.approx(1 - (neighbours >= 0).sum() / 125**2)


def test_half_of_the_units_are_silent() -> None:
    """The mutant: an ablation that takes no unit away has the accuracy of the whole net."""
    whole = common.accuracy(common.net("digits_layered"))
    assert robustness._without_half(common.net("digits_layered"), 0) < whole


def test_noise_is_damped_as_the_bound_says() -> None:
    """||W_rec|| = 0.9 and 30 steps leave at most 0.9^30 of any distance; a net without that bound may keep more."""
    assert robustness._left(common.net("digits_eqprop"), 0) <= 0.9**30
    assert 0.0 < robustness._exact("digits_eqprop", 0) < 1.0
