"""Files of an orbit: spectra of CREME96 and SPENVIS, and the TOML file that names them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from eqcompile.app.api import upset_rates
from eqcompile.sim.campaign.environment.spectra import read_let, read_protons
from eqcompile.sim.campaign.environment.summary import load_orbit
from eqcompile.toolchain.diagnostics import ImportFileError, UsageError

EXAMPLE = Path(__file__).parents[2] / "examples" / "orbit_kinds.toml"
HEAD = "   2 {name} 210 1\n%GALACTIC COSMIC RAYS\n%made up\n  {line}\n\n"
SPENVIS = """\
'*',    9,    1,    2,    0,    3,    3,    3,    0
'A text'
'PLT_HDR', 1,'LET spectra'
'ORB_HDR', 1,'Total mission'
'SPECIES', 1,'All'
'x',2,'a','b'
'LET','MeV cm!u2!n g!u-1!n', 1,'Linear Energy Transfer'
'IFlux','m!u-2!n sr!u-1!n s!u-1!n', 1,'Integral Flux'
'DFlux','m!u-2!n sr!u-1!n s!u-1!n (MeV cm!u2!n g!u-1!n)!u-1!n', 1,'Differential Flux'
 1.0E+03, 4.0E+00, 3.0E-03
 2.0E+03, 1.0E+00, 3.0E-04
 4.0E+03, 0.0E+00, 0.0E+00
'End of File'
"""


def creme(folder: Path, name: str, line: str, values: str) -> Path:
    path = folder / name
    path.write_text(HEAD.format(name=name, line=line) + values)
    return path


def test_an_integral_let_spectrum_of_creme96(tmp_path: Path) -> None:
    """Would break if grams, square metres or the sphere were left out."""
    found = read_let(creme(tmp_path, "a.let", "1.0E+01 1.0E+05 5 1 92 SILICON 210 3", "4. 3. 2.\n1. 0.5\n"))
    assert found.x == pytest.approx([0.01, 0.1, 1.0, 10.0, 100.0])
    assert found.flux == pytest.approx(np.array([4, 3, 2, 1, 0.5]) * 4 * math.pi * 1e-4)
    assert found.above(math.sqrt(0.1)) == pytest.approx(math.sqrt(6) * 4 * math.pi * 1e-4)


def test_a_differential_spectrum_of_creme96_is_integrated(tmp_path: Path) -> None:
    """Would break if the unit of LET in the density were not converted with the axis: L^-2 / (MeV cm2/g) above 10 is
    1 / 10 minus the end."""
    values = " ".join(f"{x**-2:.8e}" for x in np.geomspace(10.0, 1e5, 41))
    found = read_let(creme(tmp_path, "a.dlt", "1.0E+01 1.0E+05 41 1 92 SILICON 210 3", values))
    assert found.flux[0] == pytest.approx((1 / 10 - 1e-5) * 4 * math.pi * 1e-4, rel=1e-6)


def test_protons_are_the_first_element_of_a_flux_file(tmp_path: Path) -> None:
    """Would break if elements and energies were exchanged, or helium were taken."""
    rows = " 1.0 0.1\n 0.01\n\n 7. 7. 7.\n"
    found = read_protons(creme(tmp_path, "a.flx", "1.0E+00 1.0E+02 3 1 2 UNSHIELDED 1977.0 0 2 210 1", rows))
    assert found.x == pytest.approx([1, 10, 100])
    assert found.flux == pytest.approx(np.array([2, 1, 0]) * math.log(10) * 4 * math.pi * 1e-4)


def test_a_let_spectrum_of_spenvis(tmp_path: Path) -> None:
    """Would break if columns, header lines or units were taken for others."""
    path = tmp_path / "spenvis_nlof_srimsi.txt"
    path.write_text(SPENVIS)
    found = read_let(path)
    assert found.x == pytest.approx([1, 2, 4])
    assert found.flux == pytest.approx(np.array([4, 1, 0]) * 4 * math.pi * 1e-4)
    trapped = SPENVIS.replace("'LET','MeV cm!u2!n g!u-1!n'", "'Energy','MeV'").replace(
        "'IFlux','m!u-2!n sr!u-1!n s!u-1!n'", "'IFlux','cm!u-2!n s!u-1!n'"
    )
    path.write_text(trapped)
    assert read_protons(path).flux == pytest.approx([4, 1, 0])


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("a.let", "", "no line with first"),
        ("a.let", HEAD.format(name="a", line="10 1e5 3 1 92 SILICON") + "1 2", "2 fluxes, must be 1 x 3"),
        ("a.let", HEAD.format(name="a", line="10 1e5 3 1 92 SILICON") + "1 x 2", "not a number"),
        ("a.let", HEAD.format(name="a", line="10 1e5 3 1 92 SILICON") + "1 -1 2", "negative"),
        ("a.let", HEAD.format(name="a", line="10 1e5 3 1 92 SILICON") + "1 nan 2", "no finite number"),
        ("a.let", HEAD.format(name="a", line="10 1e5 3 1 92 SILICON") + "0 0 0", "every flux is 0"),
        ("a.let", HEAD.format(name="a", line="10 1 3 1 92 SILICON") + "1 1 1", "3 points from 10 to 1"),
        ("a.txt", "LET, flux\n1, 2\n", "no block"),
        ("a.txt", SPENVIS.replace("'LET'", "'L'"), "no block has LET and IFlux: it has DFlux, IFlux, L"),
        ("a.txt", SPENVIS.replace("'LET','MeV cm!u2!n g", "'LET','keV cm!u2!n g"), "units 'keV cm2 g-1'"),
        ("a.txt", SPENVIS.replace("    3,    3,    0\n", "    3,    9,    0\n"), "line 1"),
        ("a.txt", SPENVIS.replace(" 2.0E+03", " 0.5E+03"), "does not ascend"),
    ],
)
def test_other_files_are_refused(name: str, text: str, want: str, tmp_path: Path) -> None:
    """Would break if a truncated or foreign file gave some rate, or a traceback."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ImportFileError, match=want) as raised:
        read_let(path)
    assert str(path) in str(raised.value)


def test_a_flux_file_without_protons_is_refused(tmp_path: Path) -> None:
    """Would break if the first element were taken for hydrogen whatever it is."""
    path = creme(tmp_path, "a.flx", "1.0E+00 1.0E+02 3 2 2 UNSHIELDED", "1 1 1")
    with pytest.raises(ImportFileError, match="Z = 2"):
        read_protons(path)
    with pytest.raises(ImportFileError, match="cannot read"):
        read_protons(tmp_path / "none.flx")


RATE = 'title = "a"\n[kinds.flip-flop]\nsource = "s"\n'
SPECTRUM = '[spectrum]\nsource = "s"\nlet = "a.let"\n'


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("title = ", "not TOML"),
        ('title = "a"\n[kinds]\n', "no kind has a rate"),
        (RATE, "either upsets_per_bit_day or cross-sections"),
        (RATE + "upsets_per_bit_day = -1.0\n", "above 0"),
        (RATE + "upsets_per_bit_day = 1e-7\nfactor = 0.5\n", "at least 1"),
        (RATE + "upsets_per_bit_day = 1e-7\nfailing = 2.0\n", "from 0 to 1"),
        (RATE + "upsets_per_bit_day = 1e-7\nbits = 0\n", "at least 1"),
        (RATE + "upsets_per_bit_day = 1e-7\nclusters = { 1 = 0.5 }\n", "sum up to 1"),
        (RATE + "upsets_per_bit_day = 1e-7\n[kinds.dram]\nsource = 's'\nupsets_per_bit_day = 1.0\n", "no kind 'dram'"),
        (RATE + "upsets_per_bit_day = 1e-7\n[sites]\nstate = 'sram'\n", "no kind 'sram'"),
        (RATE + "upsets_per_bit_dya = 1e-7\n", "unknown fields"),
        (RATE + "ion = { form = 'weibull', onset = 1.0 }\n" + SPECTRUM, "needs exponent, limit_cm2, width"),
        (RATE + "ion = { form = 'bendel1', a = 1.0 }\n" + SPECTRUM, "one of protons"),
        (RATE + "proton = { form = 'bendel1', a = 1.0, width = 2.0 }\n" + SPECTRUM, "has no width"),
        (RATE + "proton = { form = 'bendel1', a = 1.0 }\n" + SPECTRUM, r"needs \[spectrum\] proton"),
        (RATE + "ion = { form = 'points', x = [2.0, 1.0], cm2 = [1e-9, 1e-9] }\n" + SPECTRUM, "ascending"),
        (RATE + "ion = { form = 'points', x = [2.0], cm2 = [1e-9], box_um = [1, 0, 1] }\n" + SPECTRUM, "three lengths"),
    ],
)
def test_bad_orbits_are_refused_by_name(text: str, want: str, tmp_path: Path) -> None:
    """Would break if a mistyped key fell back to a default, or a part of a cross-section were invented."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ImportFileError, match=want):
        load_orbit(path)


def test_an_absent_orbit_is_refused(tmp_path: Path) -> None:
    """Would break if it gave a traceback."""
    with pytest.raises(UsageError, match="cannot read"):
        load_orbit(tmp_path / "none.toml")


@pytest.mark.slow
def test_the_interface_gives_what_the_command_tells() -> None:
    """Would break if the two computed apart."""
    document = upset_rates(EXAMPLE, mission_s=3600.0)
    assert document["kind"] == "estimated"
    assert document["mission"] is not None
    assert document["mission"]["seconds"] == 3600.0
