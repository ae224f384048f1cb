"""Simulators `lava-loihi1` and `lava-loihi2`: run the folder of the target `loihi` under Lava's Loihi configurations.

Lava starts an operating-system process for each process of the network, may hang when one of them fails, and emits
warnings: it runs in a program of its own, with a time limit, and its whole process group is ended afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.interfaces import Progress, Run, Simulator

from .exchange import STATE, demand, read_results, states_of, unreadable, write_codes
from .process import run_process

__all__ = ["INSTALL", "Loihi1Simulator", "Loihi2Simulator", "run_network"]

INSTALL = "pip install 'eqcompile[loihi]' && pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
GRACE_S = 5.0
"""The program ends itself at the limit, which frees Lava's shared memory; this much later it is killed."""

COUNTS = ("events.", "synops.", "units.")
BESIDE_OUTPUTS = ("labels", "report", "steps")


class _LavaSimulator(Simulator):
    target: ClassVar[str] = "loihi"
    configuration: ClassVar[str]

    def run(
        self,
        artifact: Artifact,
        inputs: Mapping[str, NDArray[np.int64]],
        *,
        trace: bool,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Run:
        """`details`: `events` (simulated counts) and `estimate` (energy and time), both means over the samples, and
        `sim_cfg`, the run configuration of Lava."""
        demand(self.name, packages={"lava": INSTALL}, programs={})
        return run_network(artifact.folder, inputs, configuration=self.configuration, trace=trace, timeout_s=timeout_s)


def run_network(
    folder: Path,
    inputs: Mapping[str, NDArray[np.int64]],
    *,
    configuration: str,
    trace: bool,
    timeout_s: float,
    faults: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Run the folder's `run.py`; `faults`: JSON values, as its `network.execute` takes them. Lava is there."""
    with tempfile.TemporaryDirectory(prefix="eqcompile-lava-") as name:
        given, results = write_codes(Path(name) / "x.npz", inputs), Path(name) / "y.npz"
        # -I: nothing of the caller's folder or environment enters. -B: an artifact is not written to by running it.
        argv = [sys.executable, "-I", "-B", "run.py", "-i", str(given), "-o", str(results)]
        argv += ["--sim-cfg", configuration, "--timeout", str(timeout_s), *(["--trace"] if trace else [])]
        if faults:
            path = Path(name) / "faults.json"
            path.write_text(json.dumps(list(faults)), encoding="utf-8")
            argv += ["--faults", str(path)]
        # The program keeps its probe files in the temporary folder, gone even if it has to be killed.
        run_process(argv, cwd=folder, timeout_s=timeout_s + GRACE_S, env={**os.environ, "TMPDIR": name})
        return _read(results, folder, configuration)


def _read(path: Path, folder: Path, configuration: str) -> Run:
    with unreadable(folder):
        found = read_results(path)
        steps = found["steps"].astype(np.int64)
        report: dict[str, Any] = json.loads(str(found["report"]))
    return Run(
        states=states_of(found),
        outputs={n: v for n, v in found.items() if n not in BESIDE_OUTPUTS and not n.startswith((STATE, *COUNTS))},
        steps=steps,
        details={**report, "sim_cfg": configuration},
    )


class Loihi1Simulator(_LavaSimulator):
    """Lava's Loihi1SimCfg, models tagged `fixed_pt`."""

    name: ClassVar[str] = "lava-loihi1"
    configuration: ClassVar[str] = "loihi1"


class Loihi2Simulator(_LavaSimulator):
    """Lava's Loihi2SimCfg, models tagged `fixed_pt`."""

    name: ClassVar[str] = "lava-loihi2"
    configuration: ClassVar[str] = "loihi2"
