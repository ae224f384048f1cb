"""How many clocks a sample takes in an artifact's core, counted in simulation at its stream ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqcompile.toolchain import registry
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, MissingToolError
from eqcompile.toolchain.interfaces import Given, Run, Simulator

__all__ = ["Clocks", "clocks_of", "clocks_or_note", "count_clocks", "vectors_of_bench"]

SIMULATOR = "verilator-native"


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": "simulated",
            "source": self.source,
            "samples": self.samples,
            "latency": {"median": self.latency_median, "worst": self.latency_worst},
            "last_code_to_first_result": {"median": self.relaxing_median, "worst": self.relaxing_worst},
            "back_to_back": self.interval,
        }

    def at(self, clock_mhz: float) -> dict[str, Any]:
        """Times at a clock: JSON values."""
        return {
            "latency_us": {"median": self.latency_median / clock_mhz, "worst": self.latency_worst / clock_mhz},
            "relaxing_us": {"median": self.relaxing_median / clock_mhz, "worst": self.relaxing_worst / clock_mhz},
            "inferences_per_s": clock_mhz * 1e6 / self.interval,
        }

    def text(self) -> str:
        """One line for people."""
        return (
            f"clocks an inference: {self.latency_median:g} median, {self.latency_worst} worst, "
            f"{self.interval:.1f} back to back (simulated, {self.samples} samples: {self.source})"
        )


def count_clocks(folder: Path, given: Given | None, *, timeout_s: float) -> Clocks:
    """Run the core of an artifact on `given`, or on the vectors of its bench.

    Raises MissingToolError if Verilator is absent, SimulatorError if the core does not run.
    """
    inputs = given or vectors_of_bench(folder)
    simulator = registry.find_class("simulators", SIMULATOR, Simulator)(clocks=True)  # type: ignore[call-arg]
    return clocks_of(simulator.run(folder, inputs.codes, trace=False, timeout_s=timeout_s), inputs.source)


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
        interval=float(run.details["cycles"]) / len(latency),
    )


def clocks_or_note(folder: Path, given: Given | None, *, timeout_s: float) -> tuple[Clocks | None, tuple[str, ...]]:
    """As `count_clocks`; where its tool is absent, None and lines that say so."""
    try:
        return count_clocks(folder, given, timeout_s=timeout_s), ()
    except MissingToolError as error:
        return None, tuple(f"clocks not simulated: {d.what}; {d.hint}" for d in error.diagnostics)


def vectors_of_bench(folder: Path) -> Given:
    """The inputs of an artifact's own bench: zeros, both ends, random ones."""
    path = folder / "vectors" / "vectors.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            found: Mapping[str, Any] = {n.removeprefix("codes."): file[n] for n in file.files if n.startswith("codes.")}
    except (OSError, ValueError) as error:
        what = f"no readable vectors: {error}"
        raise ArtifactError(Diagnostic("not-rtl", what, str(path), "compile with --target rtl")) from error
    return Given(found, "the bench's vectors, which are no data of the net")
