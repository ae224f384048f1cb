"""Figures as inline SVG, of one frame and one set of colours. No script, no external resource.

Figures are as narrow as a telephone's screen takes without shrinking their text beyond reading. Colours are those of
the page, in a dark one too; alone, an image has those of a light page. Each figure says in words what it shows.
"""

from .charts import Bar, Column, Curve, Dot, Level, bars, columns, curves, dots
from .frame import BLUE, COLOURS, INK, RED, round_up
from .grids import Cell, Pixel, coded, confusion, heat, observatory, raster, shade, slices, stack

__all__ = [
    "BLUE",
    "COLOURS",
    "INK",
    "RED",
    "Bar",
    "Cell",
    "Column",
    "Curve",
    "Dot",
    "Level",
    "Pixel",
    "bars",
    "coded",
    "columns",
    "confusion",
    "curves",
    "dots",
    "heat",
    "observatory",
    "raster",
    "round_up",
    "shade",
    "slices",
    "stack",
]
