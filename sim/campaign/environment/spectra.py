"""Spectra of an orbit: files of CREME96 and SPENVIS as omnidirectional fluxes above a LET or an energy."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ....toolchain.diagnostics import Diagnostic, ImportFileError

__all__ = ["Spectrum", "read_let", "read_protons"]

_MOST_BYTES = 64 << 20
PER_M2_SR = 4 * math.pi * 1e-4
"""Omnidirectional flux per cm2 of a flux per m2 and sr."""
_PER_G = 1e-3
"""MeV cm2/mg of a MeV cm2/g."""
_FLOOR = 1e-300
_CREME_LET, _CREME_ENERGY = (".let", ".dlt"), (".flx", ".tfx", ".trp")
_KNOWN = "CREME96 (.let, .dlt; .flx, .tfx, .trp) or SPENVIS (.txt)"
_FLUX_UNITS = {
    "m-2 sr-1 s-1": PER_M2_SR,
    "m-2 s-1 sr-1": PER_M2_SR,
    "cm-2 sr-1 s-1": 4 * math.pi,
    "cm-2 s-1 sr-1": 4 * math.pi,
    "cm-2 s-1": 1.0,
    "m-2 s-1": 1e-4,
}
_LET_UNITS = {"MeV cm2 g-1": _PER_G, "MeV cm2 mg-1": 1.0}


@dataclass(frozen=True)
class Spectrum:
    """`flux` `[n]` float64: particles per cm2 and second from all directions above each of `x` `[n]`, which ascend."""

    x: NDArray[np.float64]
    flux: NDArray[np.float64]

    def above(self, x: ArrayLike) -> NDArray[np.float64]:
        """Flux above each of `x`: a power law between two points, as much as above the first below it, 0 beyond the
        last."""
        at = np.asarray(x, np.float64)
        logarithm = np.interp(np.log(np.maximum(at, _FLOOR)), np.log(self.x), np.log(np.maximum(self.flux, _FLOOR)))
        return np.where(at > self.x[-1], 0.0, np.exp(logarithm))

    def scaled(self, factor: float) -> Spectrum:
        """All fluxes times `factor`."""
        return Spectrum(self.x, self.flux * factor)

    @classmethod
    def of_density(cls, x: NDArray[np.float64], density: NDArray[np.float64]) -> Spectrum:
        """From the flux per unit of `x`: power laws between points are integrated exactly, nothing is beyond the
        last."""
        low, high, f, g = x[:-1], x[1:], density[:-1], density[1:]
        some = (f > 0) & (g > 0)
        ratio = np.log(high / low)
        slope = np.where(some, np.log(np.where(some, g / np.where(some, f, 1.0), 1.0)), 0.0) + ratio
        # f low (exp(slope) - 1) / slope * ratio, by its limit where the slope vanishes
        power = np.where(np.abs(slope) < 1e-9, 1.0, np.expm1(slope) / np.where(slope == 0, 1.0, slope))
        pieces = np.where(some, f * low * ratio * power, (f + g) / 2 * (high - low))
        return cls(x, np.append(np.cumsum(pieces[::-1])[::-1], 0.0))


def read_let(path: Path) -> Spectrum:
    """Flux above a LET in MeV cm2/mg of silicon. Raises ImportFileError (code `spectrum-file`) for any other file."""
    if path.suffix.lower() in _CREME_LET:
        x, rows = _creme(path)
        flux = rows[0] * PER_M2_SR
        if path.suffix.lower() == ".let":
            return Spectrum(x * _PER_G, flux)
        return Spectrum.of_density(x * _PER_G, flux / _PER_G)
    return _spenvis(path, "LET", _LET_UNITS)


def read_protons(path: Path) -> Spectrum:
    """Flux of protons above an energy in MeV. Raises ImportFileError (code `spectrum-file`) for any other file."""
    if path.suffix.lower() in _CREME_ENERGY:
        x, rows = _creme(path)
        return Spectrum.of_density(x, rows[0] * PER_M2_SR)
    return _spenvis(path, "Energy", {"MeV": 1.0})


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise _refusal(path, f"the file has {size} bytes, at most {_MOST_BYTES}")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _refusal(path, f"cannot read it: {error.strerror}") from error


def _refusal(path: Path, what: str) -> ImportFileError:
    return ImportFileError(Diagnostic("spectrum-file", what, str(path), f"a file of {_KNOWN}"))


def _creme(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points `[n]` and fluxes `[elements, n]` of a file of CREME96, elements from atomic number 1 on (one row of LET).

    Layout: a line that counts comments, comments that begin with %, a line `first last points Z1 Z2 target ...`, then
    fluxes at points in equal logarithmic steps, element by element. B. Sierawski: CREME96 file formats, FAQ of the
    CREME-MC site of Vanderbilt University.
    """
    lines = _text(path).splitlines()
    body = [line for line in lines[1:] if line.strip() and not line.lstrip().startswith("%")]
    try:
        first, last = (float(word) for word in body[0].split()[:2])
        points, low, high = (int(word) for word in body[0].split()[2:5])
    except (ValueError, IndexError):
        what = "no line with first, last, number of points, and first and last atomic number after the comments"
        raise _refusal(path, what) from None
    if not (0 < first < last < math.inf and 1 < points <= 1 << 16 and 0 < low <= high <= 120):
        raise _refusal(path, f"{points} points from {first:g} to {last:g}, Z from {low} to {high}")
    energies = path.suffix.lower() in _CREME_ENERGY
    if energies and low != 1:
        raise _refusal(path, f"its elements begin with Z = {low}: there are no protons in it")
    elements = high - low + 1 if energies else 1
    try:
        fluxes = np.array([float(word) for line in body[1:] for word in line.split()])
    except ValueError as error:
        raise _refusal(path, f"not a number: {error}") from None
    if len(fluxes) != elements * points:
        raise _refusal(path, f"{len(fluxes)} fluxes, must be {elements} x {points}")
    return np.geomspace(first, last, points), _checked(path, fluxes.reshape(elements, points))


def _checked(path: Path, flux: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(flux).all() or flux.min() < 0:
        raise _refusal(path, "a flux is negative or no finite number")
    if not flux[0].any():
        raise _refusal(path, "every flux is 0")
    return flux


def _spenvis(path: Path, variable: str, units: dict[str, float]) -> Spectrum:
    """The first block of a SPENVIS file with `variable` and an integral flux.

    Layout: blocks of comma-separated lines. The first begins with '*' and counts the lines of the header (itself among
    them) and, as its seventh and eighth number, columns and rows of data; the last lines of the header name a variable
    each, as 'LET','MeV cm!u2!n g!u-1!n',1,'text'; data; 'End of Block' or 'End of File'.
    """
    lines = list(csv.reader(io.StringIO(_text(path)), quotechar="'", skipinitialspace=True))
    starts = [k for k, line in enumerate(lines) if line and line[0].strip() == "*"]
    if not starts:
        raise _refusal(path, "no block begins with '*'")
    seen: dict[str, str] = {}
    for start in starts:
        try:
            header, columns, rows = (int(lines[start][k]) for k in (1, 6, 7))
            block = lines[start + 1 : start + header]
            table = np.array([[float(word) for word in line[:columns]] for line in lines[start + header :][:rows]])
        except (ValueError, IndexError):
            raise _refusal(path, f"the block at line {start + 1} is not as its first line says") from None
        names, named = _variables(block)
        seen |= named
        if table.shape != (rows, columns) or rows < 2 or len(names) != columns:
            what = f"the block at line {start + 1} has not {rows} rows of {columns} columns, each with a variable"
            raise _refusal(path, what)
        if variable in named and "IFlux" in named:
            x_unit, flux_unit = named[variable], named["IFlux"]
            if x_unit not in units or flux_unit not in _FLUX_UNITS:
                known = f"{', '.join(units)} and {', '.join(_FLUX_UNITS)}"
                raise _refusal(path, f"units {x_unit!r} and {flux_unit!r}, must be of {known}")
            x = table[:, names.index(variable)] * units[x_unit]
            flux = _checked(path, table[None, :, names.index("IFlux")])[0] * _FLUX_UNITS[flux_unit]
            if not (x > 0).all() or not (np.diff(x) > 0).all():
                raise _refusal(path, f"{variable} does not ascend from above 0")
            return Spectrum(x, flux)
    has = f"it has {', '.join(seen)}" if seen else "it has neither"
    raise _refusal(path, f"no block has {variable} and IFlux: {has}")


def _variables(block: Sequence[Sequence[str]]) -> tuple[list[str], dict[str, str]]:
    """The variable of each column, and units by variable: of the last lines of a header, NAME, UNIT, COLUMNS, TEXT."""
    names: list[str] = []
    units: dict[str, str] = {}
    for line in reversed(block):
        if len(line) < 3 or line[1].strip().isdecimal() or not line[2].strip().isdecimal():
            break
        names = [line[0].strip()] * int(line[2]) + names
        units[line[0].strip()] = _plain(line[1])
    return names, units


def _plain(unit: str) -> str:
    """A unit without the marks of superscripts."""
    return unit.replace("!u", "").replace("!n", "").strip()
