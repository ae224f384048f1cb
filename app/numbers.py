"""Parsers of numbers and times that are given as text, each with its bounds in the message."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from eqcompile.toolchain.options import Bounds, bounds_of

__all__ = ["DURATIONS", "duration", "fraction", "integer", "number", "positive_seconds"]


def number(
    kind: type[int | float], bounds: Bounds | None = None, words: Sequence[str] = ()
) -> Callable[[str], int | float | str]:
    """A parser of finite numbers within `bounds`, or of one of `words`, for argparse. A share, which is at most 1, may
    be a percentage.

    The parser raises ArgumentTypeError for a text that is neither.
    """
    limits = bounds or Bounds()

    def parse(text: str) -> int | float | str:
        if text in words:
            return text
        percent = kind is float and limits.high == 1 and text.endswith("%")
        try:
            value = kind(text.removesuffix("%") if percent else text) / (100 if percent else 1)
        except ValueError:
            value = math.nan
        if value not in limits:
            stated = " or ".join([bounds_of(kind, limits), *words])
            raise argparse.ArgumentTypeError(f"{text!r} is not {stated}")
        return kind(value)

    return parse


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers of `[low, high]` for argparse."""
    parse = number(int, Bounds(low, math.inf if high is None else high))
    return lambda text: int(parse(text))


def positive_seconds(text: str) -> float:
    """A positive number of seconds, for argparse."""
    return float(number(float, Bounds(0, above=True))(text))


DURATIONS = "in seconds, or as 90s, 5min, 12h, 365d, 5y"
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "y": 365.25 * 86_400.0}


def duration(text: str) -> float:
    """A positive time in seconds, as 90, 90s, 5min, 12h, 365d or 5y (of 365.25 days), for argparse.

    Raises ArgumentTypeError for any other text.
    """
    unit = next((u for u in _SECONDS if text.endswith(u)), "")
    try:
        return positive_seconds(text.removesuffix(unit)) * _SECONDS[unit or "s"]
    except argparse.ArgumentTypeError:
        what = f"{text!r} is no positive time; units: {', '.join(_SECONDS)} (none: seconds)"
        raise argparse.ArgumentTypeError(what) from None


def fraction(text: str) -> float:
    """A number strictly between 0 and 1, as 0.01 or 1%, for argparse."""
    return float(number(float, Bounds(0, 1, above=True, below=True))(text))
