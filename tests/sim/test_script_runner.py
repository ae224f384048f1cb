"""What a simulator that runs an artifact's script tells of its progress."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from emitting import emitted
from strategies import small_net

from eqcompile.sim.script_runner import Watch
from eqcompile.sim.simulators import NumpySimulator
from eqcompile.targets.numpy.target import NumpyTarget
from eqcompile.toolchain.artifact import Artifact

NET = small_net([[1, -1], [1, 1]], table=[-90, -40, 0, 30, 80], first=-2, steps=3)
CODES = {"x": np.array([[1, -1], [2, 1], [0, 3], [-1, -1]])}


class Telling(NumpySimulator):
    """Has a script that tells of a sample after the other, as bytes of a file."""

    def arguments(self, artifact: Artifact, work: Path, *, watch: Watch, **rest: Any) -> Sequence[str]:
        for done in range(1, 5):
            (work / "progress").write_bytes(b"." * done)
            watch()
        return super().arguments(artifact, work, watch=watch, **rest)


def test_a_sample_is_told_once(tmp_path: Path) -> None:
    """A bar that ended at half of the samples, or beyond them, would mislead who waits."""
    told: list[tuple[int, int]] = []
    artifact = emitted(NumpyTarget(), NET, tmp_path / "a")
    Telling().run(artifact, CODES, trace=False, timeout_s=60.0, progress=lambda *now: told.append(now))
    assert [now for k, now in enumerate(told) if now not in told[:k]] == [(n, 4) for n in range(5)]
