"""Artifacts that run by a Python script of their own: `run.py -i codes.npz -o results.npz [--trace]`."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..toolchain.contracts import Progress, Run, Simulator
from ..toolchain.diagnostics import Diagnostic, MissingToolError, SimulatorError
from .process import run_process

__all__ = ["ScriptSimulator"]

STATE = "state."


class ScriptSimulator(Simulator):
    """Abstract: `python -I run.py` of the artifact, isolated, so that neither the caller's folder nor its environment
    lends it code. `package`: what the script imports beside NumPy; an extra of its target's name installs it."""

    package: ClassVar[str | None] = None

    def run(
        self,
        folder: Path,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        if self.package is not None and find_spec(self.package) is None:
            what, how = f"{self.package} is not installed", f"pip install 'eqcompile[{self.target}]'"
            raise MissingToolError(Diagnostic("missing-tool", what, self.name, how))
        with tempfile.TemporaryDirectory(prefix=f"eqcompile-{self.target}-") as name:
            given, results = Path(name) / "x.npz", Path(name) / "y.npz"
            with given.open("wb") as file:
                np.savez(file, **{f"codes.{key}": value for key, value in inputs.items()})
            # -B: an artifact is not written to by running it.
            argv = [sys.executable, "-I", "-B", "run.py", "-i", str(given), "-o", str(results)]
            run_process([*argv, *(["--trace"] if trace else [])], cwd=folder, timeout_s=timeout_s)
            return _read(results, folder, trace=trace)


def _read(path: Path, folder: Path, *, trace: bool) -> Run:
    """The result file of `run.py`: outputs, `steps`, labels, `state.<name>`, and lines for people as `notes`.
    SimulatorError if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        steps = found.pop("steps").astype(np.int64)
        notes = found.pop("notes", np.zeros(0, str)).tolist()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SimulatorError(Diagnostic("simulator-output", f"no readable results: {error}", str(folder))) from error
    outputs = {n: v for n, v in found.items() if not n.startswith((STATE, "labels.")) and n != "labels"}
    states = {n.removeprefix(STATE): v for n, v in found.items() if n.startswith(STATE)}
    details = {"summary": notes} if notes else {}
    return Run(states=states if trace else {}, outputs=outputs, steps=steps, details=details)
