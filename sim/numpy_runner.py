"""Simulator `numpy`: runs the folder of the target `numpy` in a Python process of its own."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..toolchain.contracts import Progress, Run, Simulator
from ..toolchain.diagnostics import Diagnostic, SimulatorError
from .process import run_process

__all__ = ["NumpySimulator", "read_results"]

STATE = "state."


class NumpySimulator(Simulator):
    """`python -I run.py`: isolated, so that neither the caller's folder nor its environment lends the kernel code."""

    name: ClassVar[str] = "numpy"
    target: ClassVar[str] = "numpy"

    def run(
        self,
        folder: Path,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        with tempfile.TemporaryDirectory(prefix="eqcompile-numpy-") as name:
            given, results = Path(name) / "x.npz", Path(name) / "y.npz"
            with given.open("wb") as file:
                np.savez(file, **{f"codes.{key}": value for key, value in inputs.items()})
            # -B: an artifact is not written to by running it.
            argv = [sys.executable, "-I", "-B", "run.py", "-i", str(given), "-o", str(results)]
            run_process([*argv, *(["--trace"] if trace else [])], cwd=folder, timeout_s=timeout_s)
            return read_results(results, folder, trace=trace)


def read_results(path: Path, folder: Path, *, trace: bool) -> Run:
    """The result file of `run.py` (outputs, `steps`, labels, `state.<name>`); SimulatorError if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        steps = found.pop("steps").astype(np.int64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SimulatorError(Diagnostic("simulator-output", f"no readable results: {error}", str(folder))) from error
    outputs = {n: v for n, v in found.items() if not n.startswith((STATE, "labels.")) and n != "labels"}
    states = {n.removeprefix(STATE): v for n, v in found.items() if n.startswith(STATE)}
    return Run(states=states if trace else {}, outputs=outputs, steps=steps)
