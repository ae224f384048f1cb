"""What `manifest.json` says of an artifact: frozen, typed, versioned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..ir import Input, IntNet, Output, Schedule
from ..options import Assumption, QuantizeOptions
from ..typed_json import JSON, JsonObject
from .folder import tool_versions

__all__ = [
    "MANIFEST_VERSION",
    "CoreDescription",
    "Interface",
    "Manifest",
    "Source",
    "StateRecord",
    "Verification",
    "manifest_of",
]

MANIFEST_VERSION = 2


@dataclass(frozen=True)
class StateRecord:
    """A state of the net: `format` as text, such as `s8`; `frac` fraction bits of its scale, None if it has none."""

    name: str
    shape: tuple[int, ...]
    format: str
    frac: int | None


@dataclass(frozen=True)
class Interface:
    """Inputs, outputs and states of the net, in its order."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    states: tuple[StateRecord, ...]


@dataclass(frozen=True, kw_only=True)
class CoreDescription:
    """How an artifact holds the values of the net while it runs: what a fault can strike, and for how long.

    evaluation: `event` if sums stay in memory between ticks and are incremented by what changed, so that an upset of
        one stays; `dense` if every sum is computed anew in every tick.
    accumulators: linear maps (by the name of their output) whose sums stay in memory between ticks.
    options: options of the artifact's target that emit the same core again, whatever else was asked for.
    """

    evaluation: Literal["dense", "event"] = "dense"
    accumulators: tuple[str, ...] = ()
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint: its file name and SHA-256 (of a live step: its name, and the digest of its net), the settings
    given for it, and what was assumed."""

    file: str
    sha256: str
    family: str
    given: JsonObject
    assumed: tuple[Assumption, ...]
    eqnet_digest: str
    quantize: QuantizeOptions


@dataclass(frozen=True)
class Verification:
    """One simulator against golden. `status`: `equal` (a difference raises instead), `missing` with the `reason` and
    its `install` command, or `skipped` because it cannot hold the net or would take too long, with
    the `reason`. `steps`: ticks compared, summed over samples; `values`: state and output codes compared."""

    simulator: str
    status: Literal["equal", "missing", "skipped"]
    samples: int = 0
    steps: int = 0
    values: int = 0
    mismatches: int = 0
    labels_equal: int | None = None
    seconds: float = 0.0
    details: JsonObject = field(default_factory=dict)
    reason: str = ""
    install: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that `manifest.json` says.

    options: fields of the target. tools: versions of what wrote the folder, by package. core: how the values of the net
    are held, if the target says it. details: figures of the target, as it likes; summary: lines for people.
    contraction: certificates before and after quantization. files: SHA-256 of every file but the manifest, by its path
    in the folder.
    """

    manifest_version: int = MANIFEST_VERSION
    target: str
    net: str
    family: str
    ir_digest: str
    interface: Interface
    schedule: Schedule
    options: JsonObject
    tools: Mapping[str, str]
    core: CoreDescription | None = None
    details: JsonObject = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    source: Source | None = None
    contraction: Mapping[str, JSON] | None = None
    verification: tuple[Verification, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def manifest_of(
    net: IntNet,
    *,
    target: str,
    options: JsonObject,
    details: JsonObject,
    summary: tuple[str, ...] = (),
    core: CoreDescription | None = None,
) -> Manifest:
    """The manifest of a net for a target, before its files are known and anything was verified."""
    states = tuple(StateRecord(s.name, s.shape, str(net.formats[s.name]), s.frac) for s in net.states)
    return Manifest(
        target=target,
        net=net.name,
        family=net.family,
        ir_digest=net.digest,
        interface=Interface(net.inputs, net.outputs, states),
        schedule=net.schedule,
        options=options,
        tools=tool_versions(),
        core=core,
        details=details,
        summary=summary,
    )
