"""What tests do with a target: its refusals, and an artifact that nothing verified."""

from __future__ import annotations

import json
from pathlib import Path

from eqcompile.app.emission import describe, emit_artifact
from eqcompile.rtl.architecture import Architecture
from eqcompile.targets.rtl.target import RtlPlan, RtlTarget
from eqcompile.toolchain.artifact import MANIFEST, NET_FILE, Artifact, Manifest, seal
from eqcompile.toolchain.bench import bench_vectors
from eqcompile.toolchain.diagnostics import Diagnostic
from eqcompile.toolchain.interfaces import Refusals, Target
from eqcompile.toolchain.ir import EqNet, IntNet
from eqcompile.toolchain.ir.serial import load
from eqcompile.toolchain.typed_json import decode_as

__all__ = ["emitted", "refused", "unchecked", "write_core"]


def refused(target: Target, net: IntNet) -> list[Diagnostic]:
    """Every reason why the target cannot take the net."""
    plan = target.plan(net)
    return list(plan.diagnostics) if isinstance(plan, Refusals) else []


def emitted(target: Target, net: IntNet, folder: Path, source: EqNet | None = None) -> Artifact:
    """The sealed artifact in `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return emit_artifact(target, net, folder, source)


def unchecked(folder: Path) -> Artifact:
    """The artifact in a folder as it stands, for tests that change its files: `Artifact.open` would refuse it."""
    manifest = decode_as(Manifest, json.loads((folder / MANIFEST).read_text(encoding="utf-8")), MANIFEST)
    net = load(folder / NET_FILE)
    assert isinstance(net, IntNet)
    return Artifact(folder, net, manifest)


def write_core(
    net: IntNet, architecture: Architecture, folder: Path, *, trace: bool, saboteurs: bool = False
) -> Artifact:
    """The artifact of target `rtl` for an engine that was chosen by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    target = RtlTarget(trace=trace, saboteurs=saboteurs)
    plan = RtlPlan(net, target, architecture)
    return seal(folder, net, describe(plan, target, plan.emit(folder, bench_vectors(plan))))
