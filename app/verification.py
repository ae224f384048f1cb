"""An artifact in its simulators against golden."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eqcompile.toolchain import registry
from eqcompile.toolchain.artifact import Artifact, Verification
from eqcompile.toolchain.compare import compare
from eqcompile.toolchain.diagnostics import BuildTimeoutError, Diagnostic, MissingToolError, UsageError
from eqcompile.toolchain.interfaces import Run, Simulator, StageProgress
from eqcompile.toolchain.ir import IntNet
from eqcompile.toolchain.registry import target_class
from eqcompile.toolchain.typed_json import JSON, JsonObject

from .progress import of_simulator

__all__ = ["first_able", "shortages", "simulators_for", "verify_artifact"]


def simulators_for(target: str, names: Sequence[str] | None) -> dict[str, type[Simulator]]:
    """The simulators of a target by name, or those of `names`.

    Raises UsageError, naming the nearest one, for an unknown simulator, one of another target, and none at all.
    """
    known = registry.simulators_of(target)
    if names is None:
        return known
    faults = []
    for name in names:
        if name not in known:
            other = registry.find_class("simulators", name, Simulator).target
            faults.append(
                Diagnostic(
                    "simulator-of-other-target",
                    f"simulator {name} runs artifacts of {other}, not of {target}",
                    "--simulator",
                    f"simulators of {target}: {', '.join(known) or 'none'}",
                )
            )
    if faults:
        raise UsageError(faults)
    return {name: known[name] for name in names}


def shortages(artifact: Artifact, simulators: Mapping[str, type[Simulator]]) -> dict[str, Sequence[Diagnostic]]:
    """What each of the simulators that cannot hold the artifact has too little of, by name."""
    lacking = {name: simulator().shortages(artifact) for name, simulator in simulators.items()}
    return {name: diagnostics for name, diagnostics in lacking.items() if diagnostics}


def first_able(artifact: Artifact, simulators: Mapping[str, type[Simulator]]) -> str:
    """The first of the simulators that can hold the artifact; UsageError with both numbers of each if none can."""
    lacking = shortages(artifact, simulators)
    for name in simulators:
        if name not in lacking:
            return name
    raise UsageError(d for diagnostics in lacking.values() for d in diagnostics)


def verify_artifact(
    artifact: Artifact,
    codes: Mapping[str, NDArray[np.int64]],
    golden: Run,
    simulators: Mapping[str, type[Simulator]],
    *,
    named: bool,
    timeout_s: float,
    progress: StageProgress,
) -> tuple[Verification, ...]:
    """Run `codes` `[samples, (frame,) *shape]` through each simulator, by name, and compare every state, output and
    step count with `golden`, a traced run of the same codes. A simulator whose tool is absent is recorded as missing,
    one that cannot hold the artifact as skipped. Unless they were asked for by name (`named`), slow simulators run the
    first few samples alone, fewer where these would take longer than the limit, and are skipped where one would, or
    where what compiles the artifact for them did not end in time.

    Raises SimulatorError: a simulator failed, or its first divergence from golden. BuildTimeoutError: what compiles the
    artifact did not end, and no other simulator ran it. UsageError: one that was asked for by name cannot hold it.
    """
    lacking = shortages(artifact, simulators)
    if named and lacking:
        raise UsageError(d for diagnostics in lacking.values() for d in diagnostics)
    checks = {name: _skipped(name, "; ".join(d.what for d in lacking[name])) for name in lacking}
    known: Run | None = None
    late: dict[str, BuildTimeoutError] = {}
    # Slow ones last: how long they take is estimated from what the others ran.
    for name, simulator in sorted(simulators.items(), key=lambda item: item[1].few is not None):
        if name in checks:
            continue
        few, said = len(golden.steps), ""
        if not named and simulator.few is not None:
            few, said = _samples(simulator, min(few, simulator.few), known, timeout_s)
        if not few or (not named and simulator.compiler in late):
            checks[name] = _skipped(name, said or f"{simulator.compiler} did not compile it in {timeout_s:g} s")
            continue
        part = {input_: array[:few] for input_, array in codes.items()}
        try:
            checks[name], run = _verify(artifact, part, golden.first(few), name, simulator, timeout_s, progress)
        except BuildTimeoutError as error:
            if named:
                raise
            late[simulator.compiler] = error
            checks[name] = _skipped(name, f"{simulator.compiler} did not compile it in {timeout_s:g} s")
            continue
        known = known or run
        if said:
            details: JsonObject = {**checks[name].details, "summary": [*_summary(checks[name]), said]}
            checks[name] = replace(checks[name], details=details)
    if late and not any(c.status == "equal" for c in checks.values()):
        raise next(iter(late.values()))
    return tuple(checks[name] for name in simulators)


def _skipped(name: str, reason: str) -> Verification:
    return Verification(name, "skipped", reason=reason)


def _samples(simulator: type[Simulator], wanted: int, known: Run | None, timeout_s: float) -> tuple[int, str]:
    """How many of the samples are run within half of the limit, and why fewer than wanted; `known`: a run of them in
    another simulator. One fits if it takes less than the limit."""
    each = None if known is None else simulator().sample_s(known)
    if each is None or each * wanted <= 0.5 * timeout_s:
        return wanted, ""
    few = max(int(0.5 * timeout_s / each), int(each <= timeout_s))
    return few, f"{few} of {wanted} samples: each takes about {each:,.0f} s [estimated], the limit is {timeout_s:g} s"


def _summary(check: Verification) -> Sequence[JSON]:
    lines = check.details.get("summary", [])
    return lines if isinstance(lines, list) else []


def _verify(
    artifact: Artifact,
    codes: Mapping[str, NDArray[np.int64]],
    golden: Run,
    name: str,
    simulator: type[Simulator],
    timeout_s: float,
    progress: StageProgress,
) -> tuple[Verification, Run | None]:
    """What is recorded, and the run unless its tool is absent."""
    net, start, samples = artifact.net, time.perf_counter(), len(golden.steps)
    try:
        run = simulator().run(
            artifact,
            codes,
            trace=True,
            timeout_s=timeout_s,
            progress=of_simulator(progress, name),
        )
    except MissingToolError as error:
        hints = [d.hint for d in error.diagnostics if d.hint]
        missing = Verification(
            name,
            "missing",
            reason="; ".join(d.what for d in error.diagnostics),
            install=hints[0] if hints else target_class(artifact.manifest.target).install,
        )
        return missing, None
    seconds = time.perf_counter() - start
    # Some report nothing by themselves, and none is watched to its very end.
    progress(name, samples, samples)
    comparison = compare(golden, run, states=bool(net.states))
    comparison.require()
    equal = Verification(
        name,
        "equal",
        samples=comparison.samples,
        steps=comparison.ticks * comparison.samples,
        values=comparison.values + comparison.outputs,
        mismatches=comparison.mismatches + comparison.output_mismatches + comparison.step_mismatches,
        labels_equal=_labels_equal(net, golden, run),
        seconds=seconds,
        details=run.details,
    )
    return equal, run


def _labels_equal(net: IntNet, golden: Run, run: Run) -> int | None:
    classes = [o.name for o in net.outputs if o.kind == "classes"]
    if not classes:
        return None
    return sum(int((golden.outputs[n].argmax(-1) == run.outputs[n].argmax(-1)).sum()) for n in classes)
