"""Upset rates of an orbit: chords, cross-sections and folding against published numbers and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqcompile.sim.campaign.environment import folding, spectra
from eqcompile.sim.campaign.environment.chords import Box
from eqcompile.sim.campaign.environment.cross_sections import Bendel, Points, Weibull
from eqcompile.sim.campaign.environment.folding import ion_rate, proton_rate
from eqcompile.sim.campaign.environment.orbit import Orbit, clusters, tornado
from eqcompile.sim.campaign.environment.spectra import PER_M2_SR, Spectrum
from eqcompile.sim.campaign.environment.summary import load_orbit, summary

EXAMPLE = Path(__file__).parents[2] / "examples" / "orbit_kinds.toml"
DAY = 86_400.0
edges = st.floats(0.1, 10.0)


def near(value: Any, rel: float = 1e-6, abs: float = 0.0) -> Any:
    """As `pytest.approx`, whose absolute tolerance of 1e-12 is larger than most rates."""
    return pytest.approx(value, rel=rel, abs=abs)


def moment(box: Box, power: int) -> float:
    """Mean of the chord length to a power: `integral of power x^(power - 1) C(x)`."""
    x = np.unique(np.concatenate([np.linspace(0.0, box.longest, 2001), box.corners]))
    y = power * x ** (power - 1) * box.longer(x)
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def power_law(exponent: float) -> Spectrum:
    """Flux `L^-exponent` above L."""
    x = np.geomspace(1e-4, 1e6, 4001)
    return Spectrum(x, x**-exponent)


# Published worked examples: event rate, FIT and mean time between events from an integral flux of CREME96 above an
# onset and a saturated cross-section. Texas Instruments SBOK044B (TPS7H4010-SEP), table 10-1, and SLVK086A
# (TPS7H4003-SEP), table 9-1: onset, flux / (day cm2), cm2, events / day, FIT, years.
PUBLISHED = [
    (43.0, 6.4e-4, 9.23e-8, 5.91e-11, 2.5e-3, 4.63e7),
    (43.0, 2.2e-3, 9.23e-8, 2.0e-10, 8.4e-3, 1.36e7),
    (48.2, 4.44e-4, 7.38e-8, 3.27e-11, 1.36e-3, 8.36e7),
    (48.2, 1.45e-3, 7.38e-8, 1.07e-10, 4.47e-3, 2.55e7),
]


@pytest.mark.parametrize(("onset", "flux", "cm2", "events", "fit", "years"), PUBLISHED)
def test_published_event_rates(onset: float, flux: float, cm2: float, events: float, fit: float, years: float) -> None:
    """Would break if a step of the cross-section did not take the flux above its onset, or units of time were mixed."""
    spectrum = Spectrum(np.array([1.0, onset, 100.0]), np.array([10 * flux, flux, flux / 100]) / DAY)
    rate = ion_rate(spectrum, Points(x=(onset,), cm2=(cm2,)).curve(), None)
    assert rate * DAY == near(events, rel=0.05)
    assert rate * 3600 * 1e9 == near(fit, rel=0.05)
    assert 1 / (rate * DAY * 365.25) == near(years, rel=0.05)


def test_the_published_conversion_of_fluxes() -> None:
    """108573 turns a differential flux of CREME96, 1 / (m2 sr s MeV cm2/g), into 1 / (cm2 day MeV cm2/mg): J. Barak,
    R. A. Reed, K. A. LaBel, IEEE Trans. Nucl. Sci. 46 (1999), doi:10.1109/23.819114. Would break if a solid angle, an
    area or a mass were converted wrongly."""
    assert PER_M2_SR / spectra._PER_G * DAY == near(108_573, rel=1e-5)


def test_chords_of_the_unit_cube_are_those_published() -> None:
    """The mean distance of two points in a unit cube, 0.66170 (Robbins 1978), is `pi S E[x^5] / 20` of its chords;
    below 1 their distribution follows from the density of that distance (MathWorld, Cube Line Picking). Would break if
    a face were forgotten."""
    cube = Box(1.0, 1.0, 1.0)
    assert math.pi * cube.surface * moment(cube, 5) / 20 == near(0.66170, abs=1e-5)
    x = np.linspace(0, 1, 21)
    assert cube.longer(x) == near(1 - 8 * x / (3 * math.pi) + x**2 / (2 * math.pi), abs=1e-9)


@given(edges, edges, edges)
@settings(max_examples=12, deadline=None)
def test_chords_of_any_box_have_the_moments_of_a_convex_body(x: float, y: float, z: float) -> None:
    """Cauchy: the mean chord is 4 V / S; Crofton: the mean fourth power is 12 V^2 / (pi S). The share falls from 1 to 0
    and does not depend on the order of the edges. Would break with any wrong term."""
    box = Box(x, y, z)
    assert moment(box, 1) == near(4 * box.volume / box.surface, rel=1e-3)
    assert moment(box, 4) == near(12 * box.volume**2 / (math.pi * box.surface), rel=1e-3)
    lengths = np.linspace(0, box.longest, 60)
    share = box.longer(lengths)
    assert share[0] == near(1.0)
    assert share[-1] == 0.0
    assert (np.diff(share) <= 1e-9).all()
    assert share == near(Box(z, x, y).longer(lengths), abs=1e-9)


def test_chords_of_a_box_are_those_of_drawn_tracks() -> None:
    """Tracks that enter through a random face at a random point, cosine-distributed. Would break if tracks were not
    weighted as an isotropic flux crosses the surface."""
    box, generator = Box(1.0, 4.0, 6.0), np.random.default_rng(3)
    n, size = 200_000, np.array([1.0, 4.0, 6.0])
    areas = np.array([24.0, 6.0, 4.0])
    face = generator.choice(3, size=n, p=areas / areas.sum())
    at = generator.random((n, 3)) * size
    cosine, azimuth = np.sqrt(generator.random(n)), generator.random(n) * 2 * math.pi
    direction = np.stack([cosine, np.sqrt(1 - cosine**2) * np.cos(azimuth), np.sqrt(1 - cosine**2) * np.sin(azimuth)])
    axes = np.stack([(face + k) % 3 for k in range(3)])
    u = np.empty((n, 3))
    u[np.arange(n), axes] = direction
    at[np.arange(n), face] = 0.0
    chords = np.where(u > 0, (size - at) / np.where(u > 0, u, 1), np.where(u < 0, -at / np.where(u < 0, u, 1), np.inf))
    lengths = np.linspace(0.1, 7.0, 30)
    drawn = (chords.min(axis=1)[:, None] > lengths).mean(axis=0)
    assert box.longer(lengths) == near(drawn, abs=0.005)


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (2.0, 3.0, 0.5), (20.0, 20.0, 1.0)])
@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_a_power_law_folds_to_a_moment_of_the_chords(edges: tuple[float, float, float], exponent: float) -> None:
    """With F(L) = L^-n and a step of `s` at L0 the rate is `s / L0^n * S / (4 A z^n) * E[x^n]`; for n = 1 that is
    `s / L0`, the volume cancels. Would break if the surface, the depth or the density of chords were wrong."""
    box = Box(*edges)
    rate = ion_rate(power_law(exponent), Points(x=(2.0,), cm2=(3e-9,)).curve(), box)
    scale = box.surface / (4 * box.x * box.y * box.z**exponent)
    assert rate == near(3e-9 * 2.0**-exponent * scale * moment(box, int(exponent)), rel=2e-3)
    if exponent == 1.0:
        assert rate == near(1.5e-9, rel=2e-3)


def test_a_flat_box_is_the_cosine_law() -> None:
    """A thin slab deposits L / cos(theta) over an area A cos(theta): for F(L) = L^-1.5 the mean over directions is
    `2 * integral of cos^(1 - 1.5)` = 4 times the flux of a plane that counts half of all directions. Would break if
    grazing tracks were lost."""
    rate = ion_rate(power_law(1.5), Points(x=(1.0,), cm2=(1.0,)).curve(), Box(4000.0, 4000.0, 1.0))
    slab = 0.5 * 2 * (1 / (1 - 1.5 + 1))  # F / 4 * S / A -> F / 2, times E over cos of 2 cos * cos^-1.5
    assert rate == near(slab, rel=0.05)


@given(st.floats(0.0, 20.0), st.floats(1.0, 60.0), st.floats(0.6, 5.0), st.floats(1.0, 3.0))
@settings(max_examples=30, deadline=None)
def test_a_weibull_fold_is_its_quadrature(onset: float, width: float, exponent: float, slope: float) -> None:
    """Would break if points of the curve were too few or its ends cut off."""
    scipy = pytest.importorskip("scipy.integrate")
    section = Weibull(onset=onset, width=width, exponent=exponent, limit_cm2=1e-8)
    x = np.geomspace(1e-3, 1e4, 3000)
    flux = Spectrum(x, (1 + x) ** -slope)

    def density(v: float) -> float:
        return float((1 + onset + width * v ** (1 / exponent)) ** -slope * math.exp(-v))

    expected = 1e-8 * scipy.quad(density, 0, 40, limit=400, epsrel=1e-5)[0]
    assert proton_rate(flux, section.curve()) == near(expected, rel=5e-3)


def test_bendels_cross_section_is_as_published() -> None:
    """`(B / A)^14 (1 - exp(-0.18 y^0.5))^4`, `y = (18 / A)^0.5 (E - A)`, in 10^-12 cm2 per bit (CREME-MC, help page of
    the Bendel 2-parameter function). Would break with another exponent, and if one parameter were not b = 24."""
    x, cm2 = Bendel(a=15.0, b=12.0).curve()
    for energy in (16.0, 30.0, 100.0, 500.0):
        y = math.sqrt(18 / 15) * (energy - 15)
        expected = (12 / 15) ** 14 * (1 - math.exp(-0.18 * math.sqrt(y))) ** 4 * 1e-12
        assert np.interp(energy, x, cm2) == near(expected, rel=2e-3)
    assert Bendel(a=24.0).curve()[1][-1] == near(1e-12, rel=0.01)


@given(st.floats(0.5, 4.0))
@settings(max_examples=20, deadline=None)
def test_differential_spectra_become_integral_ones(exponent: float) -> None:
    """Would break if a power law between points were integrated as a line, or lost at the slope -1."""
    x = np.geomspace(1.0, 1e3, 31)
    found = Spectrum.of_density(x, x**-exponent)
    for k in (0, 10, 29):
        expected = (
            math.log(x[-1] / x[k])
            if exponent == 1
            else (x[k] ** (1 - exponent) - x[-1] ** (1 - exponent)) / (exponent - 1)
        )
        assert found.flux[k] == near(expected, rel=1e-6)
    assert found.above(2e3) == 0.0
    assert found.above(0.1) == near(found.flux[0])


def test_the_example_is_totalled_and_has_shares_of_clusters() -> None:
    """Would break if a kind were left out of the sum, or clusters did not add up to the bits that flip."""
    document = summary(load_orbit(EXAMPLE), mission_s=5 * 365.25 * DAY, devices=2)
    kinds = document["kinds"]
    assert list(kinds) == ["flip-flop", "block-ram", "configuration"]
    for row in kinds.values():
        rate = row["rate"]
        assert row["upsets_per_day"] == near(rate["upsets_per_bit_day"] * rate["bits"])
        bits = sum(int(size) * events for size, events in row["events_per_day"].items())
        assert bits == near(row["upsets_per_day"])
    flip_flop = kinds["flip-flop"]["rate"]
    assert flip_flop["ion_per_bit_day"] > 0
    assert flip_flop["proton_per_bit_day"] > 0
    total = sum(row["upsets_per_day"] for row in kinds.values())
    assert document["total_per_day"] == near(total)
    assert document["mission"] is not None
    assert document["mission"]["upsets"] == near(total * 5 * 365.25 * 2)
    assert document["mission"]["without_upset"] == near(math.exp(-document["mission"]["upsets"]))
    assert clusters(1.2, {"1": 0.9, "2": 0.1}) == near({"1": 1.2 / 1.1 * 0.9, "2": 1.2 / 1.1 * 0.1})


def test_a_tornado_moves_one_constant_at_a_time() -> None:
    """Would break if a constant moved another kind, or the flux did not enter in proportion."""
    orbit = load_orbit(EXAMPLE)
    found = tornado(orbit)
    rows = {(row["kind"], row["constant"]): row for row in found}
    block = rows["block-ram", "let flux"], rows["block-ram", "proton flux"]
    assert sum(row["higher"] - 1 for row in block) == near(0.1, rel=1e-6)
    limit = rows["flip-flop", "ion limit_cm2"]
    assert limit["higher"] - 1 == near(1 - limit["lower"])
    assert rows["configuration", "upsets_per_bit_day"]["higher"] == near(1.1)
    onset = rows["flip-flop", "ion onset"]
    kind = orbit.kinds["flip-flop"]
    assert isinstance(kind.ion, Weibull)
    moved = replace(kind, ion=replace(kind.ion, onset=kind.ion.onset * 1.1))
    assert onset["higher"] == near(sum(orbit.rate(moved)) / sum(orbit.rate(kind)))
    widths = [abs(row["higher"] - row["lower"]) for row in found]
    assert widths == sorted(widths, reverse=True)


MUTANTS = {
    "half the solid angle": lambda patch: patch.setattr(spectra, "PER_M2_SR", PER_M2_SR / 2),
    "no surface": lambda patch: patch.setattr(Box, "surface", property(lambda box: 4 * box.x * box.y)),
    "grams": lambda patch: patch.setattr(spectra, "_PER_G", 1.0),
    "no long chords": lambda patch: patch.setattr(Box, "longest", property(lambda box: max(box.x, box.y, box.z))),
    "short grid": lambda patch: patch.setattr(folding, "_LENGTHS", 12),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_of_the_fold_are_caught(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The checks above could otherwise not fail: each mutant moves a rate of a power law read from a file by more than
    the 2 per mille that they allow."""
    x = np.geomspace(10.0, 1e5, 801)
    lines = ["   1 a.let 210 1", "%made up", "  10.0  1.0E5  801  1 92 SILICON 210 3", ""]
    path = tmp_path / "a.let"
    path.write_text("\n".join([*lines, *(f"{flux:.6E}" for flux in x**-2.0)]))

    def rate() -> float:
        return ion_rate(spectra.read_let(path), Points(x=(2.0,), cm2=(1e-9,)).curve(), Box(1.0, 1.0, 1.0))

    expected = rate()
    mean_square = 1e-9 * 1.5 * moment(Box(1.0, 1.0, 1.0), 2) * PER_M2_SR * (2.0 * 1e3) ** -2
    assert expected == near(mean_square, rel=2e-3)
    MUTANTS[name](monkeypatch)
    assert rate() != near(expected, rel=2e-3)


def test_an_orbit_without_its_spectrum_adds_nothing() -> None:
    """Would break if a kind without protons took some of another."""
    orbit = load_orbit(EXAMPLE)
    bare = Orbit(**{**vars(orbit), "protons": None})
    for name, kind in orbit.kinds.items():
        if kind.stated is None:
            assert bare.rate(kind) == (orbit.rate(kind)[0], 0.0), name
