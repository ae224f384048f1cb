"""What the claims have in common: nets, data, intervals, and how a verdict follows from what was measured."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from eqcompile.quantization.lower import lower
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.options import QuantizeOptions
from eqcompile.toolchain.reference import run_reference

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
sys.path[:0] = [str(EXAMPLES), str(ROOT / "benchmarks")]

__all__ = [
    "EXAMPLES",
    "Claim",
    "Row",
    "accuracy",
    "digits",
    "integers",
    "interval",
    "net",
    "percent",
    "right",
    "weights_of",
]

Reals = NDArray[np.float64]
CHECKPOINTS = EXAMPLES / "checkpoints"


@dataclass(frozen=True)
class Row:
    """One measurement of a claim: the net and its conditions, what was measured in words, and whether the claim holds
    there. `data`: the figures."""

    case: str
    measured: str
    holds: bool
    data: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """`words`: the claim; `rule`: when a row counts as holding; `kind`: of its figures; `measure`: the function that
    measured it."""

    words: str
    rule: str
    kind: str
    rows: Sequence[Row]
    measure: str = ""

    @property
    def verdict(self) -> str:
        """Confirmed where every row holds, refuted where none does."""
        held = sum(row.holds for row in self.rows)
        if held == len(self.rows):
            return "confirmed"
        return "confirmed with conditions" if held else "refuted"


@cache
def net(name: str) -> EqNet:
    """A committed checkpoint, float64."""
    (path,) = CHECKPOINTS.glob(f"{name}.*")
    return import_model(path).net


@cache
def integers(name: str) -> IntNet:
    """The same with 8-bit weights, ternary ones as they are, and 8-bit states; inputs are in 0..1."""
    return lower(net(name), QuantizeOptions(input_range=(0.0, 1.0)), calibration=None).net


@cache
def digits() -> tuple[Reals, NDArray[np.int64]]:
    """The 360 test images [360, 64] and their labels."""
    with np.load(EXAMPLES / "data" / "digits_test.npz") as file:
        return file["x"].astype(np.float64), file["labels"].astype(np.int64)


def right(of: EqNet) -> Reals:
    """1 for each test image [360] whose label a float net finds, else 0."""
    x, labels = digits()
    return (run_reference(of, {"x": x}).outputs["logits"].argmax(axis=1) == labels).astype(np.float64)


def accuracy(of: EqNet) -> float:
    """Of a float net on the test images."""
    return float(right(of).mean())


def weights_of(of: EqNet) -> str:
    """The name of the recurrent weight."""
    return next(p.name for p in of.params if p.name.startswith(("W_rec_weight", "W_rec_ternary", "W_local")))


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of the mean, by Student's t over independent draws."""
    sample = np.asarray(list(values))
    mean = float(sample.mean())
    if len(sample) < 2 or not sample.std():
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    return mean, mean - half, mean + half


def percent(found: tuple[float, float, float], digits: int = 1) -> str:
    mean, low, high = (100 * value for value in found)
    return f"{mean:.{digits}f} % ({low:.{digits}f} to {high:.{digits}f})"
