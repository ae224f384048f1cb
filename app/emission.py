"""From a plan to an artifact folder: golden's vectors for the bench, emission, seal."""

from __future__ import annotations

from pathlib import Path

from eqcompile.toolchain.artifact import Artifact, Manifest, manifest_of, seal
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.interfaces import Emission, Plan, Target
from eqcompile.toolchain.ir import EqNet, IntNet

__all__ = ["describe", "emit_artifact"]


def describe(plan: Plan, target: Target, *emissions: Emission) -> Manifest:
    """The manifest of what was emitted, before its files are known and anything was verified."""
    details = {name: value for emission in emissions for name, value in emission.details.items()}
    summary = tuple(line for emission in emissions for line in emission.summary)
    return manifest_of(
        plan.net,
        target=target.name,
        options=target.options,
        details=details,
        summary=summary,
        core=plan.core,
    )


def emit_artifact(target: Target, net: IntNet, folder: Path, source: EqNet | None = None) -> Artifact:
    """Emit a net into the empty `folder` and seal it: an artifact that nothing verified.

    Raises UnsupportedError with every reason why the target does not take the net, MissingToolError if a package that
    emitting needs is absent.
    """
    plan = target.require_plan(net, source)
    return seal(folder, net, describe(plan, target, plan.emit(folder, bench_vectors(plan))))
