"""Environments: every constant has a source, units fit, and nothing is assumed."""

from __future__ import annotations

import math
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from eqcompile.sim.campaign.environment import rates
from eqcompile.toolchain.diagnostics import EqcompileError, ImportFileError, UsageError

PART = "amd-7-series-config"
GIVEN = {"part": None, "scrub_s": None, "mission_s": None, "devices": 1}


def test_every_constant_is_cited() -> None:
    """Would break if a number stood in a data file without saying where it comes from."""
    folder = files("eqcompile.sim.campaign.environment")
    tables = []
    for path in folder.iterdir():
        if path.name.endswith(".toml"):
            held = tomllib.loads(path.read_text(encoding="utf-8"))
            inner = [value for value in held.values() if isinstance(value, dict)]
            tables += [held, *inner, *(value for value in held.get("rates", {}).values())]
    numbers = [t for t in tables if any(isinstance(v, (int, float)) for v in t.values())]
    assert len(numbers) >= 8
    known = ("JESD89A", "IEC 62396", "UG116", "10.1109/REDW.2014.7004595", "Alsat-1", "10.12126/see.2021.05.002")
    assert all(any(document in t["source"] for document in known) for t in numbers)


def test_a_cross_section_times_a_flux() -> None:
    """Would break if hours, days or square centimetres were mixed: 1 Mbit of this memory at sea level has about 95 FIT
    for neutrons, a number that can be checked by hand."""
    found = rates.read("sealevel", **{**GIVEN, "part": PART})
    assert found["upsets_per_bit_hour"] == pytest.approx(13.0 * 6.99e-15, rel=1e-9, abs=0)
    mbit = rates.failures(found["upsets_per_bit_hour"], 1 << 20, 1.0)
    assert mbit["fit"] == pytest.approx(95.3, rel=0.01)
    assert mbit["mttf_hours"] == pytest.approx(1e9 / mbit["fit"])
    half = rates.failures(found["upsets_per_bit_hour"], 1 << 20, 0.5)
    assert half["fit"] == pytest.approx(mbit["fit"] / 2)
    assert "mttf_hours" not in rates.failures(1e-9, 100, 0.0)
    high = rates.read("avionics", **{**GIVEN, "part": PART})
    assert high["upsets_per_bit_hour"] / found["upsets_per_bit_hour"] == pytest.approx(6000 / 13)


def test_an_orbit_gives_the_rate_of_a_part_that_is_cited() -> None:
    """Would break if the rates of two parts, or days and hours, were mixed."""
    found = rates.read("geo", **{**GIVEN, "part": "amd-7-series-block-ram"})
    assert found["upsets_per_bit_hour"] == pytest.approx(5.2e-7 / 24, rel=1e-9, abs=0)
    assert "Kintex-7" in found["part"]["title"]
    assert "7004595" in found["rate"]["source"]
    assert found["kind"] == "estimated"
    flown = rates.read("leo", **{**GIVEN, "part": "sram-sun-synchronous"})
    assert flown["upsets_per_bit_hour"] == pytest.approx(4.04e-7 / 24, rel=1e-9, abs=0)


@pytest.mark.parametrize(("name", "part"), [("leo", PART), ("geo", None), ("geo", "virtex"), ("leo", None)])
def test_an_orbit_without_a_rate_is_refused_with_the_reason(name: str, part: str | None) -> None:
    """Would break if a part without a cited rate were given an invented flux, or another part's rate."""
    with pytest.raises(UsageError, match="no single flux") as raised:
        rates.read(name, **{**GIVEN, "part": part})
    assert "--env FILE.toml" in str(raised.value)


def test_a_file_gives_a_rate_of_its_own(tmp_path: Path) -> None:
    """Would break if a rate per day were taken per hour."""
    path = tmp_path / "orbit.toml"
    path.write_text('title = "my orbit"\n[rate]\nupsets_per_bit_day = 2.4e-7\nsource = "CREME96, 500 km"\n')
    found = rates.read(str(path), **{**GIVEN, "scrub_s": 10.0, "mission_s": 60.0, "devices": 3})
    assert found["upsets_per_bit_hour"] == pytest.approx(1e-8, rel=1e-9, abs=0)
    assert (found["scrub_s"], found["mission_s"], found["devices"]) == (10.0, 60.0, 3)


def test_the_file_among_the_examples_is_one() -> None:
    """Would break if the form that it shows were not the one that is read."""
    found = rates.read(str(Path(__file__).parents[2] / "examples" / "orbit.toml"), **GIVEN)
    assert found["upsets_per_bit_hour"] == pytest.approx(1e-7 / 24, rel=1e-9, abs=0)
    assert found["rate"]["source"].startswith("made up")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('title = "a"\n[rate]\nupsets_per_bit_day = 1e-7\n', "source is missing"),
        ('title = "a"\n[rate]\nupsets_per_bit_day = -1.0\nsource = "s"\n', "must be a number above 0"),
        ('title = "a"\n[rate]\nupsets_per_bit_day = inf\nsource = "s"\n', "must be a number above 0"),
        ('title = "a"\n[rate]\nupsets_per_bit_day = true\nsource = "s"\n', "must be a number above 0"),
        ('title = "a"\n[rates]\nx = 1\n', "unknown keys: rates"),
        ('[rate]\nupsets_per_bit_day = 1e-7\nsource = "s"\n', "no title"),
        ('title = "a"\nrate = 3\n', "source is missing"),
        ("title = ", "not TOML"),
        ('title = "a"\n', "needs"),
        ("x" * 70_000, "bytes"),
    ],
)
def test_bad_files_are_refused_by_name(text: str, want: str, tmp_path: Path) -> None:
    """Would break if a mistyped key fell back to a default, or a rate without a source were taken."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(EqcompileError, match=want):
        rates.read(str(path), **GIVEN)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    """Would break if a typing mistake were an empty environment."""
    for name, part in (("sealvel", None), ("sealevel", "virtex"), ("sealevel", None), (str(tmp_path), None)):
        with pytest.raises((UsageError, ImportFileError)):
            rates.read(name, **{**GIVEN, "part": part})


def test_missions_are_poisson() -> None:
    """Would break if the length of the mission, the number of devices or the probability did not enter: mean and zeros
    are those of the Poisson process."""
    found = rates.mission(0.01, 0.25, mission_s=3600.0 * 50, devices=4, runs=40_000, generator=np.random.default_rng(1))
    assert found["upsets_mean"] == pytest.approx(2.0, rel=0.03)
    assert found["failures_mean"] == pytest.approx(0.5, rel=0.05)
    assert found["without_failure"] == pytest.approx(math.exp(-0.5), rel=0.02)
    assert rates.accumulated(0.01, 7200.0) == pytest.approx(0.01)
