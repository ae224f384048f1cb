"""How many clocks a sample takes in an artifact's core, as a simulation counted them at its stream ports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqcompile.toolchain.interfaces import Run
from eqcompile.toolchain.typed_json import JSON

__all__ = ["Clocks", "Times", "clocks_of"]


@dataclass(frozen=True)
class Spread:
    """Of samples one at a time."""

    median: float
    worst: float


@dataclass(frozen=True)
class Times:
    """What clocks are at a frequency: `latency_us` and `relaxing_us` in microseconds."""

    latency_us: Spread
    relaxing_us: Spread
    inferences_per_s: float


@dataclass(frozen=True)
class Clocks:
    """Simulated clocks of `samples` inputs from `source`.

    `latency`: from the first code in to the last code out, one sample at a time; `relaxing`: from the last code in to
    the first code out; `interval`: between results, back to back (mean).
    """

    source: str
    samples: int
    latency_median: float
    latency_worst: int
    relaxing_median: float
    relaxing_worst: int
    interval: float

    def to_json(self) -> dict[str, JSON]:
        """Plain JSON values."""
        return {
            "kind": "simulated",
            "source": self.source,
            "samples": self.samples,
            "latency": {"median": self.latency_median, "worst": self.latency_worst},
            "last_code_to_first_result": {"median": self.relaxing_median, "worst": self.relaxing_worst},
            "back_to_back": self.interval,
        }

    def at(self, clock_mhz: float) -> Times:
        """Times at a clock."""
        return Times(
            latency_us=Spread(self.latency_median / clock_mhz, self.latency_worst / clock_mhz),
            relaxing_us=Spread(self.relaxing_median / clock_mhz, self.relaxing_worst / clock_mhz),
            inferences_per_s=clock_mhz * 1e6 / self.interval,
        )

    def text(self) -> str:
        """One line for people."""
        return (
            f"clocks an inference: {self.latency_median:g} median, {self.latency_worst} worst, "
            f"{self.interval:.1f} back to back (simulated, {self.samples} samples: {self.source})"
        )


def clocks_of(run: Run, source: str) -> Clocks:
    """The clocks of a run that counted them, on inputs from `source`."""
    latency, relaxing = (np.array(run.details[name]) for name in ("latency", "relaxing"))
    return Clocks(
        source=source,
        samples=len(latency),
        latency_median=float(np.median(latency)),
        latency_worst=int(latency.max()),
        relaxing_median=float(np.median(relaxing)),
        relaxing_worst=int(relaxing.max()),
        interval=float(np.array(run.details["cycles"])) / len(latency),
    )
