"""Clocks of an artifact's core, counted in simulation, on a user's inputs or those of its own bench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.sim.simulators import NativeSimulator
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.data import Inputs, encode, read_inputs
from eqcompile.toolchain.diagnostics import ArtifactError, Diagnostic, MissingToolError
from eqcompile.toolchain.interfaces import ClockedRun, StageProgress
from eqcompile.toolchain.ir import IntNet

from .progress import of_simulator

__all__ = ["MAX_INPUTS", "InputCodes", "bench_inputs", "count_clocks"]

MAX_INPUTS = 10_000
"""Samples of a user's file that are run for figures."""


@dataclass(frozen=True)
class InputCodes:
    """Codes `[samples, (frame,) *shape]` by input, and where they come from."""

    codes: Mapping[str, NDArray[np.int64]]
    source: str

    @classmethod
    def of(cls, net: IntNet, inputs: Inputs, source: str) -> InputCodes:
        """The codes of real inputs."""
        return cls(encode(net, inputs)[0], source)

    @classmethod
    def read(cls, path: Path, net: IntNet, limit: int | None = None) -> InputCodes:
        """The first samples of a file, `MAX_INPUTS` at most. Raises ImportFileError as `read_inputs`."""
        inputs = read_inputs(path, net, limit=limit or MAX_INPUTS)
        return cls.of(net, inputs, f"the first {inputs.count} of {path.name}")


def bench_inputs(artifact: Artifact) -> InputCodes:
    """The inputs of the bench of an artifact of the `rtl` target. Raises ArtifactError if it has none."""
    path = artifact.folder / "vectors" / "vectors.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            codes = {n.removeprefix("codes."): file[n] for n in file.files if n.startswith("codes.")}
    except (OSError, ValueError) as error:
        what = f"no readable vectors: {error}"
        raise ArtifactError(Diagnostic("not-rtl", what, str(path), "compile with --target rtl")) from error
    return InputCodes(codes, "the bench's vectors, which are no data of the net")


def count_clocks(
    artifact: Artifact, inputs: InputCodes, *, timeout_s: float, progress: StageProgress | None = None
) -> ClockedRun:
    """Run the core with every sample timed alone. Raises SimulatorError if it does not run."""
    tell = None if progress is None else of_simulator(progress, "clocks")
    try:
        run = NativeSimulator(clocks=True).run(artifact, inputs.codes, trace=False, timeout_s=timeout_s, progress=tell)
    except MissingToolError as error:
        notes = tuple(f"clocks not simulated: {d.what}; {d.hint}" for d in error.diagnostics)
        return ClockedRun(inputs.source, None, notes)
    return ClockedRun(inputs.source, run)
