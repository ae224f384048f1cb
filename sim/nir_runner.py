"""Simulator `nir`: evaluates the graph of the target `nir` by the definition of its nodes, in a process of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..toolchain.contracts import Progress, Run, Simulator
from ..toolchain.diagnostics import Diagnostic, MissingToolError
from .numpy_runner import read_results
from .process import run_process

__all__ = ["NirSimulator"]


class NirSimulator(Simulator):
    """`python -I run.py` of the artifact, which reads `net.nir` with the `nir` package."""

    name: ClassVar[str] = "nir"
    target: ClassVar[str] = "nir"

    def run(
        self,
        folder: Path,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        if find_spec("nir") is None:
            raise MissingToolError(
                Diagnostic("missing-tool", "nir is not installed", self.name, "pip install 'eqcompile[nir]'")
            )
        with tempfile.TemporaryDirectory(prefix="eqcompile-nir-") as name:
            given, results = Path(name) / "x.npz", Path(name) / "y.npz"
            with given.open("wb") as file:
                np.savez(file, **{f"codes.{key}": value for key, value in inputs.items()})
            argv = [sys.executable, "-I", "-B", "run.py", "-i", str(given), "-o", str(results)]
            run_process([*argv, *(["--trace"] if trace else [])], cwd=folder, timeout_s=timeout_s)
            return read_results(results, folder, trace=trace)
