"""Artifacts that run by a Python script of their own: `run.py -i codes.npz -o results.npz [--trace]`.

A script that takes long tells how far it is: the file whose path is in the environment variable `EQCOMPILE_PROGRESS`
grows by a byte with each sample. One that knows nothing of it is none the worse.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator, quiet
from eqcompile.toolchain.ir import IntNet

from .exchange import demand, read_run, write_codes
from .process import run_process

__all__ = ["PROGRESS", "ScriptSimulator", "Watch", "run_script"]

PROGRESS = "EQCOMPILE_PROGRESS"
"""Environment variable of a script: the file by which it tells its progress."""
Watch = Callable[[], None]
"""Called each second while something runs."""


class ScriptSimulator(Simulator):
    """Abstract: runs a script of the artifact. `packages` and `programs`: what the script needs beside NumPy, and the
    command that installs each."""

    packages: ClassVar[Mapping[str, str]] = {}
    programs: ClassVar[Mapping[str, str]] = {}
    grace_s: ClassVar[float] = 0.0
    """Seconds that a script which watches its limit itself has left to end in."""
    passes: int = 1
    """How often the script runs each sample."""

    def arguments(
        self, artifact: Artifact, work: Path, *, trace: bool, timeout_s: float, watch: Watch
    ) -> Sequence[str]:
        """The script, relative to the artifact, and its options beside files and trace; it may build in `work`, and
        calls `watch` each second meanwhile."""
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
            samples, told = len(next(iter(inputs.values()))), work / "progress"
            tell = progress or quiet

            def watch() -> None:
                if self.compiler and not told.exists():
                    tell(0, 0)
                else:
                    tell(_size(told) // self.passes, samples)

            watch()
            arguments = self.arguments(artifact, work, trace=trace, timeout_s=timeout_s, watch=watch)
            run = run_script(
                artifact.folder,
                artifact.net,
                arguments,
                inputs,
                work,
                trace=trace,
                timeout_s=timeout_s + self.grace_s,
                env={PROGRESS: str(told)},
                watch=watch,
            )
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
    env: Mapping[str, str] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Run a script of an artifact on input codes `[batch, (frame,) *shape]`; `arguments`: it and its options; `env` is
    added to its environment, and `watch` called each second until it ends.

    Isolated (-I), so that neither the caller's folder nor its environment lends it code, and without writing to the
    artifact (-B). All its files are in the temporary folder `work`, which the caller removes: so none is left even if
    it has to be killed. Raises SimulatorError when it dies, hangs past `timeout_s`, or leaves no results that can be
    read.
    """
    codes, results = write_codes(work / "x.npz", inputs), work / "y.npz"
    argv = [sys.executable, "-I", "-B", *arguments, "-i", str(codes), "-o", str(results)]
    argv += ["--trace"] if trace else []
    run_process(
        argv, cwd=folder, timeout_s=timeout_s, env={**os.environ, "TMPDIR": str(work), **(env or {})}, watch=watch
    )
    return read_run(results, net, folder)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
