"""Simulator `hls4ml-csim`: the C simulation of an hls4ml project, compiled by hls4ml with g++."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run

from ..toolchain.diagnostics import Diagnostic, MissingToolError
from .script_runner import ScriptSimulator

__all__ = ["Hls4mlSimulator"]


class Hls4mlSimulator(ScriptSimulator):
    """`run.py` of the artifact, which calls `compile()` of hls4ml; no vendor tool takes part."""

    name: ClassVar[str] = "hls4ml-csim"
    target: ClassVar[str] = "hls4ml"
    suite: ClassVar[Literal["all", "small", "few"]] = "few"
    package: ClassVar[str | None] = "hls4ml"

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """As in `Simulator`; g++ is looked for too."""
        if shutil.which("g++") is None:
            raise MissingToolError(Diagnostic("missing-tool", "g++ is not installed", self.name, "apt-get install g++"))
        return super().run(artifact, inputs, trace=trace, timeout_s=timeout_s, progress=progress)
