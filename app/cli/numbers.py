"""Parsers of numbers on the command line, each with its bounds in the message."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["finite", "fraction", "integer", "positive_seconds"]


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """A parser of whole numbers of `[low, high]` for argparse."""
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not {wanted}")
        return value

    return parse


def finite(text: str) -> float:
    """A finite number, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def positive_seconds(text: str) -> float:
    """A positive number of seconds, for argparse."""
    value = finite(text)
    if value <= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def fraction(text: str) -> float:
    """A number strictly between 0 and 1, as 0.01 or 1%, for argparse."""
    value = finite(text[:-1]) / 100 if text.endswith("%") else finite(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1 (or 0% and 100%)")
    return value
