"""What `eqsim` does once its command line is read."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import data
from eqcompile.toolchain.arrays import Array
from eqcompile.toolchain.artifact import Artifact
from eqcompile.toolchain.diagnostics import Diagnostic, UsageError
from eqcompile.toolchain.golden import run as run_golden
from eqcompile.toolchain.importers.api import import_model
from eqcompile.toolchain.interfaces import FloatRun, Run, StageProgress
from eqcompile.toolchain.ir import Net
from eqcompile.toolchain.passes import label_keys, output_keys
from eqcompile.toolchain.reference import run_reference

from ..accuracy import deviations, warnings_of
from ..compile import simulators_for
from ..documents import RunDocument
from ..options import LimitOption, ModelOptions, TimeoutOption
from ..report.data import deviation_document, number, plain_object
from ..report.schema import Kind
from ..verification import first_able
from .options import build

__all__ = ["GOLDEN", "artifact_job", "checkpoint_job"]

GOLDEN = "golden"


def artifact_job(namespace: argparse.Namespace, target: Path, progress: StageProgress | None) -> RunDocument:
    """Run an artifact folder and write the results to `target`; return the JSON document."""
    artifact = Artifact.open(namespace.source)
    net = artifact.net
    limit = build(LimitOption, namespace).limit
    inputs = data.read_inputs(namespace.input, net, limit=limit)
    codes, saturated = data.encode(net, inputs)
    name, run = _runner(namespace, artifact)
    tick = None if progress is None else lambda done, total: progress(name, done, total)
    start = time.perf_counter()
    result: Run = run(codes, tick)
    seconds = time.perf_counter() - start
    keys = _write(target, net, result, result.states if namespace.trace else {})
    return {
        **_document(namespace, name, net, inputs, result, seconds, keys, "simulated"),
        "saturated": number(saturated, "measured", "input values", "clipped by the input format"),
        "output_scale": {o.name: o.scale for o in net.outputs},
        "details": {"kind": "simulated", "how": f"counters of {name}", **plain_object(result.details)},
    }


def checkpoint_job(namespace: argparse.Namespace, target: Path, progress: StageProgress | None) -> RunDocument:
    """Run a checkpoint in the float64 reference and write the results to `target`; return the JSON document."""
    imported = import_model(namespace.source, **asdict(build(ModelOptions, namespace)))
    inputs = data.read_inputs(namespace.input, imported.net, limit=build(LimitOption, namespace).limit)
    tick = None if progress is None else lambda done, total: progress("reference", done, total)
    start = time.perf_counter()
    result = run_reference(imported.net, inputs, trace=namespace.trace, progress=tick)
    seconds = time.perf_counter() - start
    keys = _write(target, imported.net, result, result.trace or {})
    document = _document(namespace, "float64 reference", imported.net, inputs, result, seconds, keys, "measured")
    compared = deviations(result, inputs, namespace.input.name)
    return {
        **document,
        "warnings": [*warnings_of(compared), *imported.warnings],
        "deviations": [deviation_document(d) for d in compared],
    }


def _runner(
    namespace: argparse.Namespace, artifact: Artifact
) -> tuple[str, Callable[[dict[str, NDArray[np.int64]], Callable[[int, int], None] | None], Run]]:
    if namespace.simulator == GOLDEN:
        return GOLDEN, lambda codes, tick: run_golden(artifact.net, codes, trace=namespace.trace, progress=tick)
    target = artifact.manifest.target
    known = simulators_for(target, None if namespace.simulator is None else [namespace.simulator])
    if not known:
        what = f"target {target} has no simulator"
        raise UsageError(Diagnostic("no-simulator", what, str(artifact.folder), f"--simulator {GOLDEN}"))
    name = first_able(artifact, known)
    simulator = known[name]
    return name, lambda codes, tick: simulator().run(
        artifact, codes, trace=namespace.trace, timeout_s=build(TimeoutOption, namespace).timeout_s, progress=tick
    )


def _write(path: Path, net: Net, result: Run | FloatRun, states: Mapping[str, Array]) -> list[str]:
    arrays: dict[str, Array] = {key: result.outputs[name] for name, key in output_keys(net).items()}
    arrays |= {key: result.outputs[name].argmax(axis=-1) for name, key in label_keys(net).items()}
    arrays["steps"] = result.steps
    arrays |= {f"state.{name}": codes for name, codes in states.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return list(arrays)


def _document(
    namespace: argparse.Namespace,
    name: str,
    net: Net,
    inputs: data.Inputs,
    result: Run | FloatRun,
    seconds: float,
    keys: list[str],
    kind: Kind,
) -> RunDocument:
    budget = net.schedule.steps * (next(iter(inputs.values())).shape[1] if net.schedule.frames else 1)
    return {
        "source": str(namespace.source),
        "family": net.family,
        "digest": net.digest,
        "simulator": name,
        "samples": number(len(result.steps), "measured", "samples"),
        "steps": {
            "smallest": number(int(result.steps.min()), kind, "steps"),
            "largest": number(int(result.steps.max()), kind, "steps"),
            "at_budget": number(int(np.sum(result.steps >= budget)), kind, "samples", f"of {budget} steps"),
        },
        "seconds": number(seconds, "measured", "s", "wall-clock time on this machine"),
        "output": str(namespace.output),
        "keys": keys,
    }
