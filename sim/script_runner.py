"""Artifacts that run by a Python script of their own: `run.py -i codes.npz -o results.npz [--trace]`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .exchange import STATE, demand, read_results, states_of, unreadable, write_codes
from .process import run_process

__all__ = ["ScriptSimulator"]


class ScriptSimulator(Simulator):
    """Abstract: `python -I run.py` of the artifact, isolated, so that neither the caller's folder nor its environment
    lends it code. `package`: what the script imports beside NumPy; an extra of its target's name installs it."""

    package: ClassVar[str | None] = None

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        if self.package is not None:
            demand(self.name, packages={self.package: f"pip install 'eqcompile[{self.target}]'"}, programs={})
        with tempfile.TemporaryDirectory(prefix=f"eqcompile-{self.target}-") as name:
            given, results = write_codes(Path(name) / "x.npz", inputs), Path(name) / "y.npz"
            # -B: an artifact is not written to by running it.
            argv = [sys.executable, "-I", "-B", "run.py", "-i", str(given), "-o", str(results)]
            run_process([*argv, *(["--trace"] if trace else [])], cwd=artifact.folder, timeout_s=timeout_s)
            return _read(results, artifact.folder, trace=trace)


def _read(path: Path, folder: Path, *, trace: bool) -> Run:
    """The result file of `run.py`: outputs, `steps`, labels, `state.<name>`, and lines for people as `notes`.
    SimulatorError if it cannot be read."""
    with unreadable(folder):
        found = read_results(path)
        steps = found.pop("steps").astype(np.int64)
        notes = found.pop("notes", np.zeros(0, str)).tolist()
    outputs = {n: v for n, v in found.items() if not n.startswith((STATE, "labels.")) and n != "labels"}
    details = {"summary": notes} if notes else {}
    return Run(states=states_of(found) if trace else {}, outputs=outputs, steps=steps, details=details)
