"""Every outcome, and which one counts where several apply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eqcompile.sim.faults.engine import Outcome
from eqcompile.sim.faults.outcome import Facts, Reported, classify, results

NOTHING: dict[str, Any] = {
    "label": 3,
    "rejoin": 0,
    "distance_max": 0,
    "distance_end": 0,
    "differ_end": 0,
    "label_differs": False,
    "output_differs": False,
    "moving": False,
    "detected": False,
    "hung": False,
}
APART = {"rejoin": -1, "distance_max": 9, "distance_end": 5, "differ_end": 2}


def facts(**changes: Any) -> Facts:
    return Facts(**{name: np.array([value]) for name, value in {**NOTHING, **changes}.items()})


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, Outcome.MASKED),
        ({"rejoin": 4, "distance_max": 9}, Outcome.HEALED),
        ({"output_differs": True}, Outcome.NEAR),
        ({"rejoin": 4, "distance_max": 9, "output_differs": True}, Outcome.NEAR),
        ({**APART, "distance_end": 1}, Outcome.NEAR),
        ({**APART, "distance_end": 1, "moving": True}, Outcome.NEAR),
        ({**APART, "distance_end": 2}, Outcome.OTHER),
        (APART, Outcome.OTHER),
        ({**APART, "moving": True}, Outcome.UNSETTLED),
        ({**APART, "output_differs": True}, Outcome.OTHER),
        ({"label_differs": True, "output_differs": True}, Outcome.SDC),
        ({**APART, "label_differs": True, "output_differs": True, "moving": True}, Outcome.SDC),
        ({"label_differs": True, "output_differs": True, "detected": True}, Outcome.DETECTED),
        ({"detected": True}, Outcome.DETECTED),
        ({**APART, "detected": True, "hung": True, "label_differs": True}, Outcome.HANG),
    ],
)
def test_the_first_outcome_that_applies_counts(changes: dict[str, Any], want: Outcome) -> None:
    """A wrong precedence would count silent corruption as healed, or what a watchdog caught as silent."""
    assert Outcome(int(classify(facts(**changes), near=1)[0])) is want


def test_results_hold_the_facts() -> None:
    """A column that lands under another's name would be stored for every campaign."""
    row = results(facts(**APART), near=5)[0]
    assert row.tolist() == (int(Outcome.NEAR), 3, -1, 9, 5, 2, False, False, 0, 0)
    said = Reported(aborted=np.array([True]), flags=np.array([5]), corrected=np.array([7]))
    row = results(replace(facts(output_differs=True), reported=said), near=5)[0]
    assert row.tolist()[-4:] == (True, True, 5, 7)


def test_software_neither_detects_nor_hangs() -> None:
    """Engines without hardware leave these two out."""
    known = {name: np.array([value]) for name, value in NOTHING.items() if name not in ("detected", "hung")}
    assert classify(Facts(**known), near=0).tolist() == [Outcome.MASKED]
