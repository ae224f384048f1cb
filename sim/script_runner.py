"""Artifacts that run by a Python script of their own: `run.py -i codes.npz -o results.npz [--trace]`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator
from eqcompile.toolchain.ir import IntNet

from .exchange import demand, read_run, write_codes
from .process import run_process

__all__ = ["ScriptSimulator", "run_script"]


class ScriptSimulator(Simulator):
    """Abstract: runs a script of the artifact. `packages` and `programs`: what the script needs beside NumPy, and the
    command that installs each."""

    packages: ClassVar[Mapping[str, str]] = {}
    programs: ClassVar[Mapping[str, str]] = {}
    grace_s: ClassVar[float] = 0.0
    """Seconds that a script which watches its limit itself has left to end in."""

    def arguments(self, artifact: Artifact, work: Path, *, trace: bool, timeout_s: float) -> Sequence[str]:
        """The script, relative to the artifact, and its options beside files and trace; it may build in `work`."""
        return ("run.py",)

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        demand(self.name, packages=self.packages, programs=self.programs)
        with tempfile.TemporaryDirectory(prefix="eqcompile-run-") as name:
            work = Path(name)
            arguments = self.arguments(artifact, work, trace=trace, timeout_s=timeout_s)
            limit_s = timeout_s + self.grace_s
            run = run_script(artifact.folder, artifact.net, arguments, inputs, work, trace=trace, timeout_s=limit_s)
        return run if trace else replace(run, states={})


def run_script(
    folder: Path,
    net: IntNet,
    arguments: Sequence[str],
    inputs: Mapping[str, NDArray[np.int64]],
    work: Path,
    *,
    trace: bool,
    timeout_s: float,
) -> Run:
    """Run a script of an artifact on input codes `[batch, (frame,) *shape]`; `arguments`: it and its options.

    Isolated (-I), so that neither the caller's folder nor its environment lends it code, and without writing to the
    artifact (-B). All its files are in the temporary folder `work`, which the caller removes: so none is left even if
    it has to be killed. Raises SimulatorError when it dies, hangs past `timeout_s`, or leaves no results that can be
    read.
    """
    codes, results = write_codes(work / "x.npz", inputs), work / "y.npz"
    argv = [sys.executable, "-I", "-B", *arguments, "-i", str(codes), "-o", str(results)]
    argv += ["--trace"] if trace else []
    run_process(argv, cwd=folder, timeout_s=timeout_s, env={**os.environ, "TMPDIR": str(work)})
    return read_run(results, net, folder)
