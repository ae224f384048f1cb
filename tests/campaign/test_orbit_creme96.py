"""Rates that CREME96 computed, from its own spectra: a LET spectrum through a sensitive volume, and protons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eqcompile.sim.campaign.environment import folding, orbit, spectra
from eqcompile.sim.campaign.environment.chords import Box
from eqcompile.sim.campaign.environment.folding import proton_rate
from eqcompile.sim.campaign.environment.summary import load_orbit, summary

ORBIT = Path(__file__).parents[2] / "examples" / "orbit_creme96.toml"
DLT = ORBIT.parent / "data" / "creme96" / "q800a90i100Z2.dlt"
# Upsets per bit and day of reports 1 and 2 of q800a90i100Z2.HUP and of report 1 of q800a90i100.PUP, in the folder
# csda_rpp/data of PRBEM/IRBEM-extras; described in The Aerospace Corporation, ATR-2022-00960 (2022).
PUBLISHED = {
    ("flip-flop", "ion_per_bit_day"): 8.69132e-5,
    ("block-ram", "ion_per_bit_day"): 2.19981e-6,
    ("flip-flop", "proton_per_bit_day"): 9.55271e-5,
}
# CREME96's own integral of that spectrum, in particles per m2, sr and s, by the index of the LET among 1,002: file
# q800a90i100.LET, with hydrogen, which reaches none of these LETs; none is at an edge
# of an element.
PUBLISHED_ABOVE = {
    612: 3.5412e-1,
    630: 1.7113e-1,
    672: 5.4877e-2,
    720: 1.5667e-2,
    780: 3.0601e-3,
    840: 4.9797e-4,
    870: 1.2637e-4,
    900: 1.9060e-7,
}


def rates() -> dict[tuple[str, str], float]:
    """Each published rate, computed anew from the files."""
    kinds = summary(load_orbit(ORBIT), mission_s=None, devices=1)["kinds"]
    return {(kind, column): dict(kinds[kind]["rate"])[column] for kind, column in PUBLISHED}  # type: ignore[misc]


def test_three_rates_of_creme96_are_reproduced() -> None:
    """Two from a tabulated LET spectrum, a Weibull cross-section and a box, one of protons. Would break if any step
    from the file to the rate were another than that of CREME96: they agree within 0.5 %, asked for are 5 %."""
    assert rates() == pytest.approx(PUBLISHED, rel=0.005, abs=0)


def test_the_integral_of_the_spectrum_is_that_of_creme96() -> None:
    """Would break if a density were integrated wrongly, or a number of the file were not as published."""
    lets = np.geomspace(1.0, 1.1e5, 1002)[list(PUBLISHED_ABOVE)] * 1e-3
    fluxes = spectra.read_let(DLT).above(lets) / spectra.PER_M2_SR
    assert fluxes == pytest.approx(list(PUBLISHED_ABOVE.values()), rel=0.01, abs=0)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "half the solid angle": lambda patch: patch.setattr(spectra, "PER_M2_SR", spectra.PER_M2_SR / 2),
    "flux of one side": lambda patch: patch.setattr(Box, "surface", property(lambda box: box.x * box.y)),
    "no volume": lambda patch: patch.setattr(
        orbit, "ion_rate", lambda spectrum, curve, _: proton_rate(spectrum, curve)
    ),
    "no long chords": lambda patch: patch.setattr(Box, "longest", property(lambda box: box.z)),
    "short grid": lambda patch: patch.setattr(folding, "_LENGTHS", 12),
}


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.slow
def test_mutants_miss_the_rates_of_creme96(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison could otherwise not fail: each mutant moves a rate by more than the 0.5 % that it allows."""
    MUTANTS[name](monkeypatch)
    assert rates() != pytest.approx(PUBLISHED, rel=0.005, abs=0)
